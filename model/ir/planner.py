"""The planner: a mapping for a network under a budget.

It minimises the cycles per frame of the slowest stage; among mappings with equal cycles it takes
the one with fewest memory bits, and among those the one with fewest multipliers. For the goal
``"energy"`` it minimises the bits that a frame moves, then multipliers. The answer is an
optimum over the options of each node (:func:`options`): within a number of cycles each node has a
Pareto front of (multipliers, memory bits), and the fronts are merged one by one, dropping what is
dominated or over the budget. Streams that an addition joins have the same lanes: the fronts of such
nodes are merged for each number of lanes, and the best of all lanes go on.

A stage's cycles and bits do not depend on the lanes of its input as long as the input has no more
beats than the slowest stage has cycles, which holds since each stage counts its output beats. So
each node is looked at with the input that suits it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from math import inf
from typing import NoReturn

import numpy as np

from model.ir.add import AddSpec
from model.ir.beats import Beats
from model.ir.block_sparse import BlockSparseStorage
from model.ir.circulant_array import BODIES, CirculantArraySpec
from model.ir.conv import ConvSpec
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.fft_arithmetic import FFTArithmetic
from model.ir.lane_array import LaneArraySpec
from model.ir.layer import LayerSpec
from model.ir.linear import LinearSpec
from model.ir.lstm import LSTMSpec
from model.ir.mapping import MAX_LANES, Engine, EngineSpec, Mapping, StageMapping
from model.ir.matrix import MatrixSpec
from model.ir.network import Network, Node
from model.ir.pacing import with_paced_fifos
from model.ir.pe_array import PeArraySpec, check_storage, index_bits, kept_weights
from model.ir.pim_array import PimArraySpec
from model.ir.pim_planner import PimBudget, enough_lanes, on_macros, pim_engines
from model.ir.pool import PoolSpec
from model.ir.select import SelectSpec

ROWS_SPARSE = (1, 2, 4, 8, 16)
"""Rows of a block-sparse array that are tried, besides the rows of the storage's blocks."""


GOALS = ("cycles", "energy")
REGISTER_SHARE = 16
"""Bits of a register whose writing costs as much energy as a bit read from a memory: about what the
constants of ``sim/technology`` say (0.156 and 0.01 pJ)."""


BANK_BYTES, LEAST_BANK_WORDS = 2048, 16
"""Most bytes of a bank of a weight memory that is planned for energy, and its fewest words."""


@dataclass(frozen=True)
class Budget:
    """What a mapping may use: multipliers of any width, and memory bits (None: as many as needed).

    Requantizers count among the multipliers where they multiply. ``goal`` is ``"cycles"``, or
    ``"energy"`` for the mapping that moves the fewest bits (:func:`moved_bits`), however slow, on
    lean arrays with weight memories in small banks. ``pim`` is for
    layers of pim arithmetic, which take macros instead.
    """

    multipliers: int
    memory_bits: int | None = None
    goal: str = "cycles"
    pim: PimBudget | None = None

    def __post_init__(self) -> None:
        if self.goal not in GOALS:
            raise BadInput(
                "mapping.goal", repr(self.goal), f"one of {', '.join(GOALS)}", "correct it"
            )
        if self.goal == "energy" and self.memory_bits is not None:
            raise BadInput(
                "mapping.memory_bits",
                self.memory_bits,
                "none together with mapping.goal = 'energy', which has no use for it",
                "leave out one of the two",
            )


@dataclass(frozen=True)
class Option:
    """One way to compute a node: its engine (None if it needs none) and its output lanes."""

    engine: EngineSpec | None
    lanes: int


