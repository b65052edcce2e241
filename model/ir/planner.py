"""The planner: a mapping for a network under a budget.

It minimises the cycles per frame of the slowest stage; among mappings with equal cycles it takes
the one with fewest memory bits, and among those the one with fewest multipliers. The answer is an
optimum over all arrays of at most as many rows and columns as the layer has: within a number of
cycles each node has a Pareto front of (multipliers, memory bits), and the fronts of the nodes are
merged one by one, dropping what is dominated or over the budget.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import singledispatch
from math import inf
from typing import NoReturn

from model.ir.beats import Beats
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.layer import LayerSpec
from model.ir.linear import LinearSpec
from model.ir.mapping import MAX_LANES, Engine, EngineSpec, Mapping, StageMapping
from model.ir.network import Network, Node
from model.ir.pe_array import PeArraySpec, check_dense
from model.ir.select import SelectSpec


@dataclass(frozen=True)
class Budget:
    """What a mapping may use: multipliers of any width, and memory bits (None: as many as needed).

    Requantizers count among the multipliers where they multiply.
    """

    multipliers: int
    memory_bits: int | None = None


@dataclass(frozen=True)
class Option:
    """One way to compute a node: its engine (None if it needs none) and its output lanes."""

    engine: EngineSpec | None
    lanes: int


def fold_sizes(size: int) -> list[int]:
    """The sizes that are worth building: the smallest for each number of folds, ascending."""
    return sorted({-(-size // folds) for folds in range(1, size + 1)})


@singledispatch
def options(layer: LayerSpec, node: Node) -> Iterator[Option]:
    """The ways to compute a node."""
    raise BadInput(
        node.name,
        f"a layer of kind {layer.kind!r}",
        "linear or select, for which there is hardware",
        "replace the layer, or leave the network to the golden model",
    )


@options.register
def _(layer: LinearSpec, node: Node) -> Iterator[Option]:
    check_dense(node)
    for least in fold_sizes(layer.out_features):
        for cols in fold_sizes(layer.in_features):
            if not PeArraySpec(1, min(cols, MAX_LANES)).fits(layer) or cols > MAX_LANES:
                continue
            for lanes in range(1, least + 1):
                rows = -(-least // lanes) * lanes  # the fewest that fold alike and drain evenly
                if rows > min(layer.out_features, MAX_LANES):
                    continue
                engine = PeArraySpec(rows, cols)
                yield Option(engine, lanes)
                exact = rows == least and layer.out_features % lanes == 0  # nothing is padded
                if exact and rows <= lanes * engine.col_folds(layer):
                    break  # more lanes would add requantizers and save neither cycle nor bit


@options.register
def _(layer: SelectSpec, node: Node) -> Iterator[Option]:
    yield Option(None, 1)  # the plan widens it to what the next stage reads at once


def plan(network: Network, budget: Budget) -> Mapping:
    """The best mapping of a network under a budget, each node on an engine of its own.

    Raises BadInput if even the smallest mapping is over the budget.
    """
    candidates = [
        [(option, _cost(network, node, option)) for option in options(node.spec, node)]
        for node in network.nodes
    ]
    cycles = sorted({cost.cycles for found in candidates for _, cost in found if cost.macs})
    cycles = cycles or [network.length(network.input.name)]  # nothing but dropping inputs
    fronts: dict[int, list] = {}

    def feasible(limit: int) -> bool:
        fronts[limit] = _merge(network, candidates, limit, budget)
        return bool(fronts[limit])

    position = bisect_left(cycles, True, key=feasible)
    if position == len(cycles):
        _refuse(_merge(network, candidates, cycles[-1], None), budget)
    limit = cycles[position]
    if limit not in fronts:
        feasible(limit)
    _, _, chosen = min(fronts[limit], key=lambda point: (point[1], point[0]))
    return check_budget(_mapping(network, chosen, limit), network, budget)


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


def _cost(network: Network, node: Node, option: Option) -> StageCost:
    if option.engine is None:
        return node.spec.stage_cost(_inputs(network, node, 1), 1)
    # The width of the input stream costs a few buffer bits, the same for every folding.
    ins = _inputs(network, node, option.engine.cols)
    return option.engine.cost(node.spec, ins, option.lanes)


def _inputs(network: Network, node: Node, lanes: int) -> tuple[Beats, ...]:
    return tuple(Beats(network.shape(edge), lanes) for edge in node.inputs)


def _merge(
    network: Network, candidates, limit: int, budget: Budget | None
) -> list[tuple[int, int, tuple[Option, ...]]]:
    """Pareto front (multipliers, memory bits, options) of the network within ``limit`` cycles.

    Without a budget nothing is too large.
    """
    engines = {n.name for n, f in zip(network.nodes, candidates, strict=True) if f[0][0].engine}
    front: list[tuple[int, int, tuple[Option, ...]]] = [(0, 0, ())]
    for node, found in zip(network.nodes, candidates, strict=True):
        source = node.inputs[0]
        if found[0][0].engine is None and source not in engines:
            # Its memory depends on the width of its input, which depends on the pace.
            cost = node.spec.stage_cost(_inputs(network, node, _lanes(network, source, limit)), 1)
            found = [(option, cost) for option, _ in found]
        points = _pareto(
            [
                (cost.multiplier_count, cost.memory_bits, (option,))
                for option, cost in found
                if cost.cycles <= limit or option.engine is None
            ]
        )
        front = _pareto(
            [
                (multipliers + m, bits + b, chosen + option)
                for multipliers, bits, chosen in front
                for m, b, option in points
                if budget is None
                or (
                    multipliers + m <= budget.multipliers
                    and (budget.memory_bits is None or bits + b <= budget.memory_bits)
                )
            ]
        )
    return front


def _pareto(points: list) -> list:
    kept: list = []
    for point in sorted(points, key=lambda p: (p[0], p[1])):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept


def _refuse(front: list, budget: Budget) -> NoReturn:
    """Raise BadInput that states, for each part of the budget, the least that would do.

    ``front`` is the front of the slowest mappings, whatever their size.
    """
    memory = inf if budget.memory_bits is None else budget.memory_bits
    found = f"{budget.multipliers} multipliers"
    if budget.memory_bits is not None:
        found += f" and {budget.memory_bits} memory bits"
    ways = {}
    if more := [m for m, bits, _ in front if bits <= memory]:
        ways["mapping.multipliers"] = f"at least {min(more)} multipliers"
    if more := [bits for m, bits, _ in front if m <= budget.multipliers]:
        ways["mapping.memory_bits"] = f"at least {min(more)} memory bits"
    if not ways:
        multipliers, bits, _ = front[0]
        both = f"at least {multipliers} multipliers and, with so few, {bits} memory bits"
        ways["mapping.multipliers and mapping.memory_bits"] = both
    raise BadInput(
        "mapping: budget", found, ", or ".join(ways.values()), f"raise {' or '.join(ways)}"
    )


def _mapping(network: Network, chosen: tuple[Option, ...], limit: int) -> Mapping:
    engines, stages = [], []
    readers = {edge: node for node in network.nodes for edge in node.inputs}
    by_name = dict(zip((node.name for node in network.nodes), chosen, strict=True))

    def width(edge: str) -> int:
        """Lanes of a stream without an engine behind it: what its reader takes at once."""
        reader = by_name[readers[edge].name].engine if edge in readers else None
        return reader.cols if reader is not None else _lanes(network, edge, limit)

    for node, option in zip(network.nodes, chosen, strict=True):
        if option.engine is None:
            stages.append(StageMapping(node.name, None, width(node.name)))
        else:
            engines.append(Engine(f"pe_{node.name}", option.engine))
            stages.append(StageMapping(node.name, f"pe_{node.name}", option.lanes))
    lanes = _lanes(network, network.input.name, limit)
    return Mapping(lanes, tuple(engines), tuple(stages)).check(network)


def _lanes(network: Network, edge: str, limit: int) -> int:
    """Fewest lanes, a power of two, with which a frame passes an edge within ``limit`` cycles."""
    lanes = 1
    while -(-network.length(edge) // lanes) > limit:
        lanes *= 2
    return lanes
