"""The mapping: which engine computes which layer, and how wide the streams are.

Nothing in a mapping changes a code; it changes cycles, multipliers and memory only. A mapping names
engine instances; several layers may name one instance (time-multiplexed) or each its own
(pipelined).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from model.ir.beats import Beats
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.layer import LayerSpec
from model.ir.network import Network, Node
from model.ir.programming import CellRows
from model.ir.schedule import FIFO_LEAST, least_depths
from model.ir.spec import Spec, check_int, check_name

MAX_LANES = 1024
MAX_DEPTH = 1 << 20

MARKS = 2
"""Bits of a beat beside its codes: ``first`` and ``last``."""


class EngineSpec(Spec):
    """Base of the engines: matrix-vector machines, activations in, accumulators out."""

    @property
    def step_bits(self) -> int:
        """Bits of the number of steps that begin in a cycle."""
        return 1

    @property
    def loads(self) -> bool:
        """Whether weights are written into the engine before the first frame."""
        return False

    @property
    def counts(self) -> tuple[str, ...]:
        """Names of what else the engine counts since its reset, in ports of 32 bits."""
        return ()

    def cell_rows(self, name: str, layer: LayerSpec) -> CellRows | None:
        """The rows of cells that can be written from outside while no frame is inside, if any."""
        return None

    def check(self, node: Node, lanes: int) -> None:
        """Raise BadInput unless this engine can compute the node with so many output lanes."""
        raise NotImplementedError

    def cost(self, layer: LayerSpec, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        """Cost of the stage that computes ``layer`` on this engine; ``ins`` are its inputs."""
        raise NotImplementedError

    def outline(self, layer: LayerSpec, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        """The cost, of which the cycles may be too low and the latency is not: quick to have."""
        return self.cost(layer, ins, lanes)

    def needs(self, layer: LayerSpec, ins: tuple[Beats, ...], lanes: int) -> tuple[np.ndarray, ...]:
        """What the output of the stage that computes ``layer`` depends on: ``LayerSpec.needs``."""
        return layer.needs(ins, lanes)


@dataclass(frozen=True)
class Engine(Spec, kind="engine"):
    """An engine instance and its name."""

    name: str
    spec: EngineSpec

    def __post_init__(self) -> None:
        check_name("engine name", self.name)


@dataclass(frozen=True)
class StageMapping(Spec, kind="stage"):
    """How one node is computed.

    Parameters
    ----------
    node : str
        The node.
    engine : str or None
        Name of the engine instance; None for a node that needs none.
    lanes : int
        Codes per beat of the stage's output stream.
    """

    node: str
    engine: str | None
    lanes: int

    def __post_init__(self) -> None:
        check_int("lanes", self.lanes, 1, MAX_LANES)


@dataclass(frozen=True)
class FifoMapping(Spec, kind="fifo"):
    """A FIFO before an input of a node.

    Parameters
    ----------
    node : str
        The node.
    input : int
        Number of the input, from 0.
    depth : int
        Beats that it holds, at least ``FIFO_LEAST``.
    """

    node: str
    input: int
    depth: int

    def __post_init__(self) -> None:
        check_int("input", self.input, 0)
        check_int("depth", self.depth, FIFO_LEAST, MAX_DEPTH)

    def memory_bits(self, beats: Beats, bits: int) -> int:
        """Bits of its memory for beats of codes of so many bits: one beat is in a register."""
        return (self.depth - 1) * (beats.lanes * bits + MARKS)


@dataclass(frozen=True)
class Mapping(Spec, kind="mapping"):
    """Which engines there are, what computes each node, and how the streams between them are.

    Parameters
    ----------
    input_lanes : int
        Codes per beat of the network's input stream.
    engines : tuple of Engine
    stages : tuple of StageMapping
        One for each node, in network order.
    fifos : tuple of FifoMapping
        At most one for each input of a node.
    """

    input_lanes: int
    engines: tuple[Engine, ...]
    stages: tuple[StageMapping, ...]
    fifos: tuple[FifoMapping, ...] = ()

    def __post_init__(self) -> None:
        check_int("input_lanes", self.input_lanes, 1, MAX_LANES)

    def engine(self, name: str) -> EngineSpec:
        """The engine instance of that name."""
        return {engine.name: engine.spec for engine in self.engines}[name]

    def lanes(self, network: Network, edge: str) -> int:
        """Codes per beat on an edge of the network."""
        if edge == network.input.name:
            return self.input_lanes
        return {stage.node: stage.lanes for stage in self.stages}[edge]

    def beats(self, network: Network, edge: str) -> Beats:
        """How a frame travels on an edge of the network."""
        return Beats(network.shape(edge), self.lanes(network, edge))

    def inputs(self, network: Network, node: Node) -> tuple[Beats, ...]:
        """How frames travel on the inputs of a node."""
        return tuple(self.beats(network, edge) for edge in node.inputs)

    def fifo(self, node: str, number: int) -> FifoMapping | None:
        """The FIFO before an input of a node, if there is one."""
        return {(fifo.node, fifo.input): fifo for fifo in self.fifos}.get((node, number))

    def check(self, network: Network) -> Self:
        """Raise BadInput unless the mapping fits the network; return the mapping.

        A graph whose FIFOs are too small to rule out that it stops for ever is refused too.
        """
        names = [engine.name for engine in self.engines]
        nodes = [node.name for node in network.nodes]
        found = [stage.node for stage in self.stages]
        if found != nodes:
            raise BadInput("mapping: stages", found, f"one for each of {nodes}", "plan again")
        if len(set(names)) != len(names):
            raise BadInput("mapping: engines", names, "unique names", "rename one")
        for stage, node in zip(self.stages, network.nodes, strict=True):
            if stage.engine is None:
                node.spec.check_stage(node.name, stage.lanes)
            elif stage.engine in names:
                self.engine(stage.engine).check(node, stage.lanes)
            else:
                raise BadInput(
                    f"mapping: engine of {node.name}", stage.engine, f"one of {names}", "plan again"
                )
            self._check_inputs(network, node, stage.lanes)
        self._check_fifos(network)
        return self

    def _check_inputs(self, network: Network, node: Node, lanes: int) -> None:
        """Raise BadInput unless the streams that a node joins have the lanes of its output."""
        for edge, source in zip(node.inputs, self.inputs(network, node), strict=True):
            if len(node.inputs) > 1 and source.lanes != lanes:
                raise BadInput(
                    f"mapping: lanes of {edge}",
                    source.lanes,
                    f"{lanes}, as {node.name} has that joins it with another stream",
                    "plan again",
                )

    def _check_fifos(self, network: Network) -> None:
        places = [(node.name, n) for node in network.nodes for n in range(len(node.inputs))]
        found = [(fifo.node, fifo.input) for fifo in self.fifos]
        wrong = [place for place in found if place not in places or found.count(place) > 1]
        if wrong:
            node, number = wrong[0]
            raise BadInput(
                "mapping: fifos",
                f"{found.count(wrong[0])} before input {number} of {node!r}",
                "at most one before each input of a node of the network",
                "plan again",
            )
        for (name, number), least in least_depths(self, network).items():
            fifo = self.fifo(name, number)
            depth = 0 if fifo is None else fifo.depth
            if depth < least:
                raise BadInput(
                    f"mapping: fifo before input {number} of {name}, "
                    f"the branch from {network[name].inputs[number]!r}",
                    f"a depth of {depth} beats",
                    f"at least {least}, or the branches wait for each other for ever",
                    "plan again, or fill in the depths with model.ir.schedule.with_fifos",
                )

    def cell_rows(self, network: Network) -> tuple[CellRows, ...]:
        """Of each layer whose cells can be written from outside its rows, in network order."""
        found = (
            self.engine(stage.engine).cell_rows(node.name, node.spec)
            for stage, node in zip(self.stages, network.nodes, strict=True)
            if stage.engine is not None
        )
        return tuple(rows for rows in found if rows is not None)

    def needs(self, network: Network) -> Iterator[tuple[Node, tuple[np.ndarray, ...]]]:
        """Each node with what its stage's output depends on, as ``LayerSpec.needs`` states it."""
        for stage, node in zip(self.stages, network.nodes, strict=True):
            ins = self.inputs(network, node)
            if stage.engine is None:
                yield node, node.spec.needs(ins, stage.lanes)
            else:
                yield node, self.engine(stage.engine).needs(node.spec, ins, stage.lanes)

    def costs(self, network: Network) -> Iterator[tuple[Node, StageCost]]:
        """Each node with the cost of its stage, the FIFOs before it included, in network order."""
        for stage, node in zip(self.stages, network.nodes, strict=True):
            ins = self.inputs(network, node)
            if stage.engine is None:
                cost = node.spec.stage_cost(ins, stage.lanes)
            else:
                cost = self.engine(stage.engine).cost(node.spec, ins, stage.lanes)
            for number, (edge, beats) in enumerate(zip(node.inputs, ins, strict=True)):
                fifo = self.fifo(node.name, number)
                if fifo is not None:
                    bits = fifo.memory_bits(beats, network.format(edge).bits)
                    cost = replace(cost, buffer_bits=cost.buffer_bits + bits)
            yield node, cost

    def bound_cycles(self, network: Network) -> int:
        """Cycles per frame that no schedule can beat: the largest bound of a stage."""
        return max(cost.bound_cycles for _, cost in self.costs(network))
