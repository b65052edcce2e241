"""The convolution stage against the golden codes; its cycles, steps and latency by formula."""

from functools import cache

import pytest

from hdl.stage import make_stage, stage_files
from model.ir.beats import Beats
from sim.block import FULL_SPEED, Block, run_blocks
from tests.hdl.benches import check_all
from tests.hdl.conv_cases import ConvCase, evaluated

pytestmark = pytest.mark.rtl

FRAMES = 6
FRAME, KERNEL, STRIDED = (5, 4, 3), (3, 3, 1, 1), (3, 3, 2, 1)
DEEP, BLOCKS = (5, 4, 4), (1, 8, 0.4)
# Lanes of the stream that enters, and a case.
STAGES = [
    (2, ConvCase(FRAME, 5, KERNEL, (2, 6, 1, 1), per="channel")),
    (3, ConvCase(FRAME, 5, KERNEL, (5, 9, 1, 5))),  # the window is the limit
    (1, ConvCase(FRAME, 5, KERNEL, (2, 9, 2, 2))),  # repacked
    (3, ConvCase(FRAME, 5, KERNEL, (1, 9, 4, 1), per="layer")),  # sending is the limit
    (2, ConvCase(DEEP, 15, KERNEL, (3, 6, 4, 3))),  # steps that the pixels do not divide
    (2, ConvCase((7, 6, 2), 4, (5, 5, 1, 0), (4, 10, 1, 2))),
    (4, ConvCase((5, 6, 4), 6, STRIDED, (3, 6, 2, 3))),
    (2, ConvCase((6, 6, 4), 6, (1, 1, 2, 0), (2, 2, 1, 2))),  # no line buffer
    (3, ConvCase((4, 4, 4), 6, (1, 1, 1, 0), (2, 4, 3, 2))),
    (1, ConvCase((6, 6, 3), 2, (3, 3, 1, 0), (1, 9, 1, 1))),  # a narrow source made to wait
    (1, ConvCase((5, 6, 4), 2, KERNEL, (1, 12, 4, 1))),
    (1, ConvCase((6, 6, 4), 4, (1, 1, 2, 0), (1, 2, 1, 1))),
    (2, ConvCase((6, 5, 3), 2, (5, 5, 1, 1), (1, 1, 3, 1), (1, 1, 0.5), tiled=True)),
    (4, ConvCase(DEEP, 6, KERNEL, (1, 4, 4, 2), BLOCKS, tiled=True)),
    (4, ConvCase(DEEP, 6, KERNEL, (1, 2, 7, 1), BLOCKS, tiled=True)),
    (4, ConvCase((4, 4, 4), 6, (3, 3, 1, 0), (2, 4, 1, 2), (2, 8, 0.4), tiled=True)),
]


def source(in_lanes: int, case: ConvCase) -> Beats:
    return Beats(case.frame, in_lanes)


@cache
def bench():
    """Stages with the codes expected, and what they did."""
    blocks, expected = {}, {}
    for n, (in_lanes, case) in enumerate(STAGES):
        node, frames = case.node(n), case.frames(FRAMES)
        args = node.spec, node, case.spec(node), (source(in_lanes, case),), case.lanes
        name = f"stage {n}"
        blocks[name] = Block(
            name,
            make_stage(*args),
            frames,
            node.spec.vectors * case.out_channels,
            stage_files(*args),
            shape=case.frame,
            out_shape=node.spec.out_shape(case.frame),
        )
        expected[name] = evaluated(node, frames)[1]
    return blocks, expected, run_blocks(list(blocks.values()))


def test_equals_golden_under_every_stall_pattern() -> None:
    check_all(*bench())


@pytest.mark.parametrize("n", range(len(STAGES)))
def test_a_stage_takes_the_cycles_and_the_latency_of_its_formula(n: int) -> None:
    _, _, traces = bench()
    in_lanes, case = STAGES[n]
    node = case.node(n)
    cost = case.spec(node).cost(node.spec, (source(in_lanes, case),), case.lanes)
    trace = traces[f"stage {n}", FULL_SPEED]
    assert trace.gaps[2:] == [cost.cycles] * len(trace.gaps[2:])
    assert trace.latency == cost.latency
    assert trace.o_cycles.shape[1] == cost.output_beats
    assert trace.i_cycles.shape[1] == cost.input_beats


@pytest.mark.parametrize("n", range(len(STAGES)))
def test_steps_are_those_of_the_formula_under_every_stall_pattern(n: int) -> None:
    _, _, traces = bench()
    in_lanes, case = STAGES[n]
    node = case.node(n)
    cost = case.spec(node).cost(node.spec, (source(in_lanes, case),), case.lanes)
    for (name, pattern), trace in traces.items():
        if name == f"stage {n}":
            assert trace.steps == {"step": FRAMES * cost.steps}, pattern
