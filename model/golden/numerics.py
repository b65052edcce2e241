"""Exact integer primitives of the golden model."""

import numpy as np
import torch

from model.ir.numerics import Format, IntRange

FLOAT_EXACT_BITS = 53


def decode(format: Format, codes: torch.Tensor) -> torch.Tensor:
    """Codes to the integer values that enter the arithmetic (int64, the same shape)."""
    return torch.from_numpy(np.ascontiguousarray(format.decode(codes.numpy())))


def matmul(x: torch.Tensor, weights: torch.Tensor, acc: IntRange) -> torch.Tensor:
    """``x @ weights.T`` of int64 tensors [frames, n] and [m, n], exact.

    float64 holds every integer of up to 53 bits, so where the accumulator's range proves that each
    partial sum fits, whatever their order, the product runs in float64 and is still exact.
    """
    if acc.bits <= FLOAT_EXACT_BITS:
        return (x.double() @ weights.double().T).long()
    return x @ weights.T
