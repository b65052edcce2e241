"""What the golden functions of the layers with a weight matrix share."""

from functools import singledispatch
from typing import Any

import numpy as np
import torch

from model.golden.numerics import carry, matmul
from model.golden.requantize import requantize
from model.ir.arithmetic import Arithmetic, ExactArithmetic
from model.ir.errors import BadInput
from model.ir.matrix import MatrixSpec
from model.ir.network import Node


@singledispatch
def prepare(arithmetic: Arithmetic, spec: MatrixSpec, tensors: dict[str, np.ndarray]) -> Any:
    """What ``accumulate`` multiplies by, of the tensors of a layer: made once for many vectors.

    Under exact arithmetic, the weight values [rows, columns] in the fastest exact type.
    """
    raise _unknown(arithmetic)


@prepare.register
def _(
    arithmetic: ExactArithmetic, spec: MatrixSpec, tensors: dict[str, np.ndarray]
) -> torch.Tensor:
    return carry(torch.from_numpy(spec.values(tensors).copy()), spec.accumulator())


@singledispatch
def accumulate(
    arithmetic: Arithmetic, spec: MatrixSpec, x: torch.Tensor, weights: Any
) -> torch.Tensor:
    """Accumulators int64 [..., vectors, rows] of values [..., vectors, columns] and of weights as
    ``prepare`` makes them. Exact arithmetic takes weight values [..., rows, columns] of any origin.

    The values are integers, in int64 or, where the accumulators fit, in float64.
    """
    raise _unknown(arithmetic)


@accumulate.register
def _(
    arithmetic: ExactArithmetic, spec: MatrixSpec, x: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    return matmul(x, weights, spec.accumulator())


def _unknown(arithmetic: Arithmetic) -> BadInput:
    return BadInput(
        "arithmetic", arithmetic.kind, "an arithmetic with a golden function", "update Gyre"
    )


def requantized(node: Node, acc: torch.Tensor, keep: dict[str, torch.Tensor]) -> torch.Tensor:
    """The output codes of accumulators [..., channels], which are kept."""
    keep[f"{node.name}.acc"] = acc
    spec = node.spec.requantize
    names = spec.tensor_shapes(acc.shape[-1])
    tensors = {name: torch.from_numpy(node.tensors[name].copy()) for name in names}
    return requantize(spec, acc, tensors)
