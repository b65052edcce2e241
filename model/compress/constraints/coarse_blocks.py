"""Coarse-grain sparsity: large blocks of a weight, equally many in each row of blocks."""

import numpy as np
import torch

from model.compress.constraints.base import (
    Composable,
    check_choice,
    check_keep,
    check_size,
    constraint,
)
from model.compress.constraints.blocks import (
    CHOICES,
    block_energies,
    check_block,
    choose_per_row,
    keep_blocks,
)
from model.compress.constraints.frozen import FixedMask


@constraint("coarse_blocks")
class CoarseBlocks(Composable):
    """Every row of blocks keeps ``keep`` of its blocks.

    The projection zeroes in each row of blocks those of the smallest L2 norm; ties keep the first.
    With ``choose = "random"`` the blocks are drawn once, from the seed and the weight's shape
    alone, so the mask can stand before training begins; the feasible set is then a linear space.
    Source: coarse-grain sparsification with a static random mask, arXiv 1804.07370. That every row
    of blocks keeps the same count, which balances a block-sparse array, is our interpretation.

    Parameters
    ----------
    rows, columns : int
        Outputs and inputs of a block.
    keep : int or float
        Blocks that stay in each row of blocks: a count (int), or a fraction (float, 0 to 1, rounded
        half up).
    choose : str
        ``"magnitude"`` or ``"random"``.
    seed : int
        Of the random choice.
    pad : str
        What to do with a layer that blocks do not divide: ``"refuse"``, or ``"pad"``, which lets
        blocks reach over the edges.

    Raises BadInput for an option out of range, and, when applied, for sizes that do not divide and
    for a ``keep`` that leaves nothing or is more than there are.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        keep: int | float,
        choose: str = "magnitude",
        seed: int = 0,
        pad: str = "refuse",
    ) -> None:
        check_block(rows, columns, pad)
        check_keep(keep)
        check_choice("choose", choose, CHOICES)
        check_size("seed", seed, 0)
        self.rows = rows
        self.columns = columns
        self.keep = keep
        self.choose = choose
        self.seed = seed
        self.pad = pad

    def freeze(self, weight: torch.Tensor) -> FixedMask:
        grid = (self.rows, self.columns)
        energies = block_energies(weight, *grid, self.pad)
        rng = np.random.default_rng(self.seed)
        return keep_blocks(choose_per_row(energies, self.keep, self.choose, rng), grid, weight)

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        return self.freeze(weight).project(weight)

    def __repr__(self) -> str:
        options = f"{self.rows}, {self.columns}, {self.keep}, {self.choose!r}, {self.seed}"
        return f"CoarseBlocks({options}, {self.pad!r})"
