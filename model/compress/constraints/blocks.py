"""What the constraints on blocks of a weight share: cutting, choosing, and the mask."""

import numpy as np
import torch

from model.compress.constraints.base import (
    as_matrix,
    check_choice,
    check_size,
    from_matrix,
    kept,
    largest,
)
from model.compress.constraints.frozen import FixedMask, per_row_of
from model.ir.errors import BadInput

PADS = ("refuse", "pad")
CHOICES = ("magnitude", "random")


def check_block(rows: int, columns: int, pad: str) -> None:
    """Raise BadInput unless the options of a block are in range."""
    check_size("rows", rows)
    check_size("columns", columns)
    check_choice("pad", pad, PADS)


def check_divides(what: str, size: int, block: int, pad: str) -> None:
    """Raise BadInput if a size that is no multiple of the block's is not to be padded."""
    if pad == "refuse" and size % block:
        raise BadInput(
            what,
            f"{size} {what}, which blocks of {block} do not divide",
            f"a multiple of {block}",
            f"choose a block of another size, or set pad = 'pad' (to {size + -size % block})",
        )


def block_energies(
    weight: torch.Tensor, rows: int, columns: int, pad: str = "refuse"
) -> torch.Tensor:
    """Squared norms (float64, [rows of blocks, columns of blocks]) of a weight's blocks.

    Blocks are counted from the first row and column of the weight as a matrix; with ``pad`` those
    at the far edges may reach over them. Raises BadInput if the sizes do not divide and ``pad`` is
    "refuse".
    """
    matrix = as_matrix(weight).detach().double().square()
    check_divides("rows", matrix.shape[0], rows, pad)
    check_divides("columns", matrix.shape[1], columns, pad)
    up, across = -matrix.shape[0] % rows, -matrix.shape[1] % columns
    padded = torch.nn.functional.pad(matrix, (0, across, 0, up))
    return padded.unflatten(1, (-1, columns)).unflatten(0, (-1, rows)).sum((1, 3))


def keep_blocks(blocks: torch.Tensor, grid: tuple[int, int], weight: torch.Tensor) -> FixedMask:
    """The mask of a weight of which the blocks [rows of blocks, columns of blocks] stay."""
    rows, columns = as_matrix(weight).shape
    matrix = blocks.repeat_interleave(grid[0], 0).repeat_interleave(grid[1], 1)
    mask = from_matrix(matrix[:rows, :columns], weight).contiguous()
    return FixedMask(mask, grid, per_row_of(mask, grid))


def largest_of_all(energies: torch.Tensor, keep: int | float) -> torch.Tensor:
    """Bool mask of the largest of all energies, whose shape it has."""
    return largest(energies.flatten(), kept(keep, energies.numel())).view_as(energies)


def choose_per_row(
    energies: torch.Tensor, keep: int | float, choose: str, rng: np.random.Generator
) -> torch.Tensor:
    """Bool mask of equally many blocks in each row of energies [..., blocks].

    ``choose`` is "magnitude", or "random": then they depend on ``rng`` and the shape alone. Blocks
    that do not exist have negative energy and come last.
    """
    count = kept(keep, energies.shape[-1])
    if choose == "random":
        drawn = torch.from_numpy(rng.random(tuple(energies.shape))).to(energies.device)
        energies = torch.where(energies < 0, energies, drawn)
    return largest(energies, count)
