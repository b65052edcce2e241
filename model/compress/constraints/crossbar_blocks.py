"""Whole crossbars of a weight are zero."""

import torch

from model.compress.constraints.base import Composable, check_keep, constraint
from model.compress.constraints.blocks import (
    block_energies,
    check_block,
    keep_blocks,
    largest_of_all,
)
from model.compress.constraints.frozen import FixedMask


@constraint("crossbar_blocks")
class CrossbarBlocks(Composable):
    """At most ``keep`` of the crossbars that hold a layer differ from zero.

    A crossbar has word lines, which are inputs, and bit lines, which are outputs: it holds a block
    of ``columns`` rows and ``rows`` columns of the weight as a matrix. The projection zeroes the
    blocks of the smallest L2 norm; ties keep the first in row-major order. Source: block pruning of
    the memristor framework, arXiv 1908.11691.

    Parameters
    ----------
    rows, columns : int
        Word lines and bit lines of a crossbar.
    keep : int or float
        Crossbars that stay: a count (int), or a fraction of all (float, 0 to 1, rounded half up).
    pad : str
        What to do with a layer that crossbars do not divide: ``"refuse"``, or ``"pad"``, which
        leaves crossbars at the edges partly used.

    Raises BadInput for an option out of range, and, when applied, for sizes that do not divide and
    for a ``keep`` that leaves nothing or is more than there are.
    """

    def __init__(self, rows: int, columns: int, keep: int | float, pad: str = "refuse") -> None:
        check_block(rows, columns, pad)
        check_keep(keep)
        self.rows = rows
        self.columns = columns
        self.keep = keep
        self.pad = pad

    def freeze(self, weight: torch.Tensor) -> FixedMask:
        grid = (self.columns, self.rows)
        energies = block_energies(weight, *grid, self.pad)
        return keep_blocks(largest_of_all(energies, self.keep), grid, weight)

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        return self.freeze(weight).project(weight)

    def __repr__(self) -> str:
        return f"CrossbarBlocks({self.rows}, {self.columns}, {self.keep}, {self.pad!r})"
