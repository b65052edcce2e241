"""Exact integer primitives of the golden model."""

import numpy as np
import torch

from model.ir.numerics import Format, IntRange

FLOAT_EXACT_BITS = 53


def decode(format: Format, codes: torch.Tensor) -> torch.Tensor:
    """Codes to the integer values that enter the arithmetic (int64, the same shape)."""
    return torch.from_numpy(np.ascontiguousarray(format.decode(codes.numpy())))


def carry(values: torch.Tensor, acc: IntRange) -> torch.Tensor:
    """The same integers in the fastest type that is exact for accumulators of that range.

    float64 holds every integer of up to 53 bits, so where the range proves that each partial sum
    fits, whatever the order of the terms, products and sums in float64 are exact; else int64.
    """
    return values.to(torch.float64 if acc.bits <= FLOAT_EXACT_BITS else torch.int64)


def matmul(x: torch.Tensor, weights: torch.Tensor, acc: IntRange) -> torch.Tensor:
    """``x @ weights.T`` of integers [..., frames, n] and [..., m, n], exact, as int64.

    ``acc`` is the range of every partial sum, and so of the operands.
    """
    return (carry(x, acc) @ carry(weights, acc).mT).long()
