"""From exact layers to layers of pim arithmetic: states, converters, cells, requantization."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from model import golden
from model.export.factors import bias_bits, requantize, spread
from model.golden.matrix import accumulate, prepare
from model.golden.numerics import decode
from model.golden.window import windows
from model.ir.arithmetic import ExactArithmetic
from model.ir.cells import spread_levels
from model.ir.conv import ConvSpec
from model.ir.errors import BadInput
from model.ir.matrix import MatrixSpec
from model.ir.network import Network, Node
from model.ir.numerics import CodebookFormat
from model.ir.pim_arithmetic import PIMArithmetic
from model.ir.pim_options import PIMOptions
from model.ir.placement import Placement, Repair, place, repair
from model.ir.requantize import MULTIPLIER_BITS_MAX, SHIFT_MAX

CALIBRATION_VECTORS = 1000
"""Vectors of a layer by which the step of its converters is chosen."""

CALIBRATION_FRAMES = 64
"""Frames that they come from."""

SPREAD_GRID_BITS = 4
"""Fraction bits of a level where cells deviate, unless the options say otherwise."""

STATE_BITS_MAX = 12
"""Bits of a codebook's magnitudes as levels of states, fraction bits included."""

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class PIMConversion:
    """A network of pim arithmetic, and what its making found out.

    Parameters
    ----------
    network : Network
        The network.
    placements : dict of str to Placement
        Of each converted layer.
    repairs : dict of str to Repair
        Of each layer whose macros have stuck cells, if they were to be repaired.
    """

    network: Network
    placements: dict[str, Placement]
    repairs: dict[str, Repair]


def with_pim(
    network: Network, options: PIMOptions | None = None, codes: torch.Tensor | None = None
) -> Network:
    """The network with pim arithmetic in every layer with a weight matrix; see :func:`to_pim`."""
    return to_pim(network, options, codes).network


def to_pim(
    network: Network,
    options: PIMOptions | None = None,
    codes: torch.Tensor | None = None,
    faults: Mapping[str, np.ndarray] | None = None,
) -> PIMConversion:
    """Convert fully connected layers and convolutions of exact arithmetic to pim arithmetic.

    Weights, formats and scales stay. The accumulators change their scale by ``2^grid_bits /
    step``. A power of two changes shifts and biases alone, so nominal cells and exact counts give
    the codes of exact arithmetic; another step changes the multipliers too, which are rounded to
    16 bits.

    Parameters
    ----------
    network : Network
        LSTMs stay as they are.
    options : PIMOptions, optional
        Macros of 128 × 128 single-bit cells, without any deviation, otherwise.
    codes : int64 tensor [frames, *input shape], optional
        Calibrates converters without a given step: 64 frames at most, and of each layer 1,000
        vectors. Of the steps 1, 2, 3, 4, 6, 8, 12 and so on, that of the least squared error of the
        accumulators, cells nominal. Without codes, the least step that never saturates.
    faults : mapping of str to int64 [macros, R, C], optional
        Of some layers by name, where their macros' cells are stuck, instead of a drawn map.

    Raises BadInput, with the layer's name, for weights beyond the level table, a layer that does
    not fit the macros or their budget, a depthwise convolution, and a fault map of another shape.
    """
    options = options or PIMOptions()
    edges: dict[str, torch.Tensor] = {}
    if codes is not None and options.adc_bits is not None and options.step is None:
        edges = golden.trace(network, spread(codes, CALIBRATION_FRAMES))
    nodes, placements, repairs, left = [], {}, {}, options.budget
    for number, node in enumerate(network.nodes):
        spec = node.spec
        if isinstance(spec, MatrixSpec) and isinstance(spec.arithmetic, ExactArithmetic):
            try:
                x = _vectors(spec, edges[node.inputs[0]]) if edges else None
                node = _ideal(node, options, x)
            except ValueError as error:
                if isinstance(error, BadInput):
                    raise
                raise BadInput(
                    f"{node.name}: pim arithmetic",
                    str(error),
                    "a layer that macros can hold",
                    "choose other macros, or leave the layer exact",
                ) from error
            tensors = dict(node.tensors)
            placed = place(node.spec, tensors, options.columns, options.spare, left, node.name)
            left = None if left is None else left - placed.macros
            given = (faults or {}).get(node.name)
            if options.spread > 0 or options.stuck or given is not None:
                node, placed, found = _actual(node, placed, options, number, given)
                repairs |= {node.name: found} if found else {}
            placements[node.name] = placed
        nodes.append(node)
    return PIMConversion(replace(network, nodes=tuple(nodes)), placements, repairs)


