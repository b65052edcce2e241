"""What layers on PIM macros cost, beside published figures: ``python -m gyre.pim_compare``.

Three comparisons, each printed with its assumptions:

1. The convolutions of LeNet-5 with 1-bit weights and 8-bit activations on 256×256 sub-arrays: the
   published point reproduced by our ledger from a digital reading of that engine, then our array.
2. The convolutions of AlexNet and VGG-16 beside Eyeriss.
3. LeNet-5 pruned to crossbar columns against unpruned, on memristor crossbars.

Events are by formula (:mod:`sim.pim_events`), constants from the technology files
(:mod:`sim.technology`). ``--json FILE`` writes every figure and every ledger besides.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from gyre.flow import ZOO
from model import data, golden
from model.ir.block_sparse import BlockSparseStorage
from model.ir.conv import ConvSpec
from model.ir.matrix import MatrixSpec
from model.ir.network import Network
from sim import energy, technology
from sim.energy import Events, Ledger, Parts, engineering
from sim.pim_events import (
    MacroShape,
    PlacedLayer,
    count_events,
    count_parts,
    pieces,
    place,
    programming,
)
from sim.technology import CellTechnology, CmosTechnology, Range

EYERISS_NODE = 65.0
ROWS = 256


@dataclass(frozen=True)
class Matrix:
    """A layer's shape: ``vectors`` products of an [outputs, inputs] matrix a frame, in groups.

    ``positions`` are those of the kernel, ``buffer`` the codes of its window's line buffer.
    """

    name: str
    vectors: int
    inputs: int
    outputs: int
    groups: int = 1
    positions: int = 1
    buffer: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates a frame; ``inputs`` are those of a group, ``outputs`` all."""
        return self.vectors * self.inputs * self.outputs


