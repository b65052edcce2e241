"""Frames through generated hardware: build, run, read back."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from hdl.accelerator import Accelerator
from hdl.lib.hexfile import hex_text, read_hex, to_bits
from model.ir.beats import Beats
from model.ir.errors import BadInput
from sim.beats import pack, unpack
from sim.bench import SimulationError, run_bench
from sim.build import build, build_root
from sim.harness import (
    INPUT_FILE,
    MARKS_FILE,
    OUTPUT_FILE,
    TOP,
    Capacity,
    Harness,
    generate_harness,
    port_names,
    tap_file,
)
from sim.sequences import Frames, lengths_of, parts_of, sequences_of


@dataclass(frozen=True)
class Stall:
    """Random pauses at either end of the accelerator, and the seed of their pattern."""

    source: bool = False
    sink: bool = False
    seed: int = 1


CAPACITY = Capacity()
NO_STALL = Stall()

SHARE_CYCLES = 200_000
"""Cycles that are worth a simulator of their own, which takes a second to start."""


@dataclass
class Result:
    """What a simulation gave.

    Parameters
    ----------
    outputs : int64 tensor [frames, *output shape]
        Output codes; of sequences [sequences, steps, *output shape], 0 behind their ends.
    taps : dict of str to int64 tensor
        Output codes of every node for the first frames, if the accelerator has taps.
    frames : int
        Frames run.
    cycles : int
        Cycles simulated.
    cycles_per_frame : float
        Cycles from the end of the first output frame to that of the last, over frames - 1; within
        the runs, if there were several.
    latency_cycles : int
        Cycles from the first input beat to the end of the first output frame.
    counters : dict
        Counters of the harness, summed over the runs; of the fill of a FIFO the largest.
    seconds, cpu_seconds : float
        Time that the simulators took for the cycles: by the clock, of the one that took longest,
        and of all their processors.
    build_seconds, wall_seconds : float
        Time to generate and build the simulator, and for the runs with all that surrounds them.
    cached : bool
        Whether the simulator had been built before.
    order : int64 array [frames, 2], or None
        Sequence and step of each frame, -1 of an idle one; only for a recurrent network.
    """

    outputs: torch.Tensor
    taps: dict[str, torch.Tensor]
    frames: int
    cycles: int
    cycles_per_frame: float
    latency_cycles: int
    counters: dict[str, int]
    seconds: float
    cpu_seconds: float
    build_seconds: float = 0.0
    wall_seconds: float = 0.0
    cached: bool = False
    order: np.ndarray | None = None

    @property
    def cycles_per_second(self) -> float:
        """Simulated cycles per second of the simulator's time."""
        return self.cycles / self.seconds if self.seconds else 0.0


