"""Golden functions of the poolings."""

import torch

from model.golden.graph import evaluate
from model.golden.matrix import requantized
from model.golden.numerics import decode
from model.golden.window import windows
from model.ir.network import Node
from model.ir.pool import AveragePoolSpec, MaxPoolSpec


@evaluate.register
def _(
    spec: MaxPoolSpec, node: Node, inputs: list[torch.Tensor], keep: dict[str, torch.Tensor]
) -> torch.Tensor:
    return windows(spec, inputs[0]).amax(dim=(3, 4))


@evaluate.register
def _(
    spec: AveragePoolSpec, node: Node, inputs: list[torch.Tensor], keep: dict[str, torch.Tensor]
) -> torch.Tensor:
    acc = windows(spec, decode(spec.in_format, inputs[0])).sum(dim=(3, 4))
    return requantized(node, acc, keep)
