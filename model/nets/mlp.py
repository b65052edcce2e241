"""Fully connected network with ReLU."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from model.nets.registry import network
from model.options import Options


class MLPOptions(Options):
    """Options of :class:`MLP`.

    Parameters
    ----------
    hidden : tuple of int
        Units of each hidden layer.
    batch_norm : bool
        Batch normalization between each hidden layer and its ReLU.
    dropout : float
        Share of the hidden activations dropped in training.
    """

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64, 64, 64)
    batch_norm: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)


@network("mlp", MLPOptions)
class MLP(nn.Module):
    """Scores [frames, classes] of samples [frames, *shape]; layers ``fc1``, ``fc2``, ..."""

    def __init__(self, shape: tuple[int, ...], classes: int, options: MLPOptions) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        sizes = [1, *options.hidden, classes]
        for size in shape:
            sizes[0] *= size
        self.depth = len(sizes) - 1
        for n in range(1, self.depth + 1):
            self.add_module(f"fc{n}", nn.Linear(sizes[n - 1], sizes[n]))
            if n < self.depth:
                if options.batch_norm:
                    self.add_module(f"bn{n}", nn.BatchNorm1d(sizes[n]))
                self.add_module(f"relu{n}", nn.ReLU())
                if options.dropout:
                    self.add_module(f"drop{n}", nn.Dropout(options.dropout))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x
