"""The mapping: which engine computes which layer, and how wide the streams are.

Nothing in a mapping changes a code; it changes cycles, multipliers and memory only. A mapping names
engine instances; several layers may name one instance (time-multiplexed) or each its own
(pipelined).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from model.ir.errors import BadInput
from model.ir.layer import LayerSpec
from model.ir.network import Network, Node
from model.ir.spec import Spec, check_int, check_name

MAX_LANES = 1024


@dataclass(frozen=True)
class StageCost:
    """What one stage costs, by formula. Cycles are clock cycles per frame in steady state.

    Parameters
    ----------
    cycles : int
        Cycles between two frames when the stage is neither starved nor stalled.
    ideal_cycles : Fraction
        Cycles of an engine that never idles: useful multiply-accumulates over those per cycle.
    input_beats, output_beats : int
        Beats per frame on the streams.
    latency : int
        Cycles from a frame's first input beat to its last output beat, both counted, through an
        idle stage that is neither starved nor stalled.
    macs : int
        Useful multiply-accumulates per frame.
    steps : int
        Engine steps per frame, each of which reads one weight word and one activation word.
    weight_words, activation_words : int
        Weight codes and activation codes read from memory per frame.
    multipliers : tuple of (count, bits, bits)
        Multipliers with the widths of their operands, those of the requantizers included.
    weight_bits, parameter_bits, buffer_bits : int
        Bits in memories for weights, for requantization parameters and indices, for activations;
        registers are not counted.
    """

    cycles: int
    ideal_cycles: Fraction
    input_beats: int
    output_beats: int
    latency: int
    macs: int = 0
    steps: int = 0
    weight_words: int = 0
    activation_words: int = 0
    multipliers: tuple[tuple[int, int, int], ...] = ()
    weight_bits: int = 0
    parameter_bits: int = 0
    buffer_bits: int = 0

    @property
    def bound_cycles(self) -> int:
        """Fewest cycles per frame that any schedule of this stage can reach."""
        return max(-(-self.ideal_cycles // 1), self.input_beats, self.output_beats)

    @property
    def multiplier_count(self) -> int:
        """Multipliers of any width."""
        return sum(count for count, _, _ in self.multipliers)

    @property
    def multiplier_bits(self) -> int:
        """Sum over the multipliers of the product of their operand widths."""
        return sum(count * a * b for count, a, b in self.multipliers)

    @property
    def memory_bits(self) -> int:
        """All memory bits of the stage."""
        return self.weight_bits + self.parameter_bits + self.buffer_bits


class EngineSpec(Spec):
    """Base of the engines: matrix-vector machines, activations in, accumulators out."""

    def check(self, node: Node, lanes: int) -> None:
        """Raise BadInput unless this engine can compute the node with so many output lanes."""
        raise NotImplementedError

    def cost(self, layer: LayerSpec, in_lanes: int, lanes: int) -> StageCost:
        """Cost of the stage that computes ``layer`` on this engine."""
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

    def beats(self, network: Network, edge: str) -> int:
        """Beats per frame on an edge of the network."""
        return -(-network.length(edge) // self.lanes(network, edge))

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
                node.spec.check_stage(node, stage.lanes)
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
            in_lanes = self.lanes(network, node.inputs[0])
            if stage.engine is None:
                yield node, node.spec.stage_cost(in_lanes, stage.lanes)
            else:
                yield node, self.engine(stage.engine).cost(node.spec, in_lanes, stage.lanes)

    def bound_cycles(self, network: Network) -> int:
        """Cycles per frame that no schedule can beat: the largest bound of a stage."""
        return max(cost.bound_cycles for _, cost in self.costs(network))
