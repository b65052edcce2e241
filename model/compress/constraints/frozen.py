"""Frozen constraints: linear spaces that a weight stays in while it is retrained."""

import hashlib
import math

import torch

from model.compress.constraints.base import Composable, Constraint, as_matrix
from model.compress.constraints.circulant import nearest_circulant
from model.ir.errors import BadInput


class Free(Composable):
    """Every weight is feasible."""

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        return weight

    def freeze(self, weight: torch.Tensor) -> "Free":
        return self

    def __repr__(self) -> str:
        return "Free()"


class FixedMask(Composable):
    """Weights that are zero outside a given mask.

    Parameters
    ----------
    mask : bool tensor of the weight's shape
        Where a weight may differ from zero.
    grid : (int, int), optional
        Rows and columns of the blocks, counted from the first row and column of the weight as a
        matrix, of which the structure was made.
    per_row : int, optional
        How many blocks every row of blocks keeps, if all keep the same number.
    """

    def __init__(
        self,
        mask: torch.Tensor,
        grid: tuple[int, int] | None = None,
        per_row: int | None = None,
    ) -> None:
        self.mask = mask
        self.grid = grid
        self.per_row = per_row
        self._moved: torch.Tensor | None = None

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self._on(weight.device)

    def _on(self, device: torch.device) -> torch.Tensor:
        """The mask on a device; that of a device other than its own is copied once."""
        if self.mask.device == device:
            return self.mask
        if self._moved is None or self._moved.device != device:
            self._moved = self.mask.to(device)
        return self._moved

    def freeze(self, weight: torch.Tensor) -> "FixedMask":
        return self

    def __repr__(self) -> str:
        digest = hashlib.sha256(self.mask.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
        shape = tuple(self.mask.shape)
        return f"FixedMask({shape}, {digest}, grid={self.grid}, per_row={self.per_row})"


class FixedCirculant(Composable):
    """Weights of circulant blocks: the projection averages each wrapped diagonal.

    ``k`` is the size of a block. Channels that do not divide are padded inside.
    """

    def __init__(self, k: int) -> None:
        self.k = k

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        return nearest_circulant(weight, self.k)

    def freeze(self, weight: torch.Tensor) -> "FixedCirculant":
        return self

    def __repr__(self) -> str:
        return f"FixedCirculant({self.k})"


def per_row_of(mask: torch.Tensor, grid: tuple[int, int]) -> int | None:
    """How many blocks with a weight in them every row of blocks has; None if that differs.

    ``mask`` is bool of a weight's shape. Rows of blocks that are wholly zero do not count.
    """
    matrix = as_matrix(mask)
    rows, columns = matrix.shape
    up, across = -rows % grid[0], -columns % grid[1]
    padded = torch.nn.functional.pad(matrix.to(torch.uint8), (0, across, 0, up))
    blocks = padded.unflatten(1, (-1, grid[1])).unflatten(0, (-1, grid[0])).amax((1, 3))
    counts = blocks.sum(1).unique()
    counts = counts[counts > 0]
    return int(counts[0]) if len(counts) == 1 else None


def merge(frozen: list[Constraint]) -> list[Constraint]:
    """The same space with all its masks in one, and without what restricts nothing.

    Where blocks of two grids meet, the grid of the result is that of the largest blocks which
    fit both. Raises BadInput if no weight is left.
    """
    masks = [part for part in frozen if isinstance(part, FixedMask)]
    others = [part for part in frozen if not isinstance(part, FixedMask | Free)]
    if not masks:
        return others
    mask = masks[0].mask
    for part in masks[1:]:
        mask = mask & part.mask
    if not mask.any():
        raise BadInput(
            "constraints that hold together",
            "none of the weights left",
            "at least one",
            "keep more, or choose other constraints",
        )
    if len(masks) == 1:
        return [masks[0], *others]
    grids = [part.grid for part in masks if part.grid is not None]
    if not grids:
        return [FixedMask(mask), *others]
    grid = (math.gcd(*(g[0] for g in grids)), math.gcd(*(g[1] for g in grids)))
    return [FixedMask(mask, grid, per_row_of(mask, grid)), *others]
