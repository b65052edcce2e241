"""The ways to compute layers of pim arithmetic: arrays whose ports keep up, and their copies.

Every macro works all the time if the vectors come as fast as they are evaluated and their sums
leave as fast: each layer gets the narrowest streams for which that holds. A layer with many
positions gets copies. Of the copies that the budget of macros allows, those are taken with which
the slowest layer is fastest, and no layer has more than that needs.
"""

from dataclasses import dataclass, replace

from model.ir.beats import Beats
from model.ir.conv import ConvSpec
from model.ir.errors import BadInput
from model.ir.faults import Faults
from model.ir.mapping import MAX_LANES
from model.ir.matrix import MatrixSpec
from model.ir.network import Network, Node
from model.ir.pim_arithmetic import PIMArithmetic
from model.ir.pim_array import COPIES_MAX, PimArraySpec
from model.ir.placement import place

BUDGET = "mapping.macros"


@dataclass(frozen=True)
class PimBudget:
    """Macros, and what they look like.

    Parameters
    ----------
    columns, spare, share : int
        Columns of a macro, those that are kept free, and results that share a converter.
    macros : int or None
        The most macros, of all layers and copies; None: as many as one copy of each needs.
    programs : bool
        Whether cells are written by pulses, as the next ones say: see PimArraySpec.
    body : str
        Name of a hard macro.
    faults : Faults or None
        Stuck cells of the macros, those of each layer on its own stream.
    """

    columns: int
    spare: int = 0
    share: int = 1
    macros: int | None = None
    programs: bool = False
    write_cycles: int = 1
    attempts: int = 1
    failures: int = 0
    endurance: int = 0
    body: str = ""
    faults: Faults | None = None


def on_macros(node: Node) -> bool:
    """Whether a node is computed by macros."""
    return isinstance(getattr(node.spec, "arithmetic", None), PIMArithmetic)


def pim_engines(network: Network, budget: PimBudget) -> dict[str, PimArraySpec]:
    """The array of each layer of pim arithmetic; raises BadInput for too few macros."""
    ways = {
        node.name: _ways(node, number, budget)
        for number, node in enumerate(network.nodes)
        if on_macros(node)
    }
    chosen = {name: found[0] for name, found in ways.items()}
    if budget.macros is None:
        return {name: engine for name, (_, engine) in chosen.items()}
    limits = sorted({cycles for found in ways.values() for cycles, _ in found}, reverse=True)
    for limit in limits:
        fits = {
            name: next((way for way in found if way[0] <= limit), None)
            for name, found in ways.items()
        }
        if None in fits.values() or _macros(fits) > budget.macros:
            break
        chosen = fits
    if _macros(chosen) > budget.macros:
        raise BadInput(
            BUDGET,
            budget.macros,
            f"at least the {_macros(chosen)} macros of one copy of each layer",
            f"raise {BUDGET}, use larger macros or compress further",
        )
    return {name: engine for name, (_, engine) in chosen.items()}


def _macros(chosen: dict) -> int:
    return sum(engine.copies * engine.macros for _, engine in chosen.values())


def _ways(node: Node, number: int, budget: PimBudget) -> list[tuple[int, PimArraySpec]]:
    """Arrays with ever more copies, each with its cycles per frame, which fall."""
    layer, tensors = node.spec, dict(node.tensors)
    placed = place(layer, tensors, budget.columns, budget.spare, thing=node.name)
    tiles = len(layer.arithmetic.tiles(layer, tensors))
    if not tiles:
        raise BadInput(
            node.name, "a layer that keeps no weight", "at least one", "compress it less"
        )
    found: list[tuple[int, PimArraySpec]] = []
    for copies in range(1, min(layer.vectors, COPIES_MAX) + 1):
        engine = PimArraySpec(
            _banks(layer),
            budget.columns,
            placed.macros,
            tiles,
            copies,
            budget.share,
            budget.spare,
            budget.programs,
            budget.write_cycles,
            budget.attempts,
            budget.failures,
            budget.endurance,
            budget.body,
            budget.faults.of_node(number) if budget.faults else None,
        )
        engine = _wide(engine, layer)
        cycles = _cycles(engine, node)
        if not found or cycles < found[-1][0]:
            found.append((cycles, engine))
    return found


def _banks(layer: MatrixSpec) -> int:
    return layer.kernel_rows if isinstance(layer, ConvSpec) else 1


def _wide(engine: PimArraySpec, layer: MatrixSpec) -> PimArraySpec:
    """The array with the fewest columns whose words come in time, or else with the most."""
    banks = _banks(layer)
    channels = layer.channels if isinstance(layer, ConvSpec) else layer.matrix_columns
    k, best = engine.steps(layer), None
    blocks = -(-channels // k)
    widths = {min(channels, k * -(-blocks // words)) for words in range(1, blocks + 1)}
    for lanes in sorted(widths):
        if banks * lanes > MAX_LANES:
            break
        wide = replace(engine, cols=banks * lanes)
        if not wide.takes(layer):
            continue
        best = wide
        if wide.words(layer) * engine.copies <= engine.vector_cycles(layer):
            break
    if best is None:
        raise BadInput(
            "mapping: PIM array",
            f"{channels} channels and {banks} kernel rows, in blocks of {k}",
            f"input beats of at most {MAX_LANES} codes",
            "use smaller blocks or a smaller kernel",
        )
    return best


def enough_lanes(engine: PimArraySpec, layer: MatrixSpec) -> list[int]:
    """Output lanes that keep up, one for each number of beats, ascending."""
    room = max(engine.vector_cycles(layer), engine.copies * engine.words(layer))
    found: dict[int, int] = {}
    for lanes in engine.out_lanes(layer):
        beats = engine.beats(layer, lanes)
        if beats * engine.copies <= room:
            found.setdefault(beats, lanes)
    return list(found.values()) or engine.out_lanes(layer)[-1:]


def _cycles(engine: PimArraySpec, node: Node) -> int:
    layer = node.spec
    if isinstance(layer, ConvSpec):
        source = Beats((layer.rows, layer.columns, layer.channels), engine.window_lanes(layer))
    else:
        source = Beats((layer.matrix_columns,), engine.cols)
    return engine.outline(layer, (source,), enough_lanes(engine, layer)[0]).cycles