class Simulator:
    """A built accelerator that can run frames.

    Parameters
    ----------
    accelerator : Accelerator
        What to simulate. New weights of the same shapes and formats need no rebuild.
    capacity : Capacity
        Memories of the harness; longer runs are split.
    verilog : str, optional
        The generated accelerator as text: that very text is simulated. Without it the accelerator
        is generated anew, with registers that begin at random.
    bare : bool
        Also build the harness without cocotb.
    trace : bool
        Able to write a VCD.
    quick : bool
        Built in less time, and slow to run: for a few thousand cycles.
    sources : sequence of Path
        C++ that the Verilog calls.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        *,
        capacity: Capacity = CAPACITY,
        verilog: str | None = None,
        bare: bool = False,
        trace: bool = False,
        quick: bool = False,
        sources: Sequence[Path] = (),
    ) -> None:
        begin = time.perf_counter()
        self.accelerator = accelerator
        self.harness = Harness(accelerator, capacity)
        self.design = generate_harness(self.harness, verilog)
        public = port_names(self.design.verilog)
        self.folder, self.cached = build(
            self.design.verilog, TOP, public, bare=bare, trace=trace, quick=quick, sources=sources
        )
        self.build_seconds = time.perf_counter() - begin

    def run(
        self,
        codes: torch.Tensor,
        *,
        lengths: Sequence[int] | torch.Tensor | None = None,
        stall: Stall = NO_STALL,
        init_seed: int = 1,
        reset_after: int | None = None,
        files: MappingType[str, str] | None = None,
        processes: int | None = None,
        arguments: Sequence[str] = (),
    ) -> Result:
        """Run int64 input codes [frames, *input shape] and read the output codes back.

        The frames are split over simulator processes; nothing but the times depends on how many.
        Of a recurrent network codes are [sequences, steps, *input shape], and what is split are the
        sequences.

        Parameters
        ----------
        lengths : sequence of int, optional
            Steps of each sequence; by default all of them.
        stall : Stall
            Pauses at either end.
        init_seed : int
            Seed of the values that registers hold before reset: no output may depend on it.
        reset_after : int or None
            Reset again after so many cycles, with a frame half done; all frames then run anew.
        files : mapping or None
            Contents of the .hex files to use; None takes those of the accelerator's network.
        processes : int or None
            Most simulators that run at once; None takes as many as this process has cores. Short
            runs take fewer.
        arguments : sequence of str
            Further arguments of the simulator.

        Raises
        ------
        SimulationError
            If an output frame is missing, a surplus beat appears, an input beat is left over, or
            the frame marks are wrong. It names the frames of the run; the other runs are stopped.
        """
        begin = time.perf_counter()
        network, mapping = self.accelerator.network, self.accelerator.mapping
        codes = torch.as_tensor(codes)
        network.input.format.check(codes.numpy(), network.input.name)
        beats_i = mapping.beats(network, network.input.name).count
        beats_o = mapping.beats(network, network.output.name).count
        capacity = self.harness.capacity
        most = min(capacity.source // beats_i, capacity.sink // beats_o)
        if not len(codes) or not most:
            raise BadInput(
                "simulation",
                f"{len(codes)} frames, of which {most} fit the memories",
                "at least one frame",
                "give frames, or a larger capacity",
            )
        files = self.design.files if files is None else files
        processes = cores() if processes is None else processes
        options = stall, init_seed, reset_after, files, beats_i, beats_o, arguments
        slots = self.accelerator.slots
        if slots is None:
            count = self._shares(len(codes), processes)
            begins = [len(codes) * n // count for n in range(count + 1)]
            runs = [
                [
                    (first, Frames(codes[first : min(first + most, end)]))
                    for first in range(start, end, most)
                ]
                for start, end in pairwise(begins)
            ]
        else:
            own = lengths_of(codes, lengths)
            count = min(self._shares(int(own.sum()), processes), max(1, len(codes) // (4 * slots)))
            runs = parts_of(codes, own, slots, count, min(most, capacity.source))
        result = _joined(_together(self._run, runs, options), self.harness)
        if slots is not None:
            result.outputs = sequences_of(result.outputs, result.order, *codes.shape[:2])
        result.build_seconds, result.cached = self.build_seconds, self.cached
        result.wall_seconds = time.perf_counter() - begin
        return result

    def _shares(self, frames: int, processes: int) -> int:
        """Simulators that share so many frames: each has enough to do."""
        if processes < 1:
            raise BadInput("simulation: processes", processes, "at least 1", "give more")
        network, mapping = self.accelerator.network, self.accelerator.mapping
        cycles = frames * max(cost.cycles for _, cost in mapping.costs(network))
        return max(1, min(processes, frames // 2, cycles // SHARE_CYCLES))

    def _run(
        self, part, stop, stall, init_seed, reset_after, files, beats_i, beats_o, arguments
    ) -> Result:
        network, mapping = self.accelerator.network, self.accelerator.mapping
        codes, frames = part.codes, len(part)
        controls = self.controls(frames) | {
            "stall_i": int(stall.source),
            "stall_o": int(stall.sink),
            "seed": stall.seed & 0xFFFF,
        }
        cycles = max(cost.cycles for _, cost in mapping.costs(network))
        latency = sum(cost.latency for _, cost in mapping.costs(network))
        job = {
            "controls": controls,
            "counters": list(self.harness.counters),
            "max_cycles": 10_000 + 2 * controls["settle"] + 8 * (frames + 2) * (cycles + latency),
            "reset_after": reset_after,
            "stop": None if stop is None else str(stop),
            "result": "result.json",
        }
        run = new_run_folder()
        (run / "job.json").write_text(json.dumps(job))
        write_files(run, files)
        beats = mapping.beats(network, network.input.name)
        (run / INPUT_FILE).write_text(input_text(codes, beats, network.input.format.bits))
        if part.marks is not None:
            (run / MARKS_FILE).write_text(hex_text(to_bits(part.marks[:, None], 2)))
        failure = None
        try:
            run_bench(
                self.folder,
                TOP,
                "tb.tb_frames",
                run,
                seed=init_seed,
                env={"GYRE_JOB": "job.json"},
                test_args=list(arguments),
            )
        except SimulationError as error:
            failure = error
        if not (run / "result.json").exists():
            assert failure is not None
            raise failure
        measured = json.loads((run / "result.json").read_text())
        counters = measured["counters"]
        count, left = counters["count"], counters["left"]
        if measured["hung"]:
            raise SimulationError(
                f"frame {count // beats_o} never came: {count} of {frames * beats_o} output beats "
                f"after {counters['cycle']} cycles, {left} input beats not taken"
            )
        if failure is not None:
            raise failure
        if count != frames * beats_o:
            raise SimulationError(f"{count - frames * beats_o} beats after the last expected one")
        if left:
            raise SimulationError(f"{left} input beats left over after the last output")
        outputs = self._read(run / OUTPUT_FILE, network.output.name, frames)
        taps = {}
        if self.accelerator.taps:
            for node in network.nodes:
                shown = min(frames, self.harness.capacity.taps)
                taps[node.name] = self._read(run / tap_file(node.name), node.name, shown)
        shutil.rmtree(run)
        spent = counters["last_out"] - counters["first_out"]
        return Result(
            outputs=outputs,
            taps=taps,
            frames=frames,
            cycles=counters["cycle"],
            cycles_per_frame=spent / max(frames - 1, 1),
            latency_cycles=counters["first_out"] - counters["first_in"] + 1,
            counters=counters,
            seconds=measured["seconds"],
            cpu_seconds=measured["cpu_seconds"],
            order=part.order,
        )

    def controls(self, frames: int) -> dict[str, int]:
        """Values of the harness's inputs for a run of so many frames without stalls."""
        network, mapping = self.accelerator.network, self.accelerator.mapping
        latency = sum(cost.latency for _, cost in mapping.costs(network))
        marks = {} if self.accelerator.slots is None else {"marks": frames}
        return marks | {
            "words": frames * mapping.beats(network, network.input.name).count,
            "expected": frames * mapping.beats(network, network.output.name).count,
            "settle": 256 + 4 * latency,
        }

    def _read(self, path: Path, edge: str, frames: int) -> torch.Tensor:
        """Codes int64 [frames, *shape] of a captured stream, its frame marks checked."""
        network, mapping = self.accelerator.network, self.accelerator.mapping
        format, beats = network.format(edge), mapping.beats(network, edge)
        width = beats.lanes * format.bits + 2
        matrix = read_hex(path.read_text(), width)[: frames * beats.count]
        codes = unpack(matrix, frames, beats, format.bits, format.signed, edge)
        return torch.from_numpy(codes.reshape(frames, *network.shape(edge)))


