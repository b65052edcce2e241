"""The verdict: generated hardware against golden, exactly, in every way that a run can differ.

Two simulators are built. One runs the very text of the generated Verilog. The other shows every
layer's output stream, and its registers begin at random values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from hdl.accelerator import Accelerator
from hdl.verilog import Design, generate_accelerator
from model import golden
from sim.compare import Difference, first_difference
from sim.harness import TAP_FRAMES, Capacity
from sim.run import Result, Simulator, Stall
from sim.sequences import lengths_of

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
    lengths: Sequence[int] | torch.Tensor | None = None,
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
        Input codes of the bulk run; of a recurrent network [sequences, steps, *input shape].
    lengths : sequence of int, optional
        Steps of each sequence; by default all of them. Every step is compared, and the frames of
        the verdict are steps.
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

    def run(simulator: Simulator, part: _Part, **more) -> Result:
        return simulator.run(part.codes, lengths=part.lengths, **options, **more)

    whole = _Part(codes, lengths_of(codes, lengths) if network.recurrent else None)

    progress("build the simulator that shows every layer")
    tapped = Simulator(
        Accelerator(network, accelerator.mapping, True), capacity=Capacity(taps=frames["layers"])
    )
    progress("compare every layer")
    few = whole.first(frames["layers"])
    result = run(tapped, few)
    trace = golden.trace(network, few.codes)
    for node in network.nodes:
        shown = result.taps[node.name]
        compare("layers", node.name, *few.shown(trace[node.name], shown, result.order))
    checks["layers"] = min(few.frames, frames["layers"])
    seeded = few.first(frames["seeds"])
    other = run(tapped, seeded, init_seed=seed + 1)
    wanted = trace[output][: len(seeded.codes)]
    compare("seeds", output, seeded.kept(wanted), seeded.kept(other.outputs))
    checks["seeds"] = seeded.frames

    progress("build the simulator for all frames")
    simulator = Simulator(accelerator, verilog=design.verilog)
    progress(f"compare {whole.frames} frames")
    bulk = run(simulator, whole)
    expected = golden.run(network, codes)
    compare("frames", output, whole.kept(expected), whole.kept(bulk.outputs))
    checks["frames"] = whole.frames
    mismatches = int((whole.kept(expected) != whole.kept(bulk.outputs)).sum())

    progress("compare under stalls, with random codes, and after a reset")
    part = whole.first(frames["stalled"])
    stalled = run(simulator, part, stall=Stall(True, True, seed))
    compare("stalled", output, part.kept(expected), part.kept(stalled.outputs))
    checks["stalled"] = part.frames
    span = network.input.format.codes
    generator = torch.Generator().manual_seed(seed)
    shape = [frames["random"], *network.input.shape]
    if network.recurrent:  # a long sequence for each slot
        slots = accelerator.slots
        shape[:1] = slots, -(-frames["random"] // slots)
    codes = torch.randint(span.low, span.high + 1, shape, generator=generator)
    noise = _Part(codes, lengths_of(codes, None) if network.recurrent else None)
    found = run(simulator, noise).outputs
    compare("random", output, noise.kept(golden.run(network, codes)), noise.kept(found))
    checks["random"] = noise.frames
    part = whole.first(frames["reset"])
    middle = other.counters["first_in"] + bulk.latency_cycles + round(bulk.cycles_per_frame / 2)
    again = run(simulator, part, reset_after=middle)
    compare("reset", output, part.kept(expected), part.kept(again.outputs))
    checks["reset"] = part.frames
    return Verdict(
        whole.frames,
        mismatches,
        checks,
        bulk,
        expected,
        differences,
        tapped.build_seconds + simulator.build_seconds,
    )


@dataclass(frozen=True)
class _Part:
    """Frames to compare: int64 codes [frames, ...], or [sequences, steps, ...] with lengths."""

    codes: torch.Tensor
    lengths: np.ndarray | None

    @property
    def frames(self) -> int:
        """Frames, or steps of all sequences."""
        return len(self.codes) if self.lengths is None else int(self.lengths.sum())

    def first(self, frames: int) -> "_Part":
        """The first frames, or the fewest sequences that have so many steps."""
        if self.lengths is None:
            return _Part(self.codes[:frames], None)
        count = int((np.cumsum(self.lengths) < frames).sum()) + 1
        return _Part(self.codes[:count], self.lengths[:count])

    def kept(self, outputs: torch.Tensor) -> torch.Tensor:
        """The frames of outputs that are compared: those of sequences up to their ends."""
        outputs = outputs[: len(self.codes)]
        if self.lengths is None:
            return outputs
        steps = torch.arange(outputs.shape[1])
        return outputs[steps < torch.from_numpy(self.lengths)[:, None]]

    def shown(
        self, expected: torch.Tensor, found: torch.Tensor, order: np.ndarray | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What a tap should show and what it shows, idle frames left out."""
        if order is None:
            return expected, found
        order = torch.from_numpy(order[: len(found)])
        busy = order[:, 0] >= 0
        return expected[tuple(order[busy].T)], found[busy]
