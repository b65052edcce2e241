"""Pooling against golden: values; cycles and latency by formula."""

from functools import cache

import numpy as np
import pytest
import torch

from hdl.stage import make_stage, stage_files
from model import golden
from model.ir.beats import Beats
from model.ir.network import Node
from model.ir.numerics import BipolarFormat, CodebookFormat, FixedPointFormat, UniformFormat
from model.ir.pool import AveragePoolSpec, MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from sim.block import FULL_SPEED, Block, run_blocks
from tests.examples import codes_of, scale_of
from tests.hdl.benches import check_all
from tests.strategies import requantize_tensors

pytestmark = pytest.mark.rtl

FRAMES = 7
U, B, F = UniformFormat, BipolarFormat(), FixedPointFormat
LEVELS = CodebookFormat((-3, -1, 1, 3, 6))
# What: "max" or the place of the average's m; frame; kernel, stride; format; lanes.
CASES = [
    ("max", (4, 6, 4), (2, 2, 2), U(4, False), 4),
    ("max", (4, 4, 5), (2, 2, 2), U(4, True), 2),  # lanes that do not divide the channels
    ("max", (5, 7, 3), (2, 2, 2), U(3, True), 2),  # a rest at the right and the bottom edge
    ("max", (7, 7, 2), (3, 3, 2), U(5, False), 1),  # windows that overlap
    ("max", (5, 5, 3), (3, 3, 1), U(16, True), 3),
    ("max", (6, 5, 2), (5, 3, 1), F(6, True, 2), 2),  # a tree of a register stage
    ("max", (4, 5, 3), (1, 2, 1), U(16, False), 2),
    ("max", (4, 5, 3), (2, 1, 1), U(1, True), 2),
    ("max", (4, 3, 3), (4, 2, 1), U(1, False), 2),
    ("max", (3, 4, 5), (3, 4, 1), U(4, True), 2),  # global from here on
    ("max", (3, 3, 2), (3, 3, 3), U(16, False), 2),
    ("max", (1, 1, 3), (1, 1, 1), U(4, True), 1),
    ("channel", (4, 6, 4), (2, 2, 2), U(4, False), 4),
    ("layer", (5, 5, 3), (3, 3, 2), U(4, True), 2),
    ("one", (4, 4, 5), (2, 2, 1), F(8, True, 3), 3),
    ("layer", (5, 4, 3), (2, 3, 1), B, 2),  # padding lanes that are not 0 by themselves
    ("channel", (5, 4, 2), (5, 2, 1), U(16, True), 1),
    ("channel", (4, 4, 6), (4, 4, 1), U(5, False), 4),  # global from here on
    ("layer", (2, 3, 3), (2, 3, 1), LEVELS, 2),
    ("one", (2, 2, 4), (2, 2, 1), U(16, True), 4),
    ("layer", (2, 2, 5), (2, 2, 1), B, 3),
    ("channel", (1, 1, 4), (1, 1, 1), U(6, True), 2),
    ("max", (5, 5, 6), (3, 3, 1), U(3, False), 5),
]
# The lanes of an input that is regrouped, and a case.
REGROUPED = [
    *((2, 0), (4, 1), (3, 1), (3, 2), (5, 3), (9, 4), (1, 4), (4, 14), (2, 17), (16, 19)),
    *((1, 2), (1, 12), (3, 20)),  # narrow sources, which the windows make wait
]
MEMORIES = {  # bits of the buffers of some cases, worked out by hand
    9: 3 * 2 * 4,  # 3 groups of 2 codes of 4 bits
    10: 0,  # a single group: in registers
    17: 2 * 4 * 9,  # 2 groups of 4 sums of 16 codes of 5 bits: 0..496
}


def node_of(case, n: int) -> Node:
    what, shape, kernel, format, _ = case
    if what == "max":
        return Node(f"pool{n}", MaxPoolSpec(*shape, *kernel, format), ("x",), scale_of(format), {})
    rule = RequantizeSpec(U(7, True), 2 + n % 3, what, 0 if what == "one" else 5, 9)
    spec = AveragePoolSpec(*shape, *kernel, format, rule)
    tensors = requantize_tensors(rule, shape[2], np.random.default_rng(n))
    return Node(f"pool{n}", spec, ("x",), 1.0, tensors)


def cost_of(case, n: int, lanes: int | None = None):
    return node_of(case, n).spec.stage_cost((Beats(case[1], lanes or case[4]),), case[4])


def stages():
    """Every stage on the bench: its name, case, number, and the lanes of its input."""
    for n, case in enumerate(CASES):
        yield f"case {n}", case, n, case[4]
    for lanes, n in REGROUPED:
        yield f"case {n} from {lanes} lanes", CASES[n], n, lanes


@cache
def bench():
    """Stages with the codes expected, and what they did."""
    blocks, expected = [], []
    for name, case, n, in_lanes in stages():
        node, source = node_of(case, n), Beats(case[1], in_lanes)
        spec = node.spec
        (format,) = spec.in_formats()
        codes = codes_of(format.codes, np.random.default_rng(n), FRAMES, *source.shape)
        out = golden.evaluate(spec, node, [torch.from_numpy(codes)], {}).numpy()
        args = spec, node, None, (source,), case[4]
        blocks.append(
            Block(
                name,
                make_stage(*args),
                codes.reshape(FRAMES, -1),
                out[0].size,
                stage_files(*args) if name == f"case {n}" else {},
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
    for block, (name, case, n, in_lanes) in zip(blocks, stages(), strict=True):
        cost, trace = cost_of(case, n, in_lanes), traces[name, FULL_SPEED]
        assert trace.gaps[2:] == [cost.cycles] * len(trace.gaps[2:]), name
        if in_lanes >= case[4]:
            assert trace.latency == cost.latency, name
        else:  # a window that is fed slowly can end earlier than its latest beat would have it
            assert trace.latency <= cost.latency, name
        assert cost.input_beats == block.beats("i").count, case
        assert cost.output_beats == block.beats("o").count, case


def test_a_global_pool_takes_its_input_beats_and_no_line_buffer() -> None:
    for n, case in enumerate(CASES):
        cost = cost_of(case, n)
        if case[1][:2] == case[2][:2]:
            assert cost.cycles == cost.input_beats == Beats(case[1], case[4]).count, case
        if n in MEMORIES:
            assert cost.buffer_bits == MEMORIES[n], case
