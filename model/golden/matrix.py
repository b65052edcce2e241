"""What the golden functions of the layers with a weight matrix share."""

from functools import singledispatch

import torch

from model.golden.numerics import matmul
from model.golden.requantize import requantize
from model.ir.arithmetic import Arithmetic, ExactArithmetic
from model.ir.errors import BadInput
from model.ir.matrix import MatrixSpec
from model.ir.network import Node


@singledispatch
def accumulate(
    arithmetic: Arithmetic, spec: MatrixSpec, x: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Accumulators int64 [..., vectors, rows] of values [..., vectors, columns] and weight values
    [..., rows, columns].

    The values are integers, in int64 or, where the accumulators fit, in float64.
    """
    raise BadInput(
        "arithmetic", arithmetic.kind, "an arithmetic with a golden function", "update Gyre"
    )


@accumulate.register
def _(
    arithmetic: ExactArithmetic, spec: MatrixSpec, x: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    return matmul(x, weights, spec.accumulator())


def weight_values(node: Node) -> torch.Tensor:
    """The weight matrix of a node: integer values, int64 [matrix_rows, matrix_columns]."""
    return torch.from_numpy(node.spec.values(node.tensors).copy())


def requantized(node: Node, acc: torch.Tensor, keep: dict[str, torch.Tensor]) -> torch.Tensor:
    """The output codes of accumulators [..., channels], which are kept."""
    keep[f"{node.name}.acc"] = acc
    spec = node.spec.requantize
    names = spec.tensor_shapes(acc.shape[-1])
    tensors = {name: torch.from_numpy(node.tensors[name].copy()) for name in names}
    return requantize(spec, acc, tensors)
