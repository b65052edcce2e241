"""Weights of circulant blocks."""

import torch

from model.compress.constraints.base import (
    Composable,
    as_matrix,
    check_choice,
    check_size,
    constraint,
)
from model.compress.constraints.blocks import PADS, check_divides
from model.compress.constraints.frozen import FixedCirculant, Free


@constraint("block_circulant")
class BlockCirculant(Composable):
    """Every k×k block is circulant, ``C[i, j] = w[(i - j) mod k]``: k numbers instead of k^2.

    Blocks lie over outputs and input channels, of a convolution at each kernel position. The
    feasible set is a linear space; the projection takes the mean of each wrapped diagonal. Sources:
    SAC, doi 10.1145/3632957; C-LSTM, arXiv 1803.06305; for convolutions, C. Ding et al., CirCNN,
    arXiv 1708.08917.

    Parameters
    ----------
    k : int
        Size of a block; 1 restricts nothing.
    pad : str
        What to do with a layer that blocks do not divide: ``"refuse"``, or ``"pad"``, which pads
        outputs and channels inside the layer; the means are then over the weights that exist.

    Raises BadInput for an option out of range, and, when applied, for sizes that do not divide.
    """

    def __init__(self, k: int, pad: str = "refuse") -> None:
        check_size("k", k)
        check_choice("pad", pad, PADS)
        self.k = k
        self.pad = pad

    def freeze(self, weight: torch.Tensor) -> FixedCirculant | Free:
        as_matrix(weight)
        check_divides("rows", weight.shape[0], self.k, self.pad)
        check_divides("channels", weight.shape[1], self.k, self.pad)
        return FixedCirculant(self.k) if self.k > 1 else Free()

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        return self.freeze(weight).project(weight)

    def __repr__(self) -> str:
        return f"BlockCirculant({self.k}, {self.pad!r})"
