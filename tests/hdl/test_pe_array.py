"""The PE array against the golden accumulators; its cycles, steps and latency by formula.

A single row is the processing element itself, so every format is tried there too.
"""

from functools import cache

import numpy as np
import pytest
import torch

from hdl.engine import engine_files, make_engine
from hdl.pe.array import PeArray
from hdl.stage import make_stage, stage_files
from model import golden
from model.ir.linear import LinearSpec
from model.ir.network import Node
from model.ir.numerics import (
    BipolarFormat,
    CodebookFormat,
    FixedPointFormat,
    Format,
    UniformFormat,
)
from model.ir.pe_array import SLICE_LATENCY, PeArraySpec, requantize_latency
from model.ir.requantize import RequantizeSpec
from sim.block import FULL_SPEED, Block, check_values, run_blocks
from tests.examples import codes_of, scale_of, vector
from tests.hdl import conv_cases
from tests.hdl.conv_cases import ConvCase, engine_input
from tests.strategies import requantize_tensors

pytestmark = pytest.mark.rtl

FRAMES = 8
U, B = UniformFormat, BipolarFormat()
LEVELS = CodebookFormat((0, 1, -1, 2, -2, 4, -4))
NO_ZERO = CodebookFormat((-3, -1, 1, 3, 6))
# Activations, weights; M, N; rows, cols; output lanes.
FORMATS = [
    (U(1, False), U(1, False), 3, 5, 1, 2, 1),
    (U(1, True), U(1, True), 3, 5, 2, 5, 1),
    (U(16, True), U(16, True), 3, 6, 2, 4, 2),
    (U(16, False), U(16, True), 4, 3, 2, 2, 1),
    (U(16, False), U(16, False), 2, 9, 1, 9, 1),
    (U(3, False), U(7, True), 6, 8, 3, 4, 1),
    (U(8, True), U(2, False), 6, 8, 3, 3, 3),
    (FixedPointFormat(5, True, 2), FixedPointFormat(4, True, 3), 5, 6, 2, 4, 2),
    (U(5, True), U(4, True), 5, 6, 2, 4, 2),
    (U(4, False), B, 5, 7, 2, 3, 2),
    (B, U(4, True), 5, 7, 2, 3, 1),
    (B, B, 6, 8, 4, 4, 4),
    (B, B, 5, 8, 4, 2, 4),
    (U(4, False), LEVELS, 7, 6, 3, 2, 3),
    (U(4, True), NO_ZERO, 7, 7, 3, 3, 1),
    (LEVELS, U(3, True), 4, 5, 4, 3, 2),
    (NO_ZERO, LEVELS, 4, 5, 2, 3, 1),
    (B, LEVELS, 4, 9, 2, 4, 2),
]
SMALL = (U(3, True), U(3, True))
SHAPES = [
    (*SMALL, 1, 1, 1, 1, 1),
    (*SMALL, 1, 9, 1, 3, 1),
    (*SMALL, 9, 1, 3, 1, 1),
    (*SMALL, 9, 1, 3, 1, 3),
    (*SMALL, 3, 4, 8, 2, 2),  # more rows than outputs
    (*SMALL, 3, 4, 8, 2, 8),
    (*SMALL, 4, 3, 2, 8, 1),  # more columns than inputs
    (*SMALL, 3, 3, 4, 4, 1),
    (*SMALL, 12, 4, 6, 4, 1),  # the drain is the limit
    (*SMALL, 12, 8, 6, 4, 2),
    (*SMALL, 13, 8, 6, 4, 2),
    (*SMALL, 17, 12, 6, 4, 3),
    (*SMALL, 8, 40, 4, 20, 2),  # an adder tree of three stages
    (*SMALL, 8, 33, 4, 11, 4),
]
CASES = [*FORMATS, *SHAPES]
# What enters in a width of its own: input lanes, and a case.
STAGES = [
    *((n, FORMATS[9]) for n in (1, 3, 5)),
    *((n, SHAPES[8]) for n in (1, 3)),
    *((n, SHAPES[10]) for n in (2, 4, 5)),
    (2, FORMATS[13]),
    (1, SHAPES[0]),
    (3, SHAPES[5]),
    (7, SHAPES[13]),
]

