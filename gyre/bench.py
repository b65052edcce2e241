"""``make bench``: the timings of the README, as ratios within one run where machines differ.

Everything is built anew, in a scratch folder, so that no cache flatters a figure.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from gyre import axi_bench, circulant_bench
from gyre.flow import ZOO, ZooFlow
from hdl.accelerator import Accelerator
from hdl.verilog import generate_accelerator
from model.ir.errors import BadInput
from model.ir.network import Network
from model.ir.planner import Budget, plan
from sim.build import build_root
from sim.harness import INPUT_FILE
from sim.run import Simulator, input_text, new_run_folder, write_files

ENTRY = ZOO / "mnist_mlp"
MULTIPLIERS = 256
PAIRS = 5
FRAMES = 20_000
VECTORS = 200


def random_codes(network: Network, frames: int) -> torch.Tensor:
    """Codes over the input's whole range, int64 [frames, *input shape]."""
    span = network.input.format.codes
    generator = torch.Generator().manual_seed(1)
    shape = (frames, *network.input.shape)
    return torch.randint(span.low, span.high + 1, shape, generator=generator)


def time_to_verdict() -> list[tuple[str, str, str]]:
    """A trained network to the verdict on the whole test set, nothing cached."""
    begin = time.perf_counter()
    try:
        flow = ZooFlow(ENTRY, build_root() / "mnist_mlp")
        verdict, report = flow.simulate()
    except BadInput as error:
        return [("time to verdict", "not measured", str(error))]
    total = time.perf_counter() - begin
    rtl, spent = report["rtl"], report["seconds"]
    return [
        ("MNIST, trained network to verdict", f"{total:.1f} s", "<= 60 s"),
        ("  Verilog", f"{spent['verilog']:.1f} s", ""),
        ("  two simulators and Verilator's runtime", f"{spent['build']:.1f} s", ""),
        ("  all simulations and checks", f"{spent['simulate']:.1f} s", ""),
        (
            f"  of it the run of {rtl['frames']:,} frames, files included",
            f"{verdict.result.wall_seconds:.1f} s",
            "<= 20 s",
        ),
        ("  mismatches", str(rtl["mismatches"]), "0"),
        (
            "  cycles per frame / bound",
            f"{rtl['cycles_per_frame']:.2f} / {rtl['bound_cycles_per_frame']}",
            "<= 1.05",
        ),
        ("  utilisation", f"{rtl['utilisation']:.3f}", ">= 0.85"),
    ]


def simulation_speed() -> list[tuple[str, str, str]]:
    """The same model under cocotb and in a bare C++ harness, in turn."""
    network = Network.load(ENTRY / "network")
    accelerator = Accelerator(network, plan(network, Budget(MULTIPLIERS)))
    verilog = generate_accelerator(accelerator).verilog
    simulator = Simulator(accelerator, verilog=verilog, bare=True)
    codes = random_codes(network, FRAMES)
    run = new_run_folder()
    write_files(run, simulator.design.files)
    beats = accelerator.mapping.beats(network, network.input.name)
    (run / INPUT_FILE).write_text(input_text(codes, beats, network.input.format.bits))
    controls = simulator.controls(FRAMES)
    arguments = [str(controls[name]) for name in ("words", "expected", "settle")]
    pairs = []
    for _ in range(PAIRS):
        done = subprocess.run(
            [simulator.folder / "bare", *arguments],
            cwd=run,
            capture_output=True,
            text=True,
            check=True,
        )
        cycles, seconds = done.stdout.split()
        result = simulator.run(codes)
        assert result.cycles == int(cycles), "both harnesses run the same cycles"
        pairs.append((result.cycles / result.cpu_seconds, int(cycles) / float(seconds)))
    ratio = statistics.median(cocotb / bare for cocotb, bare in pairs)
    return [
        (
            "cycles per processor second through cocotb",
            f"{statistics.median(p[0] for p in pairs):,.0f}",
            "",
        ),
        (
            "cycles per processor second in bare C++",
            f"{statistics.median(p[1] for p in pairs):,.0f}",
            "",
        ),
        (f"  ratio, median of {PAIRS} pairs", f"{ratio:.3f}", ">= 0.95"),
    ]


def new_weights() -> list[tuple[str, str, str]]:
    """New weights of the same shapes: the simulator that is there serves them."""
    network = Network.load(ENTRY / "network")
    mapping = plan(network, Budget(MULTIPLIERS))
    Simulator(Accelerator(network, mapping))
    generator = torch.Generator().manual_seed(2)
    nodes = []
    for node in network.nodes:
        tensors = dict(node.tensors)
        if "weight" in tensors:
            order = torch.randperm(tensors["weight"].size, generator=generator).numpy()
            tensors["weight"] = tensors["weight"].ravel()[order].reshape(tensors["weight"].shape)
        nodes.append(type(node)(node.name, node.spec, node.inputs, node.scale, tensors))
    other = Network(network.name, network.input, tuple(nodes))
    simulator = Simulator(Accelerator(other, mapping))
    found = "no rebuild" if simulator.cached else "REBUILT"
    return [("new weights, same shapes", f"{found}, {simulator.build_seconds:.1f} s", "no rebuild")]


def circulant_engine() -> list[tuple[str, str, str]]:
    """The circulant engine at the size of C-LSTM's gate matrix, on 171 lanes."""
    found = circulant_bench.measure(VECTORS)
    result, cost = found.result, found.cost
    return [
        (
            "circulant engine of 171 lanes, mismatches",
            f"{found.mismatches} of {result.outputs.numel():,}",
            "0",
        ),
        (
            "  cycles per vector",
            f"{result.cycles_per_frame:.2f} of {found.ideal}",
            f"<= {1.02 * found.ideal:.2f}",
        ),
        ("  multipliers", f"{cost.multiplier_count:,}", "11 a lane"),
        ("  generated and built", f"{result.build_seconds:.1f} s", "<= 90 s"),
        ("  cycles per second", f"{result.cycles_per_second:,.0f}", ">= 40,000"),
    ]


def axi_shell() -> list[tuple[str, str, str]]:
    """10,000 frames through the AXI shell, with random pauses and broken frames."""
    found = axi_bench.measure()
    result, broken = found.result, found.result.short + found.result.long
    counted = "all" if found.counted else "NOT ALL"
    return [
        ("AXI shell, good frames right", f"{result.right:,} of {result.good:,}", "all"),
        ("  broken frames counted", f"{counted} of {broken}", "all"),
    ]


def main() -> None:
    """Measure, print a table, and write ``bench.json``."""
    console = Console()
    root = build_root()
    root.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory(dir=root, prefix="bench-") as scratch:
        os.environ["GYRE_BUILD"] = scratch
        for part in (time_to_verdict, simulation_speed, new_weights, circulant_engine, axi_shell):
            with console.status(part.__doc__.splitlines()[0]):
                rows += part()
    table = Table(header_style="bold")
    table.add_column("figure")
    table.add_column("measured", justify="right")
    table.add_column("goal")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    Path(root / "bench.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
