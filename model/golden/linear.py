"""Golden function of the fully connected layer."""

import torch

from model.golden.graph import evaluate
from model.golden.matrix import accumulate, prepare, requantized
from model.golden.numerics import decode
from model.ir.linear import LinearSpec
from model.ir.network import Node


@evaluate.register
def _(
    spec: LinearSpec, node: Node, inputs: list[torch.Tensor], keep: dict[str, torch.Tensor]
) -> torch.Tensor:
    x = decode(spec.in_format, inputs[0].flatten(1))
    weights = prepare(spec.arithmetic, spec, node.tensors)
    return requantized(node, accumulate(spec.arithmetic, spec, x, weights), keep)
