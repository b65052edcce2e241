"""Golden function of the convolution: its windows, unfolded, times the weight matrix."""

from typing import Any

import torch

from model.golden.graph import evaluate
from model.golden.matrix import accumulate, prepare, requantized
from model.golden.numerics import carry, decode
from model.golden.window import windows
from model.ir.conv import ConvSpec
from model.ir.network import Node

PATCH_NUMBERS = 1 << 21
"""Numbers of the unfolded windows that are in memory at once, unless one frame has more."""


@evaluate.register
def _(
    spec: ConvSpec, node: Node, inputs: list[torch.Tensor], keep: dict[str, torch.Tensor]
) -> torch.Tensor:
    numbers = spec.positions * spec.area * spec.channels
    weights = prepare(spec.arithmetic, spec, node.tensors)
    parts = inputs[0].split(max(1, PATCH_NUMBERS // numbers))
    acc = torch.cat([_accumulate(spec, part, weights) for part in parts])
    return requantized(node, acc, keep)


def _accumulate(spec: ConvSpec, codes: torch.Tensor, weights: Any) -> torch.Tensor:
    """Accumulators [frames, out rows, out columns, out channels] of frames of codes."""
    # A padded format decodes code 0 to 0, so that padding may come after decoding.
    x = windows(spec, carry(decode(spec.in_format, codes), spec.accumulator()))
    if spec.groups == 1:
        vectors = x.reshape(-1, spec.matrix_columns)
        acc = accumulate(spec.arithmetic, spec, vectors, weights)
    else:
        vectors = x.permute(5, 0, 1, 2, 3, 4).reshape(spec.groups, -1, spec.matrix_columns)
        own = weights.reshape(spec.groups, -1, spec.matrix_columns)
        acc = accumulate(spec.arithmetic, spec, vectors, own).transpose(0, 1)
    return acc.reshape(len(codes), spec.out_rows, spec.out_columns, spec.out_channels)