def convolution(
    name: str,
    size: int,
    channels: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Matrix:
    """A convolution on a square frame; its line buffer holds ``kernel + stride`` rows."""
    side = (size + 2 * padding - kernel) // stride + 1
    return Matrix(
        name,
        vectors=side * side,
        inputs=kernel * kernel * channels // groups,
        outputs=outputs,
        groups=groups,
        positions=kernel * kernel,
        buffer=(kernel + stride) * (size + 2 * padding) * channels,
    )


LENET5 = (
    convolution("conv1", 28, 1, 20, 5),
    convolution("conv2", 12, 20, 50, 5),
    Matrix("fc1", 1, 800, 500),
    Matrix("fc2", 1, 500, 10),
)
ALEXNET = (
    convolution("conv1", 227, 3, 96, 11, stride=4),
    convolution("conv2", 27, 96, 256, 5, padding=2, groups=2),
    convolution("conv3", 13, 256, 384, 3, padding=1),
    convolution("conv4", 13, 384, 384, 3, padding=1, groups=2),
    convolution("conv5", 13, 384, 256, 3, padding=1, groups=2),
)
_VGG16 = ((224, 2, 64), (112, 2, 128), (56, 3, 256), (28, 3, 512), (14, 3, 512))


def _vgg16() -> tuple[Matrix, ...]:
    layers, channels = [], 3
    for stage, (size, depth, outputs) in enumerate(_VGG16, start=1):
        for at in range(1, depth + 1):
            layers.append(convolution(f"conv{stage}_{at}", size, channels, outputs, 3, padding=1))
            channels = outputs
    return tuple(layers)


VGG16 = _vgg16()


@dataclass(frozen=True)
class Point:
    """A published figure of the LeNet-5 convolutions: mm2, J, s."""

    name: str
    area: float
    energy: float
    time: float


LENET5_POINTS = (
    Point("SOT-MRAM, digital", 0.018, 0.85e-6, 0.9e-3),
    Point("SRAM", 0.64, 1.6e-6, 0.7e-3),
    Point("ReRAM, analog", 0.06, 13.5e-6, 5.8e-3),
)
"""Read in notes on a related paper: 1-bit weights, 8-bit activations, 256×256 sub-arrays."""


@dataclass(frozen=True)
class Eyeriss:
    """Published figures of Eyeriss (65 nm, 16 bit; widely cited, not verified here).

    Power is the chip's, without the memory off it.
    """

    name: str
    frames: float
    power: float
    pes: int = 168
    clock: float = 200e6
    area: float = 12.25

    @property
    def energy(self) -> float:
        """Joules a frame."""
        return self.power / self.frames

    def macs_per_pe_cycle(self, macs: int) -> float:
        """Useful multiply-accumulates per cycle of a PE."""
        return macs * self.frames / (self.pes * self.clock)

    def density(self, macs: int) -> float:
        """Useful multiply-accumulates per second and mm2."""
        return macs * self.frames / self.area


NETWORKS = (
    ("AlexNet, convolutions", ALEXNET, Eyeriss("AlexNet", 34.7, 0.278)),
    ("VGG-16, convolutions", VGG16, Eyeriss("VGG-16", 0.7, 0.236)),
)
CLAIMS = "published claims against Eyeriss: 2x power efficiency, 5x computational efficiency"


@dataclass(frozen=True)
class Design:
    """Layers on macros: what they cost a frame.

    ``latency`` is the sum over the layers, ``interval`` the slowest one's time: frames follow each
    other so, as the layers work at once.
    """

    name: str
    layers: tuple[PlacedLayer, ...]
    energy: Ledger
    area: Ledger
    latency: Range
    interval: Range

    @property
    def cycles(self) -> int:
        """Cycles between two frames."""
        return max(layer.cycles for layer in self.layers)

    @property
    def tiles(self) -> int:
        return sum(len(layer.tiles) * layer.copies for layer in self.layers)

    @property
    def macros(self) -> int:
        """Macros that work at once."""
        return sum(layer.working * layer.copies for layer in self.layers)

    @property
    def converters(self) -> int:
        return sum(layer.converters for layer in self.layers)

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "name": self.name,
            "tiles": self.tiles,
            "macros": self.macros,
            "converters": self.converters,
            "layers": [
                {
                    "name": layer.name,
                    "macro": dataclasses.asdict(layer.macro),
                    "tiles": len(layer.tiles),
                    "macros": layer.working,
                    "copies": layer.copies,
                    "cycles": layer.cycles,
                }
                for layer in self.layers
            ],
            "latency_seconds": self.latency.plain(),
            "interval_seconds": self.interval.plain(),
            "energy": self.energy.plain(),
            "area": self.area.plain(),
        }


def design(
    name: str,
    layers: Sequence[PlacedLayer],
    cell: CellTechnology,
    cmos: CmosTechnology,
    *,
    activity: Sequence[float] | None = None,
    buffers: Sequence[int] | None = None,
) -> Design:
    """What layers cost.

    Parameters
    ----------
    activity : sequence of float, optional
        Of each layer; 1.0 if it is not given, the upper bound.
    buffers : sequence of int, optional
        Bytes of each layer's activation buffer; 8 KiB each, and none of them in the area, if not.
    """
    events, parts = Events(), Parts()
    for at, layer in enumerate(layers):
        size = buffers[at] if buffers else 8192
        events += count_events(layer, memory_bytes=size, activity=activity[at] if activity else 1.0)
        parts += count_parts(layer, memory_bytes=size if buffers else 0)
    time = cell.evaluation_time.range
    return Design(
        name,
        tuple(layers),
        energy.energy(name, events, cell, cmos),
        energy.area(name, parts, cell, cmos),
        latency=time * sum(layer.cycles for layer in layers),
        interval=time * max(layer.cycles for layer in layers),
    )


