"""Probe: a small branching network of images in RTL against the golden model and its pace."""

import sys
from pathlib import Path

import numpy as np

import hdl
from model.ir.add import AddSpec
from model.ir.conv import ConvSpec
from model.ir.lane_array import LaneArraySpec
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pacing import with_paced_fifos
from model.ir.pe_array import PeArraySpec
from model.ir.pool import AveragePoolSpec, MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from sim.bench import SimulationError
from sim.block import run_blocks
from tests.examples import codes_of
from tests.mutations.probe_rtl import PATTERNS, SMOOTH, mismatch
from tests.sim.random_cases import expected_of
from tests.sim.random_graphs import block_of
from tests.strategies import requantize_tensors

FRAMES = 10
U4, S4 = UniformFormat(4, False), UniformFormat(4, True)
RULE = RequantizeSpec(U4, 5, "channel", 4, 8)


def network() -> Network:
    """A convolution, a depthwise one beside a short cut, and poolings, the last one global.

    The 1 × 1 convolution skips pixels of rows with an odd number of them.
    """
    rng = np.random.default_rng(5)

    def rule(channels: int) -> dict[str, np.ndarray]:
        return requantize_tensors(RULE, channels, rng)

    def conv(sizes: tuple[int, ...]) -> tuple[ConvSpec, dict[str, np.ndarray]]:
        spec = ConvSpec(*sizes, U4, S4, RULE)
        shape = spec.tensor_shapes()["weight"]
        return spec, {"weight": codes_of(S4.codes, rng, *shape)} | rule(spec.out_channels)

    factors = {"mx": np.array([7]), "my": np.array([-4])}
    layers = [
        ("wide", *conv((6, 6, 2, 4, 3, 3, 1, 1, 1)), ("x",)),
        ("depth", *conv((6, 6, 4, 4, 3, 3, 1, 1, 4)), ("wide",)),
        ("sum", AddSpec((6, 6, 4), U4, U4, U4, 3, 5), factors, ("depth", "wide")),
        ("top", MaxPoolSpec(6, 6, 4, 2, 2, 2, U4), {}, ("sum",)),
        ("point", *conv((3, 3, 4, 6, 1, 1, 2, 0, 1)), ("top",)),
        ("mean", AveragePoolSpec(2, 2, 6, 2, 2, 1, U4, RULE), rule(6), ("point",)),
    ]
    nodes = tuple(Node(name, spec, edges, 1.0, tensors) for name, spec, tensors, edges in layers)
    return Network("conv", InputSpec("x", (6, 6, 2), U4, 1.0), nodes)


def mapping() -> Mapping:
    """Five vectors at once, which do not divide a frame; a source narrower than the window."""
    arrays = {
        "wide": PeArraySpec(1, 6, 5),
        "depth": LaneArraySpec(2),
        "point": PeArraySpec(2, 2),
    }
    stages = (
        *(("wide", 2), ("depth", 2), ("sum", 2)),
        *(("top", 2), ("point", 2), ("mean", 2)),
    )
    return with_paced_fifos(
        Mapping(
            1,
            tuple(Engine(name, spec) for name, spec in arrays.items()),
            tuple(StageMapping(n, n if n in arrays else None, lanes) for n, lanes in stages),
        ),
        network(),
    )


def main() -> None:
    if not Path(hdl.__file__).is_relative_to(Path.cwd()):
        sys.exit(f"the probe runs in {Path.cwd()} but imports {hdl.__file__}")
    net = network()
    block = block_of(net, mapping(), FRAMES, 1)
    shaped = block.codes.reshape(FRAMES, *net.input.shape)
    expected = expected_of(net, shaped)
    try:
        traces = run_blocks([block], PATTERNS, settle=500)
    except SimulationError as error:
        if "did not run" in str(error):
            raise
        mismatch(error)
    for pattern in PATTERNS:
        trace = traces[block.name, pattern]
        for name, codes in (trace.taps | {"mean": trace.codes}).items():
            wrong = np.argwhere(codes != expected[name].reshape(FRAMES, -1))
            if len(wrong):
                mismatch(f"{name} of frame {wrong[0][0]} under {pattern}")
    gaps = traces[block.name, SMOOTH].gaps[FRAMES // 2 :]
    stated = max(cost.cycles for _, cost in mapping().costs(net))
    if gaps != [stated] * len(gaps):
        mismatch(f"cycles per frame: {gaps}, not {stated}")
    print("no difference")


if __name__ == "__main__":
    main()
