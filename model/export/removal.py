"""Physical removal of what pruning has zeroed; exact, in the integers.

Four rules, applied until none of them finds anything:

- a row of zeros has the accumulator 0, so its output is the constant code
  ``c = clamp((b + r) >> s)`` at every position; every reader gets ``m * (sum of the channel's
  weights) * c`` added to its ``b``, and the row and the channel's columns go;
- a channel whose columns are zero in every reader is idle, and the row that feeds it goes too;
- inputs of the network whose column is zero in every reader, all of them linear, are dropped by one
  SelectSpec; the channels of an image stay;
- whatever is found so is followed through poolings and depthwise convolutions, which lose the same
  channels, to the linear layers and convolutions that read them; a linear layer has a column for
  each position of a channel.

A convolution with padding sees 0 and not c at the border, so only the constant 0 is folded into it.
What an addition reads or writes, circulant layers, and kinds of layer that are not named here keep
their channels. Of a layer in blocks only so much goes that its storage takes no more bits; one with
as many blocks in every block row keeps equal counts and regular sizes, and loses rows by whole
block rows (:meth:`Matrix.spare_rows`, :meth:`Matrix.spare_channels`). Where a row that keeps no
weight has to stay and the format has no zero, its multiplier becomes 0, if each channel has its
own, so that hardware may store any weights there. At least one row and one channel of a layer
always stay, so a network whose every path was pruned remains a network (with a constant output).
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from model.export.factors import bias_bits
from model.export.storage import Matrix, matrix_of
from model.golden.requantize import requantize
from model.ir.conv import ConvSpec
from model.ir.linear import LinearSpec
from model.ir.network import Network, Node
from model.ir.pool import AveragePoolSpec, MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from model.ir.select import SelectSpec
from model.ir.storage import DenseStorage

SELECT = "select"


def remove_pruned(network: Network) -> Network:
    """The same function of the input codes, without rows and channels of zeros.

    Weights that are kept are stored as suits what is left of them (:func:`settle`).
    """
    graph = _Graph(network)
    graph.reduce()
    graph.select()
    graph.reduce()
    return Network(network.name, network.input, graph.settled())


def settle(network: Network) -> Network:
    """The same network; block-sparse weights become dense where nothing is absent, or where that is
    smaller and the format has a zero."""
    return Network(network.name, network.input, _Graph(network).settled())


@dataclass(frozen=True)
class _Constants:
    """Channels whose code is the same at every position: ``code`` where ``known``.

    The formats between layers are plain, so the code is the value.
    """

    known: np.ndarray = field(repr=False)
    code: np.ndarray = field(repr=False)


class _Graph:
    """The nodes in order, their weights apart as whole matrices."""

    def __init__(self, network: Network) -> None:
        self.input = network.input
        self.nodes: dict[str, Node] = {}
        self.matrices: dict[str, Matrix] = {}
        for node in network.nodes:
            self.nodes[node.name] = node
            if isinstance(node.spec, LinearSpec | ConvSpec):
                self._put(node, matrix_of(node))

    def reduce(self) -> None:
        """Shrink layers until none does; what may be dense is shrunk as dense."""
        while self._settle() or any(self.shrink(name) for name in list(self.nodes)):
            pass

    def _settle(self) -> bool:
        """Whether any matrix has lost its grid, because dense storage suits it now."""
        settled = {name: matrix.settled() for name, matrix in self.matrices.items()}
        lost = any(settled[name] is not matrix for name, matrix in self.matrices.items())
        self.matrices = settled
        return lost

    def settled(self) -> tuple[Node, ...]:
        """The nodes with their weights in the storage that suits them."""
        return tuple(map(self._packed, self.nodes.values()))

    def _packed(self, node: Node) -> Node:
        matrix = self.matrices.get(node.name)
        if matrix is None or matrix.circulant is not None:
            return node
        storage, weight = matrix.settled().packed()
        rest = {key: tensor for key, tensor in node.tensors.items() if key != "weight"}
        if node.spec.requantize.per == "channel" and not matrix.format.has_zero:
            rest["m"] = np.where(matrix.values().any(axis=1), rest["m"], 0)
        spec = replace(node.spec, storage=storage)
        return replace(node, spec=spec, tensors={**rest, **weight})

    def _put(self, node: Node, matrix: Matrix) -> None:
        """A node with its weights; while they are worked on they are stored densely."""
        self.matrices[node.name] = matrix
        if matrix.circulant is None:
            rule = node.spec.requantize
            tensors = {key: node.tensors[key] for key in rule.tensor_shapes(len(matrix.codes))}
            tensors["weight"] = matrix.codes
            spec = replace(node.spec, storage=DenseStorage())
            node = replace(node, spec=spec, tensors=tensors)
        self.nodes[node.name] = node

    def shrink(self, name: str) -> bool:
        """Drop the rows of one layer that are constant or idle; whether there were any."""
        node = self.nodes[name]
        if not self._mixes(node):
            return False
        constants = self._zero_rows(node)
        keep = ~self._spared(name, constants)
        if not keep.any():
            keep[0] = True
        keep = self._spare(name, keep)
        if keep.all():
            return False
        self._without_channels(name, keep, constants)
        self._without_rows(node, keep)
        return True

    def select(self) -> None:
        """A selection before the readers of the network's input, if any input is idle."""
        edge = self.input.name
        readers = self._readers(edge)
        if not all(isinstance(node.spec, LinearSpec) and self._mixes(node) for node in readers):
            return
        keep = np.any([self.matrices[node.name].values().any(axis=0) for node in readers], axis=0)
        if not keep.any():
            keep[0] = True
        keep = self._spare(edge, keep)
        if keep.all():
            return
        indices = np.flatnonzero(keep)
        spec = SelectSpec(len(keep), len(indices), self.input.format)
        names = {*self.nodes, edge}
        free = (SELECT, *(f"{SELECT}_{k}" for k in range(len(names))))
        name = next(n for n in free if n not in names)
        for reader in readers:
            self._without_columns(reader, keep, np.zeros(len(keep), dtype=np.int64))
            self.nodes[reader.name] = replace(self.nodes[reader.name], inputs=(name,))
        select = Node(name, spec, (edge,), self.input.scale, {"indices": indices})
        self.nodes = {name: select, **self.nodes}

    def _readers(self, edge: str) -> list[Node]:
        return [node for node in self.nodes.values() if edge in node.inputs]

    def _mixes(self, node: Node) -> bool:
        """Whether each output of a node is a sum over all its inputs, and both can be dropped."""
        matrix = self.matrices.get(node.name)
        if matrix is None or matrix.circulant is not None:
            return False
        return isinstance(node.spec, LinearSpec) or node.spec.groups == 1

    def _depthwise(self, node: Node) -> bool:
        """Whether a node is a convolution of each channel by itself."""
        spec = node.spec
        return (
            isinstance(spec, ConvSpec)
            and spec.groups > 1
            and spec.out_channels == spec.groups
            and self.matrices[node.name].circulant is None
        )

    def _zero_rows(self, node: Node) -> _Constants:
        zero = ~self.matrices[node.name].values().any(axis=1)
        return _Constants(zero, _codes(node, np.zeros(len(zero), dtype=np.int64)))

    def _spared(self, edge: str, constants: _Constants) -> np.ndarray:
        """The channels of an edge that all readers can do without, bool [channels]."""
        readers = self._readers(edge)
        if not readers:
            return np.zeros_like(constants.known)
        return np.all([self._spared_by(node, constants) for node in readers], axis=0)

    def _spared_by(self, node: Node, constants: _Constants) -> np.ndarray:
        if self._mixes(node):
            values = self.matrices[node.name].values()
            used = values.any(axis=0).reshape(-1, len(constants.known)).any(axis=0)
            return ~used | _foldable(node, constants)
        passed = self._passed(node, constants)
        if passed is None:
            return np.zeros_like(constants.known)
        return self._spared(node.name, passed)

    def _spare(self, edge: str, keep: np.ndarray) -> np.ndarray:
        """The channels of an edge to keep so that the storage of no layer suffers.

        At least ``keep``; more where a layer that would lose the others says so.
        """
        while True:
            more = self._spared_storage(edge, keep)
            if np.array_equal(more, keep):
                return keep
            keep = more

    def _spared_storage(self, edge: str, keep: np.ndarray) -> np.ndarray:
        if edge in self.matrices:
            keep = self.matrices[edge].spare_rows(keep)
        for node in self._readers(edge):
            if self._mixes(node):
                keep = self.matrices[node.name].spare_channels(keep)
            else:
                keep = self._spared_storage(node.name, keep)
        return keep

    def _passed(self, node: Node, constants: _Constants) -> _Constants | None:
        """The constants behind a node that keeps channels apart; None if a node does not."""
        spec = node.spec
        if isinstance(spec, MaxPoolSpec):
            return constants
        if isinstance(spec, AveragePoolSpec):
            return replace(constants, code=_codes(node, constants.code * spec.area))
        if self._depthwise(node):
            sums = self.matrices[node.name].values().sum(axis=1)
            known = _foldable(node, constants) | self._zero_rows(node).known
            return _Constants(known, _codes(node, constants.code * sums))
        return None

    def _without_channels(self, edge: str, keep: np.ndarray, constants: _Constants) -> None:
        """Drop channels of an edge from all that read it."""
        for node in self._readers(edge):
            if self._mixes(node):
                code = np.where(constants.known & ~keep, constants.code, 0)
                self._without_columns(node, keep, code)
                continue
            passed = self._passed(node, constants)
            assert passed is not None
            if self._depthwise(node):
                self._without_rows(node, keep, channels=int(keep.sum()))
            else:
                self.nodes[node.name] = _without_pooled(node, keep)
            self._without_channels(node.name, keep, passed)

    def _without_rows(self, node: Node, keep: np.ndarray, channels: int | None = None) -> None:
        """A layer without some outputs; ``channels`` are the inputs left of a depthwise one."""
        rows = int(keep.sum())
        if isinstance(node.spec, LinearSpec):
            sizes = {"out_features": rows}
        elif channels is None:
            sizes = {"out_channels": rows}
        else:
            sizes = {"out_channels": rows, "channels": channels, "groups": channels}
        tensors = _kept_parameters(node, keep)
        self._rebuild(node, sizes, tensors, self.matrices[node.name].rows(keep))

    def _without_columns(self, node: Node, keep: np.ndarray, code: np.ndarray) -> None:
        """A layer without some input channels; their constant codes [channels] go into ``b``."""
        matrix = self.matrices[node.name]
        every = len(matrix.codes[0]) // len(keep)
        m = node.tensors["m"] if node.spec.requantize.multiplies else 1
        b = node.tensors["b"] + m * (matrix.values() @ np.tile(code, every))
        left = int(keep.sum())
        size = every * left if isinstance(node.spec, LinearSpec) else left
        field = "in_features" if isinstance(node.spec, LinearSpec) else "channels"
        tensors = {**node.tensors, "b": b}
        self._rebuild(node, {field: size}, tensors, matrix.columns(np.tile(keep, every)))

    def _rebuild(
        self, node: Node, sizes: dict[str, int], tensors: dict[str, np.ndarray], matrix: Matrix
    ) -> None:
        spec = replace(node.spec, **sizes, requantize=_rule(node.spec.requantize, tensors))
        parameters = {key: tensor for key, tensor in tensors.items() if key in ("m", "b")}
        tensors = {**parameters, "weight": matrix.codes}
        new = Node(node.name, spec, self.nodes[node.name].inputs, node.scale, tensors)
        self._put(new, matrix)


