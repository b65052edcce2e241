"""``y = clamp((acc * m + b + r) >> s)``."""

import torch

from model.ir.numerics import Format
from model.ir.requantize import RequantizeSpec


def requantize(
    spec: RequantizeSpec, acc: torch.Tensor, tensors: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Accumulators int64 [..., channels] to codes int64 [..., channels]."""
    total = acc * tensors["m"] if spec.multiplies else acc
    total = total + (tensors["b"] + spec.rounding)
    return shifted(total, spec.shift, spec.out_format)


def shifted(total: torch.Tensor, shift: int, format: Format) -> torch.Tensor:
    """``clamp(total >> s)`` to the codes of a format; the rounding is in the total."""
    span = format.codes
    return (total >> shift).clamp_(span.low, span.high)