# Frames of 12 vectors, many of them in an array whose tiles and pixels divide them or not.
SPARSE = (1, 4, 0.4)
FRAME, KERNEL = (3, 4, 3), (3, 2, 1, 1)
VECTORS = [
    ConvCase(FRAME, 5, KERNEL, (2, 6, 1, 1)),
    ConvCase(FRAME, 5, KERNEL, (2, 9, 4, 2)),
    ConvCase(FRAME, 9, KERNEL, (9, 9, 5, 1)),  # sending is the limit
    ConvCase(FRAME, 9, KERNEL, (3, 6, 7, 1)),
    ConvCase(FRAME, 5, (3, 2, 1, 0), (3, 9, 3, 1), formats=(U(3, False), B)),
    ConvCase(FRAME, 5, (3, 2, 1, 0), (2, 6, 1, 2), SPARSE),  # absent weights as zeros
    ConvCase(FRAME, 5, KERNEL, (1, 2, 1, 1), SPARSE, tiled=True),
    ConvCase(FRAME, 5, KERNEL, (1, 3, 5, 1), SPARSE, tiled=True),
    ConvCase(FRAME, 5, KERNEL, (4, 2, 1, 2), (2, 4, 0.4), tiled=True),
    ConvCase(FRAME, 5, KERNEL, (2, 2, 5, 1), (2, 4, 0.4), tiled=True),  # loading is the limit
    ConvCase(FRAME, 5, KERNEL, (2, 3, 3, 2), (2, 4, 0.0), tiled=True),  # nothing is kept
    ConvCase(FRAME, 5, (3, 2, 1, 0), (2, 3, 2, 1), (2, 3, 0.5), True, (U(3, False), B)),
    ConvCase(FRAME, 8, KERNEL, (1, 3, 5, 3), SPARSE, tiled=True),  # beats of several folds
    ConvCase(FRAME, 9, KERNEL, (2, 9, 4, 4), formats=(U(3, False), B)),
    ConvCase(FRAME, 5, KERNEL, (2, 3, 1, 4), (2, 4, 0.4), tiled=True),
]


def layer(case, n: int) -> LinearSpec:
    entry, weight, outputs, inputs = case[:4]
    per = ("one", "layer", "channel")[n % 3]
    requantize = RequantizeSpec(U(6, True), 3, per, 0 if per == "one" else 5, 12)
    return LinearSpec(inputs, outputs, entry, weight, requantize)


def node_of(case, n: int) -> Node:
    rng = np.random.default_rng(n)
    spec = layer(case, n)
    weight = codes_of(spec.weight_format.codes, rng, spec.out_features, spec.in_features)
    tensors = requantize_tensors(spec.requantize, spec.out_features, rng)
    return Node(f"fc{n}", spec, ("x",), scale_of(spec.out_format), {"weight": weight, **tensors})


def codes_for(format: Format, length: int) -> np.ndarray:
    return codes_of(format.codes, np.random.default_rng(length), FRAMES, length)


