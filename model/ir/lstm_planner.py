"""The ways to compute an LSTM: engines of its matrices, and lanes that keep up with them."""

from collections.abc import Iterator
from math import inf

from model.ir.circulant_array import BODIES, CirculantArraySpec
from model.ir.linear import LinearSpec
from model.ir.lstm import GATES, LSTMSpec
from model.ir.lstm_array import LSTMArraySpec
from model.ir.mapping import MAX_LANES, EngineSpec
from model.ir.network import Node
from model.ir.pe_array import PeArraySpec
from model.ir.planner import Option, fold_sizes, options

PROJECTIONS = 3
"""Engines of the projection that are tried for each of the gates: the smallest that keeps up, and
faster ones, which shorten the way around."""


def _powers(most: int) -> list[int]:
    return [1 << n for n in range(most.bit_length())]


def _engines(layer: LinearSpec, most: float) -> list[tuple[EngineSpec, int, int]]:
    """Engines of a matrix: each with its fewest output lanes and its cycles, fastest last."""
    found: list[tuple[EngineSpec, int, int]] = []
    if layer.arithmetic.kind == "fft":
        p, _ = layer.arithmetic.grid(layer)
        for lanes in fold_sizes(p):
            for body in BODIES:
                engine = CirculantArraySpec(layer.arithmetic.k, lanes, body)
                out = engine.drain_lanes(layer)
                if out is not None and engine.multiplier_count(layer, out) <= most:
                    found.append((engine, out, engine.steps(layer)))
    else:
        for cols in _powers(min(layer.matrix_columns, MAX_LANES)):
            for rows in _powers(min(layer.matrix_rows, MAX_LANES)):
                if rows * cols <= most:
                    array = PeArraySpec(rows, cols)
                    out = array.drain_lanes(layer)
                    found.append((array, out, array.cycles(layer, out)))
    return sorted(found, key=lambda item: -item[2])


def _cells(layer: LSTMSpec, gate_lanes: int) -> int | None:
    """Fewest cell lanes that keep up with so many gates a beat, if any do."""
    fft = layer.gates.arithmetic.kind == "fft"
    whole = layer.gates.arithmetic.k if fft else layer.cells
    for lanes in range(1, whole + 1):
        unit = whole if fft else lanes
        gathers = GATES * unit % gate_lanes == 0
        if whole % lanes == 0 and gate_lanes <= GATES * lanes and (gathers or unit == lanes):
            return lanes
    return None


@options.register
def _(layer: LSTMSpec, node: Node, most: float = inf) -> Iterator[Option]:
    """Options for one sequence at a time."""
    projections = [] if layer.project is None else _engines(layer.project, most)
    for engine, gate_lanes, cycles in _engines(layer.gates, most):
        cell_lanes = _cells(layer, gate_lanes)
        if cell_lanes is None:
            continue
        if layer.project is None:
            yield Option(LSTMArraySpec(engine, gate_lanes, cell_lanes, None), cell_lanes)
            continue
        for goal in (cycles >> n for n in range(PROJECTIONS)):
            fits = [item for item in projections if item[2] <= max(goal, projections[-1][2])]
            project, lanes, _ = min(fits, key=lambda item: _size(item[0], layer.project, item[1]))
            yield Option(LSTMArraySpec(engine, gate_lanes, cell_lanes, project), lanes)


def _size(engine: EngineSpec, layer: LinearSpec, lanes: int) -> int:
    """Multipliers of an engine."""
    if isinstance(engine, CirculantArraySpec):
        return engine.multiplier_count(layer, lanes)
    return engine.rows * engine.cols
