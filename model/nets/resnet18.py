"""ResNet-18 in the form for CIFAR-10: 17 convolutions in a row, 3 on shortcuts, one last layer.

Source: K. He et al., Deep residual learning for image recognition, 2016; for 32×32 pixels the stem
is one 3×3 convolution without a pool. 11,164,352 weights at the default width on CIFAR-10.
"""

from pydantic import Field
from torch import Tensor, nn

from model.nets.chain import check_frames, initialise
from model.nets.layout import ChannelsFirst, ChannelsLast
from model.nets.registry import network
from model.options import Options

LEAST = 8  # rows and columns that leave a pixel after three strides of 2
STAGES = (1, 2, 4, 8)  # channels over the width
BLOCKS = 2  # of each stage


class ResNet18Options(Options):
    """Options of :class:`ResNet18`.

    Parameters
    ----------
    width : int
        Channels of the stem and of the first stage; the others have 2, 4 and 8 times as many.
    """

    width: int = Field(default=64, ge=1)


@network("resnet18", ResNet18Options)
class ResNet18(nn.Module):
    """Scores [frames, classes] of samples [frames, rows, columns, channels].

    ``conv1`` is the stem. Block b = 1..8 holds ``conv<2b>`` and ``conv<2b+1>``, each with its
    ``bn`` and ``relu``; the second ReLU follows the sum. The first block of stages 2 to 4 halves
    rows and columns, and has ``shortcut<b>`` (1×1, stride 2) with ``shortcut_bn<b>``.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, options: ResNet18Options) -> None:
        check_frames("resnet18", shape, LEAST)
        super().__init__()
        self.channels_first = ChannelsFirst()
        self._convolution(1, shape[-1], options.width)
        inputs, block = options.width, 0
        for stage, factor in enumerate(STAGES):
            channels = factor * options.width
            for n in range(BLOCKS):
                block += 1
                stride = 2 if stage and not n else 1
                self._convolution(2 * block, inputs, channels, stride)
                self._convolution(2 * block + 1, channels, channels)
                if stride != 1:
                    shortcut = nn.Conv2d(inputs, channels, 1, stride, bias=False)
                    self.add_module(f"shortcut{block}", shortcut)
                    self.add_module(f"shortcut_bn{block}", nn.BatchNorm2d(channels))
                inputs = channels
        self.blocks = block
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.channels_last = ChannelsLast()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(inputs, classes)
        initialise(self)

    def _convolution(self, number: int, inputs: int, channels: int, stride: int = 1) -> None:
        layer = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)
        self.add_module(f"conv{number}", layer)
        self.add_module(f"bn{number}", nn.BatchNorm2d(channels))
        self.add_module(f"relu{number}", nn.ReLU())

    def _normed(self, name: str, norm: str, x: Tensor) -> Tensor:
        return self.get_submodule(norm)(self.get_submodule(name)(x))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self._normed("conv1", "bn1", self.channels_first(x)))
        for block in range(1, self.blocks + 1):
            first, second = 2 * block, 2 * block + 1
            y = self._normed(f"conv{first}", f"bn{first}", x)
            y = self._normed(f"conv{second}", f"bn{second}", getattr(self, f"relu{first}")(y))
            if hasattr(self, f"shortcut{block}"):
                x = self._normed(f"shortcut{block}", f"shortcut_bn{block}", x)
            x = getattr(self, f"relu{second}")(y + x)
        return self.fc1(self.flatten(self.channels_last(self.pool(x))))