def evaluated(node: Node, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Golden accumulators and output codes of one node, whatever its input format."""
    keep: dict[str, torch.Tensor] = {}
    out = golden.evaluate(node.spec, node, [torch.from_numpy(codes)], keep)
    return keep[f"{node.name}.acc"].numpy(), out.numpy()


@cache
def bench():
    """Arrays and stages with the codes expected, and what they did."""
    blocks, expected = {}, {}
    for n, case in enumerate(CASES):
        node, spec, lanes = node_of(case, n), PeArraySpec(*case[4:6]), case[6]
        codes = codes_for(case[0], node.spec.in_features)
        name = f"array {n}"
        engine = make_engine(spec, node, lanes)
        blocks[name] = Block(name, engine, codes, node.spec.out_features, engine_files(spec, node))
        expected[name] = evaluated(node, codes)[0]
    for n, (in_lanes, case) in enumerate(STAGES, start=len(CASES)):
        node, spec, lanes = node_of(case, n), PeArraySpec(*case[4:6]), case[6]
        codes = codes_for(case[0], node.spec.in_features)
        name = f"stage {n}"
        ins = vector(node.spec.in_features, in_lanes)
        args = node.spec, node, spec, ins, lanes
        blocks[name] = Block(
            name, make_stage(*args), codes, node.spec.out_features, stage_files(*args)
        )
        expected[name] = evaluated(node, codes)[1]
    return blocks, expected, run_blocks(list(blocks.values()))


@cache
def vectors_bench():
    """Arrays that read several vectors a frame, with the sums expected, and what they did."""
    blocks, expected = {}, {}
    for n, case in enumerate(VECTORS):
        node = case.node(n)
        spec, frames = case.spec(node), case.frames(FRAMES)
        name = f"vectors {n}"
        blocks[name] = Block(
            name,
            make_engine(spec, node, case.lanes),
            engine_input(spec, node.spec, frames),
            node.spec.vectors * case.out_channels,
            engine_files(spec, node),
            out_shape=node.spec.out_shape(case.frame),
        )
        expected[name] = conv_cases.evaluated(node, frames)[0]
    return blocks, expected, run_blocks(list(blocks.values()))


@pytest.mark.parametrize("made", [bench, vectors_bench])
def test_equals_golden_under_every_stall_pattern(made) -> None:
    blocks, expected, traces = made()
    for name, block in blocks.items():
        check_values(traces, block, expected[name])


def test_an_array_takes_the_cycles_of_its_formula() -> None:
    _, _, traces = bench()
    for n, case in enumerate(CASES):
        stated = PeArraySpec(*case[4:6]).cycles(layer(case, n), case[6])
        gaps = traces[f"array {n}", FULL_SPEED].gaps
        assert gaps[2:] == [stated] * len(gaps[2:]), (case, gaps, stated)


def test_the_array_never_idles_where_the_drain_is_wide_enough() -> None:
    for n, case in enumerate(CASES):
        spec, lin = PeArraySpec(*case[4:6]), layer(case, n)
        if case[6] >= spec.drain_lanes(lin):
            stated = spec.row_folds(lin) * spec.col_folds(lin)
            assert spec.cycles(lin, case[6]) == stated, case


def test_a_stage_takes_the_cycles_and_the_latency_of_its_formula() -> None:
    _, _, traces = bench()
    for n, (in_lanes, case) in enumerate(STAGES, start=len(CASES)):
        ins = vector(case[3], in_lanes)
        cost = PeArraySpec(*case[4:6]).cost(layer(case, n), ins, case[6])
        trace = traces[f"stage {n}", FULL_SPEED]
        assert trace.latency == cost.latency, (in_lanes, case)
        assert trace.gaps[2:] == [cost.cycles] * len(trace.gaps[2:]), (in_lanes, case)


def test_an_array_has_the_latency_of_its_stage_without_the_requantizer() -> None:
    _, _, traces = bench()
    for n, case in enumerate(CASES):
        lin = layer(case, n)
        stated = PeArraySpec(*case[4:6]).cost(lin, vector(case[3], case[5]), case[6]).latency
        found = traces[f"array {n}", FULL_SPEED].latency
        assert found == stated - SLICE_LATENCY - requantize_latency(lin), case


def test_steps_are_those_of_the_formula_under_every_stall_pattern() -> None:
    _, _, traces = bench()
    costs = {
        f"array {n}": PeArraySpec(*case[4:6]).cost(
            layer(case, n), vector(case[3], case[5]), case[6]
        )
        for n, case in enumerate(CASES)
    }
    for (name, pattern), trace in traces.items():
        if name in costs:
            assert trace.steps == {"step": FRAMES * costs[name].steps}, (name, pattern)


@pytest.mark.parametrize("n", range(len(VECTORS)))
def test_a_frame_of_vectors_runs_without_a_bubble(n: int) -> None:
    """Cycles, latency and steps of a frame are those stated, so nothing idles between vectors."""
    _, _, traces = vectors_bench()
    node = VECTORS[n].node(n)
    spec, lanes = VECTORS[n].spec(node), VECTORS[n].lanes
    trace = traces[f"vectors {n}", FULL_SPEED]
    assert trace.gaps[2:] == [spec.cycles(node.spec, lanes)] * len(trace.gaps[2:])
    assert trace.latency == spec.latency(node.spec, lanes)


@pytest.mark.parametrize("n", range(len(VECTORS)))
def test_only_stored_tiles_are_read_under_every_stall_pattern(n: int) -> None:
    _, _, traces = vectors_bench()
    node = VECTORS[n].node(n)
    spec = VECTORS[n].spec(node)
    stated = FRAMES * spec.groups(node.spec) * spec.steps(node.spec)
    for (name, pattern), trace in traces.items():
        if name == f"vectors {n}":
            assert trace.steps == {"step": stated}, pattern


def test_refuses_lanes_that_do_not_divide_the_rows() -> None:
    with pytest.raises(ValueError, match="lanes must divide 4 rows, not 3"):
        PeArray(PeArraySpec(4, 2), layer(SHAPES[0], 0), lanes=3, weight_file="w.hex")


@pytest.mark.parametrize(("tiles", "file"), [(None, "i.hex"), (3, None)])
def test_refuses_tiles_without_an_index_file_and_the_reverse(tiles, file) -> None:
    spec = PeArraySpec(4, 2, 1, tiles)
    with pytest.raises(ValueError, match="an index file is needed for tiles"):
        PeArray(spec, layer(SHAPES[0], 0), lanes=2, weight_file="w.hex", index_file=file)
