"""The ways to compute an LSTM: engines of its matrices, and lanes that keep up with them.

Any engine of the gates goes with any of the projection. So the planner, which asks for the fewest
cycles that a budget allows, balances the stages: neither is faster than the other needs, unless
what is left of the budget shortens the way around. For each engine the output lanes are the fewest
that drain it, and for each number of gates a beat the cell lanes the fewest that keep up.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import inf

import numpy as np

from model.ir.beats import Beats
from model.ir.circulant_array import BODIES, CirculantArraySpec
from model.ir.linear import LinearSpec
from model.ir.lstm import GATES, LSTMSpec
from model.ir.lstm_array import LSTMArraySpec, cell_multipliers
from model.ir.mapping import MAX_LANES, EngineSpec
from model.ir.network import Node
from model.ir.pe_array import PeArraySpec
from model.ir.planner import Option, fold_sizes, options

BEAT_BLOCKS = 8
"""Circulant blocks of an output beat that are tried, at the most."""


@dataclass(frozen=True)
class _Way:
    """An engine of a matrix, its output lanes, and what else its stage takes.

    Parameters
    ----------
    engine : EngineSpec
    lanes : int
    cells : int
        Cell lanes that keep up with it, if it is that of the gates.
    multipliers : int
        Of the stage, and of those cell lanes.
    """

    engine: EngineSpec
    lanes: int
    cells: int
    multipliers: int


def _ways(
    layer: LinearSpec, most: float, cells: Callable[[int], int | None], cell_multipliers: int
) -> list[_Way]:
    """Engines of a matrix that no other one undercuts in multipliers, bits, cycles and latency.

    ``cells`` gives the cell lanes, of so many multipliers each, that output lanes ask for, or None.
    """
    ways, figures = [], []
    for engine, lanes in _engines(layer, most):
        asked = cells(lanes)
        if asked is None:
            continue
        cost = engine.cost(layer, (Beats((layer.in_features,), engine.cols),), lanes)
        multipliers = cost.multiplier_count + asked * cell_multipliers
        if multipliers <= most:
            ways.append(_Way(engine, lanes, asked, multipliers))
            figures.append((multipliers, cost.memory_bits, cost.cycles, cost.latency))
    kept: list[int] = []
    table = np.array(figures, dtype=np.int64).reshape(-1, 4)
    for n in np.lexsort(table.T[::-1]):  # whatever undercuts one comes before it
        if not (table[kept] <= table[n]).all(axis=1).any():
            kept.append(int(n))
    return [ways[n] for n in kept]


def _engines(layer: LinearSpec, most: float) -> Iterator[tuple[EngineSpec, int]]:
    """Engines of a matrix, of at most so many multipliers in their lanes, with output lanes.

    More output lanes than drain an engine shorten its latency, and with it the way around.
    """
    if layer.arithmetic.kind == "fft":
        k = layer.arithmetic.k
        p, _ = layer.arithmetic.grid(layer)
        lane = sum(count for count, _, _ in layer.arithmetic.lane_multipliers(layer, 3))
        parts = [n for n in range(1, k) if k % n == 0]
        for least in fold_sizes(p):
            for blocks in range(1, min(least, BEAT_BLOCKS) + 1):
                lanes = -(-least // blocks) * blocks  # the fewest that fold alike and drain evenly
                if lanes > MAX_LANES or lanes * lane > most:
                    continue
                for body in BODIES:
                    engine = CirculantArraySpec(k, lanes, body)
                    for out in [*parts, k] if blocks == 1 else [blocks * k]:
                        if out <= MAX_LANES and engine.drains(layer, out):
                            yield engine, out
        return
    for cols in _powers(min(layer.matrix_columns, MAX_LANES)):
        for rows in _powers(min(layer.matrix_rows, MAX_LANES)):
            if rows * cols <= most:
                array = PeArraySpec(rows, cols)
                yield array, array.drain_lanes(layer)


def _powers(most: int) -> list[int]:
    return [1 << n for n in range(most.bit_length())]


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
    """Options for one sequence at a time; the plan interleaves as many as it is asked for."""
    own = cell_multipliers(layer)
    projections = [] if layer.project is None else _ways(layer.project, most, lambda lanes: 0, 0)
    for gates in _ways(layer.gates, most, partial(_cells, layer), own):
        if layer.project is None:
            engine = LSTMArraySpec(gates.engine, gates.lanes, gates.cells, None)
            yield Option(engine, gates.cells)
        for project in projections:
            if gates.multipliers + project.multipliers <= most:
                engine = LSTMArraySpec(gates.engine, gates.lanes, gates.cells, project.engine)
                yield Option(engine, project.lanes)
