"""Block-circulant weights and the numbers that define them."""

import torch

from model.compress.constraints.base import as_matrix, from_matrix


def defining_vectors(weight: torch.Tensor, k: int) -> torch.Tensor:
    """The first columns [p, q, k] of the nearest circulant blocks.

    A block is ``C[i, j] = w[(i - j) mod k]``. The weight as a matrix is cut into
    ``p = ceil(rows / k)`` rows of blocks and ``q = positions * ceil(channels / k)`` columns of
    blocks, since every kernel position's channels are blocks of their own. Where rows or channels
    do not divide they are padded, and each mean is over the elements that exist; it is 0 where
    there is none.

    The nearest circulant in the Frobenius norm has on each wrapped diagonal the mean of the
    diagonal, for the diagonals are independent of each other. Here the k diagonals of a block are
    added up directly, k^2 additions a block, which gives exact zeros for zeros, as a transform
    would not.
    """
    blocks = _blocks(as_matrix(weight), weight, k)
    present = _blocks(torch.ones_like(as_matrix(weight)), weight, k)
    sums, counts = _diagonals(blocks), _diagonals(present)
    return sums / counts.clamp_min(1)


def expand_vectors(vectors: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The weight of the shape of ``like`` that defining vectors [p, q, k] stand for."""
    p, q, k = vectors.shape
    row = torch.arange(k, device=vectors.device)
    blocks = vectors[:, :, (row[:, None] - row[None, :]) % k]  # [p, q, k, k]
    out, channels = like.shape[:2]
    positions = like[0, 0].numel()
    matrix = blocks.permute(0, 2, 1, 3).reshape(p * k, positions, q // positions * k)
    return from_matrix(matrix[:out, :, :channels].reshape(out, -1), like)


def nearest_circulant(weight: torch.Tensor, k: int) -> torch.Tensor:
    """The weight of circulant blocks nearest in the Euclidean norm; linear in the weight."""
    return expand_vectors(defining_vectors(weight, k), weight)


def _blocks(matrix: torch.Tensor, weight: torch.Tensor, k: int) -> torch.Tensor:
    """[rows, columns] padded with zeros and cut into blocks [p, q, k, k]."""
    out, channels = weight.shape[:2]
    split = matrix.reshape(out, -1, channels)
    split = torch.nn.functional.pad(split, (0, -channels % k, 0, 0, 0, -out % k))
    return split.reshape(split.shape[0] // k, k, -1, k).permute(0, 2, 1, 3)


def _diagonals(blocks: torch.Tensor) -> torch.Tensor:
    """Sums [p, q, k] over the wrapped diagonals (i - j) mod k of blocks [p, q, k, k]."""
    k = blocks.shape[-1]
    row = torch.arange(k, device=blocks.device)
    column = (row[:, None] - row[None, :]) % k  # [i, d]
    return blocks[:, :, row[:, None], column].sum(2)
