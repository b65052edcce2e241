"""The mapping: which engine computes which layer, and how wide the streams are.

Nothing in a mapping changes a code; it changes cycles, multipliers and memory only. A mapping names
engine instances; several layers may name one instance (time-multiplexed) or each its own
(pipelined).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from model.ir.beats import Beats
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.layer import LayerSpec
from model.ir.network import Network, Node
from model.ir.spec import Spec, check_int, check_name

MAX_LANES = 1024


class EngineSpec(Spec):
    """Base of the engines: matrix-vector machines, activations in, accumulators out."""

    def check(self, node: Node, lanes: int) -> None:
        """Raise BadInput unless this engine can compute the node with so many output lanes."""
        raise NotImplementedError

    def cost(self, layer: LayerSpec, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        """Cost of the stage that computes ``layer`` on this engine; ``ins`` are its inputs."""
        raise NotImplementedError


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
class Mapping(Spec, kind="mapping"):
    """Engines, stages (one for each node, in network order) and the width of the input stream."""

    input_lanes: int
    engines: tuple[Engine, ...]
    stages: tuple[StageMapping, ...]

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

    def check(self, network: Network) -> Self:
        """Raise BadInput unless the mapping fits the network; return the mapping."""
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
        return self

    def costs(self, network: Network) -> Iterator[tuple[Node, StageCost]]:
        """Each node with the cost of its stage, in network order."""
        for stage, node in zip(self.stages, network.nodes, strict=True):
            ins = self.inputs(network, node)
            if stage.engine is None:
                yield node, node.spec.stage_cost(ins, stage.lanes)
            else:
                yield node, self.engine(stage.engine).cost(node.spec, ins, stage.lanes)

    def bound_cycles(self, network: Network) -> int:
        """Cycles per frame that no schedule can beat: the largest bound of a stage."""
        return max(cost.bound_cycles for _, cost in self.costs(network))
