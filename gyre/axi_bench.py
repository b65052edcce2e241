"""``python -m gyre.axi_bench``: 10,000 frames through the AXI shell, one in a hundred broken.

The client is cocotbext-axi, with random pauses on every channel; the network is one small layer, so
that most cycles are spent on the shell and not on arithmetic.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch

from hdl.accelerator import Accelerator
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.planner import Budget, plan
from model.ir.requantize import RequantizeSpec
from sim.axi import AxiResult, run_axi

FRAMES = 10_000
BROKEN = 0.01


@dataclass(frozen=True)
class Measured:
    """A run and its time."""

    result: AxiResult
    seconds: float

    @property
    def counted(self) -> bool:
        """Whether the registers agree with what was sent."""
        result, last = self.result, self.result.last
        return (
            last["frames_in"],
            last["frames_out"],
            last["short_frames"],
            last["long_frames"],
        ) == (
            result.good,
            result.good,
            result.short,
            result.long,
        )


def layer() -> Network:
    """A layer of 12 to 10 codes."""
    rng = np.random.default_rng(1)
    u8, s8 = UniformFormat(8, False), UniformFormat(8, True)
    spec = LinearSpec(12, 10, u8, s8, RequantizeSpec(UniformFormat(16, True), 0, "one", 0, 12))
    tensors = {"weight": rng.integers(-128, 128, (10, 12)), "b": rng.integers(-999, 999, 10)}
    node = Node("fc", spec, ("x",), 1.0, tensors)
    return Network("layer", InputSpec("x", (12,), u8, 1.0), (node,))


def measure(frames: int = FRAMES) -> Measured:
    """Send so many frames, good and broken ones together."""
    network = layer()
    accelerator = Accelerator(network, plan(network, Budget(10)))
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(0, 256, (frames, 12), generator=generator)
    begin = time.perf_counter()
    result = run_axi(accelerator, codes, broken=BROKEN)
    return Measured(result, time.perf_counter() - begin)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Frames through the AXI shell, with pauses.")
    parser.add_argument("--frames", type=int, default=FRAMES)
    found = measure(parser.parse_args().frames)
    result = found.result
    print(
        f"{result.right:,} of {result.good:,} good frames right; {result.short} short and "
        f"{result.long} long ones dropped, {'all' if found.counted else 'NOT ALL'} counted; "
        f"{result.last['stalls_in']:,} input and {result.last['stalls_out']:,} output stalls; "
        f"{found.seconds:.0f} s"
    )
    if result.right != result.good or not found.counted:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