def cores() -> int:
    """Cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable is not None else os.cpu_count() or 1


def _together(run, shares: list[list[tuple[int, Frames]]], options) -> list[list[Result]]:
    """The results of the runs of each share, the shares at the same time.

    A run is the place of its first frame and its frames. Raises the first error, which then names
    the frames if there are several runs; the other runs are stopped.
    """
    alone = len(shares) == 1

    def work(share: list[tuple[int, Frames]], stop: Path | None) -> list[Result]:
        results = []
        for first, frames in share:
            try:
                results.append(run(frames, stop, *options))
            except SimulationError as error:
                if alone and len(share) == 1:
                    raise
                last = first + len(frames) - 1
                raise SimulationError(f"run of the frames {first} to {last}: {error}") from error
        return results

    if alone:
        return [work(shares[0], None)]
    folder = new_run_folder()
    stop = folder / "stop"
    with ThreadPoolExecutor(len(shares)) as pool:
        futures: list[Future[list[Result]]] = [pool.submit(work, share, stop) for share in shares]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            failed = [future for future in futures if future in done and future.exception()]
        finally:
            stop.touch()
    shutil.rmtree(folder)
    if failed:
        raise failed[0].exception()
    return [future.result() for future in futures]


def _joined(shares: list[list[Result]], harness: Harness) -> Result:
    """One result for the runs of all shares, in the order of their frames."""
    taps = harness.capacity.taps
    parts = [part for share in shares for part in share]
    if len(parts) == 1:
        return parts[0]
    shown = 1
    while shown < len(parts) and parts[shown - 1].frames <= taps:
        shown += 1  # a run that shows all of its frames: the next one continues them
    gaps = [max(part.frames - 1, 0) for part in parts]
    spent = sum(part.cycles_per_frame * gap for part, gap in zip(parts, gaps, strict=True))
    return Result(
        outputs=torch.cat([part.outputs for part in parts]),
        taps={
            name: torch.cat([part.taps[name] for part in parts[:shown]])[:taps]
            for name in parts[0].taps
        },
        frames=sum(part.frames for part in parts),
        cycles=sum(part.cycles for part in parts),
        cycles_per_frame=spent / max(sum(gaps), 1),
        latency_cycles=parts[0].latency_cycles,
        counters={
            name: (max if name in harness.peaks else sum)(part.counters[name] for part in parts)
            for name in parts[0].counters
        },
        seconds=max(sum(part.seconds for part in share) for share in shares),
        cpu_seconds=sum(part.cpu_seconds for part in parts),
        order=None if parts[0].order is None else np.concatenate([part.order for part in parts]),
    )


def new_run_folder() -> Path:
    """A fresh folder for one run, kept if the run fails."""
    root = build_root() / "runs"
    root.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=root, prefix="run-"))


def write_files(run: Path, files: MappingType[str, str]) -> None:
    """Write the .hex files of a design into a run's folder."""
    for name, text in files.items():
        (run / name).write_text(text)


def input_text(codes: torch.Tensor, beats: Beats, bits: int) -> str:
    """Frames as the source's memory file: each frame begins a new beat."""
    return hex_text(pack(codes.flatten(1).numpy(), beats, bits))


def simulate(accelerator: Accelerator, codes: torch.Tensor, *, stall: Stall = NO_STALL) -> Result:
    """Build an accelerator (or find it built) and run input codes through it on Verilator."""
    return Simulator(accelerator).run(codes, stall=stall)
