"""Blocks within blocks of a weight, equally many in each row of both."""

from collections.abc import Mapping

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
from model.ir.errors import BadInput

Level = Mapping[str, int | float]


@constraint("two_level_blocks")
class TwoLevelBlocks(Composable):
    """Every row of outer blocks keeps some of them, and each of their rows of inner blocks too.

    The projection is exact: in each outer block, each row of inner blocks keeps its largest; then
    each row of outer blocks keeps those whose kept inner blocks have the largest norm. Ties keep
    the first. With ``choose = "random"`` both are drawn from the seed and the shape alone. Source:
    the sequels of arXiv 1804.07370, which apply coarse-grain sparsity at two levels to LSTMs; equal
    counts are our interpretation, as for ``coarse_blocks``.

    Parameters
    ----------
    outer, inner : mapping with the keys rows, columns and keep
        Outputs and inputs of a block, and how many stay (a count, or a fraction, rounded half up):
        outer blocks of each row of outer blocks, inner blocks of each row of inner blocks of a
        kept outer block.
    choose : str
        ``"magnitude"`` or ``"random"``.
    seed : int
        Of the random choice.
    pad : str
        What to do with a layer that outer blocks do not divide: ``"refuse"``, or ``"pad"``, which
        lets them reach over the edges.

    Raises BadInput for an option out of range or inner blocks that do not divide outer ones, and,
    when applied, for sizes that do not divide and for a ``keep`` that leaves nothing or is more
    than there are.
    """

    def __init__(
        self,
        outer: Level,
        inner: Level,
        choose: str = "magnitude",
        seed: int = 0,
        pad: str = "refuse",
    ) -> None:
        for name, level in (("outer", outer), ("inner", inner)):
            if not isinstance(level, Mapping) or set(level) != {"rows", "columns", "keep"}:
                raise BadInput(
                    name, repr(level), "a table of rows, columns and keep", "give these three"
                )
            check_block(level["rows"], level["columns"], pad)
            check_keep(level["keep"])
        for side in ("rows", "columns"):
            if outer[side] % inner[side]:
                raise BadInput(
                    f"inner {side}",
                    f"{inner[side]}, which does not divide the outer {outer[side]}",
                    f"a divisor of {outer[side]}",
                    "choose inner blocks that fill outer ones",
                )
        check_choice("choose", choose, CHOICES)
        check_size("seed", seed, 0)
        self.outer = {key: outer[key] for key in ("rows", "columns", "keep")}
        self.inner = {key: inner[key] for key in ("rows", "columns", "keep")}
        self.choose = choose
        self.seed = seed
        self.pad = pad

    def freeze(self, weight: torch.Tensor) -> FixedMask:
        block = (self.outer["rows"], self.outer["columns"])
        grid = (self.inner["rows"], self.inner["columns"])
        outer = block_energies(weight, *block, self.pad)
        # inner blocks by [outer row, row in it, outer column, column in it]; -1 over an edge
        energies = block_energies(weight, *grid, "pad")
        down, across = block[0] // grid[0], block[1] // grid[1]
        rest = outer.shape[1] * across - energies.shape[1], outer.shape[0] * down - len(energies)
        energies = torch.nn.functional.pad(energies, (0, rest[0], 0, rest[1]), value=-1)
        energies = energies.view(outer.shape[0], down, outer.shape[1], across)
        rng = np.random.default_rng(self.seed)
        small = choose_per_row(energies, self.inner["keep"], self.choose, rng)
        left = (energies * small).clamp_min(0).sum((1, 3))
        large = choose_per_row(left, self.outer["keep"], self.choose, rng)
        blocks = (small & large[:, None, :, None]).view(len(outer) * down, -1)
        return keep_blocks(blocks, grid, weight)

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        return self.freeze(weight).project(weight)

    def __repr__(self) -> str:
        options = f"{self.outer}, {self.inner}, {self.choose!r}, {self.seed}"
        return f"TwoLevelBlocks({options}, {self.pad!r})"
