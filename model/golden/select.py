"""Golden function of the input selection."""

import torch

from model.golden.graph import evaluate
from model.ir.network import Node
from model.ir.select import SelectSpec


@evaluate.register
def _(
    spec: SelectSpec, node: Node, inputs: list[torch.Tensor], keep: dict[str, torch.Tensor]
) -> torch.Tensor:
    return inputs[0].flatten(1)[:, torch.from_numpy(node.tensors["indices"].copy())]
