"""A few frames through the golden model, for the test bench of a package."""

import torch

from hdl.accelerator import Accelerator
from hdl.testbench import GoldenFrames
from model import golden

FRAMES = 3
STEPS = 2
"""Steps of each slot's sequence, of a recurrent network."""


def golden_frames(accelerator: Accelerator, frames: int = FRAMES, seed: int = 1) -> GoldenFrames:
    """Frames of random codes over the input's whole range, and what golden gives for them.

    They need no data set, and the same network gives the same ones. A recurrent network gets a
    sequence of ``STEPS`` steps for each of its slots, so that every slot carries a state.
    """
    network = accelerator.network
    span = network.input.format.codes
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randint(span.low, span.high + 1, shape, generator=generator)

    if not network.recurrent:
        codes = random(frames, *network.input.shape)
        expected = golden.run(network, codes)
        return GoldenFrames(codes.flatten(1).numpy(), expected.flatten(1).numpy())
    codes = random(accelerator.slots, STEPS, *network.input.shape)
    expected = golden.run(network, codes)
    # frame n is of slot n mod slots: step by step, all slots in turn
    codes, expected = (part.transpose(0, 1).flatten(0, 1).flatten(1) for part in (codes, expected))
    begins = torch.arange(len(codes)) < accelerator.slots
    return GoldenFrames(codes.numpy(), expected.numpy(), begins.long().numpy())
