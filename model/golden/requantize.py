"""``y = clamp((acc * m + b + r) >> s)``."""

import torch

from model.ir.requantize import RequantizeSpec


def requantize(
    spec: RequantizeSpec, acc: torch.Tensor, tensors: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Accumulators int64 [..., channels] to codes int64 [..., channels]."""
    total = acc * tensors["m"] if spec.multiplies else acc
    total = total + tensors["b"] + spec.rounding
    span = spec.out_format.codes
    return (total >> spec.shift).clamp(span.low, span.high)