def fold_sizes(size: int) -> list[int]:
    """The sizes that are worth building: the smallest for each number of folds, ascending."""
    return sorted({-(-size // folds) for folds in range(1, size + 1)})


@singledispatch
def options(layer: LayerSpec, node: Node, most: float = inf) -> Iterator[Option]:
    """The ways to compute a node with at most so many multipliers in its engine."""
    raise BadInput(
        node.name,
        f"a layer of kind {layer.kind!r}",
        "add, average_pool, conv, linear, lstm, max_pool or select, for which there is hardware",
        "replace the layer, or leave the network to the golden model",
    )


@options.register
def _(layer: LinearSpec, node: Node, most: float = inf) -> Iterator[Option]:
    if isinstance(layer.arithmetic, FFTArithmetic):
        yield from _circulant(layer, most)
        return
    check_storage(node)
    yield from _dense(layer, node, fold_sizes(layer.in_features), 1, most)
    yield from _sparse(layer, node, fold_sizes(layer.in_features), most)


@options.register
def _(layer: ConvSpec, node: Node, most: float = inf) -> Iterator[Option]:
    if layer.groups > 1:
        for lanes in fold_sizes(layer.channels):
            if lanes <= MAX_LANES and lanes * layer.kernel_rows <= most:
                yield Option(LaneArraySpec(lanes), lanes)
        return
    if isinstance(layer.arithmetic, FFTArithmetic):
        yield from _circulant(layer, most)
        return
    check_storage(node)
    widths = fold_sizes(layer.channels)
    yield from _dense(layer, node, widths, layer.kernel_rows, most)
    yield from _sparse(layer, node, widths, most)


@options.register
def _(layer: PoolSpec, node: Node, most: float = inf) -> Iterator[Option]:
    for lanes in fold_sizes(layer.channels):
        if lanes <= MAX_LANES:
            yield Option(None, lanes)


@options.register
def _(layer: AddSpec, node: Node, most: float = inf) -> Iterator[Option]:
    for lanes in range(1, min(Beats(layer.shape, 1).channels, MAX_LANES) + 1):
        if 2 * lanes <= most:  # any number: it is that of the streams that come
            yield Option(None, lanes)


@options.register
def _(layer: SelectSpec, node: Node, most: float = inf) -> Iterator[Option]:
    yield Option(None, 1)  # the plan widens it to what the next stage reads at once


def _pixels(layer: MatrixSpec) -> list[int]:
    """Vectors at once: powers of two, and all of them."""
    powers = [1 << n for n in range(layer.vectors.bit_length())]
    return [n for n in sorted({*powers, layer.vectors}) if n <= min(layer.vectors, MAX_LANES)]


def _dense(
    layer: MatrixSpec, node: Node, widths: list[int], banks: int, most: float
) -> Iterator[Option]:
    """Arrays that store every tile, absent weights as zeros."""
    if not isinstance(layer.storage, BlockSparseStorage) or layer.weight_format.has_zero:
        for width in widths:
            cols = banks * width
            if cols > MAX_LANES or not PeArraySpec(1, cols).fits(layer):
                continue
            for pixels in _pixels(layer):
                for rows, lanes in _rows(layer, cols, pixels, most):
                    yield Option(PeArraySpec(rows, cols, pixels), lanes)


def _rows(layer: MatrixSpec, cols: int, pixels: int, most: float) -> Iterator[tuple[int, int]]:
    """Rows of a dense array, and output lanes."""
    limit = min(layer.matrix_rows, MAX_LANES, most // (cols * pixels))
    for least in fold_sizes(layer.matrix_rows):
        if least > limit:
            return
        for lanes in range(1, least + 1):
            rows = -(-least // lanes) * lanes  # the fewest that fold alike and drain evenly
            if rows > limit:
                continue
            yield rows, lanes
            exact = rows == least and layer.matrix_rows % lanes == 0  # nothing is padded
            if exact and _drains(PeArraySpec(rows, cols, pixels), layer, lanes):
                break  # more lanes would add requantizers and save neither cycle nor bit


def _drains(engine: PeArraySpec, layer: MatrixSpec, lanes: int) -> bool:
    """Whether sending the results of a dense array never outlasts computing them."""
    steps = engine.col_folds(layer)
    if engine.reorders(lanes):
        sending = engine.pixels * -(-layer.matrix_rows // lanes)
        return sending <= max(engine.steps(layer), engine.pixels * steps)
    return engine.rows <= lanes * steps


def _sparse(layer: MatrixSpec, node: Node, widths: list[int], most: float) -> Iterator[Option]:
    """Arrays that store the tiles with a weight that is kept."""
    storage = layer.storage
    if not isinstance(storage, BlockSparseStorage):
        return
    kept = kept_weights(node)
    sizes = {*ROWS_SPARSE, *([storage.row_size] if storage.row_size else [])}
    for rows in sorted(n for n in sizes if n <= min(layer.matrix_rows, MAX_LANES)):
        for cols in widths:
            if cols > MAX_LANES or rows * cols > most:
                continue
            engine = PeArraySpec(rows, cols, 1, 1)
            if not engine.fits(layer):
                continue
            engine = replace(engine, tiles=engine.kept_tiles(node, kept))
            try:
                engine.check(node, 1)
            except BadInput:
                continue  # a tile holds an absent weight, and the format has no zero
            for pixels in _pixels(layer):
                if rows * cols * pixels <= most:
                    for lanes in (n for n in range(1, rows + 1) if rows % n == 0):
                        yield Option(replace(engine, pixels=pixels), lanes)


def _circulant(layer: MatrixSpec, most: float) -> Iterator[Option]:
    """Circulant arrays: for each number of groups and of inverse units the fewest lanes.

    Complex products of 3 multipliers, for those of 4 save neither a cycle nor a bit.
    """
    k = layer.arithmetic.k
    p, _ = layer.arithmetic.grid(layer)
    lane = sum(count for count, _, _ in layer.arithmetic.lane_multipliers(layer, 3))
    limit = min(p, MAX_LANES, most // lane)
    widths = {1: [n for n in range(1, k + 1) if k % n == 0]}  # a beat of one block, or parts of it
    for least in fold_sizes(p):
        if least > limit:
            return
        for blocks in range(1, least + 1):
            lanes = -(-least // blocks) * blocks
            if lanes > limit:
                continue
            for width in widths.get(blocks, [blocks * k]):
                for body in BODIES if k > 4 else BODIES[:1]:  # there is nothing to fold up to 4
                    engine = CirculantArraySpec(k, lanes, body)
                    if width in engine.out_lanes(layer) and engine.drains(layer, width):
                        yield Option(engine, width)


def moved_bits(node: Node, option: Option, cost: StageCost) -> int:
    """Bits that a frame moves through memories and accumulators: what a mapping's energy hangs on.

    Weights, indices, parameters and activations as they are read, activations and results as they
    are written; of registers, which are cheaper, the ``REGISTER_SHARE``-th part: accumulators at
    each step, and sums that shift on their way out. Of another engine than a PE array, its memory.
    """
    layer, engine = node.spec, option.engine
    if not isinstance(engine, PeArraySpec):
        return cost.memory_bits
    acc, lanes = layer.accumulator().bits, option.lanes
    entry = layer.vectors * engine.col_folds(layer) * engine.cols
    sums = layer.vectors * layer.matrix_rows
    moved = cost.weight_words * layer.weight_format.bits
    moved += (cost.activation_words + entry) * layer.in_format.bits
    moved += sums * layer.requantize.channel_bits()
    if engine.tiles is not None:
        marks = int(engine.per_fold(layer) is None)
        moved += cost.steps * (index_bits(engine.col_folds(layer)) + marks)
    if engine.reorders(lanes):
        moved += 2 * sums * acc
    shifts = max(1, engine.rows // lanes)
    folds = engine.row_folds(layer) * layer.vectors
    register = cost.steps * engine.rows * engine.pixels + folds * shifts * engine.rows
    return moved + register * acc // REGISTER_SHARE


def plan(network: Network, budget: Budget, sequences: int = 1) -> Mapping:
    """The best mapping of a network under a budget, each node on an engine of its own.

    The FIFOs of a branching graph have the depths of its schedule, and count. Recurrent layers
    interleave so many ``sequences``.

    Raises BadInput if even the smallest mapping is over the budget, for layers without hardware,
    all of which it names, and for several sequences of a network that is not recurrent.
    """
    if sequences != 1 and not network.recurrent:
        raise BadInput(
            "mapping.sequences",
            f"{sequences} for a network without a recurrent layer",
            "1",
            "leave it out",
        )
    memory = budget.memory_bits
    for _ in range(8):
        mapping = _planned(network, replace(budget, memory_bits=memory), budget, sequences)
        if memory is None:
            break
        bits = sum(cost.memory_bits for _, cost in mapping.costs(network))
        if bits <= budget.memory_bits:
            break
        memory -= bits - budget.memory_bits  # what the FIFOs take, which hang on the mapping
    return check_budget(mapping, network, budget)


def _planned(network: Network, budget: Budget, stated: Budget, sequences: int) -> Mapping:
    given = _given(network, budget)
    table = _Table(network, budget.multipliers, sequences, budget.goal, given)
    found = table.best(inf, budget) if table.complete else None
    if found is None:
        _refuse(_Table(network, inf, sequences, given=given).check().front(inf, None), stated)
    low = table.fastest() if budget.goal == "cycles" else found.cycles
    while low < found.cycles:
        limit = (low + found.cycles) // 2
        better = table.best(limit, budget, roughly=budget.memory_bits is None)
        if better is None:
            low = limit + 1
        else:
            found = better
    found = table.best(found.cycles, budget)
    if budget.goal == "energy":
        found.chosen = {
            name: _lean(network[name].spec, option) for name, option in found.chosen.items()
        }
    return _mapping(network, found.chosen, found.cycles)


def _lean(layer: LayerSpec, option: Option) -> Option:
    """The option with a lean array of small banks, if it has a PE array."""
    engine = option.engine
    if not isinstance(engine, PeArraySpec) or not isinstance(layer, MatrixSpec):
        return option
    width = engine.rows * engine.cols * layer.weight_format.bits
    words = max(LEAST_BANK_WORDS, 1 << (8 * BANK_BYTES // width).bit_length() - 1)
    banks = words if words < engine.steps(layer) else None
    return replace(option, engine=replace(engine, lean=True, bank_words=banks))


def _given(network: Network, budget: Budget) -> dict[str, list[Option]]:
    """The options of layers of pim arithmetic, whose arrays hang on each other by their macros."""
    names = [node.name for node in network.nodes if on_macros(node)]
    if names and budget.pim is None:
        raise BadInput(
            "mapping.engine",
            f"no macros, with {', '.join(names)} of pim arithmetic",
            "'pim_array'",
            "name that engine, or export with arithmetic = 'exact'",
        )
    if budget.pim is None:
        return {}
    return {
        name: [Option(engine, lanes) for lanes in enough_lanes(engine, network[name].spec)]
        for name, engine in pim_engines(network, budget.pim).items()
    }


def check_budget(mapping: Mapping, network: Network, budget: Budget) -> Mapping:
    """Raise BadInput if the mapping is over the budget; return the mapping."""
    costs = [cost for _, cost in mapping.costs(network)]
    multipliers = sum(cost.multiplier_count for cost in costs)
    bits = sum(cost.memory_bits for cost in costs)
    if multipliers > budget.multipliers:
        raise BadInput(
            "mapping: multipliers",
            multipliers,
            f"at most {budget.multipliers}",
            "plan again, or raise mapping.multipliers",
        )
    if budget.memory_bits is not None and bits > budget.memory_bits:
        raise BadInput(
            "mapping: memory bits",
            bits,
            f"at most {budget.memory_bits}",
            "plan again, or raise mapping.memory_bits",
        )
    return mapping


def _native(network: Network, node: Node, option: Option) -> tuple[Beats, ...]:
    """The inputs that suit an option: as wide as it takes them, pixel by pixel or as a vector."""
    if isinstance(node.spec, LinearSpec | LSTMSpec):
        return (Beats((network.length(node.inputs[0]),), option.engine.cols),)
    lanes = option.lanes
    if isinstance(option.engine, PeArraySpec | CirculantArraySpec | PimArraySpec):
        lanes = option.engine.window(node.spec).lanes
    return tuple(Beats(network.shape(edge), lanes) for edge in node.inputs)


def _outline(node: Node, option: Option, ins: tuple[Beats, ...]) -> StageCost:
    if option.engine is None:
        return node.spec.stage_cost(ins, option.lanes)
    return option.engine.outline(node.spec, ins, option.lanes)


@dataclass
class _Front:
    """Pareto front of choices: each step has more multipliers and fewer memory bits.

    Parameters
    ----------
    multipliers, bits : int64 arrays
    chosen : list
        For each point what was chosen: a linked list, (that of the point before, index).
    """

    multipliers: np.ndarray
    bits: np.ndarray
    chosen: list


@dataclass
class _Found:
    cycles: int
    chosen: dict[str, Option]


class _Choices:
    """The options of a node, ordered by multipliers, then memory bits.

    Their cycles are lower bounds until they are asked for.
    """

    def __init__(
        self,
        network: Network,
        node: Node,
        most: float,
        sequences: int,
        cache: dict,
        goal: str = "cycles",
        given: list[Option] | None = None,
    ) -> None:
        self.node, self.network = node, network
        self.flexible = isinstance(node.spec, SelectSpec)
        self.list: list[Option] = given or list(options(node.spec, node, most))
        if node.spec.recurrent and sequences != 1:
            self.list = [
                replace(option, engine=replace(option.engine, sequences=sequences))
                for option in self.list
            ]
        self.exact = cache.setdefault((node.spec, "exact"), {})
        outlines = cache.setdefault((node.spec, "outline"), {})
        figures = []
        for option in self.list:
            if option not in outlines:
                cost = _outline(node, option, _native(network, node, option))
                bits = cost.memory_bits if goal == "cycles" else moved_bits(node, option, cost)
                outlines[option] = cost.multiplier_count, bits, cost.cycles
            figures.append(outlines[option])
        table = np.array(figures, dtype=np.int64).reshape(-1, 3)
        rows = [getattr(option.engine, "rows", 0) for option in self.list]  # of equals the flattest
        order = np.lexsort((rows, table[:, 1], table[:, 0]))
        self.list = [self.list[n] for n in order]
        self.multipliers, self.bits, self.least = table[order].T
        self.lanes = np.array([option.lanes for option in self.list], dtype=np.int64)

    def cycles(self, index: int) -> int:
        """Cycles of an option."""
        option = self.list[index]
        if option not in self.exact:
            ins = _native(self.network, self.node, option)
            if option.engine is None:
                cost = self.node.spec.stage_cost(ins, option.lanes)
            else:
                cost = option.engine.cost(self.node.spec, ins, option.lanes)
            self.exact[option] = cost.cycles
        return self.exact[option]

    def front(self, limit: float, lanes: int | None = None) -> list[int]:
        """Indices of the options on the Pareto front of those within ``limit`` cycles."""
        fits = self.least <= limit
        if lanes is not None:
            fits &= self.lanes == lanes
        kept, best = [], None
        for index in np.flatnonzero(fits):
            if (best is None or self.bits[index] < best) and self.cycles(index) <= limit:
                kept.append(int(index))
                best = self.bits[index]
        return kept


class _Table:
    """The choices of all nodes of a network."""

    def __init__(
        self,
        network: Network,
        most: float,
        sequences: int,
        goal: str = "cycles",
        given: dict[str, list[Option]] | None = None,
    ) -> None:
        self.network = network
        cache: dict = {}
        problems, self.choices = [], {}
        for node in network.nodes:
            try:
                own = (given or {}).get(node.name)
                choices = _Choices(network, node, most, sequences, cache, goal, own)
                self.choices[node.name] = choices
            except BadInput as error:
                problems.append(error)
        if len(problems) > 1:
            raise BadInput(
                f"network {network.name}",
                "; ".join(f"{error.thing}: {error.found}" for error in problems),
                problems[0].expected,
                problems[0].remedy,
            )
        if problems:
            raise problems[0]
        self.complete = all(choices.list for choices in self.choices.values())
        self.classes = equal_lanes(network)

    def check(self) -> "_Table":
        """Raise BadInput if a node has no option at all; return the table."""
        for name, choices in self.choices.items():
            if not choices.list:
                raise BadInput(
                    name,
                    "weights that fit no array: a row keeps none, and their format has no zero",
                    "a weight in every row, or a format with a zero",
                    "give each channel a multiplier of its own (batch normalization), of which"
                    " export makes such a row's 0, or choose other levels",
                )
        return self

    @property
    def at_leisure(self) -> int:
        """Cycles of a network that does nothing but drop inputs: it takes them one by one."""
        return self.network.length(self.network.input.name)

    def fastest(self) -> int:
        """Cycles that no choice of options can undercut."""
        fixed = [c for c in self.choices.values() if not c.flexible]
        return max((int(c.least.min()) for c in fixed), default=self.at_leisure)

    def best(self, limit: float, budget: Budget, roughly: bool = False) -> _Found | None:
        """The best choice within ``limit`` cycles and a budget: fewest bits, then multipliers.

        ``roughly``: any choice within them will do.
        """
        front = self.front(limit, None if roughly else budget, roughly)
        if front is None or not len(front.bits) or front.multipliers[0] > budget.multipliers:
            return None
        place = 0 if roughly else int(np.argmin(front.bits))
        chosen, cycles = {}, []
        for name, index in _unlinked(front.chosen[place]):
            choices = self.choices[name]
            chosen[name] = choices.list[index]
            if not choices.flexible:
                cycles.append(choices.cycles(index))
        return _Found(max(cycles, default=self.at_leisure), chosen)

    def front(self, limit: float, budget: Budget | None, least: bool = False) -> _Front | None:
        """The Pareto front of the whole network, or None if a node is too slow.

        Without a budget nothing is too large. ``least``: the point of fewest multipliers alone.
        """
        parts = []
        for names in self.classes:
            part = self._class_front(names, limit)
            if part is None:
                return None
            parts.append(_cut(part, 1) if least else part)
        rest_m = np.cumsum([0, *(int(p.multipliers.min()) for p in reversed(parts))])[::-1]
        rest_b = np.cumsum([0, *(int(p.bits.min()) for p in reversed(parts))])[::-1]
        front = _START
        for n, part in enumerate(parts):
            front = _sum(front, part)
            if budget is not None:
                fits = front.multipliers + rest_m[n + 1] <= budget.multipliers
                if budget.memory_bits is not None:
                    fits &= front.bits + rest_b[n + 1] <= budget.memory_bits
                front = _pick(front, np.flatnonzero(fits))
            if not len(front.bits):
                return None
        return front

    def _class_front(self, names: tuple[str, ...], limit: float) -> _Front | None:
        """The front of nodes whose output streams have the same lanes."""
        if len(names) == 1:
            return self._node_front(names[0], limit, None)
        fixed = [name for name in names if not self.choices[name].flexible]
        lanes = set.intersection(*(set(self.choices[name].lanes.tolist()) for name in fixed))
        found = []
        for n in sorted(lanes):
            front: _Front | None = _START
            for name in names:
                part = self._node_front(name, limit, n)
                if part is None:
                    front = None
                    break
                front = _sum(front, part)
            if front is not None:
                found.append(front)
        if not found:
            return None
        union = _Front(
            np.concatenate([front.multipliers for front in found]),
            np.concatenate([front.bits for front in found]),
            [chosen for front in found for chosen in front.chosen],
        )
        return _pareto(union)

    def _node_front(self, name: str, limit: float, lanes: int | None) -> _Front | None:
        choices = self.choices[name]
        if choices.flexible:
            # Its memory depends on the width of its input, which depends on the pace.
            node = choices.node
            source = self.choices.get(node.inputs[0])
            paced = source is None or source.flexible
            width = _lanes(self.network, node.inputs[0], limit) if paced else 1
            ins = tuple(Beats(self.network.shape(edge), width) for edge in node.inputs)
            cost = node.spec.stage_cost(ins, 1)
            kept, bits = [0], np.array([cost.memory_bits])
        else:
            kept = choices.front(limit, lanes)
            bits = choices.bits[kept]
        if not kept:
            return None
        return _Front(choices.multipliers[kept], bits, [(None, (name, n)) for n in kept])


_START = _Front(np.zeros(1, np.int64), np.zeros(1, np.int64), [None])


def _unlinked(chosen) -> Iterator[tuple[str, int]]:
    """The choices of a linked list: pairs of lists, down to (None, (name, index)) or None."""
    stack = [chosen]
    while stack:
        item = stack.pop()
        if item is None:
            continue
        before, last = item
        if before is None and isinstance(last[0], str):
            yield last
        else:
            stack += [before, last]


def _pick(front: _Front, places: Sequence[int] | np.ndarray) -> _Front:
    return _Front(front.multipliers[places], front.bits[places], [front.chosen[n] for n in places])


def _cut(front: _Front, count: int) -> _Front:
    return _pick(front, range(min(count, len(front.bits))))


def _kept(multipliers: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Indices of the points that no other dominates, by ascending multipliers."""
    order = np.lexsort((bits, multipliers))
    ahead = np.minimum.accumulate(bits[order])
    return order[np.append(True, bits[order][1:] < ahead[:-1])]


def _pareto(front: _Front) -> _Front:
    return _pick(front, _kept(front.multipliers, front.bits))


def _sum(first: _Front, second: _Front) -> _Front:
    """The front of a choice from each of two."""
    multipliers = (first.multipliers[:, None] + second.multipliers).ravel()
    bits = (first.bits[:, None] + second.bits).ravel()
    kept = _kept(multipliers, bits)
    pairs = zip(*np.divmod(kept, len(second.bits)), strict=True)
    chosen = [(first.chosen[a], second.chosen[b]) for a, b in pairs]
    return _Front(multipliers[kept], bits[kept], chosen)


def equal_lanes(network: Network) -> list[tuple[str, ...]]:
    """The nodes in classes whose output streams have the same lanes, in network order.

    An addition takes a beat of each of its streams at once, and gives one.
    """
    parent = {name: name for name in (network.input.name, *(node.name for node in network.nodes))}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in network.nodes:
        if isinstance(node.spec, AddSpec):
            for edge in node.inputs:
                parent[root(edge)] = root(node.name)
    classes: dict[str, list[str]] = {}
    for node in network.nodes:
        classes.setdefault(root(node.name), []).append(node.name)
    return [tuple(names) for names in classes.values()]


def _refuse(front: _Front | None, budget: Budget) -> NoReturn:
    """Raise BadInput that states, for each part of the budget, the least that would do.

    ``front`` is the front of mappings of any size and any slowness.
    """
    assert front is not None
    points = list(zip(front.multipliers.tolist(), front.bits.tolist(), strict=True))
    memory = inf if budget.memory_bits is None else budget.memory_bits
    found = f"{budget.multipliers} multipliers"
    if budget.memory_bits is not None:
        found += f" and {budget.memory_bits} memory bits"
    ways = {}
    if more := [m for m, bits in points if bits <= memory]:
        ways["mapping.multipliers"] = f"at least {min(more)} multipliers"
    if more := [bits for m, bits in points if m <= budget.multipliers]:
        ways["mapping.memory_bits"] = f"at least {min(more)} memory bits"
    if not ways:
        multipliers, bits = points[0]
        both = f"at least {multipliers} multipliers and, with so few, {bits} memory bits"
        ways["mapping.multipliers and mapping.memory_bits"] = both
    raise BadInput(
        "mapping: budget", found, ", or ".join(ways.values()), f"raise {' or '.join(ways)}"
    )


def _mapping(network: Network, chosen: dict[str, Option], limit: int) -> Mapping:
    engines, stages, entry = [], [], network.input.name
    readers = {edge: node for node in network.nodes for edge in node.inputs}
    joined = {}
    for node in network.nodes:
        if isinstance(node.spec, AddSpec):
            joined |= dict.fromkeys(node.inputs, chosen[node.name].lanes)

    def width(edge: str) -> int:
        """Lanes of a stream without an engine behind it: what its reader takes at once."""
        if edge in joined:
            return joined[edge]
        reader = chosen[readers[edge].name].engine if edge in readers else None
        return reader.cols if reader is not None else _lanes(network, edge, limit)

    for node in network.nodes:
        option = chosen[node.name]
        if isinstance(node.spec, SelectSpec):
            stages.append(StageMapping(node.name, None, width(node.name)))
        elif option.engine is None:
            stages.append(StageMapping(node.name, None, option.lanes))
        else:
            engines.append(Engine(f"pe_{node.name}", option.engine))
            stages.append(StageMapping(node.name, f"pe_{node.name}", option.lanes))
    lanes = joined.get(entry) or _lanes(network, entry, limit)
    for node in network.nodes:
        if node.spec.recurrent and node.inputs[0] == entry:
            lanes = _recurrent_lanes(node, chosen[node.name], lanes, limit)
    return with_paced_fifos(Mapping(lanes, tuple(engines), tuple(stages)), network)


def _recurrent_lanes(node: Node, option: Option, lanes: int, limit: int) -> int:
    """Fewest lanes of the input, from ``lanes`` on, with which a step takes ``limit`` cycles.

    Words of the state enter behind those of the input, so it may have to come in fewer cycles.
    """
    shape = (node.spec.features,)
    while lanes < option.engine.cols:
        cost = option.engine.cost(node.spec, (Beats(shape, lanes),), option.lanes)
        if cost.cycles <= limit:
            break
        lanes *= 2
    return lanes


def _lanes(network: Network, edge: str, limit: float) -> int:
    """Fewest lanes, a power of two or a pixel, with which a frame passes within ``limit`` cycles.

    What looks at pixels takes no more lanes than they have channels, and needs no more.
    """
    shape, pixels = network.shape(edge), False
    for node in network.nodes:
        pixels |= edge in node.inputs and not isinstance(node.spec, LinearSpec | SelectSpec)
    channels = Beats(shape, 1).channels
    lanes = 1
    while Beats(shape, lanes).count > limit and not (pixels and lanes == channels):
        lanes = min(2 * lanes, channels) if pixels else 2 * lanes
    return lanes
