"""The requantizer against its golden function, and its latency."""

from functools import cache

import numpy as np
import pytest
import torch

from hdl.lib.requantize import Requantize, requantize_files
from model.golden.requantize import requantize
from model.ir.linear import LinearSpec
from model.ir.network import Node
from model.ir.numerics import FixedPointFormat, IntRange, UniformFormat
from model.ir.pe_array import requantize_latency
from model.ir.requantize import RequantizeSpec
from sim.block import FULL_SPEED, Block, run_blocks
from tests.examples import codes_of, scale_of
from tests.hdl.benches import check_all
from tests.strategies import requantize_tensors

pytestmark = pytest.mark.rtl

FRAMES = 24
# Output format, shift, place of m, bits of m and b; weights and activations; channels, lanes.
CASES = [
    (UniformFormat(4, False), 6, "channel", 8, 12, (4, True), (5, True), 7, 3),
    (UniformFormat(4, True), 6, "channel", 8, 12, (4, True), (5, True), 8, 4),
    (UniformFormat(8, True), 9, "layer", 10, 16, (6, True), (6, False), 5, 1),
    (UniformFormat(8, False), 1, "layer", 2, 6, (2, True), (2, False), 5, 5),
    (UniformFormat(3, False), 0, "one", 0, 4, (2, False), (2, False), 6, 2),
    (UniformFormat(3, True), 1, "one", 0, 9, (2, True), (3, False), 6, 4),
    (UniformFormat(16, True), 0, "one", 0, 17, (8, True), (8, True), 4, 2),
    (UniformFormat(16, True), 12, "channel", 16, 40, (16, True), (16, True), 3, 2),
    (UniformFormat(16, False), 20, "layer", 16, 30, (16, False), (16, True), 3, 1),
    (UniformFormat(1, False), 3, "channel", 4, 8, (1, False), (3, True), 9, 4),
    (UniformFormat(1, True), 2, "channel", 1, 1, (3, False), (3, False), 4, 4),
    (FixedPointFormat(6, True, 4), 47, "one", 0, 48, (16, True), (16, True), 2, 2),
    (FixedPointFormat(4, False, 2), 6, "channel", 8, 12, (4, True), (5, True), 7, 2),
]


def layer(case) -> LinearSpec:
    out, shift, per, m_bits, b_bits, weight, entry, channels, _ = case
    spec = RequantizeSpec(out, shift, per, m_bits, b_bits)
    return LinearSpec(4, channels, UniformFormat(*entry), UniformFormat(*weight), spec)


def exciting(spec: RequantizeSpec, span: IntRange, channels: int, rng) -> np.ndarray:
    """Accumulators: the ends, small numbers and numbers of every size, so that all clamps occur."""
    small = rng.integers(-9, 9, (FRAMES, channels), endpoint=True)
    scaled = codes_of(span, rng, FRAMES, channels) >> rng.integers(0, span.bits, (FRAMES, channels))
    return np.clip(np.where(rng.random((FRAMES, channels)) < 0.3, small, scaled), *ends(span))


def ends(span: IntRange) -> tuple[int, int]:
    return span.low, span.high


@cache
def bench():
    """Blocks with the codes expected, and what they did."""
    rng = np.random.default_rng(11)
    blocks, expected = [], []
    for n, case in enumerate(CASES):
        lin, lanes = layer(case), case[-1]
        spec, acc = lin.requantize, lin.accumulator()
        tensors = requantize_tensors(spec, lin.out_features, rng)
        codes = exciting(spec, acc, lin.out_features, rng)
        weight = np.zeros((lin.out_features, 4), int)
        scale = scale_of(spec.out_format)
        node = Node(f"fc{n}", lin, ("x",), scale, {"weight": weight, **tensors})
        component = Requantize(
            spec,
            acc,
            channels=lin.out_features,
            lanes=lanes,
            channel_file=f"fc{n}_channel.hex",
            layer_file=f"fc{n}_layer.hex",
        )
        files = requantize_files(spec, node, lanes)
        blocks.append(Block(f"case {n}", component, codes, lin.out_features, files))
        golden = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
        expected.append(requantize(spec, torch.from_numpy(codes), golden).numpy())
    return blocks, expected, run_blocks(blocks)


def test_equals_golden_under_every_stall_pattern() -> None:
    check_all(*bench())


def test_the_cases_reach_every_end_of_a_clamp_that_their_formats_can() -> None:
    _, expected, _ = bench()
    clamped = 0
    for case, codes in zip(CASES, expected, strict=True):
        lin = layer(case)
        total, span, shift = lin.requantize.total(lin.accumulator()), case[0].codes, case[1]
        if total.high >> shift > span.high:
            assert codes.max() == span.high, case
            clamped += 1
        if total.low >> shift < span.low:
            assert codes.min() == span.low, case
            clamped += 1
    assert clamped >= 20


def test_a_beat_a_cycle_at_the_stated_latency() -> None:
    blocks, _, traces = bench()
    for case, block in zip(CASES, blocks, strict=True):
        trace, beats = traces[block.name, FULL_SPEED], block.beats("o").count
        assert trace.latency == beats + requantize_latency(layer(case)), case
        assert trace.gaps == [beats] * (FRAMES - 1), case
