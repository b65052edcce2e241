"""LSTM layers at full size: planned, built, run in RTL, compared with golden at every step.

::

    google_k8, google_k16     the Google LSTM of C-LSTM: 153 features, 1024 cells, peepholes,
                              projection 512; blocks of 8 and of 16; 2,676 multipliers
    google_k8_sigmoid         the same with g = sigmoid, as the code of C-LSTM's authors has it
    google_k8_alone           one sequence at a time
    small_k8, small_k16       the Small LSTM: 39 features, 512 cells, both directions, each on half
                              of the multipliers
    ecp5_k8, ecp5_k16         the largest layer of the Google LSTM's proportions (projection of half
                              the cells) that 156 multipliers and 3.7 Mbit hold

``python -m gyre.lstm_bench [NAME ...]`` prints the figures of each, or of all; ``--plan`` only what
the planner predicts. Weights are random, of the scale of a trained layer: so are the activations
and the states then. All formats are of 16 bits. A multiplier with an operand of more than 18 bits,
as there are in the inverse transforms, counts as the two or more of 18 bits that it is made of.
"""

import argparse
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from hdl.accelerator import Accelerator
from model import golden
from model.export.fft import with_fft
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.lstm import GATES, PEEPHOLES, LSTMSpec
from model.ir.mapping import Mapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import FixedPointFormat
from model.ir.piecewise import piecewise
from model.ir.planner import Budget, plan
from model.ir.requantize import RequantizeSpec
from sim.run import Result, Simulator
from sim.sequences import backwards

STEPS = 216
"""Frames of a run; each sequence has as many as the others."""

BITS, B_BITS = 16, 32
SPREAD = 1.5
"""Standard deviation of a weight times the square root of its matrix' columns: the gates then reach
into both bends of their functions, as those of a trained layer do."""


@dataclass(frozen=True)
class Shape:
    """An LSTM layer: sizes, functions, and blocks."""

    features: int
    cells: int
    projection: int
    peephole: bool
    k: int
    g: str = "tanh"
    directions: int = 1


@dataclass(frozen=True)
class Case:
    """A layer, the budget of each of its directions, and how many sequences are interleaved."""

    shape: Shape
    budget: Budget
    sequences: int
    published: str = ""


