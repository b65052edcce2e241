"""Columns of the crossbars that hold a weight are zero."""

import torch

from model.compress.constraints.base import (
    Composable,
    check_choice,
    check_keep,
    constraint,
    kept,
    largest,
)
from model.compress.constraints.blocks import (
    block_energies,
    check_block,
    check_divides,
    keep_blocks,
    largest_of_all,
)
from model.compress.constraints.frozen import FixedMask


@constraint("crossbar_columns")
class CrossbarColumns(Composable):
    """At most ``keep`` of the columns of a layer's crossbars differ from zero.

    A column (bit line) of a crossbar holds the weights of one output over the ``rows`` inputs
    (word lines) of the crossbar: a piece of a row of the weight as a matrix. The projection zeroes
    the pieces of the smallest L2 norm; ties keep the first in row-major order, or of a crossbar
    the first. Source: column pruning of the memristor framework, arXiv 1908.11691; whether columns
    compete within a layer or within a crossbar is an option here.

    Parameters
    ----------
    rows, columns : int
        Word lines and bit lines of a crossbar.
    keep : int or float
        Columns that stay: a count (int), or a fraction (float, 0 to 1, rounded half up).
    within : str
        ``"layer"``: ``keep`` is of all columns of the layer; ``"crossbar"``: of the columns of each
        crossbar, which so stay equally full; one at the edge may have fewer.
    pad : str
        What to do with a layer that crossbars do not divide: ``"refuse"``, or ``"pad"``, which
        leaves crossbars at the edges partly used.

    Raises BadInput for an option out of range, and, when applied, for sizes that do not divide and
    for a ``keep`` that leaves nothing or is more than there are.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        keep: int | float,
        within: str = "layer",
        pad: str = "refuse",
    ) -> None:
        check_block(rows, columns, pad)
        check_keep(keep)
        check_choice("within", within, ("layer", "crossbar"))
        self.rows = rows
        self.columns = columns
        self.keep = keep
        self.within = within
        self.pad = pad

    def freeze(self, weight: torch.Tensor) -> FixedMask:
        check_divides("rows", len(weight), self.columns, self.pad)
        energies = block_energies(weight, 1, self.rows, self.pad)
        if self.within == "layer":
            return keep_blocks(largest_of_all(energies, self.keep), (1, self.rows), weight)
        count = kept(self.keep, min(self.columns, len(energies)))
        crossbars = energies.split(self.columns)
        pieces = torch.cat([largest(part.T, min(count, len(part))).T for part in crossbars])
        return keep_blocks(pieces, (1, self.rows), weight)

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        return self.freeze(weight).project(weight)

    def __repr__(self) -> str:
        options = f"{self.rows}, {self.columns}, {self.keep}, {self.within!r}, {self.pad!r}"
        return f"CrossbarColumns({options})"
