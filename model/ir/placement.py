"""Where the cells of a layer's matrix lie: the macros, their rows and their columns.

Packing rule, of a layer of pim arithmetic on macros of R rows and C columns:

- A tile of word lines (``PIMArithmetic.tiles``) is that of all macros which hold a part of it, in
  ascending order from row 0.
- Of each tile, the outputs that have a kept weight on one of its lines are taken in ascending
  order; the others have no columns. An output takes ``n`` columns side by side: its slices, the
  lowest first, in pairs the positive before the negative one.
- ``floor((C - spare) / n)`` outputs share a macro, from column 0; the next ones begin another.

So a dense layer of M outputs and N inputs takes ``ceil(N / R) · ceil(M / floor((C - spare) / n))``
macros, and circulant blocks of k about k times fewer: outputs are block rows then, of M / k.

Around stuck cells (``repair``) the lines of a macro are permuted over its rows, and its columns
over all of its columns, the spare ones included; in pairs both columns of a slice move together,
so that they stay neighbours. Neither changes a code where no cell is stuck.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from model.ir.errors import BadInput
from model.ir.matrix import MatrixSpec
from model.ir.network import Network
from model.ir.pim_arithmetic import PIMArithmetic
from model.ir.spec import check_int

COLUMNS_MAX = 1024
ROUNDS = 4
"""Rounds of moving columns, then rows, at the most."""

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Placement:
    """The macros of a layer.

    Parameters
    ----------
    tile : int64 [macros]
        The tile of each macro.
    line : int64 [macros, R]
        The word line on each row, -1 if there is none.
    output : int64 [macros, C]
        The output (matrix row, or block row of circulant blocks) of each column, or -1.
    part : int64 [macros, C]
        Which of the output's columns it is: ``slice · sides + side``, or -1.
    weight : int64 [macros, R, C]
        The stored weight, in the order of the tensor, a part of which each cell holds, or -1: the
        occupancy map.
    """

    tile: np.ndarray
    line: np.ndarray
    output: np.ndarray
    part: np.ndarray
    weight: np.ndarray

    @property
    def macros(self) -> int:
        """Macros that are needed."""
        return len(self.tile)

    @property
    def cells(self) -> int:
        """Cells that hold a part of a weight."""
        return int((self.weight >= 0).sum())

    @property
    def share(self) -> float:
        """Occupancy: the share of all macros' cells that hold a part of a weight."""
        return self.cells / self.weight.size if self.weight.size else 0.0

    def occupancy(self) -> list[dict[str, int]]:
        """Of each macro: its tile, rows and columns in use, and cells that hold a weight's part."""
        return [
            {
                "tile": int(self.tile[m]),
                "rows": int((self.line[m] >= 0).sum()),
                "columns": int((self.output[m] >= 0).sum()),
                "cells": int((self.weight[m] >= 0).sum()),
            }
            for m in range(self.macros)
        ]

    def levels(self, layer: MatrixSpec, tensors: Tensors) -> np.ndarray:
        """What the cells hold, int64 [macros, R, C]; ``off`` in a cell without a weight."""
        return self.spread_out(layer.arithmetic.levels(layer, tensors), layer.arithmetic.off)

    def gather(self, values: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """``cells`` [columns per weight, *shape of weight] with the macros' ``values`` [macros, R,
        C] in place of those of cells that hold a weight's part, where they are not negative."""
        found = np.array(cells).reshape(len(cells), -1)
        where = (self.weight >= 0) & (values >= 0)
        part = np.broadcast_to(self.part[:, None, :], self.weight.shape)
        found[part[where], self.weight[where]] = values[where]
        return found.reshape(cells.shape)

    def check_faults(self, layer: MatrixSpec, faults: np.ndarray, thing: str = "layer") -> None:
        """Raise BadInput unless a fault map has the macros' shape and levels that cells can have.

        ``faults`` is int64 [macros, R, C]: the level at which a cell is stuck, or -1.
        """
        if faults.shape != self.weight.shape:
            raise BadInput(
                f"{thing}: fault map",
                f"a map of shape {faults.shape}",
                f"the shape {self.weight.shape} of macros, rows and columns",
                "take the map of these macros",
            )
        top = layer.arithmetic.level_top
        if faults.size and (faults.min() < -1 or faults.max() > top):
            raise BadInput(
                f"{thing}: fault map",
                f"levels from {faults.min()} to {faults.max()}",
                f"levels from 0 to {top}, or -1 for a sound cell",
                "state levels on the grid of the arithmetic",
            )

    def moves(self, packed: "Placement", unit: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Where rows and columns come from and go to, of a placement that was made of ``packed``.

        The first, int64 [macros, R], names for each row the row of ``packed`` whose line it has;
        the second, int64 [macros, C // unit], for each ``unit`` of columns of ``packed`` where it
        lies now. Both are permutations of each macro.
        """
        columns = (slice(None), slice(0, self.output.shape[1] // unit * unit, unit))
        keys = [
            [placed.output[columns] * (placed.part.max() + 1) + placed.part[columns], placed.line]
            for placed in (packed, self)
        ]
        columns, rows = (
            np.array([_sources(old, new) for old, new in zip(before, after, strict=True)])
            for before, after in zip(*keys, strict=True)
        )
        return rows, np.argsort(columns, axis=1)

    def spread_out(self, cells: np.ndarray, rest: int) -> np.ndarray:
        """Values [columns per weight, *shape of weight] of cells at their places, int64 [macros, R,
        C], and ``rest`` in a cell without a weight."""
        flat = cells.reshape(len(cells), -1)
        part = np.broadcast_to(self.part[:, None, :], self.weight.shape)
        where = self.weight >= 0
        found = np.full(self.weight.shape, rest, dtype=np.int64)
        found[where] = flat[part[where], self.weight[where]]
        return found


@dataclass(frozen=True)
class Repair:
    """What became of the stuck cells of a layer's macros.

    Parameters
    ----------
    stuck : int
        Stuck cells in all.
    hit : int
        Those that would hold another level than they are stuck at, before anything moves.
    remaining : int
        Those that still do.
    error, error_left : int
        ``sum over such cells of |factor of the slice| · |stuck level - wanted level|``, before and
        after: in levels, at the scale of the accumulators.
    rows, columns : int
        Word lines and columns that were moved.
    """

    stuck: int
    hit: int
    remaining: int
    error: int
    error_left: int
    rows: int
    columns: int

    @property
    def repaired(self) -> int:
        """Cells that moving has put right."""
        return self.hit - self.remaining


def place(
    layer: MatrixSpec,
    tensors: Tensors,
    columns: int,
    spare: int = 0,
    budget: int | None = None,
    thing: str = "layer",
) -> Placement:
    """Place a layer of pim arithmetic on macros.

    Parameters
    ----------
    layer, tensors :
        The layer and its tensors.
    columns : int
        Columns C of a macro; its rows are those of the arithmetic.
    spare : int
        Columns of each macro that are kept free for repair.
    budget : int, optional
        The most macros that there are.
    thing : str
        The layer's name.

    Raises BadInput for a layer of another arithmetic, macros too narrow for a weight, and a layer
    that needs more macros than the budget has.
    """
    pim = _pim(layer, thing)
    check_int("columns", columns, 1, COLUMNS_MAX)
    check_int("spare", spare, 0, columns - 1)
    n = pim.columns_per_weight(layer)
    per_macro = (columns - spare) // n
    if not per_macro:
        raise BadInput(
            thing,
            f"weights of {n} columns",
            f"at most the {columns - spare} columns of a macro that are not spare",
            "use wider macros, fewer weight bits or more bits a cell",
        )
    stored = pim.stored(layer, tensors)
    runs = []
    for number, lines in enumerate(pim.tiles(layer, tensors)):
        outputs = np.flatnonzero((stored[:, lines] > 0).any(axis=1))
        for start in range(0, len(outputs), per_macro):
            runs.append((number, lines, outputs[start : start + per_macro]))
    _check_budget(thing, len(runs), budget)
    line = np.full((len(runs), pim.rows), -1)
    output, part = (np.full((len(runs), columns), -1) for _ in range(2))
    for macro, (_, lines, outputs) in enumerate(runs):
        line[macro, : len(lines)] = lines
        output[macro, : n * len(outputs)] = outputs.repeat(n)
        part[macro, : n * len(outputs)] = np.tile(np.arange(n), len(outputs))
    tile = np.array([number for number, _, _ in runs], dtype=np.int64)
    return _filled(stored, tile, line, output, part)


def place_network(
    network: Network, columns: int, spare: int = 0, budget: int | None = None
) -> dict[str, Placement]:
    """The placement of every layer of pim arithmetic, each with macros of its own.

    The budget is that of all layers together; BadInput names the first that does not fit.
    """
    found, left = {}, budget
    for node in network.nodes:
        if not isinstance(getattr(node.spec, "arithmetic", None), PIMArithmetic):
            continue
        found[node.name] = place(node.spec, dict(node.tensors), columns, spare, left, node.name)
        left = None if left is None else left - found[node.name].macros
    return found


def faulty_cells(
    placement: Placement, layer: MatrixSpec, tensors: Tensors, faults: np.ndarray
) -> np.ndarray:
    """The tensor ``cells`` of a layer some of whose macros' cells are stuck.

    ``faults`` is int64 [macros, R, C]: the level at which a cell is stuck, or -1. A cell without a
    weight is not connected, so one that is stuck there does no harm. Raises BadInput for a map of
    another shape, and for levels that no cell has.
    """
    placement.check_faults(layer, faults)
    return placement.gather(faults, layer.arithmetic.levels(layer, tensors))


def repair(
    placement: Placement, layer: MatrixSpec, tensors: Tensors, faults: np.ndarray
) -> tuple[Placement, Repair]:
    """Move columns and rows of each macro around its stuck cells.

    In each macro, by turns, all columns and then all lines are assigned anew so that the error of
    :class:`Repair` is the least that moving them alone can reach (linear assignment), and of such
    assignments one that moves the fewest; until a turn gains nothing, four rounds at the most.

    Parameters are those of :func:`faulty_cells`, and so is what is refused.
    """
    placement.check_faults(layer, faults)
    pim = layer.arithmetic
    wanted = placement.spread_out(pim.nominal(layer, tensors), -1)
    factors = np.abs(np.array(pim.factors(layer))).repeat(pim.sides)
    line, output, part = (a.copy() for a in (placement.line, placement.output, placement.part))
    before = _errors(wanted, faults, factors, placement.part)
    after, hit, remaining, rows, columns = 0, before[1], 0, 0, 0
    for macro in range(placement.macros):
        weights = np.where(placement.part[macro] >= 0, factors[placement.part[macro]], 0)
        row_of, column_of, error, left = _assigned(wanted[macro], faults[macro], weights, pim.sides)
        # row_of[i]: the row on which what lay on row i lies now
        line[macro, row_of] = placement.line[macro]
        output[macro, column_of] = placement.output[macro]
        part[macro, column_of] = placement.part[macro]
        after, remaining = after + error, remaining + left
        rows += int(((row_of != np.arange(len(row_of))) & (placement.line[macro] >= 0)).sum())
        moved = column_of != np.arange(len(column_of))
        columns += int((moved & (placement.output[macro] >= 0)).sum())
    moved_to = _filled(pim.stored(layer, tensors), placement.tile, line, output, part)
    stuck = int((faults >= 0).sum())
    return moved_to, Repair(stuck, hit, remaining, before[0], after, rows, columns)


def _sources(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Of each place of ``after``, that of the same key in ``before``; both have the same keys.

    What has no key (a negative one) stays where it can.
    """
    found = np.full(len(after), -1)
    place_of = {int(key): place for place, key in enumerate(before) if key >= 0}
    for place, key in enumerate(after.tolist()):
        if key >= 0:
            found[place] = place_of[key]
    left = sorted(set(range(len(after))) - set(found[found >= 0].tolist()))
    rest = np.flatnonzero(found < 0).tolist()
    still = [place for place in rest if place in set(left)]
    found[still] = still
    moved = [place for place in rest if place not in set(still)]
    found[moved] = [place for place in left if place not in set(still)]
    return found


def _errors(
    wanted: np.ndarray, faults: np.ndarray, factors: np.ndarray, part: np.ndarray
) -> tuple[int, int]:
    """Error and number of the cells [macros, R, C] that are stuck at another level than wanted."""
    weights = np.where(part >= 0, factors[part], 0)[:, None, :]
    off = np.where((wanted >= 0) & (faults >= 0), np.abs(faults - wanted), 0)
    return int((off * weights).sum()), int((off > 0).sum())


def _assigned(
    wanted: np.ndarray, faults: np.ndarray, weights: np.ndarray, unit: int
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Rows and columns on which those of one macro lie best, its error and its wrong cells."""
    size = wanted.shape
    row_of, column_of = np.arange(size[0]), np.arange(size[1])

    def off(faults: np.ndarray) -> np.ndarray:
        return np.where((wanted >= 0) & (faults >= 0), np.abs(faults - wanted), 0)

    own = off(faults)
    error, wrong = int((own * weights).sum()), int((own > 0).sum())
    for _ in range(ROUNDS):
        if not error:
            break
        costs = _costs(wanted, faults[row_of], weights)
        blocks = size[1] // unit
        if unit > 1:  # neighbours move together; a last column without one stays
            costs = costs[: blocks * unit, : blocks * unit].reshape(blocks, unit, blocks, unit)
            costs = np.einsum("aubu->ab", costs)
        moved = column_of.copy()
        moved[: blocks * unit] = (_least(costs)[:, None] * unit + np.arange(unit)).ravel()
        costs = _costs(wanted.T, faults[:, moved].T, np.ones(size[0], dtype=np.int64), weights)
        rows = _least(costs)
        own = off(faults[rows][:, moved])
        found = int((own * weights).sum())
        if found >= error:
            break
        row_of, column_of = rows, moved
        error, wrong = found, int((own > 0).sum())
    return row_of, column_of, error, wrong


def _costs(
    wanted: np.ndarray,
    faults: np.ndarray,
    weights: np.ndarray,
    along: np.ndarray | None = None,
) -> np.ndarray:
    """Error of each wanted column [from] on each column with faults [to].

    ``weights`` are those of the wanted columns, ``along`` those of the rows.
    """
    found = np.zeros((wanted.shape[1], faults.shape[1]), dtype=np.int64)
    for row, (own, bad) in enumerate(zip(wanted, faults, strict=True)):
        stuck = np.flatnonzero(bad >= 0)
        if len(stuck):
            off = np.where(own[:, None] >= 0, np.abs(bad[stuck] - own[:, None]), 0)
            found[:, stuck] += off * (1 if along is None else int(along[row]))
    return found * weights[:, None]


def _least(costs: np.ndarray) -> np.ndarray:
    """The place of each in an assignment of the least cost, which moves as few as it can."""
    size = len(costs)
    ties = (size + 1) * costs + 1 - np.eye(size, dtype=np.int64)
    return linear_sum_assignment(ties)[1]


def _filled(
    stored: np.ndarray, tile: np.ndarray, line: np.ndarray, output: np.ndarray, part: np.ndarray
) -> Placement:
    """A placement with its occupancy map, of the numbers of stored weights [outputs, lines]."""
    found = stored[output[:, None, :], line[:, :, None]] - 1
    found[(output[:, None, :] < 0) | (line[:, :, None] < 0)] = -1
    return Placement(tile, line, output, part, found)


def _pim(layer: MatrixSpec, thing: str) -> PIMArithmetic:
    if not isinstance(layer.arithmetic, PIMArithmetic):
        raise BadInput(
            thing,
            f"{layer.arithmetic.kind} arithmetic",
            "pim arithmetic",
            "convert the network with model.export.with_pim",
        )
    return layer.arithmetic


def _check_budget(thing: str, needed: int, budget: int | None) -> None:
    if budget is not None and needed > budget:
        raise BadInput(
            thing,
            f"a matrix of {needed} macros",
            f"at most the {budget} macros that are left of the budget",
            "raise the budget, use larger macros or compress further",
        )