def paced(layer: PlacedLayer, cycles: int) -> PlacedLayer:
    """The layer with the fewest copies, then macros, at which a frame takes at most ``cycles``.

    If one vector takes longer, a copy for each vector.
    """
    layer = dataclasses.replace(layer, macros=0, copies=1)
    share = max(1, cycles * layer.vectors // layer.cycles)  # vectors a copy has time for
    layer = dataclasses.replace(layer, copies=-(-layer.vectors // share))
    most = max(1, cycles // layer.cycles)  # passes it can afford
    return dataclasses.replace(layer, macros=-(-len(layer.tiles) // most))


def placed(
    matrix: Matrix, macro: MacroShape, weight_bits: int, activation_bits: int, k: int = 1
) -> list[PlacedLayer]:
    """The layers of a matrix, one per group; blocks of size k where it has as many channels."""
    if matrix.inputs // matrix.positions < k:
        k = 1
    return [
        place(
            matrix.name if matrix.groups == 1 else f"{matrix.name}.{group}",
            matrix.inputs,
            matrix.outputs // matrix.groups,
            macro,
            vectors=matrix.vectors,
            activation_bits=activation_bits,
            weight_bits=weight_bits,
            k=k,
            positions=matrix.positions,
        )
        for group in range(matrix.groups)
    ]


# 1. LeNet-5 against the published point

SENSED_STEPS = 3
SENSED = (
    "Our reading of the published engine, fitted to its time: weight bits and activation bits are",
    "ANDed in the sub-array, one output's row of 256 bits an access; a sense amplifier reads each",
    "bit (`cell_sense`); a tree of full adders, an eighth of an 8-bit addition each, counts; a",
    "24-bit shift-add follows each access. Activation bits are read from an 8 KB buffer and",
    f"written into cells once per window. Access, count and shift-add take {SENSED_STEPS} steps of",
    "`sense_time`, one access after another: that number of steps is the one fitted assumption.",
    "Area: one 256 x 256 sub-array, its drivers, 256 full adders, one shift-add.",
)


def sensed(matrices: Sequence[Matrix]) -> tuple[Events, int]:
    """Events of a digital engine of 1-bit weights and 8-bit activations, and its accesses."""
    total, accesses = Events(), 0
    for matrix in matrices:
        bits = 8 * matrix.macs
        done = 8 * matrix.vectors * matrix.outputs * -(-matrix.inputs // ROWS)
        entered = 8 * matrix.vectors * matrix.inputs
        accesses += done
        total += Events(
            word_lines=done,
            cell_senses=bits,
            adds={8: bits // 8, 24: done},
            register_bits=24 * done,
            memory_reads={8192: entered},
            memory_writes={8192: 8 * matrix.vectors * matrix.outputs},
            cell_writes=entered,
        )
    return total, accesses


def reproduce(cell: CellTechnology, cmos: CmosTechnology) -> tuple[Ledger, Ledger, Range]:
    """Energy, area and time of the digital reading of the published point."""
    events, accesses = sensed(LENET5[:2])
    parts = Parts(
        cells=ROWS * ROWS,
        word_lines=ROWS,
        adders={8: ROWS // 8, 24: 1},
        register_bits=24 + ROWS,
    )
    assert cell.sense_time is not None
    return (
        energy.energy("LeNet-5 convolutions, digital reading", events, cell, cmos),
        energy.area("LeNet-5 convolutions, digital reading", parts, cell, cmos),
        cell.sense_time.range * (SENSED_STEPS * accesses),
    )


def activity_of(network: Network, codes: torch.Tensor) -> dict[str, float]:
    """Share of 1 among the activation bits that enter each matrix layer, window by window.

    ``codes`` are int64 [frames, *input shape]. Strides are 1 and nothing is padded, as in LeNet-5.
    """
    edges = golden.trace(network, codes)
    found = {}
    for node in network.nodes:
        if not isinstance(node.spec, MatrixSpec):
            continue
        (edge,) = node.inputs
        entered = codes if edge == network.input.name else edges[edge]
        bits = network.format(edge).bits
        ones = sum((entered >> bit & 1) for bit in range(bits)).double()
        if isinstance(node.spec, ConvSpec):
            ones = ones.unfold(1, node.spec.kernel_rows, 1).unfold(2, node.spec.kernel_columns, 1)
        found[node.name] = float(ones.mean()) / bits
    return found


def measured_activity(frames: int) -> dict[str, float]:
    """Activity of the zoo's LeNet-5 on frames of MNIST's validation split."""
    network = Network.load(ZOO / "lenet5_crossbar" / "network")
    split = data.load("mnist", {}).validation
    samples = split.samples[:frames].astype(np.float64) * split.scale
    return activity_of(network, golden.quantize(network.input, samples))


def lenet5(
    cell: CellTechnology, cmos: CmosTechnology, activity: Sequence[float] | None
) -> list[Design]:
    """Our array on the LeNet-5 convolutions: 1-bit weights, 8-bit activations, step by step."""
    whole = MacroShape(ROWS, 256, columns_per_converter=8, reference=1)
    fitted = (
        MacroShape(32, 20, columns_per_converter=7, reference=1),
        MacroShape(ROWS, 50, columns_per_converter=25, reference=1),
    )
    forms = [
        ("256 x 256, 8 lines a converter", (whole, whole), None),
        ("macros that fit: 32 x 20 and 256 x 50", fitted, None),
    ]
    if activity is not None:
        forms.append(("that fit, word lines pulse for bits that are 1", fitted, activity))
    found = []
    for name, macros, used in forms:
        pairs = zip(LENET5[:2], macros, strict=True)
        layers = [layer for matrix, macro in pairs for layer in placed(matrix, macro, 1, 8)]
        found.append(design(name, layers, cell, cmos, activity=used))
    return found


# 2. AlexNet and VGG-16 beside Eyeriss

EYERISS_FORMS = (
    ("dense, 16 x 16 bit", 16, 16, 1),
    ("dense, 8 x 8 bit", 8, 8, 1),
    ("circulant k = 8, 8 x 8 bit", 8, 8, 8),
    ("circulant k = 16, 8 x 8 bit", 8, 8, 16),
    ("dense, 1-bit weights, 8-bit activations", 1, 8, 1),
)
SHARING = (1, 2, 4, 8, 16, 32, 64)
SURPLUS = 1.25
SPEEDS = tuple(2.0**n for n in range(-5, 6))
EYERISS_TERMS = (
    "Macros of 256 x 256 1-bit SOT-MRAM cells with a reference column, converters as wide as the",
    "tile's largest count (exact). All weights stay in cells; layers work at the same time on",
    "different frames, each on the fewest copies and macros that keep the pace; activations pass",
    f"through line buffers. The pace and the lines a converter serves, 1 to {max(SHARING)}, are",
    "those of most frames within Eyeriss's area, by our typical areas; forms marked * do not fit",
    f"there and take up to {SURPLUS} times their least area. Every activation bit is taken as 1.",
    "Eyeriss: 65 nm, 16 bit, its memory off the chip not counted either. Energy ratio: its joules",
    "a frame over ours. A PE of ours is a converter with its shift-adder. At 65 nm energies of",
    "CMOS parts rise with the feature size, areas of cells and CMOS parts with its square;",
    "energies of cells and times stay. Low and high of GMAC/s/mm2 take time and area at their",
    "worst and best together. Nothing here says that these networks keep their accuracy at fewer",
    "bits or in circulant form.",
)


def on_macros(
    matrices: Sequence[Matrix],
    form: tuple[str, int, int, int],
    cell: CellTechnology,
    cmos: CmosTechnology,
    budget: float,
) -> Design:
    """Layers in one of ``EYERISS_FORMS``: the fastest of at most ``budget`` mm2, typical.

    If there is none, the fastest of at most ``SURPLUS`` times the least area.
    """
    name, weight_bits, activation_bits, k = form
    candidates = []
    for sharing in SHARING:
        macro = MacroShape(ROWS, 256, columns_per_converter=sharing, reference=1)
        each = [placed(matrix, macro, weight_bits, activation_bits, k) for matrix in matrices]
        buffers = [
            matrix.buffer * activation_bits // 8 // len(group)
            for matrix, group in zip(matrices, each, strict=True)
            for _ in group
        ]
        pace = max(matrix.vectors for matrix in matrices) * activation_bits * sharing
        for speed in SPEEDS:
            layers = [paced(layer, int(pace / speed)) for group in each for layer in group]
            parts = Parts()
            for layer, size in zip(layers, buffers, strict=True):
                parts += count_parts(layer, memory_bytes=size)
            covered = energy.area(name, parts, cell, cmos).total.typical
            candidates.append((max(x.cycles for x in layers), covered, layers, buffers))
    most = max(budget, SURPLUS * min(covered for _, covered, _, _ in candidates))
    fitting = (candidate for candidate in candidates if candidate[1] <= most)
    _, _, layers, buffers = min(fitting, key=lambda candidate: candidate[:2])
    return design(name, layers, cell, cmos, buffers=buffers)


def ratios(found: Design, macs: int, eyeriss: Eyeriss) -> dict[str, Any]:
    """Our efficiencies over Eyeriss's."""
    joules, area, time = found.energy.total, found.area.total, found.interval
    rate = macs / (found.cycles * found.converters)
    density = Range(
        macs / (time.high * area.high),
        macs / (time.typical * area.typical),
        macs / (time.low * area.low),
    )
    ours = Range(macs / joules.high, macs / joules.typical, macs / joules.low)
    return {
        "macs_per_joule": ours.plain(),
        "energy_ratio": (ours * (eyeriss.energy / macs)).plain(),
        "macs_per_second_mm2": density.plain(),
        "density_ratio": (density * (1 / eyeriss.density(macs))).plain(),
        "macs_per_pe_cycle": rate,
        "pe_cycle_ratio": rate / eyeriss.macs_per_pe_cycle(macs),
    }


# 3. Pruned against unpruned

CROSSBAR = MacroShape(32, 32, columns_per_converter=8, cell_bits=4, cells=2, adc_bits=8)
PUBLISHED_AREA, PUBLISHED_POWER = 0.9397, 0.9696
PRUNED = ("lenet5_crossbar_conductance", "lenet5_crossbar_x105", "lenet5_crossbar_x231")
PRUNED_TERMS = (
    "Memristor crossbars of 32 x 32 cells of 4 bits in positive and negative columns, 8 pairs a",
    "converter of 8 bits (assumed), 8-bit activations. Unpruned: 9-bit weights, 4 cells each, as",
    "published. Area is of whole crossbars with their drivers and converters. Power counts every",
    "crossbar evaluating once, as all crossbars at work do; energy is of a frame, in which the",
    "convolutions repeat. The published figures are of 5-bit weights at a ratio that we do not",
    "know; x105 and x231 are of 8-bit weights (4 cells), and below them the same places with 5.",
)


def kept(network: Network, macro: MacroShape, weight_bits: int) -> list[PlacedLayer]:
    """The matrix layers of a network, with only the columns of crossbars that are kept."""
    layers = []
    for node in network.nodes:
        spec = node.spec
        if not isinstance(spec, MatrixSpec):
            continue
        outputs, inputs = spec.matrix_rows, spec.matrix_columns
        dense = place(
            node.name,
            inputs,
            outputs,
            macro,
            vectors=spec.vectors,
            activation_bits=spec.in_format.bits,
            weight_bits=weight_bits,
        )
        if isinstance(spec.storage, BlockSparseStorage):
            slices = macro.slices(weight_bits)
            columns = node.tensors["row_sizes"] @ node.tensors["mask"]
            tiles = [
                tile
                for rows, lines in zip(node.tensors["column_sizes"], columns, strict=True)
                for tile in pieces(int(rows), int(lines) * slices, macro, slices)
            ]
            most = int(node.tensors["mask"].sum(axis=1).max())
            dense = dataclasses.replace(dense, tiles=tuple(tiles), row_tiles=most)
        layers.append(dense)
    return layers


def one_evaluation(
    layers: Sequence[PlacedLayer], cell: CellTechnology, cmos: CmosTechnology
) -> Ledger:
    """Energy of every tile evaluating once: word lines, cells, conversions, shift-adds."""
    total = Events()
    for layer in layers:
        once = dataclasses.replace(layer, vectors=1, activation_bits=1, rotations=1)
        events = count_events(once)
        converted = sum(events.conversions.values())
        width = layer.adder_bits
        total += dataclasses.replace(
            events,
            adds={width: converted},
            register_bits=converted * width,
            memory_reads={},
            memory_writes={},
        )
    return energy.energy("all crossbars, one evaluation", total, cell, cmos)


def pruned(cell: CellTechnology, cmos: CmosTechnology) -> list[dict[str, Any]]:
    """LeNet-5 unpruned, and each pruned network of the zoo, with the reductions."""
    whole = [layer for matrix in LENET5 for layer in placed(matrix, CROSSBAR, 9, 8)]
    forms = [("unpruned, 9 bit", whole)]
    for name in PRUNED:
        network = Network.load(ZOO / name / "network")
        bits = {n.spec.weight_format.bits for n in network.nodes if isinstance(n.spec, MatrixSpec)}
        for width in sorted(bits | {5}, reverse=True):
            label = f"{name.removeprefix('lenet5_crossbar_')}, {width} bit"
            label += "" if width in bits else " (places only)"
            forms.append((label, kept(network, CROSSBAR, width)))
    rows: list[dict[str, Any]] = []
    for label, layers in forms:
        found = design(label, layers, cell, cmos)
        once = one_evaluation(layers, cell, cmos)
        writes = Events()
        for layer in layers:
            writes += programming(layer)
        row = {
            "name": label,
            "crossbars": found.tiles,
            "cells": writes.cell_writes,
            "area": found.area.total,
            "power": once.total,
            "energy": found.energy.total,
            "programming": energy.energy("programming", writes, cell, cmos).total,
        }
        first = rows[0] if rows else row
        # the same constants on both sides: low against low, typical against typical
        for key in ("area", "power", "energy"):
            row[f"{key}_saved"] = row[key].apply(lambda a, b: 1 - a / b, first[key])
        rows.append(row)
    return rows


# Printing


def _band(value: Range, unit: str) -> str:
    return " / ".join(engineering(getattr(value, level), unit) for level in technology.LEVELS)


def _numbers(form: dict[str, float]) -> str:
    return " / ".join(f"{form[level]:.3g}" for level in technology.LEVELS)


def _percent(value: Range) -> str:
    low, high = sorted((value.low, value.high))
    if math.isclose(low, high, abs_tol=5e-5):
        return f"{100 * value.typical:.2f}"
    return f"{100 * value.typical:.2f} ({100 * low:.2f} to {100 * high:.2f})"


def _sharing(found: Design) -> str:
    return str(found.layers[0].macro.columns_per_converter)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for at, name in enumerate(columns):
        table.add_column(name, justify="right" if at else "left", overflow="fold")
    return table


def _terms(console: Console, lines: Sequence[str]) -> None:
    console.print(" ".join(lines), style="dim", markup=False)


def show_constants(console: Console) -> None:
    """Every constant with its source."""
    for name in technology.known():
        found = technology.load(name)
        table = _table(f"{name}: {found.title}", "constant", "low / typical / high", "", "source")
        table.columns[-1].justify = "left"
        for key, constant in found.constants().items():
            values = f"{constant.low:g} / {constant.typical:g} / {constant.high:g} {constant.unit}"
            table.add_row(key, values, constant.mark, constant.source)
        console.print(table)
    console.print("; ".join(f"{mark}: {text}" for mark, text in technology.MARKS.items()))


def show_lenet5(
    console: Console, cell: CellTechnology, cmos: CmosTechnology, frames: int
) -> dict[str, Any]:
    """Print the first comparison; returns its figures."""
    joules, area, time = reproduce(cell, cmos)
    shares = None
    if frames:
        found = measured_activity(frames)
        shares = [found["conv1"], found["conv2"]]
    designs = lenet5(cell, cmos, shares)
    table = _table(
        "LeNet-5 convolutions, 1-bit weights, 8-bit activations: low / typical / high",
        *("what", "energy", "0.85 uJ over it", "latency", "area"),
    )
    for point in LENET5_POINTS:
        table.add_row(
            f"published: {point.name}",
            engineering(point.energy, "J"),
            f"{LENET5_POINTS[0].energy / point.energy:.2f}",
            engineering(point.time, "s"),
            engineering(point.area, "mm2"),
        )
    table.add_section()
    rows = [("reproduced: digital reading", joules.total, time, area.total)]
    rows += [(f"ours: {d.name}", d.energy.total, d.latency, d.area.total) for d in designs]
    for name, spent, taken, covered in rows:
        gain = spent.apply(lambda each: LENET5_POINTS[0].energy / each).plain()
        table.add_row(
            name, _band(spent, "J"), _numbers(gain), _band(taken, "s"), _band(covered, "mm2")
        )
    console.print(table)
    _terms(console, SENSED)
    if shares is not None:
        text = f"Share of 1 among the activation bits of conv1 and conv2, {frames} frames of MNIST"
        console.print(f"{text}: {shares[0]:.3f}, {shares[1]:.3f}", style="dim")
    console.print(joules.table())
    console.print(designs[1].energy.table())
    console.print(designs[1].area.table())
    return {
        "activity": shares,
        "reproduced": {
            "energy": joules.plain(),
            "area": area.plain(),
            "latency_seconds": time.plain(),
        },
        "designs": [each.plain() for each in designs],
    }


def show_eyeriss(console: Console, cell: CellTechnology, cmos: CmosTechnology) -> dict[str, Any]:
    """Print the second comparison; returns its figures."""
    figures: dict[str, Any] = {}
    for title, matrices, eyeriss in NETWORKS:
        macs = sum(matrix.macs for matrix in matrices)
        shapes = _table(
            f"{title}: {macs:,} multiply-accumulates a frame",
            *("layer", "vectors", "inputs", "outputs", "groups", "MACs"),
            *("tiles", "copies", "macros", "cycles", "energy typical"),
        )
        base = on_macros(matrices, EYERISS_FORMS[1], cell, cmos, eyeriss.area)
        for matrix in matrices:
            group = [layer for layer in base.layers if layer.name.split(".")[0] == matrix.name]
            events = Events()
            for layer in group:
                events += count_events(layer, memory_bytes=matrix.buffer // len(group))
            shapes.add_row(
                matrix.name,
                *(f"{n:,}" for n in (matrix.vectors, matrix.inputs, matrix.outputs)),
                str(matrix.groups),
                f"{matrix.macs:,}",
                f"{sum(len(layer.tiles) for layer in group):,}",
                f"{group[0].copies:,}",
                f"{sum(layer.working * layer.copies for layer in group):,}",
                f"{max(layer.cycles for layer in group):,}",
                engineering(energy.energy("", events, cell, cmos).total.typical, "J"),
            )
        console.print(shapes)
        console.print(
            f"from tiles on: {base.name}, {_sharing(base)} lines a converter, as sourced",
            style="dim",
        )
        figures[title] = {"macs": macs, "eyeriss": dataclasses.asdict(eyeriss), "forms": []}
        for note, node in (("as sourced", None), (f"at {EYERISS_NODE:g} nm", EYERISS_NODE)):
            table = _table(
                f"{title} against Eyeriss ({eyeriss.energy * 1e3:.3g} mJ a frame, "
                f"{1e-9 * macs / eyeriss.energy:.3g} GMAC/J, "
                f"{1e-9 * eyeriss.density(macs):.3g} GMAC/s/mm2, "
                f"{eyeriss.macs_per_pe_cycle(macs):.2f} MAC per PE-cycle), constants {note}",
                *("form", "cells", "macros", "lines", "frames/s", "mJ a frame", "mm2"),
                *("energy ratio", "GMAC/s/mm2 ratio", "MAC/PE-cycle, ratio"),
            )
            for form in EYERISS_FORMS:
                used = (cell, cmos) if node is None else (cell.scaled(node), cmos.scaled(node))
                found = on_macros(matrices, form, *used, eyeriss.area)
                over = " *" if found.area.total.typical > eyeriss.area else ""
                against = ratios(found, macs, eyeriss)
                cells = sum(e.count for e in found.area.entries if e.part == "cells")
                table.add_row(
                    form[0] + over,
                    f"{cells / 1e6:,.3g} M",
                    f"{found.macros:,}",
                    _sharing(found),
                    f"{1 / found.interval.typical:.3g}",
                    _numbers((found.energy.total * 1e3).plain()),
                    _numbers(found.area.total.plain()),
                    _numbers(against["energy_ratio"]),
                    _numbers(against["density_ratio"]),
                    f"{against['macs_per_pe_cycle']:.2f}, {against['pe_cycle_ratio']:.2f}",
                )
                figures[title]["forms"].append(
                    {"constants": note, "design": found.plain(), "ratios": against}
                )
            console.print(table)
        console.print(base.energy.summary().table())
        console.print(base.area.summary().table())
    _terms(console, EYERISS_TERMS)
    console.print(CLAIMS, style="dim")
    return figures


def show_pruned(
    console: Console, cell: CellTechnology, cmos: CmosTechnology
) -> list[dict[str, Any]]:
    """Print the third comparison; returns its figures."""
    rows = pruned(cell, cmos)
    table = _table(
        "LeNet-5 on 32 x 32 memristor crossbars "
        f"(published: area -{100 * PUBLISHED_AREA:.2f} %, power -{100 * PUBLISHED_POWER:.2f} %)",
        *("form", "crossbars", "cells", "area mm2", "area saved %", "power saved %"),
        *("energy a frame", "energy saved %", "programming"),
    )
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['crossbars']:,}",
            f"{row['cells']:,}",
            _numbers(row["area"].plain()),
            _percent(row["area_saved"]),
            _percent(row["power_saved"]),
            _band(row["energy"], "J"),
            _percent(row["energy_saved"]),
            _band(row["programming"], "J"),
        )
    console.print(table)
    _terms(console, PRUNED_TERMS)
    return [
        {key: value.plain() if isinstance(value, Range) else value for key, value in row.items()}
        for row in rows
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", default=[], help="constants, lenet5, eyeriss, pruned [the last three]"
    )
    parser.add_argument("--sot", default="sot_mram", help="technology of the SOT-MRAM cells")
    parser.add_argument("--memristor", default="memristor", help="technology of the memristors")
    parser.add_argument("--cmos", default="cmos", help="technology of the parts around the cells")
    parser.add_argument(
        "--activity",
        type=int,
        default=0,
        metavar="FRAMES",
        help="measure the share of 1 bits on so many frames of MNIST (validation) [0: skip]",
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--width", type=int, default=None, help="columns of the printed tables")
    chosen = parser.parse_args(arguments)
    parts = chosen.parts or ["lenet5", "eyeriss", "pruned"]
    if unknown := set(parts) - {"constants", "lenet5", "eyeriss", "pruned"}:
        parser.error(f"unknown part {sorted(unknown)[0]!r}")
    console = Console(highlight=False, width=chosen.width)
    sot, memristor = technology.load_cell(chosen.sot), technology.load_cell(chosen.memristor)
    cmos = technology.load_cmos(chosen.cmos)
    figures: dict[str, Any] = {}
    if "constants" in parts:
        show_constants(console)
    if "lenet5" in parts:
        figures["lenet5"] = show_lenet5(console, sot, cmos, chosen.activity)
    if "eyeriss" in parts:
        figures["eyeriss"] = show_eyeriss(console, sot, cmos)
    if "pruned" in parts:
        figures["pruned"] = show_pruned(console, memristor, cmos)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
