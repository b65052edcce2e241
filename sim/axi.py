"""Frames through an AXI shell, under cocotbext-axi, some of them broken on purpose."""

import json
import random
import shutil
from dataclasses import dataclass

import numpy as np
import torch

from hdl.accelerator import Accelerator
from hdl.axi.shell import AxiShell, generate_shell
from hdl.axi.words import codes_of, contained
from hdl.verilog import generate_accelerator
from model import golden
from sim.bench import run_bench
from sim.build import build
from sim.run import new_run_folder, write_files

TOP = "accelerator_axi"
PATIENCE = 20_000
"""Cycles without a frame after which a run counts as hung, at the least."""


@dataclass(frozen=True)
class AxiResult:
    """What came out of a run.

    Parameters
    ----------
    outputs : int64 array [frames, length]
        Codes of the frames that came out.
    expected : int64 array [frames, length]
        What golden gives for the good frames.
    good, short, long : int
        Frames that were sent.
    first, last : dict of str to int
        All registers before the first frame and after the last.
    """

    outputs: np.ndarray
    expected: np.ndarray
    good: int
    short: int
    long: int
    first: dict[str, int]
    last: dict[str, int]

    @property
    def right(self) -> int:
        """Good frames whose output is that of golden, in their order."""
        if self.outputs.shape != self.expected.shape:
            return 0
        return int((self.outputs == self.expected).all(axis=1).sum())


def frames(accelerator: Accelerator, codes: torch.Tensor) -> list[dict]:
    """Frames int64 [frames, *input shape] as a test bench sends them."""
    network, shell = accelerator.network, AxiShell(accelerator)
    beats = accelerator.mapping.beats(network, network.input.name)
    size = shell.i_lanes * shell.i_bits // 8
    return [
        {"beats": words, "bytes": size, "user": None}
        for words in contained(codes.flatten(1).numpy(), beats, shell.i_bits)
    ]


def codes_from(accelerator: Accelerator, text: str) -> np.ndarray:
    """Codes int64 [length] of an output frame whose bytes a test bench wrote down."""
    network = accelerator.network
    edge, bits = network.output.name, AxiShell(accelerator).o_bits
    beats = accelerator.mapping.beats(network, edge)
    return codes_of(bytes.fromhex(text), beats, bits, network.format(edge).signed)


def run_shell(accelerator: Accelerator, module: str, job: dict) -> dict:
    """Run a test bench at the shell of an accelerator; gives what it wrote down."""
    network, mapping = accelerator.network, accelerator.mapping
    design = generate_accelerator(accelerator)
    text, files = generate_shell(accelerator, design.verilog, TOP)
    ports = list(AxiShell(accelerator).signature.members)
    verilog = design.verilog + "\n" + text
    folder, _ = build(verilog, TOP, ports, quick=True, clock="aclk")
    cycles = max(cost.cycles for _, cost in mapping.costs(network))
    latency = sum(cost.latency for _, cost in mapping.costs(network))
    job = job | {"latency": latency, "max_cycles": PATIENCE + 20 * (cycles + latency)}
    job |= {"result": "result.json"}
    run = new_run_folder()
    (run / "job.json").write_text(json.dumps(job))
    write_files(run, design.files | files)
    run_bench(folder, TOP, module, run, seed=job["seed"], env={"GYRE_JOB": "job.json"})
    result = json.loads((run / "result.json").read_text())
    shutil.rmtree(run)
    return result


def run_axi(
    accelerator: Accelerator,
    codes: torch.Tensor,
    *,
    broken: float = 0.01,
    pauses: float = 0.3,
    scripts: bool = False,
    seed: int = 1,
) -> AxiResult:
    """Send frames through the shell with random pauses on every channel.

    Parameters
    ----------
    accelerator : Accelerator
        Of a network without a state.
    codes : int64 tensor [frames, *input shape]
    broken : float
        Share of the frames that are cut short or made too long, at random.
    pauses : float
        Share of the cycles in which each channel pauses.
    scripts : bool
        Also try what a driver does with the registers, which sends the first frame once more; it
        needs a broken frame.
    seed : int
        Of pauses and broken frames.

    Raises SimulationError if the shell hangs, gives a surplus frame, or a register answers wrongly.
    """
    network, mapping = accelerator.network, accelerator.mapping
    beats = mapping.beats(network, network.input.name)
    chance = random.Random(seed)
    sending, kinds = frames(accelerator, codes), []
    for frame in sending:
        kind, words = "good", frame["beats"]
        if chance.random() < broken:
            kind = chance.choice(["short", "long"] if beats.count > 1 else ["long"])
        if kind == "short":
            frame["beats"] = words[: chance.randrange(1, beats.count)]
        elif kind == "long":
            extra = chance.randrange(1, 2 * beats.count + 1)
            frame["beats"] = [*words, *(chance.choice(words) for _ in range(extra))]
        kinds.append(kind)
    good = [n for n, kind in enumerate(kinds) if kind == "good"]
    found = [kind for kind in ("short", "long") if kind in kinds]
    job = {
        "frames": sending,
        "pauses": pauses,
        "expected": len(good),
        "scripts": found if scripts else [],
        "seed": seed,
    }
    result = run_shell(accelerator, "tb.tb_axi", job)
    outputs = [codes_from(accelerator, text) for text in result["outputs"]]
    sent = [*good, 0] if scripts else good
    expected = golden.run(network, codes[sent]).flatten(1).numpy()
    return AxiResult(
        np.array(outputs),
        expected,
        len(good),
        kinds.count("short"),
        kinds.count("long"),
        result["first"],
        result["last"],
    )
