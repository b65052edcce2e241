"""The circulant engine at the size of C-LSTM's gate matrix: exact, how fast, how soon built.

4096 × 672 weights in blocks of 8 (p = 512, q = 84) on 171 lanes, formats of 16 bits, random weights
and activations over their whole ranges. ``python -m gyre.circulant_bench`` prints the figures, and
``make bench`` those of them that have a goal.
"""

import os
import resource
import tempfile
from dataclasses import dataclass

import numpy as np
import torch

from hdl.accelerator import Accelerator
from model import golden
from model.compress.quantizers import FFTOptions
from model.export.fft import arithmetic_of
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.circulant_array import CirculantArraySpec
from model.ir.cost import StageCost
from model.ir.linear import LinearSpec
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.requantize import RequantizeSpec
from sim.build import build_root
from sim.run import Result, Simulator

ROWS, COLUMNS, K, LANES = 4096, 672, 8, 171


@dataclass(frozen=True)
class Figures:
    """What a run gave, beside what the formulas say.

    Parameters
    ----------
    ideal : int
        ``ceil(p / lanes) · q`` cycles a vector.
    mismatches : int
        Output codes that differ from golden.
    """

    cost: StageCost
    result: Result
    ideal: int
    mismatches: int


def network() -> Network:
    """One circulant layer of fft arithmetic, 16 bits everywhere."""
    rng, wide = np.random.default_rng(1), UniformFormat(16, True)
    rule = RequantizeSpec(wide, 22, "one", 0, 32)
    spec = LinearSpec(COLUMNS, ROWS, wide, wide, rule, storage=BlockCirculantStorage(K))
    shape = spec.tensor_shapes()["weight"]
    span = wide.codes
    tensors = {
        "weight": rng.integers(span.low, span.high, shape, endpoint=True),
        "b": rng.integers(-(2**20), 2**20, ROWS),
    }
    arithmetic = arithmetic_of(spec, tensors, FFTOptions())
    spec = LinearSpec(COLUMNS, ROWS, wide, wide, rule, arithmetic, storage=BlockCirculantStorage(K))
    node = Node("gates", spec, ("x",), 1.0, tensors)
    return Network("circulant", InputSpec("x", (COLUMNS,), wide, 1.0), (node,))


def measure(vectors: int, body: str = "pipelined", form: int = 3) -> Figures:
    """Build the design and run random vectors."""
    net = network()
    layer = net.nodes[0].spec
    engine = CirculantArraySpec(K, LANES, body, form)
    lanes = engine.drain_lanes(layer)
    stage = StageMapping("gates", "circulant", lanes)
    mapping = Mapping(K, (Engine("circulant", engine),), (stage,))
    simulator = Simulator(Accelerator(net, mapping))
    span = net.input.format.codes
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(span.low, span.high + 1, (vectors, COLUMNS), generator=generator)
    result = simulator.run(codes)
    wrong = int((result.outputs != golden.run(net, codes)).sum())
    ((_, cost),) = mapping.costs(net)
    return Figures(cost, result, engine.steps(layer), wrong)


def main() -> None:
    """Measure with nothing cached and print."""
    root = build_root()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix="bench-") as scratch:
        os.environ["GYRE_BUILD"] = scratch
        found = measure(200)
    result, cost = found.result, found.cost
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    spent = sum(part.ru_utime + part.ru_stime for part in used)
    print(f"mismatches                  {found.mismatches} of {result.outputs.numel():,}")
    print(f"cycles per vector           {result.cycles_per_frame:.2f} (ideal {found.ideal})")
    print(f"latency                     {result.latency_cycles} (formula {cost.latency})")
    print(f"multipliers                 {cost.multiplier_count:,}")
    print(f"weight, buffer bits         {cost.weight_bits:,}, {cost.buffer_bits:,}")
    print(f"generated and built         {result.build_seconds:.1f} s")
    print(f"  processor time, all in all {spent:.1f} s")
    print(f"cycles per second           {result.cycles_per_second:,.0f}")
    print(f"  of the processor's time   {result.cycles / result.cpu_seconds:,.0f}")


if __name__ == "__main__":
    main()
