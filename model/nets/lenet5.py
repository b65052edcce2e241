"""LeNet-5 in the form of the compression literature (Caffe's): 430,500 weights on MNIST.

Source: Y. LeCun et al., Gradient-based learning applied to document recognition, 1998; the sizes
20, 50 and 500 are those that pruning papers count.
"""

from pydantic import Field

from model.nets.chain import Chain, check_frames
from model.nets.registry import network
from model.options import Options

LEAST = 16  # rows and columns that leave a pixel after both pools


class LeNet5Options(Options):
    """Options of :class:`LeNet5`.

    Parameters
    ----------
    batch_norm : bool
        Batch normalization after both convolutions and the first fully connected layer.
    dropout : float
        Share of the activations before the last layer dropped in training.
    """

    batch_norm: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)


@network("lenet5", LeNet5Options)
class LeNet5(Chain):
    """Scores [frames, classes] of samples [frames, rows, columns, channels].

    ``conv1`` 20 5×5, pool, ``conv2`` 50 5×5, pool, ``fc1`` 500, ``fc2`` classes; no padding.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, options: LeNet5Options) -> None:
        check_frames("lenet5", shape, LEAST)
        super().__init__(shape, batch_norm=options.batch_norm)
        for channels in (20, 50):
            self.convolution(channels, 5)
            self.pool()
        self.vectors()
        self.hidden(500)
        self.dropout(options.dropout)
        self.scores(classes)
