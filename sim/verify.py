"""The verdict: generated hardware against golden, exactly, in every way that a run can differ.

Two simulators are built. One runs the very text of the generated Verilog. The other shows every
layer's output stream, and its registers begin at random values.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from hdl.accelerator import Accelerator
from hdl.verilog import Design, generate_accelerator
from model import golden
from sim.compare import Difference, first_difference
from sim.harness import TAP_FRAMES, Capacity
from sim.run import Result, Simulator, Stall

CHECKS = {
    "layers": (TAP_FRAMES, 32),
    "seeds": (TAP_FRAMES, 4),
    "stalled": (100, 4),
    "random": (1000, 4),
    "reset": (100, 4),
}
"""Frames of each check beside the bulk run: as many as its effort allows, and the fewest."""

EFFORT = 4_000_000_000
"""Most multipliers × cycles of such a check, which is what a simulator's time goes by: a LeNet's
thousand frames of random codes are within it."""

LEAST_MULTIPLIERS = 64
"""A design of fewer multipliers is no faster to simulate than one of so many."""


@dataclass
class Verdict:
    """What was compared, and the first difference if there is one.

    Parameters
    ----------
    frames, mismatches : int
        Frames of the bulk run and output codes in them that differ.
    checks : dict of str to int
        Frames of each check: ``layers`` (every layer's stream), ``frames`` (outputs of the bulk
        run), ``stalled`` (random pauses at both ends), ``random`` (codes over the input's whole
        range), ``seeds`` (other initial register values), ``reset`` (after a reset in mid-frame).
        Slow networks get fewer: see :func:`check_frames`.
    differences : list
        What differed, as (check, difference).
    result : Result
        The bulk run.
    expected : int64 tensor
        Golden output codes of the bulk run.
    """

    frames: int
    mismatches: int
    checks: dict[str, int]
    result: Result
    expected: torch.Tensor
    differences: list[tuple[str, Difference]] = field(default_factory=list)
    build_seconds: float = 0.0

    @property
    def equal(self) -> bool:
        """Whether nothing differed anywhere."""
        return not self.differences


def check_frames(accelerator: Accelerator) -> dict[str, int]:
    """Frames of each check beside the bulk run, fewer for a network that is slow to simulate."""
    costs = [cost for _, cost in accelerator.mapping.costs(accelerator.network)]
    multipliers = max(sum(cost.multiplier_count for cost in costs), LEAST_MULTIPLIERS)
    affordable = EFFORT // (multipliers * max(cost.cycles for cost in costs))
    return {name: max(fewest, min(most, affordable)) for name, (most, fewest) in CHECKS.items()}


def verify(
    accelerator: Accelerator,
    codes: torch.Tensor,
    *,
    design: Design | None = None,
    seed: int = 1,
    processes: int | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Verdict:
    """Run input codes [frames, *input shape] through golden and RTL and compare everything.

    Parameters
    ----------
    accelerator : Accelerator
        What to verify, without taps.
    codes : int64 tensor
        Input codes of the bulk run.
    design : Design, optional
        The generated Verilog and .hex files; by default they are generated here.
    seed : int
        Of stall patterns and random codes.
    processes : int or None
        Most simulators that run at once; None takes as many as there are cores.
    progress : callable
        Told what happens next.
    """
    design = generate_accelerator(accelerator) if design is None else design
    files = design.files
    network = accelerator.network
    output, frames = network.output.name, check_frames(accelerator)
    options = {"files": files, "processes": processes}
    checks: dict[str, int] = {}
    differences: list[tuple[str, Difference]] = []

    def compare(check: str, layer: str, expected: torch.Tensor, found: torch.Tensor) -> None:
        difference = first_difference(layer, expected, found)
        if difference is not None:
            differences.append((check, difference))

    progress("build the simulator that shows every layer")
    tapped = Simulator(
        Accelerator(network, accelerator.mapping, True), capacity=Capacity(taps=frames["layers"])
    )
    progress("compare every layer")
    few = codes[: frames["layers"]]
    result = tapped.run(few, **options)
    trace = golden.trace(network, few)
    for node in network.nodes:
        compare("layers", node.name, trace[node.name], result.taps[node.name])
    checks["layers"] = len(few)
    few = few[: frames["seeds"]]
    other = tapped.run(few, init_seed=seed + 1, **options)
    compare("seeds", output, trace[output][: len(few)], other.outputs)
    checks["seeds"] = len(few)

    progress("build the simulator for all frames")
    simulator = Simulator(accelerator, verilog=design.verilog)
    progress(f"compare {len(codes)} frames")
    bulk = simulator.run(codes, **options)
    expected = golden.run(network, codes)
    compare("frames", output, expected, bulk.outputs)
    checks["frames"] = len(codes)
    mismatches = int((expected != bulk.outputs).sum())

    progress("compare under stalls, with random codes, and after a reset")
    part = codes[: frames["stalled"]]
    stalled = simulator.run(part, stall=Stall(True, True, seed), **options)
    compare("stalled", output, expected[: len(part)], stalled.outputs)
    checks["stalled"] = len(part)
    span = network.input.format.codes
    generator = torch.Generator().manual_seed(seed)
    shape = (frames["random"], *network.input.shape)
    noise = torch.randint(span.low, span.high + 1, shape, generator=generator)
    compare("random", output, golden.run(network, noise), simulator.run(noise, **options).outputs)
    checks["random"] = len(noise)
    part = codes[: frames["reset"]]
    middle = bulk.latency_cycles + round(bulk.cycles_per_frame / 2)
    again = simulator.run(part, reset_after=middle, **options)
    compare("reset", output, expected[: len(part)], again.outputs)
    checks["reset"] = len(part)
    return Verdict(
        len(codes),
        mismatches,
        checks,
        bulk,
        expected,
        differences,
        tapped.build_seconds + simulator.build_seconds,
    )
