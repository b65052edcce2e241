"""Handler of the residual addition."""

import operator

import numpy as np
import torch
from torch import fx, nn

from model.export.values import Sum, Value
from model.export.walk import Walk, handles
from model.ir.errors import BadInput


@handles(operator.add, operator.iadd, torch.add, "add", "add_", two=True)
def add(walk: Walk, name: str, module: nn.Module | None, node: fx.Node, value: Value) -> Sum:
    """A new layer on the codes of both inputs, which may have scales of their own."""
    given = [
        *node.args[:2],
        *(node.kwargs[key] for key in ("input", "other") if key in node.kwargs),
    ]
    factor = node.kwargs.get("alpha", 1)
    if len(given) != 2 or not all(isinstance(x, fx.Node) for x in given) or factor != 1:
        raise BadInput(
            name,
            "an addition of a constant, or with a factor",
            "x + y of two branches",
            "put constants into a bias",
        )
    for one in given:  # both may be one value, which must get its codes only once
        walk.values[one] = walk.stream(walk.values[one], one)
    x, y = (walk.values[one] for one in given)
    if x.shape != y.shape or not np.array_equal(x.index, y.index):
        raise BadInput(
            name,
            f"an addition of frames {x.index.shape} and {y.index.shape}, {x.shape} and {y.shape}"
            " channels last",
            "two frames of one shape in one order",
            "bring both branches to one shape",
        )
    return Sum(name, (x, y), x.index)
