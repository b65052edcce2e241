"""The depthwise convolution against golden: values; cycles, steps and latency by formula."""

from functools import cache

import numpy as np
import pytest
import torch

from hdl.stage import make_stage, stage_files
from model import golden
from model.ir.beats import Beats
from model.ir.conv import ConvSpec
from model.ir.lane_array import LaneArraySpec
from model.ir.network import Node
from model.ir.numerics import BipolarFormat, CodebookFormat, FixedPointFormat, UniformFormat
from model.ir.requantize import RequantizeSpec
from sim.block import FULL_SPEED, Block, run_blocks
from tests.examples import codes_of
from tests.hdl.benches import check_all
from tests.strategies import requantize_tensors

pytestmark = pytest.mark.rtl

FRAMES = 7
U, B, F = UniformFormat, BipolarFormat(), FixedPointFormat
LEVELS = CodebookFormat((0, 1, -1, 2, -2, 4, -4))
NO_ZERO = CodebookFormat((-3, -1, 1, 3, 6))
# Frame; kernel, stride, padding; activations and weights; lanes.
CASES = [
    ((4, 5, 4), (3, 3, 1, 1), U(4, False), U(4, True), 4),
    ((5, 5, 5), (3, 3, 2, 1), U(4, True), U(3, True), 2),  # lanes that do not divide the channels
    ((6, 5, 3), (3, 3, 2, 0), U(3, False), LEVELS, 3),  # a rest at the bottom edge
    ((5, 4, 3), (2, 3, 1, 1), F(5, True, 2), F(4, True, 3), 2),
    ((5, 6, 2), (5, 5, 1, 2), U(8, True), U(8, True), 1),  # a tree of a register stage
    ((4, 4, 3), (1, 1, 1, 0), U(16, False), U(16, True), 2),
    ((4, 5, 3), (1, 3, 1, 0), B, U(4, True), 2),
    ((4, 5, 3), (3, 1, 1, 0), B, B, 2),  # padding lanes that are not 0 by themselves
    ((4, 4, 3), (3, 3, 1, 1), U(4, True), NO_ZERO, 2),
    ((3, 3, 4), (3, 3, 1, 0), U(16, True), U(16, True), 4),
    ((3, 4, 1), (2, 2, 2, 0), U(4, False), B, 1),
]


def node_of(case, n: int) -> Node:
    shape, kernel, entry, weight, _ = case
    per = ("one", "layer", "channel")[n % 3]
    rule = RequantizeSpec(U(6, True), 3, per, 0 if per == "one" else 5, 12)
    spec = ConvSpec(*shape, shape[2], *kernel, shape[2], entry, weight, rule)
    rng = np.random.default_rng(n)
    tensors = {"weight": codes_of(weight.codes, rng, shape[2], spec.area)}
    return Node(f"dw{n}", spec, ("x",), 1.0, tensors | requantize_tensors(rule, shape[2], rng))


def cost_of(case, n: int):
    source = Beats(case[0], case[4])
    return LaneArraySpec(case[4]).cost(node_of(case, n).spec, (source,), case[4])


@cache
def bench():
    """Stages with the codes expected, and what they did."""
    blocks, expected = [], []
    for n, case in enumerate(CASES):
        node, source, lanes = node_of(case, n), Beats(case[0], case[4]), case[4]
        codes = codes_of(case[2].codes, np.random.default_rng(n), FRAMES, *source.shape)
        out = golden.evaluate(node.spec, node, [torch.from_numpy(codes)], {}).numpy()
        engine = LaneArraySpec(lanes)
        engine.check(node, lanes)
        args = node.spec, node, engine, (source,), lanes
        blocks.append(
            Block(
                f"case {n}",
                make_stage(*args),
                codes.reshape(FRAMES, -1),
                out[0].size,
                stage_files(*args),
                shape=source.shape,
                out_shape=out.shape[1:],
            )
        )
        expected.append(out.reshape(FRAMES, -1))
    return blocks, expected, run_blocks(blocks)


def test_equals_golden_under_every_stall_pattern() -> None:
    check_all(*bench())


def test_a_stage_takes_the_cycles_and_the_latency_of_its_formula() -> None:
    blocks, _, traces = bench()
    for n, (case, block) in enumerate(zip(CASES, blocks, strict=True)):
        cost, trace = cost_of(case, n), traces[block.name, FULL_SPEED]
        assert trace.latency == cost.latency, (case, trace.latency, cost.latency)
        assert trace.gaps[2:] == [cost.cycles] * len(trace.gaps[2:]), (case, trace.gaps, cost)


def test_steps_are_those_of_the_formula_under_every_stall_pattern() -> None:
    blocks, _, traces = bench()
    for (name, pattern), trace in traces.items():
        n = [block.name for block in blocks].index(name)
        assert trace.steps == {"step": FRAMES * cost_of(CASES[n], n).steps}, (name, pattern)
