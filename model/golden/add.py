"""Golden function of the residual addition."""

import torch

from model.golden.graph import evaluate
from model.golden.numerics import decode
from model.golden.requantize import shifted
from model.ir.add import AddSpec
from model.ir.network import Node


@evaluate.register
def _(
    spec: AddSpec, node: Node, inputs: list[torch.Tensor], keep: dict[str, torch.Tensor]
) -> torch.Tensor:
    mx, my = (int(node.tensors[name][0]) for name in ("mx", "my"))
    x, y = decode(spec.x_format, inputs[0]), decode(spec.y_format, inputs[1])
    total = x * mx + y * my + spec.rounding
    return shifted(total, spec.shift, spec.out_format)
