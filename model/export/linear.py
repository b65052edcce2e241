"""Handlers of the fully connected layers, plain and structured."""

from dataclasses import replace

import numpy as np
import torch
from torch import fx, nn

from model.compress.layers import BlockSparseLinear, CirculantLinear
from model.export.storage import Matrix
from model.export.values import Linear, Stream, Value
from model.export.walk import Walk, check_finite, handles
from model.export.weights import weights_of
from model.ir.errors import BadInput


@handles(nn.Linear, CirculantLinear, BlockSparseLinear)
def linear(walk: Walk, name: str, module: nn.Module, node: fx.Node, value: Value) -> Linear:
    """A new layer on the codes of its input; its bias becomes the offset."""
    check_finite(node, module)
    source = walk.stream(value, node.all_input_nodes[0])
    shape = source.index.shape
    if shape != (module.in_features,):
        raise BadInput(
            str(node.target),
            f"{shape[0]} features" if len(shape) == 1 else f"a frame of shape {shape}",
            f"{module.in_features} features on one axis",
            "flatten before the layer, or correct its size",
        )
    matrix, scale = weights_of(str(node.target), module, walk.weight_bits, walk.weights_per)
    matrix = _in_order(str(node.target), matrix, source)
    rows = len(matrix.codes)
    offset = torch.zeros(rows) if module.bias is None else module.bias
    gain = (scale * source.scale).expand(rows)
    offset = offset.double()
    return Linear(name, (source,), np.arange(rows), matrix, gain, offset, module=module)


def _in_order(layer: str, matrix: Matrix, source: Stream) -> Matrix:
    """The matrix with its columns in the order of the edge that it reads."""
    order = np.argsort(source.index)
    if np.array_equal(order, np.arange(len(order))):
        return matrix
    if matrix.structured:
        raise BadInput(
            layer,
            f"a structured weight on a frame {source.shape} that was flattened in another order",
            "a frame that is flattened channels last",
            "permute the frame to channels last before it is flattened, and train so",
        )
    return replace(matrix, codes=matrix.codes[:, order])
