"""Waveforms: what chosen stages do with chosen frames, as a VCD."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hdl.accelerator import Accelerator
from model import golden
from model.ir.errors import BadInput
from sim.compare import Difference, first_difference
from sim.harness import MODULE, TOP
from sim.run import Simulator

FILE = "wave.vcd"
SCOPE = f"{TOP}.harness.{MODULE}"
"""Where the accelerator is; the stages are below it, under the names of their nodes."""


def check_stages(accelerator: Accelerator, stages: Sequence[str]) -> None:
    """Raise BadInput unless every name is that of a stage."""
    names = [node.name for node in accelerator.network.nodes]
    unknown = [name for name in stages if name not in names]
    if unknown:
        raise BadInput(
            "--wave", repr(unknown[0]), f"all, or some of {', '.join(names)}", "correct the name"
        )


def trace_arguments(path: Path, stages: Sequence[str]) -> list[str]:
    """Arguments of the simulator: the streams between the stages, and the stages as a whole."""
    arguments = ["--trace-file", str(path), "--trace-scope", f"1:{SCOPE}"]
    for name in stages:
        arguments += ["--trace-scope", f"99:{SCOPE}.{name}"]
    return arguments


def record_wave(
    accelerator: Accelerator,
    codes: torch.Tensor,
    path: Path,
    stages: Sequence[str],
    *,
    verilog: str | None = None,
    lengths: Sequence[int] | torch.Tensor | None = None,
) -> Difference | None:
    """Run frames alone, write what happens from reset to the end, and compare the outputs.

    Parameters
    ----------
    accelerator : Accelerator
    codes : int64 tensor [frames, *input shape], or [sequences, steps, *input shape]
        Few frames: a VCD grows with every cycle.
    path : Path
        The VCD, written over an older one.
    stages : sequence of str
        Stages that are shown as a whole; of all others the streams are shown.
    verilog : str, optional
        The generated accelerator as text; by default it is generated anew.
    lengths : sequence of int, optional
        Steps of each sequence.

    Returns the first difference from golden, or None.
    """
    check_stages(accelerator, stages)
    path.parent.mkdir(parents=True, exist_ok=True)
    simulator = Simulator(accelerator, verilog=verilog, trace=True)
    part = path.with_name(f".{path.name}.part").resolve()
    try:
        result = simulator.run(
            codes, lengths=lengths, processes=1, arguments=trace_arguments(part, stages)
        )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    expected, found = golden.run(accelerator.network, codes), result.outputs
    if accelerator.slots is not None and lengths is not None:
        steps = torch.arange(found.shape[1])
        kept = steps < torch.from_numpy(np.array(lengths))[:, None]
        expected, found = expected[kept], found[kept]
    return first_difference(accelerator.network.output.name, expected, found)
