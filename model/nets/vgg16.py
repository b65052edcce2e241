"""VGG-16 in the form for CIFAR-10: 13 convolutions and one fully connected layer.

Source: K. Simonyan, A. Zisserman, Very deep convolutional networks for large-scale image
recognition, 2015, configuration D; for 32×32 pixels the three fully connected layers are one, with
batch normalization. 14,715,584 weights at the default width on CIFAR-10.
"""

from pydantic import Field

from model.nets.chain import Chain, check_frames
from model.nets.registry import network
from model.options import Options

LEAST = 32  # rows and columns that leave a pixel after five pools
STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # channels over the width, convolutions


class VGG16Options(Options):
    """Options of :class:`VGG16`.

    Parameters
    ----------
    width : int
        Channels of the first stage; the others have 2, 4, 8 and 8 times as many.
    dropout : float
        Share of the activations before the last layer dropped in training.
    """

    width: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


@network("vgg16", VGG16Options)
class VGG16(Chain):
    """Scores [frames, classes] of samples [frames, rows, columns, channels].

    ``conv1`` to ``conv13`` (3×3, padded, batch normalization) with a pool after each of five
    stages, then ``fc1``.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, options: VGG16Options) -> None:
        check_frames("vgg16", shape, LEAST)
        super().__init__(shape, batch_norm=True)
        for factor, depth in STAGES:
            for _ in range(depth):
                self.convolution(factor * options.width, 3, padding=1)
            self.pool()
        self.vectors()
        self.dropout(options.dropout)
        self.scores(classes)
