"""The LSTM engine: a matrix engine for the gates, element-wise lanes, and one for the projection.

The frames (steps) of S interleaved sequences come in turn, frame n to slot ``n mod S``, so that one
sequence computes while the recurrence of another comes around::

    x --[words of x, then of y(t-1)]--> [gates] --[by cell]--> [element-wise] --[project]--.--> y
                  ^                                               c of each slot           |
                  '---------------------- y of each slot <---------------------------------'

The rows of the gate matrix are computed in another order than the specification's, group by group
of ``u`` cells: i, f, g, o of the first u cells, then of the next. So a cell's four gates leave the
engine close together, the element-wise part works while the gates are still computed, and no gate
has to wait in a memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from model.ir.beats import Beats
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.layer import LayerSpec
from model.ir.linear import LinearSpec
from model.ir.lstm import GATES, PEEPHOLES, LSTMSpec, part_of
from model.ir.mapping import MAX_LANES, EngineSpec
from model.ir.network import Node
from model.ir.repack import repack_cost, repack_latency, repack_needs, repacks
from model.ir.spec import check_int
from model.ir.storage import DenseStorage

ACTIVATION_LATENCY = 5
"""Registers of a piecewise function: magnitude, comparisons, piece, product, sum."""

PEEPHOLE_LATENCY = 2
"""Registers of a peephole: product, sum."""

STATE_LATENCY = 3
"""Registers of the new state: products, sum, saturation."""

HIDDEN_LATENCY = 2
"""Registers of ``o ∘ tanh c``: product, rounding."""

SEQUENCES_MAX = 256

Parts = dict[str, StageCost]


@dataclass(frozen=True)
class LSTMArraySpec(EngineSpec, kind="lstm_array"):
    """The engines of an LSTM.

    Parameters
    ----------
    gates, project : EngineSpec
        Engines of the two matrices; ``project`` is None without a projection.
    gate_lanes : int
        Sums per beat that leave the engine of the gates.
    cell_lanes : int
        Cells that the element-wise part takes in a cycle.
    sequences : int
        Interleaved sequences, S.

    With ``Wx`` and ``Wy`` words of x and of y in the engine's ``cols``, and ``U`` cells:

    ==================  =======================================================================
    cycles per step     ``max(T, ceil(L / S))``: T is that of the slowest part (``pace``), L the
                        cycles from a step's y(t-1) to the next step's (``loop``)
    state memory        ``S · U`` codes of c, ``S · Wy · cols`` codes of y
    multipliers         those of the engines, and a cell lane's: 5 of the piecewise functions, 3 of
                        products, and 3 of the peepholes, if there are any
    ==================  =======================================================================

    The cycles are exact where ``exact`` says so, and else the most that are needed while the frames
    do not meet in a folded transform: if they do, a way around takes up to ``waits`` more. An
    engine reads the compressed form under fft arithmetic; under exact arithmetic it reads the
    matrix, expanded.
    """

    gates: EngineSpec
    gate_lanes: int
    cell_lanes: int
    project: EngineSpec | None
    sequences: int = 1

    def __post_init__(self) -> None:
        check_int("gate_lanes", self.gate_lanes, 1, MAX_LANES)
        check_int("cell_lanes", self.cell_lanes, 1, MAX_LANES // GATES)
        check_int("sequences", self.sequences, 1, SEQUENCES_MAX)

    @property
    def cols(self) -> int:
        """Codes that are taken at once: those of a word of the gates."""
        return self.gates.cols

    # The matrices, as their engines compute them.

    def unit(self, layer: LSTMSpec) -> int:
        """Cells of a group of rows, ``u``: those of a circulant block, or of the lanes."""
        return layer.gates.arithmetic.k if _circulant(layer.gates) else self.cell_lanes

    def x_words(self, layer: LSTMSpec) -> int:
        """Words of x that the engine of the gates reads, ``Wx``."""
        return -(-layer.x_columns // self.gates.cols)

    def y_words(self, layer: LSTMSpec) -> int:
        """Words of y(t-1), ``Wy``."""
        return -(-(layer.gates.in_features - layer.x_columns) // self.gates.cols)

    def words(self, layer: LSTMSpec) -> Beats:
        """What enters the engine of the gates: each of x and y begins a new word."""
        return Beats((self.gates_layer(layer).in_features,), self.gates.cols)

    def groups(self, layer: LSTMSpec) -> Beats:
        """What the element-wise part reads: the gates of ``u`` cells at a time."""
        return Beats((GATES * layer.cells,), GATES * self.unit(layer))

    def hidden(self, layer: LSTMSpec) -> Beats:
        """What the element-wise part gives."""
        return Beats((layer.cells,), self.cell_lanes)

    def natural(self, layer: LSTMSpec, lanes: int) -> Beats:
        """How y leaves the parts, for an output stream of ``lanes``."""
        return Beats((layer.outputs,), lanes) if self.project else self.hidden(layer)

    def gates_layer(self, layer: LSTMSpec) -> LinearSpec:
        """The gate matrix, its columns filled up to whole words."""
        if _circulant(layer.gates):
            return layer.gates
        columns = (self.x_words(layer) + self.y_words(layer)) * self.gates.cols
        return replace(layer.gates, in_features=columns, storage=DenseStorage())

    def project_layer(self, layer: LSTMSpec) -> LinearSpec:
        """The projection."""
        assert layer.project is not None
        if _circulant(layer.project):
            return layer.project
        return replace(layer.project, storage=DenseStorage())

    def gates_node(self, node: Node) -> Node:
        """The gate matrix as a node: rows in groups of cells, columns in words."""
        layer: LSTMSpec = node.spec
        tensors = part_of(node.tensors, "gates")
        rows = np.arange(GATES * layer.cells).reshape(GATES, -1, self.unit(layer))
        rows = rows.swapaxes(0, 1).ravel()
        if _circulant(layer.gates):
            k = layer.gates.arithmetic.k
            weight = tensors["weight"][rows[::k] // k]
        else:
            values = layer.gates.values(tensors)[rows]
            wide = self.x_words(layer) * self.gates.cols
            weight = np.zeros((len(rows), self.gates_layer(layer).in_features), dtype=np.int64)
            weight[:, : layer.x_columns] = values[:, : layer.x_columns]
            y = values[:, layer.x_columns :]
            weight[:, wide : wide + y.shape[1]] = y
        own = {"weight": weight, "b": tensors["b"][rows]}
        if "m" in tensors:
            m = tensors["m"]
            own["m"] = m[rows] if len(m) == len(rows) else m
        return _node(node, "gates", self.gates_layer(layer), own)

    def project_node(self, node: Node) -> Node:
        """The projection as a node."""
        layer: LSTMSpec = node.spec
        assert layer.project is not None
        tensors = dict(part_of(node.tensors, "project"))
        if not _circulant(layer.project):
            weight = layer.project.values(tensors)
            tensors = {k: v for k, v in tensors.items() if k in ("b", "m")} | {"weight": weight}
        return _node(node, "project", self.project_layer(layer), tensors)

    # Whether it fits, and what it costs.

    def check(self, node: Node, lanes: int) -> None:
        layer, thing = node.spec, f"mapping: engine of {node.name}"
        if not isinstance(layer, LSTMSpec):
            raise BadInput(
                thing, "an LSTM array", f"an engine for {layer.kind!r} layers", "plan again"
            )
        if (self.project is None) != (layer.project is None):
            found, wanted = ("no engine", "one") if self.project is None else ("an engine", "none")
            raise BadInput(thing, f"{found} for the projection", wanted, "plan again")
        for part, engine in (("gates", self.gates), ("projection", self.project)):
            if engine is not None and not hasattr(engine, "cols"):
                raise BadInput(
                    f"{thing}: {part}", f"a {engine.kind!r}", "a matrix engine", "plan again"
                )
        fft = _circulant(layer.gates)
        if fft and self.gates.cols != layer.gates.arithmetic.k:
            raise BadInput(
                f"{thing}: columns of the gates",
                self.gates.cols,
                f"the {layer.gates.arithmetic.k} of a block",
                "plan again",
            )
        whole = layer.gates.arithmetic.k if fft else layer.cells
        if whole % self.cell_lanes:
            raise BadInput(
                f"{thing}: cell lanes",
                self.cell_lanes,
                f"a divisor of the {whole} cells{' of a block' if fft else ''}",
                "plan again",
            )
        gathers = not GATES * self.unit(layer) % self.gate_lanes
        most = GATES * self.cell_lanes
        if self.gate_lanes > most or not (gathers or self.unit(layer) == self.cell_lanes):
            raise BadInput(
                f"{thing}: gate lanes",
                self.gate_lanes,
                f"at most {most}, those of {self.cell_lanes} cells, and a divisor of "
                f"{GATES * self.unit(layer)} if those are not a whole block's",
                "take more cell lanes",
            )
        self.gates.check(self.gates_node(node), self.gate_lanes)
        if self.project is not None:
            self.project.check(self.project_node(node), lanes)

    def cell_latency(self, layer: LSTMSpec) -> int:
        """Cycles from a word of gates to its ``o ∘ tanh c``."""
        return self.state_latency(layer) + self.tail_latency(layer)

    def state_latency(self, layer: LSTMSpec) -> int:
        """Cycles from a word of gates to its c(t): memory, operands, gates, state."""
        peephole = PEEPHOLE_LATENCY if layer.peephole_format else 0
        return 2 + peephole + ACTIVATION_LATENCY + STATE_LATENCY

    def tail_latency(self, layer: LSTMSpec) -> int:
        """Cycles from c(t) to ``o ∘ tanh c``."""
        peephole = PEEPHOLE_LATENCY if layer.peephole_format else 0
        return peephole + ACTIVATION_LATENCY + HIDDEN_LATENCY

    def parts(self, layer: LSTMSpec, lanes: int) -> Parts:
        """Costs of the stages of the two matrices."""
        gates = self.gates_layer(layer), self.words(layer), self.gate_lanes
        parts = {"gates": _part_cost(self.gates, *gates)}
        if self.project is not None:
            entry = self.hidden(layer)
            parts["project"] = _part_cost(self.project, self.project_layer(layer), entry, lanes)
        return parts

    def pace(self, layer: LSTMSpec, ins: tuple[Beats, ...], lanes: int) -> int:
        """Cycles of the slowest part, ``T``: what enough sequences reach."""
        return self._pace(layer, ins, lanes, self.parts(layer, lanes))

    def _pace(self, layer: LSTMSpec, ins: tuple[Beats, ...], lanes: int, parts: Parts) -> int:
        beats = [self.words_cycles(layer, ins), self.hidden(layer).count]
        beats.append(Beats((layer.outputs,), lanes).count)
        return max(*beats, *(cost.cycles for cost in parts.values()))

    def words_cycles(self, layer: LSTMSpec, ins: tuple[Beats, ...]) -> int:
        """Most cycles in which a step's words enter: those of x as they come, behind them y(t-1).

        x of the next step cannot come before y(t-1) is read, so a narrow source is a part of its
        own that can be the slowest.
        """
        (source,) = ins
        interval = self._forward_interval(layer)
        return max(source.count, self.x_words(layer) * interval) + self.y_words(layer) * interval

    def _forward_interval(self, layer: LSTMSpec) -> int:
        """Cycles in which the engine of the gates takes a word."""
        unit = getattr(self.gates, "forward_unit", None)
        return 1 if unit is None else unit(self.gates_layer(layer)).interval

    def _gathered(self, layer: LSTMSpec) -> int:
        """Cycles from the last beat of gates to the last word of the element-wise part."""
        if not self.gathers(layer):
            return 1 if self.gate_lanes != GATES * self.cell_lanes else 0
        return self.unit(layer) // self.cell_lanes

    def gathers(self, layer: LSTMSpec) -> bool:
        """Whether whole beats of gates make a group, and it is not a beat by itself."""
        group = GATES * self.unit(layer)
        whole = group == self.gate_lanes and self.unit(layer) == self.cell_lanes
        return not whole and group % self.gate_lanes == 0

    def _computed(self, layer: LSTMSpec, parts: Parts) -> int:
        """Cycles from a step's first word of y(t-1) to its last beat of y, both counted."""
        gates = parts["gates"].latency - self.x_words(layer) * self._forward_interval(layer) + 1
        cycles = gates + self._gathered(layer) + self.cell_latency(layer)
        if "project" in parts:
            cycles += parts["project"].latency - parts["project"].input_beats
        return cycles

    def loop(self, layer: LSTMSpec, lanes: int) -> int:
        """Cycles from a step's first word of y(t-1) to the next step's, ``L``."""
        return self._loop(layer, lanes, self._computed(layer, self.parts(layer, lanes)))

    def _loop(self, layer: LSTMSpec, lanes: int, computed: int) -> int:
        before, after = self.natural(layer, lanes), Beats((layer.outputs,), self.gates.cols)
        stored = 0
        if repacks(before, after):
            stored = -(-before.lanes // after.lanes)
        return computed + stored + self._held(layer, lanes)

    def _held(self, layer: LSTMSpec, lanes: int) -> int:
        """Most cycles that beats of y of more codes than a word hold each other up.

        Each is written in several cycles, and they may come one a cycle.
        """
        beats = self.natural(layer, lanes)
        return (beats.count - 1) * (-(-beats.lanes // self.gates.cols) - 1)

    def waits(self, layer: LSTMSpec, lanes: int) -> int:
        """Cycles that ``loop`` may be too short by, as frames meet in folded transforms.

        A unit that takes a block every n-th cycle lets one wait n - 1 cycles for that before it.
        """
        parts = [(self.gates, self.gates_layer(layer), self.gate_lanes)]
        if self.project is not None:
            parts.append((self.project, self.project_layer(layer), lanes))
        total = 0
        for engine, matrix, out in parts:
            if getattr(engine, "body", "pipelined") != "pipelined":
                total += engine.forward_unit(matrix).interval - 1
                total += engine.inverse_unit(matrix, out).interval - 1
        return total

    def exact(self, layer: LSTMSpec, ins: tuple[Beats, ...], lanes: int) -> bool:
        """Whether the cycles and the latency of the formulas are exact, not an upper bound."""
        parts = self.parts(layer, lanes).values()
        if self.words_cycles(layer, ins) > max(cost.cycles for cost in parts):
            return False
        engines = [engine for engine in (self.gates, self.project) if engine is not None]
        pipelined = all(getattr(engine, "body", "pipelined") == "pipelined" for engine in engines)
        whole = self.project is None or self.project.cols % self.cell_lanes == 0
        return pipelined and whole and self.gates.cols % self.natural(layer, lanes).lanes == 0

    def cost(self, layer: LayerSpec, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        assert isinstance(layer, LSTMSpec)
        (source,) = ins
        parts = self.parts(layer, lanes)
        out = Beats((layer.outputs,), lanes)
        natural = self.natural(layer, lanes)
        computed = self._computed(layer, parts)
        pace, loop = self._pace(layer, ins, lanes, parts), self._loop(layer, lanes, computed)
        latency = self._loaded(layer, source) + computed + self._held(layer, lanes)
        if repacks(natural, out):
            latency += repack_cost(natural, out, masked=False).latency - natural.count
        peephole_bits = 0
        if layer.peephole_format is not None:
            peephole_bits = PEEPHOLES * layer.cells * layer.peephole_format.bits
        y_codes = self.y_words(layer) * self.gates.cols
        state_bits = layer.cells * layer.state_format.bits
        state_bits += y_codes * layer.gates.in_format.bits

        def total(name: str) -> Any:
            return sum(getattr(cost, name) for cost in parts.values())

        return StageCost(
            cycles=max(pace, -(-loop // self.sequences)),
            ideal_cycles=max((cost.ideal_cycles for cost in parts.values()), default=Fraction(0)),
            input_beats=source.count,
            output_beats=out.count,
            latency=latency,
            macs=layer.macs(),
            kept_macs=total("kept_macs"),
            steps=parts["gates"].steps,
            weight_words=total("weight_words"),
            activation_words=total("activation_words"),
            multipliers=tuple(m for cost in parts.values() for m in cost.multipliers)
            + self.cell_multipliers(layer),
            weight_bits=total("weight_bits"),
            parameter_bits=total("parameter_bits") + peephole_bits,
            buffer_bits=total("buffer_bits") + self.sequences * state_bits,
        )

    def cell_multipliers(self, layer: LSTMSpec) -> tuple[tuple[int, int, int], ...]:
        """Multipliers of the element-wise part."""
        lanes, unit = self.cell_lanes, layer.unit_format.bits
        state, gate = layer.state_format.bits, layer.gates.out_format.bits
        found = [(4 * lanes, 16, gate), (lanes, 16, state), (2 * lanes, unit, unit)]
        found.append((lanes, unit, state))
        if layer.peephole_format is not None:
            found.append((PEEPHOLES * lanes, layer.peephole_format.bits, state))
        return tuple(found)

    def _loaded(self, layer: LSTMSpec, source: Beats) -> int:
        """Cycles from a step's first beat to its first word of y, the first not counted."""
        words, count = Beats((layer.features,), self.gates.cols), self.x_words(layer)
        come = np.arange(words.count)
        if repacks(source, words):
            come = repack_needs(source, words) + repack_latency(source.lanes, masked=False)
        come = np.concatenate([come, come[-1] + 1 + np.arange(count - words.count)])
        late = come + (count - np.arange(count)) * self._forward_interval(layer)
        return int(late.max()) + rescales(layer)


@lru_cache(maxsize=4096)
def _part_cost(engine: EngineSpec, layer: LinearSpec, source: Beats, lanes: int) -> StageCost:
    """Cost of the stage of a matrix: a planner asks for each many times."""
    return engine.cost(layer, (source,), lanes)


def cell_multipliers(layer: LSTMSpec) -> int:
    """Multipliers of a cell lane: five functions, three products, and three of the peepholes."""
    return 8 if layer.peephole_format is None else 8 + PEEPHOLES


def rescales(layer: LSTMSpec) -> bool:
    """Whether the codes that enter are not those of x already."""
    return layer.in_format != layer.gates.in_format


def _circulant(layer: LinearSpec) -> bool:
    """Whether the engine reads circulant blocks."""
    return layer.arithmetic.kind == "fft"


def _node(node: Node, part: str, layer: LinearSpec, tensors: Mapping[str, np.ndarray]) -> Node:
    scale = 2.0**-layer.out_format.frac_bits
    return Node(f"{node.name}_{part}", layer, ("x",), scale, tensors)
