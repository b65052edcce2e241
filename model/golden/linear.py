"""Golden function of the fully connected layer."""

from functools import singledispatch

import torch

from model.golden.graph import evaluate
from model.golden.numerics import decode, matmul
from model.golden.requantize import requantize
from model.ir.arithmetic import Arithmetic, ExactArithmetic
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.network import Node


@singledispatch
def accumulate(
    arithmetic: Arithmetic, spec: LinearSpec, x: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Accumulators [frames, out] of values [frames, in] and weight values [out, in]."""
    raise BadInput(
        "arithmetic", arithmetic.kind, "an arithmetic with a golden function", "update Gyre"
    )


@accumulate.register
def _(
    arithmetic: ExactArithmetic, spec: LinearSpec, x: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    return matmul(x, weights, spec.accumulator())


@evaluate.register
def _(
    spec: LinearSpec, node: Node, inputs: list[torch.Tensor], keep: dict[str, torch.Tensor]
) -> torch.Tensor:
    tensors = {name: torch.from_numpy(array.copy()) for name, array in node.tensors.items()}
    x = decode(spec.in_format, inputs[0].flatten(1))
    weights = decode(spec.weight_format, tensors["weight"])
    acc = accumulate(spec.arithmetic, spec, x, weights)
    keep[f"{node.name}.acc"] = acc
    return requantize(spec.requantize, acc, tensors)
