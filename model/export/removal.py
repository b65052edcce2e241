"""Physical removal of what pruning has zeroed; exact, in the integers.

Three rules, applied until none of them finds anything:

- a row of zeros has the accumulator 0, so its output is the constant code
  ``c = clamp((b + r) >> s)``; every reader gets ``m * w[:, j] * c`` added to its ``b``, and row and
  columns go;
- a column of zeros in every reader makes the row that feeds it idle, and both go;
- inputs of the network whose column is zero in every reader are dropped by one SelectSpec.

At least one row and one column of a layer always stay, so a network whose every path was pruned
remains a network (with a constant output).
"""

from dataclasses import replace

import numpy as np
import torch

from model.export.factors import bias_bits
from model.golden.requantize import requantize
from model.ir.linear import LinearSpec
from model.ir.network import Network, Node
from model.ir.select import SelectSpec
from model.ir.storage import DenseStorage

SELECT = "select"


def remove_pruned(network: Network) -> Network:
    """The same function of the input codes, without rows and columns of zeros."""
    nodes = {node.name: node for node in network.nodes}
    while any(_shrink(network, nodes, name) for name in list(nodes)):
        pass
    return Network(network.name, network.input, _selected(network, list(nodes.values())))


def _readers(nodes: dict[str, Node], edge: str) -> list[Node] | None:
    """The linear layers that read an edge, or None if something else does, or nothing."""
    readers = [node for node in nodes.values() if edge in node.inputs]
    if not readers or not all(_removable(node) for node in readers):
        return None
    return readers


def _removable(node: Node) -> bool:
    """Whether rows and columns of a node can be cut out of its weights."""
    return isinstance(node.spec, LinearSpec) and isinstance(node.spec.storage, DenseStorage)


def _shrink(network: Network, nodes: dict[str, Node], name: str) -> bool:
    """Drop the rows of one layer that are constant or idle; whether there were any."""
    node = nodes[name]
    readers = _readers(nodes, name)
    if not _removable(node) or readers is None:
        return False
    constant = ~_values(node).any(axis=1)
    keep = _columns_in_use(readers) & ~constant
    if not keep.any():
        keep[0] = True
    if keep.all():
        return False
    fold = constant & ~keep
    codes = requantize(
        node.spec.requantize,
        torch.zeros(1, len(keep), dtype=torch.int64),
        {key: torch.from_numpy(value.copy()) for key, value in node.tensors.items()},
    )[0].numpy()
    values = np.where(fold, node.spec.out_format.decode(codes), 0)
    for reader in readers:
        nodes[reader.name] = _without_columns(reader, keep, values)
    nodes[name] = _without_rows(node, keep)
    return True


def _columns_in_use(readers: list[Node]) -> np.ndarray:
    return np.any([_values(reader).any(axis=0) for reader in readers], axis=0)


def _values(node: Node) -> np.ndarray:
    """The integers [out, in] that a layer's weight codes stand for."""
    return node.spec.weight_format.decode(node.tensors["weight"])


def _without_rows(node: Node, keep: np.ndarray) -> Node:
    spec = node.spec
    tensors = dict(node.tensors)
    for key, tensor in tensors.items():
        if key != "m" or spec.requantize.per == "channel":
            tensors[key] = tensor[keep]
    return _rebuilt(node, replace(spec, out_features=int(keep.sum())), tensors)


def _without_columns(node: Node, keep: np.ndarray, values: np.ndarray) -> Node:
    """A reader without some inputs, whose constant values [in] go into its ``b``."""
    spec = node.spec
    m = node.tensors["m"] if spec.requantize.multiplies else 1
    b = node.tensors["b"] + m * (_values(node) @ values)
    tensors = {**node.tensors, "weight": node.tensors["weight"][:, keep], "b": b}
    return _rebuilt(node, replace(spec, in_features=int(keep.sum())), tensors)


def _rebuilt(node: Node, spec: LinearSpec, tensors: dict[str, np.ndarray]) -> Node:
    """The node with as many bias bits as its biases now need."""
    rule = replace(spec.requantize, b_bits=bias_bits(tensors["b"]))
    return Node(node.name, replace(spec, requantize=rule), node.inputs, node.scale, tensors)


def _selected(network: Network, nodes: list[Node]) -> tuple[Node, ...]:
    """The nodes with a selection before the readers of the network's input, if any is idle."""
    edge = network.input.name
    readers = _readers({node.name: node for node in nodes}, edge)
    if readers is None:
        return tuple(nodes)
    keep = _columns_in_use(readers)
    if not keep.any():
        keep[0] = True
    if keep.all():
        return tuple(nodes)
    indices = np.flatnonzero(keep)
    spec = SelectSpec(len(keep), len(indices), network.input.format)
    names = {node.name for node in nodes} | {edge}
    name = next(
        n for n in (SELECT, *(f"{SELECT}_{k}" for k in range(len(names)))) if n not in names
    )
    select = Node(name, spec, (edge,), network.input.scale, {"indices": indices})
    idle = np.zeros(len(keep), dtype=np.int64)
    shrunk = {
        reader.name: replace(_without_columns(reader, keep, idle), inputs=(name,))
        for reader in readers
    }
    return (select, *(shrunk.get(node.name, node) for node in nodes))