def _foldable(node: Node, constants: _Constants) -> np.ndarray:
    """Which constants a layer sees at every place of its windows, so that they are a bias."""
    if isinstance(node.spec, ConvSpec) and node.spec.padding:
        return constants.known & (constants.code == 0)
    return constants.known


def _codes(node: Node, acc: np.ndarray) -> np.ndarray:
    """Output codes int64 [channels] of accumulators int64 [channels]."""
    tensors = {
        key: torch.from_numpy(node.tensors[key].copy()) for key in ("m", "b") if key in node.tensors
    }
    return requantize(node.spec.requantize, torch.from_numpy(acc)[None], tensors)[0].numpy()


def _kept_parameters(node: Node, keep: np.ndarray) -> dict[str, np.ndarray]:
    """``b``, and ``m`` if it is per channel, without some channels."""
    tensors = {"b": node.tensors["b"][keep]}
    if node.spec.requantize.multiplies:
        m = node.tensors["m"]
        tensors["m"] = m[keep] if node.spec.requantize.per == "channel" else m
    return tensors


def _rule(rule: RequantizeSpec, tensors: dict[str, np.ndarray]) -> RequantizeSpec:
    """The requantization with as many bias bits as the biases now need."""
    return replace(rule, b_bits=bias_bits(tensors["b"]))


def _without_pooled(node: Node, keep: np.ndarray) -> Node:
    """A pooling without some channels."""
    spec = replace(node.spec, channels=int(keep.sum()))
    if isinstance(spec, MaxPoolSpec):
        return replace(node, spec=spec)
    tensors = _kept_parameters(node, keep)
    return replace(
        node, spec=replace(spec, requantize=_rule(spec.requantize, tensors)), tensors=tensors
    )
