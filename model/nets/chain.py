"""What convolutional networks share: layers in a row, built one after another."""

from torch import Tensor, nn

from model.ir.errors import BadInput
from model.nets.layout import ChannelsFirst, ChannelsLast


def initialise(module: nn.Module) -> None:
    """Weights for layers before a ReLU, all biases 0.

    K. He et al., Delving deep into rectifiers, 2015: a normal distribution of variance 2 / fan-in.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def check_frames(net: str, shape: tuple[int, ...], least: int) -> None:
    """Raise BadInput unless ``shape`` is [rows, columns, channels] of at least ``least`` pixels."""
    if len(shape) != 3 or min(shape[:2]) < least:
        raise BadInput(
            f"network {net}",
            f"samples of shape {list(shape)}",
            f"[rows, columns, channels] with at least {least} rows and columns",
            "choose another network or data set",
        )


class Chain(nn.Module):
    """Layers in a row for samples [frames, rows, columns, channels], which give [frames, classes].

    The methods add layers and number them: ``conv1``, ``bn1``, ``relu1``, ``pool1``, ...,
    ``fc1``, ...; ``bn`` and ``relu`` count the convolutions and fully connected layers before them.

    Parameters
    ----------
    shape : tuple of int
        [rows, columns, channels] of a sample.
    batch_norm : bool
        Batch normalization after each layer with a ReLU, in place of a convolution's bias.
    """

    def __init__(self, shape: tuple[int, ...], *, batch_norm: bool) -> None:
        super().__init__()
        self.batch_norm = batch_norm
        self._rows, self._columns, self._channels = shape
        self._count = {"conv": 0, "fc": 0, "pool": 0}
        self.channels_first = ChannelsFirst()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x

    def _add(self, kind: str, layer: nn.Module) -> None:
        self._count[kind] += 1
        self.add_module(f"{kind}{self._count[kind]}", layer)

    def _activate(self, norm: nn.Module) -> None:
        number = self._count["conv"] + self._count["fc"]
        if self.batch_norm:
            self.add_module(f"bn{number}", norm)
        self.add_module(f"relu{number}", nn.ReLU())

    def convolution(self, channels: int, kernel: int, *, padding: int = 0) -> None:
        """A square convolution of stride 1 with its batch normalization and ReLU."""
        bias = not self.batch_norm
        layer = nn.Conv2d(self._channels, channels, kernel, padding=padding, bias=bias)
        self._add("conv", layer)
        self._rows += 2 * padding - kernel + 1
        self._columns += 2 * padding - kernel + 1
        self._channels = channels
        self._activate(nn.BatchNorm2d(channels))

    def pool(self) -> None:
        """The largest of each 2×2 pixels; an odd last row or column is left out."""
        self._add("pool", nn.MaxPool2d(2))
        self._rows //= 2
        self._columns //= 2

    def vectors(self) -> None:
        """Frames to vectors, channels last."""
        self.channels_last = ChannelsLast()
        self.add_module("flatten", nn.Flatten())
        self._channels *= self._rows * self._columns

    def dropout(self, share: float) -> None:
        """Drop a share of the activations in training; no layer if the share is 0."""
        if share:
            self.add_module(f"drop{self._count['fc'] + 1}", nn.Dropout(share))

    def hidden(self, units: int) -> None:
        """A fully connected layer with its batch normalization and ReLU."""
        self._add("fc", nn.Linear(self._channels, units))
        self._channels = units
        self._activate(nn.BatchNorm1d(units))

    def scores(self, classes: int) -> None:
        """The last layer; the weights are initialised with it."""
        self._add("fc", nn.Linear(self._channels, classes))
        initialise(self)
