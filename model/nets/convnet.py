"""A small network for CIFAR-10: six convolutions, two fully connected layers.

3,246,784 weights at the default width on CIFAR-10, 2,097,152 of them in ``fc1``.
"""

from pydantic import Field

from model.nets.chain import Chain, check_frames
from model.nets.registry import network
from model.options import Options

LEAST = 8  # rows and columns that leave a pixel after three pools


class ConvNetOptions(Options):
    """Options of :class:`ConvNet`.

    Parameters
    ----------
    width : int
        Channels of the first two convolutions; the next pairs have 2 and 4 times as many.
    dropout : float
        Share of the activations before each fully connected layer dropped in training.
    """

    width: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


@network("convnet", ConvNetOptions)
class ConvNet(Chain):
    """Scores [frames, classes] of samples [frames, rows, columns, channels].

    Three times two 3×3 convolutions (padded) and a pool: 64, 64, 128, 128, 256, 256 channels; then
    ``fc1`` 512, ``fc2`` classes. Batch normalization throughout.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, options: ConvNetOptions) -> None:
        check_frames("convnet", shape, LEAST)
        super().__init__(shape, batch_norm=True)
        for factor in (1, 2, 4):
            self.convolution(factor * options.width, 3, padding=1)
            self.convolution(factor * options.width, 3, padding=1)
            self.pool()
        self.vectors()
        self.dropout(options.dropout)
        self.hidden(512)
        self.dropout(options.dropout)
        self.scores(classes)
