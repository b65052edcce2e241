"""Energy and area of a network on PIM arrays: what was counted, times sourced constants.

Evaluations are those that the simulator counted. How many word lines they pulse, and so how many
cells they read, hangs on the bits of the activations: these are the bits of the very frames, of the
first ``ACTIVITY_FRAMES`` of them. What follows from an evaluation (conversions, shift-adds) is by
the formulas of :mod:`sim.pim_events`, for the macros as the network is placed on them. Exact
counting is priced as a converter of as many bits as the largest count has.
"""

from collections.abc import Mapping as MappingType
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from model import golden
from model.golden.numerics import decode
from model.golden.window import windows
from model.ir.conv import ConvSpec
from model.ir.mapping import Mapping
from model.ir.matrix import MatrixSpec
from model.ir.network import Network, Node
from model.ir.pim_array import PimArraySpec, pim_of
from sim import energy, technology
from sim.energy import Events, Ledger, Parts
from sim.pim_events import MacroShape, PlacedLayer, Tile, count_events, count_parts, programming

ACTIVITY_FRAMES = 100
"""Frames whose bits are counted."""

ONCE: MappingType[str, int] = MappingProxyType({})
"""No pulses counted: every layer is written once."""


def placed_layer(node: Node, spec: PimArraySpec) -> PlacedLayer:
    """A layer as it is placed on the macros of its array."""
    layer, pim = node.spec, pim_of(node.spec)
    placed, slices = spec.placement(node), len(pim.factors(layer))
    macro = MacroShape(
        pim.rows,
        spec.columns,
        spec.share,
        pim.cell_bits,
        cells=pim.sides,
        reference=int(spec.macro(layer).reference),
        adc_bits=pim.adc_bits,
    )
    tiles = tuple(
        Tile(at["rows"], at["columns"] // pim.sides // slices * slices) for at in placed.occupancy()
    )
    return PlacedLayer(
        node.name,
        macro,
        vectors=layer.vectors,
        inputs=layer.matrix_columns,
        outputs=layer.matrix_rows,
        macs=layer.macs(),
        activation_bits=len(pim.places(layer)),
        weight_bits=layer.weight_format.values.bits,
        row_tiles=spec.tiles,
        tiles=tiles,
        rotations=spec.steps(layer),
        copies=spec.copies,
    )


def ones(layer: MatrixSpec, codes: torch.Tensor) -> np.ndarray:
    """Bits of the activations that are 1, summed over all vectors: int64 [inputs]."""
    x = decode(layer.in_format, codes)
    x = windows(layer, x).flatten(0, -2) if isinstance(layer, ConvSpec) else x.flatten(1)
    x = x.reshape(-1, layer.matrix_columns)
    bits = range(len(pim_of(layer).places(layer)))
    return sum((x >> bit & 1).sum(dim=0) for bit in bits).numpy()


def pulses(node: Node, spec: PimArraySpec, codes: torch.Tensor) -> tuple[int, int]:
    """Pulses on word lines, and cells on them in columns in use, of all vectors of some frames."""
    layer, pim = node.spec, pim_of(node.spec)
    placed, inputs = spec.placement(node), pim.line_inputs(layer)
    on = np.append(ones(layer, codes), 0)[inputs] * spec.steps(layer)  # -1 is a line of padding
    word_lines = cells = 0
    for macro, at in enumerate(placed.occupancy()):
        own = placed.line[macro]
        lines = int(on[own[own >= 0]].sum())
        word_lines += lines
        cells += lines * (at["columns"] + spec.macro(layer).reference)
    return word_lines, cells


def count(
    network: Network,
    mapping: Mapping,
    codes: torch.Tensor,
    steps: MappingType[str, int],
    written: MappingType[str, int] = ONCE,
) -> dict[str, tuple[Events, Parts, Events]]:
    """Of each layer on macros: events of a frame, parts, and the events of programming it once.

    Parameters
    ----------
    codes : int64 tensor
        Input codes of the frames.
    steps : mapping of str to int
        Evaluations of each layer a frame, as the simulator counted them.
    written : mapping of str to int
        Pulses that the rows of each layer took, where the simulator counted them: each writes all
        columns of a macro. A layer without is written once, its cells in use alone.
    """
    some = codes[:ACTIVITY_FRAMES]
    edges = golden.trace(network, some)
    found = {}
    for stage, node in zip(mapping.stages, network.nodes, strict=True):
        spec = None if stage.engine is None else mapping.engine(stage.engine)
        if not isinstance(spec, PimArraySpec):
            continue
        layer = placed_layer(node, spec)
        per_frame = layer.vectors * layer.activation_bits * layer.rotations
        if steps[node.name] != per_frame:
            raise ValueError(
                f"evaluations of {node.name} must be the {per_frame} of the formula, "
                f"not {steps[node.name]}"
            )
        word_lines, cells = pulses(node, spec, edges[node.inputs[0]])
        events = replace(
            count_events(layer),
            word_lines=round(word_lines / len(some)),
            cell_reads=round(cells / len(some)),
        )
        writes = programming(layer)
        if node.name in written:
            times = written[node.name]
            writes = Events(word_lines=times, cell_writes=times * spec.macro(node.spec).columns)
        found[node.name] = events, count_parts(layer), writes
    return found


def ledgers(
    network: Network,
    mapping: Mapping,
    codes: torch.Tensor,
    steps: MappingType[str, int],
    cells: str,
    written: MappingType[str, int] = ONCE,
) -> tuple[dict[str, Ledger], Ledger, Ledger]:
    """Energy of a frame (of each layer and of all, under ``"all"``), area, energy of programming.

    ``cells`` names the technology of the cells.
    """
    cell, cmos = technology.load_cell(cells), technology.load_cmos()
    found = count(network, mapping, codes, steps, written)
    total = sum((events for events, _, _ in found.values()), Events())
    parts = sum((part for _, part, _ in found.values()), Parts())
    writes = sum((write for _, _, write in found.values()), Events())
    frames = {
        name: energy.energy(f"{name}, energy a frame", events, cell, cmos)
        for name, (events, _, _) in found.items()
    }
    frames["all"] = energy.energy("energy a frame", total, cell, cmos)
    return (
        frames,
        energy.area("area", parts, cell, cmos),
        energy.energy("programming once", writes, cell, cmos),
    )


def sections(
    network: Network,
    mapping: Mapping,
    codes: torch.Tensor,
    steps: MappingType[str, int],
    cells: str,
    written: MappingType[str, int] = ONCE,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sections ``energy`` and ``resources.area`` of a report."""
    frames, area, writes = ledgers(network, mapping, codes, steps, cells, written)
    whole = frames.pop("all").summary().plain()
    layers = {name: ledger.total.plain() for name, ledger in frames.items()}
    programmed = writes.summary().plain()
    return whole | {"layers": layers, "programming": programmed}, area.summary().plain()