GOOGLE = Shape(153, 1024, 512, True, 8)
SMALL = Shape(39, 512, 0, False, 8, directions=2)
KU060 = Budget(2676)
ECP5 = Budget(156, 3_700_000)
CASES = {
    "google_k8": Case(GOOGLE, KU060, 3, "1024 cycles a frame"),
    "google_k8_sigmoid": Case(replace(GOOGLE, g="sigmoid"), KU060, 3, "1024 cycles a frame"),
    "google_k16": Case(replace(GOOGLE, k=16), KU060, 4, "539 cycles a frame"),
    "google_k8_alone": Case(GOOGLE, KU060, 1),
    "small_k8": Case(SMALL, Budget(KU060.multipliers // 2), 3),
    "small_k16": Case(replace(SMALL, k=16), Budget(KU060.multipliers // 2), 4),
    "ecp5_k8": Case(GOOGLE, ECP5, 3),
    "ecp5_k16": Case(replace(GOOGLE, k=16), ECP5, 3),
}


def network(shape: Shape, seed: int = 1) -> Network:
    """The layer as a network of its own, under fft arithmetic."""
    rng = np.random.default_rng(seed)
    x, gate, state, unit = (FixedPointFormat(BITS, True, n) for n in (12, 11, 11, 14))
    k, outputs = shape.k, shape.projection or shape.cells
    x_columns, y_columns = (-(-size // k) * k for size in (shape.features, outputs))

    def matrix(rows: int, columns: int, entry: FixedPointFormat, out: FixedPointFormat):
        storage = BlockCirculantStorage(k)
        real = rng.normal(0, SPREAD / np.sqrt(columns), (*storage.grid(rows, columns), k))
        frac_bits = int(np.floor(np.log2((2 ** (BITS - 1) - 1) / np.abs(real).max())))
        weight = FixedPointFormat(BITS, True, frac_bits)
        shift = entry.frac_bits + frac_bits - out.frac_bits
        rule = RequantizeSpec(out, shift, "one", 0, B_BITS)
        spec = LinearSpec(columns, rows, entry, weight, rule, storage=storage)
        return spec, np.rint(real * 2.0**frac_bits).astype(np.int64)

    def codes(real: np.ndarray, frac_bits: int) -> np.ndarray:
        return np.rint(real * 2.0**frac_bits).astype(np.int64)

    gates, weight = matrix(GATES * shape.cells, x_columns + y_columns, x, gate)
    bias = rng.normal(0, 0.5, GATES * shape.cells)
    bias[shape.cells : 2 * shape.cells] += 1  # the forget gate's
    tensors = {
        "gates_weight": weight,
        "gates_b": codes(bias, x.frac_bits + gates.weight_format.frac_bits),
    }
    project = None
    if shape.projection:
        project, weight = matrix(shape.projection, shape.cells, unit, x)
        tensors["project_weight"] = weight
        tensors["project_b"] = np.zeros(shape.projection, dtype=np.int64)
    peephole = FixedPointFormat(BITS, True, 13) if shape.peephole else None
    if peephole is not None:
        real = rng.normal(0, 0.3, (PEEPHOLES, shape.cells))
        tensors["peephole"] = codes(real, peephole.frac_bits)
    spec = LSTMSpec(
        features=shape.features,
        cells=shape.cells,
        x_columns=x_columns,
        in_format=x,
        gates=gates,
        project=project,
        peephole_format=peephole,
        state_format=state,
        sigmoid=piecewise("sigmoid", gate, unit),
        g=piecewise(shape.g, gate, unit),
        tanh=piecewise("tanh", state, unit),
    )
    scale = 2.0**-x.frac_bits
    node = Node("lstm", spec, ("x",), scale, tensors)
    entry = InputSpec("x", (shape.features,), x, scale)
    return with_fft(Network("lstm", entry, (node,)))


def largest(shape: Shape, budget: Budget, sequences: int) -> Shape:
    """The layer of most cells, whole blocks of cells and of a projection of half of them, that a
    budget holds. Raises BadInput if it holds none."""
    step = 2 * shape.k

    def fits(blocks: int) -> bool:
        sized = replace(shape, cells=blocks * step, projection=blocks * step // 2)
        try:
            mapped(network(sized), budget, sequences)
        except BadInput:
            if blocks == 1:
                raise
            return False
        return True

    low, high = 1, 2
    fits(low)
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return replace(shape, cells=low * step, projection=low * step // 2)


@dataclass(frozen=True)
class Planned:
    """A layer and its mapping, and the seconds that the planner took."""

    shape: Shape
    network: Network
    mapping: Mapping
    seconds: float

    @property
    def cost(self) -> StageCost:
        """What the planner predicts."""
        ((_, cost),) = self.mapping.costs(self.network)
        return cost


@dataclass(frozen=True)
class Figures:
    """What a run gave: of each direction, the result and the codes that differ from golden."""

    results: tuple[Result, ...]
    mismatches: int
    codes: int
    saturated: int
    """Output codes at an end of their format."""

    @property
    def cycles(self) -> float:
        return self.results[0].cycles_per_frame


def of_18_bits(cost: StageCost) -> int:
    """Multipliers of 18 bits that those of a stage are made of.

    Of a signed operand each takes 17 bits and the last one 18.
    """
    return sum(
        count * max(1, -(-(a - 1) // 17)) * max(1, -(-(b - 1) // 17))
        for count, a, b in cost.multipliers
    )


def mapped(net: Network, budget: Budget, sequences: int) -> Mapping:
    """The mapping whose multipliers of 18 bits a budget holds; raises BadInput if none does."""
    most = budget.multipliers
    while True:
        mapping = plan(net, replace(budget, multipliers=max(1, most)), sequences)
        over = sum(of_18_bits(cost) for _, cost in mapping.costs(net)) - budget.multipliers
        if over <= 0:
            return mapping
        most -= over


def planned(case: Case) -> Planned:
    """The layer of a case under the best mapping of its budget."""
    shape = case.shape
    if case.budget.memory_bits is not None:
        shape = largest(shape, case.budget, case.sequences)
    net, begin = network(shape), time.perf_counter()
    mapping = mapped(net, case.budget, case.sequences)
    return Planned(shape, net, mapping, time.perf_counter() - begin)


def measure(design: Planned, sequences: int, steps: int = STEPS, processes: int = 1) -> Figures:
    """Build the design and run random sequences of equal length, in each direction of the layer.

    Both directions have one simulator: they differ in their weights alone.
    """
    simulator = Simulator(Accelerator(design.network, design.mapping))
    generator = torch.Generator().manual_seed(2)
    span, frac_bits = design.network.input.format.codes, design.network.input.format.frac_bits
    real = torch.randn(
        sequences, -(-steps // sequences), design.shape.features, generator=generator
    )
    codes = (real * 2.0**frac_bits).round().long().clamp(span.low, span.high)
    lengths = np.full(sequences, codes.shape[1])
    results, mismatches, count, ends = [], 0, 0, 0
    for direction in range(design.shape.directions):
        net = design.network if not direction else network(design.shape, seed=1 + direction)
        files = Accelerator(net, design.mapping).files()
        entering = backwards(codes, lengths) if direction else codes
        result = simulator.run(entering, files=files, processes=processes)
        expected = golden.run(net, entering)
        mismatches += int((result.outputs != expected).sum())
        count += expected.numel()
        span = net.format(net.output.name).codes
        ends += int(((expected == span.low) | (expected == span.high)).sum())
        results.append(result)
    return Figures(tuple(results), mismatches, count, ends)


def show_plan(name: str, case: Case, design: Planned) -> None:
    """Print what the planner chose and predicts."""
    shape, cost = design.shape, design.cost
    engine = design.mapping.engine(design.mapping.stages[0].engine)
    layer = design.network.nodes[0].spec
    alone = replace(engine, sequences=1).cost(
        layer, design.mapping.inputs(design.network, design.network.nodes[0]), _lanes(design)
    )
    projection = f", projection {shape.projection}" if shape.projection else ""
    both = " in each of two directions" if shape.directions > 1 else ""
    print(f"== {name}: {shape.features} features, {shape.cells} cells{projection}, k = {shape.k}")
    print(f"planned in                  {design.seconds:.2f} s")
    print(f"lanes: gates, cells, project {engine.gates.lanes}, {engine.cell_lanes}, ", end="")
    print(f"{engine.project.lanes if engine.project else 0}{both}")
    print(f"interleaved sequences       {case.sequences}")
    print(f"predicted cycles per frame  {cost.cycles}; of one sequence {alone.cycles}")
    print(f"predicted latency           {cost.latency}")
    print(f"multipliers                 {cost.multiplier_count:,}{both}")
    print(f"  as multipliers of 18 bits {of_18_bits(cost):,} of {case.budget.multipliers:,}{both}")
    of = "" if case.budget.memory_bits is None else f" of {case.budget.memory_bits:,}"
    print(f"memory bits                 {cost.memory_bits:,}{of}{both}")
    print(f"weights                     {layer.weights():,} kept", flush=True)


def _lanes(design: Planned) -> int:
    return design.mapping.stages[0].lanes


def show_run(case: Case, design: Planned, found: Figures) -> bool:
    """Print what the run gave; returns whether it is as predicted."""
    frames = sum(result.frames for result in found.results)
    seconds = sum(result.seconds for result in found.results)
    spent = sum(result.cpu_seconds for result in found.results)
    published = f" (published {case.published})" if case.published else ""
    print(
        f"mismatches                  {found.mismatches} of {found.codes:,} codes, {frames} frames"
    )
    print(f"  at an end of their format {found.saturated:,}")
    print(f"cycles per frame            {found.cycles:.2f}{published}")
    print(f"latency                     {found.results[0].latency_cycles}")
    print(f"generated and built         {found.results[0].build_seconds:.1f} s")
    print(f"simulated frames a second   {frames / seconds:.0f}")
    print(f"  of the processor's time   {frames / spent:.0f}", flush=True)
    return not found.mismatches and all(
        result.cycles_per_frame == design.cost.cycles for result in found.results
    )


def main() -> None:
    """Measure the cases that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m gyre.lstm_bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--plan", action="store_true", help="do not simulate")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in CASES]:
        parser.error(f"{unknown[0]!r} is none of {', '.join(CASES)}")
    good = True
    for name in arguments.names or CASES:
        case = CASES[name]
        design = planned(case)
        show_plan(name, case, design)
        if not arguments.plan:
            good &= show_run(case, design, measure(design, case.sequences))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
