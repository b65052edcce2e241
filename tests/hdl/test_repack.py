"""The repacker against plain indexing: values, rate and latency."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
from amaranth.hdl import Shape

from hdl.lib.repack import Repack
from hdl.stage import make_stage, stage_files
from model.ir.beats import Beats
from model.ir.network import Node
from model.ir.numerics import IntRange, UniformFormat
from model.ir.repack import repack_cost, repacks
from model.ir.select import SelectSpec
from sim.block import FULL_SPEED, Block, run_blocks
from tests.examples import codes_of, vector
from tests.hdl.benches import check_all

pytestmark = pytest.mark.rtl

FRAMES = 12
WIDE = (1, 2, 3, 4, 5, 8)
WIDTHS = [(1, 1), (1, 3), (3, 1), (2, 3), (3, 2), (2, 4), (4, 2), (4, 4), (5, 3), (3, 5), (8, 1)]
LENGTHS = [1, 5, 7, 16]
IMAGES = [
    ((2, 3, 5), 2, (2, 3, 5), 3),  # the same pixels, padding on either side
    ((2, 3, 5), 3, (2, 3, 5), 2),
    ((3, 2, 4), 4, (3, 2, 4), 1),
    ((1, 4, 7), 1, (1, 4, 7), 5),
    ((3, 3, 7), 4, (3, 3, 7), 3),  # as many beats on either side
    ((2, 3, 5), 2, (30,), 4),  # flatten
    ((2, 3, 5), 3, (30,), 1),
    ((3, 3, 3), 2, (27,), 8),
    ((3, 1, 17), 4, (51,), 3),
    ((3, 1, 19), 6, (57,), 5),
    ((2, 2, 4), 2, (16,), 16),
    ((24,), 5, (2, 3, 4), 2),  # a vector to pixels
    ((2, 3, 1), 4, (2, 3, 1), 1),
    ((2, 3, 2), 8, (2, 3, 2), 1),
    ((2, 3, 4), 3, (4, 1, 6), 2),  # to other pixels
]
MASKS = {
    "all": lambda n, rng: range(n),
    "first": lambda n, rng: [0],
    "last": lambda n, rng: [n - 1],
    "low": lambda n, rng: range(n // 2),
    "high": lambda n, rng: range(n // 2, n),
    "even": lambda n, rng: range(0, n, 2),
    "random": lambda n, rng: np.flatnonzero(rng.random(n) < 0.4),
}
MASKED_WIDTHS = [(1, 2), (4, 1), (3, 2), (4, 4), (5, 8)]


def entry(bits: int, signed: bool, length: int) -> np.ndarray:
    return codes_of(IntRange.of_bits(bits, signed), np.random.default_rng(length), FRAMES, length)


@cache
def bench():
    """Blocks by name, with the codes expected and the cost stated, and what they did."""
    blocks, expected, costs = {}, {}, {}
    for n, (length, (in_lanes, lanes)) in enumerate((a, w) for a in LENGTHS for w in WIDTHS):
        bits, signed = (1, 4, 9)[n % 3], n % 2 == 1
        (i,), (o,) = vector(length, in_lanes), vector(length, lanes)
        component = Repack(Shape(bits, signed), i, o)
        name = f"{length} codes, {in_lanes} to {lanes} lanes"
        blocks[name] = Block(name, component, entry(bits, signed, length), length)
        expected[name] = blocks[name].codes
        costs[name] = repack_cost(i, o, masked=False)
    for n, (shape, in_lanes, out_shape, lanes) in enumerate(IMAGES):
        bits, signed, length = (1, 5)[n % 2], n % 3 == 0, math.prod(shape)
        i, o = Beats(shape, in_lanes), Beats(out_shape, lanes)
        name = f"{shape} on {in_lanes} lanes to {out_shape} on {lanes}"
        blocks[name] = Block(
            name,
            Repack(Shape(bits, signed), i, o),
            entry(bits, signed, length),
            length,
            shape=shape,
            out_shape=out_shape,
        )
        expected[name], costs[name] = blocks[name].codes, repack_cost(i, o, masked=False)
    rng = np.random.default_rng(1)
    for n, (kind, (in_lanes, lanes)) in enumerate((k, w) for k in MASKS for w in MASKED_WIDTHS):
        length, format = (19, 16)[n % 2], UniformFormat((1, 5)[n % 2], n % 3 == 0)
        indices = np.array(MASKS[kind](length, rng))
        spec = SelectSpec(length, len(indices), format)
        node = Node(f"keep_{n}", spec, ("x",), 1.0, {"indices": indices})
        name = f"{kind} of {length} codes, {in_lanes} to {lanes} lanes"
        codes = entry(format.bits, format.signed, length)
        ins = vector(spec.in_features, in_lanes)
        component = make_stage(spec, node, None, ins, lanes)
        files = stage_files(spec, node, None, ins, lanes)
        blocks[name] = Block(name, component, codes, len(indices), files)
        expected[name] = codes[:, indices]
        costs[name] = spec.stage_cost(ins, lanes)
    shape, indices = (2, 2, 5), np.array([0, 1, 2, 4, 7, 8, 9, 13, 14, 15, 19])
    spec = SelectSpec(20, len(indices), UniformFormat(5, False))
    node, ins = Node("keep_image", spec, ("x",), 1.0, {"indices": indices}), (Beats(shape, 3),)
    component, files = make_stage(spec, node, None, ins, 4), stage_files(spec, node, None, ins, 4)
    name, codes = "random of an image", entry(5, False, 20)
    blocks[name] = Block(name, component, codes, len(indices), files, shape=shape)
    expected[name], costs[name] = codes[:, indices], spec.stage_cost(ins, 4)
    return blocks, expected, costs, run_blocks(list(blocks.values()))


def test_keeps_the_codes_and_their_order_under_every_stall_pattern() -> None:
    blocks, expected, _, traces = bench()
    check_all(blocks, expected, traces)


def test_runs_at_the_rate_of_the_busier_side() -> None:
    blocks, _, costs, traces = bench()
    for name in blocks:
        if "low" in name or "high" in name or "random" in name:
            continue  # where the kept codes cluster, the buffer cannot always bridge the gap
        gaps = traces[name, FULL_SPEED].gaps[FRAMES // 2 :]
        assert gaps == [costs[name].cycles] * len(gaps), name


def test_a_cluster_of_kept_codes_costs_at_most_its_own_beats() -> None:
    blocks, _, costs, traces = bench()
    for name in blocks:
        cost, gaps = costs[name], traces[name, FULL_SPEED].gaps
        assert max(gaps[FRAMES // 2 :]) <= cost.input_beats + cost.output_beats, name


def test_the_latency_is_the_one_stated() -> None:
    blocks, _, costs, traces = bench()
    for name in blocks:
        found, stated = traces[name, FULL_SPEED].latency, costs[name].latency
        exact = any(word in name for word in ("all", "last", "high")) or " of " not in name
        assert found == stated if exact else found <= stated, (name, found, stated)


def test_the_beats_are_those_stated() -> None:
    blocks, _, costs, _ = bench()
    for name, block in blocks.items():
        stated = (costs[name].input_beats, costs[name].output_beats)
        assert (block.beats("i").count, block.beats("o").count) == stated, name


@pytest.mark.parametrize(
    ("i", "o", "mask", "words"),
    [
        (Beats((8,), 2), Beats((7,), 2), None, "length must be 8 without a mask, not 7"),
        (Beats((12,), 2), Beats((2, 2, 3), 2), None, "must divide their 3 channels, not 2"),
        (Beats((2, 2, 3), 1), Beats((1, 2, 6), 4), None, "must divide their 6 channels, not 4"),
        (Beats((2, 2, 4), 1), Beats((2, 2, 3), 2), "m", "must divide their 3 channels, not 2"),
    ],
)
def test_refuses_what_it_cannot_lay_out(i: Beats, o: Beats, mask: str | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Repack(Shape(4, False), i, o, mask)


@pytest.mark.parametrize("kind", ["the same", "flatten", "pixels"])
def test_a_repacker_is_left_out_exactly_where_the_beats_carry_the_same_codes(kind: str) -> None:
    for pixels, channels, a, b in itertools.product((1, 2, 3), (1, 2, 3, 4, 7), WIDE, WIDE):
        image, vector = (pixels, 1, channels), (pixels * channels,)
        shapes = {"the same": (image, image), "flatten": (image, vector), "pixels": (vector, image)}
        i, o = (Beats(shape, lanes) for shape, lanes in zip(shapes[kind], (a, b), strict=True))
        same = i.lanes == o.lanes and np.array_equal(i.indices(), o.indices())
        assert repacks(i, o) == (not same)