def _ideal(node: Node, options: PIMOptions, x: torch.Tensor | None) -> Node:
    """A layer with nominal cells; ``x`` are vectors for the calibration."""
    spec = node.spec
    pim = _with_step(spec, _arithmetic(spec, options), options, node, x)
    rule, tensors = spec.requantize, dict(node.tensors)
    ratio = pim.step / (1 << pim.grid_bits)
    exponent = (1 << pim.grid_bits) // pim.step
    moved = exponent.bit_length() - 1 if pim.step * exponent == 1 << pim.grid_bits else None
    if moved is None and pim.step % (1 << pim.grid_bits) == 0:
        whole = pim.step >> pim.grid_bits
        moved = 1 - whole.bit_length() if whole & (whole - 1) == 0 else None
    if (
        moved is not None
        and 0 <= rule.shift + moved <= SHIFT_MAX
        and (moved >= 0 or not (tensors["b"] % (1 << -moved)).any())
    ):
        b = tensors["b"] << moved if moved >= 0 else tensors["b"] >> -moved
        bits = bias_bits(b) if moved else rule.b_bits
        rule, changed = replace(rule, shift=rule.shift + moved, b_bits=bits), {"b": b}
    else:
        m = torch.from_numpy(tensors.get("m", np.ones(1, dtype=np.int64)).copy()).double()
        unit = 2.0**-rule.shift
        offset = torch.from_numpy(tensors["b"].copy()).double() * unit
        rule, changed = requantize(
            node.name, m * unit * ratio, offset, rule.out_format, 1.0, MULTIPLIER_BITS_MAX
        )
        tensors.pop("m", None)
    spec = replace(spec, arithmetic=pim, requantize=rule)
    return replace(node, spec=spec, tensors=tensors | changed)


def _arithmetic(spec: MatrixSpec, options: PIMOptions) -> PIMArithmetic:
    """Of a layer, with exact counts."""
    states: tuple[int, ...] = ()
    format, grid = spec.weight_format, options.grid_bits
    if grid is None:
        grid = SPREAD_GRID_BITS if options.spread > 0 or options.on_off is not None else 0
    if options.form == "pairs" and isinstance(format, CodebookFormat):
        found = sorted({abs(level) for level in format.levels})
        fit = found[-1] < 1 << (STATE_BITS_MAX - grid)
        if found[0] > 0 and len(found) <= 1 << options.cell_bits and fit:
            states = tuple(found)
    pim = PIMArithmetic(
        options.rows, options.cell_bits, options.form, states=states, grid_bits=grid
    )
    if options.on_off is None:
        return pim
    return replace(pim, off=int(pim.top / (options.on_off - 1) + 0.5))


def _with_step(
    spec: MatrixSpec,
    pim: PIMArithmetic,
    options: PIMOptions,
    node: Node,
    x: torch.Tensor | None,
) -> PIMArithmetic:
    """The arithmetic with its converter."""
    if options.adc_bits is None:
        return pim
    pim = replace(pim, adc_bits=options.adc_bits)
    if options.step is not None:
        return replace(pim, step=options.step)
    pim.check_layer(spec)
    whole = -(-pim.counts(spec).high // max(1, pim.codes(spec).high))
    if x is None:
        return replace(pim, step=max(1, whole))
    tensors, best, least = dict(node.tensors), pim, None
    exact = accumulate(spec.arithmetic, spec, x, prepare(spec.arithmetic, spec, tensors)).double()
    for step in _steps(whole):
        own = replace(pim, step=step)
        layer = replace(spec, arithmetic=own)
        acc = accumulate(own, layer, x, prepare(own, layer, tensors)).double()
        error = float((acc * (step / (1 << own.grid_bits)) - exact).square().mean())
        if least is None or error < least:
            best, least = own, error
    return best


def _steps(last: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, ... up to the first that is at least ``last``."""
    found, power = [1], 2
    while found[-1] < last:
        found += [power, power * 3 // 2]
        power *= 2
    return found


def _vectors(spec: MatrixSpec, codes: torch.Tensor) -> torch.Tensor:
    """Some of the vectors that the matrix is multiplied by, int64 [vectors, columns]."""
    x = decode(spec.in_format, codes)
    x = windows(spec, x).flatten(0, -2) if isinstance(spec, ConvSpec) else x.flatten(1)
    return spread(x.reshape(-1, spec.matrix_columns), CALIBRATION_VECTORS)


def _actual(
    node: Node,
    placed: Placement,
    options: PIMOptions,
    number: int,
    given: np.ndarray | None,
) -> tuple[Node, Placement, Repair | None]:
    """The layer with its cells' actual levels, drawn on the streams 2n and 2n + 1 of node n."""
    pim = replace(node.spec.arithmetic, device=True)
    spec = replace(node.spec, arithmetic=pim)
    nominal = pim.nominal(spec, dict(node.tensors))
    tensors, found = dict(node.tensors) | {"cells": nominal}, None
    cells = spread_levels(nominal, options.spread, pim.level_top, options.seed, 2 * number)
    if options.stuck or given is not None:
        faults = given
        if faults is None:
            faults = options.faults().of_node(number).drawn(spec, placed)
        placed.check_faults(spec, faults, node.name)
        if options.repair:
            placed, found = repair(placed, spec, tensors, faults)
        cells = placed.gather(faults, cells)
    return replace(node, spec=spec, tensors=tensors | {"cells": cells}), placed, found
