"""The circulant engine against golden; its cycles, steps and latency by formula."""

import math
import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from hdl.circulant.array import CirculantArray
from hdl.engine import engine_files, make_engine
from hdl.stage import make_stage, stage_files
from hdl.target import VerilogTarget
from model.ir.beats import Beats
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.circulant_array import CirculantArraySpec
from model.ir.conv import ConvSpec
from model.ir.fft_arithmetic import FFTArithmetic
from model.ir.linear import LinearSpec
from model.ir.network import Node
from model.ir.numerics import BipolarFormat, CodebookFormat, Format, UniformFormat
from model.ir.requantize import RequantizeSpec
from sim.block import FULL_SPEED, Block, run_blocks
from tests.examples import codes_of, scale_of
from tests.hdl.benches import check_all, evaluated, spreading, stage_block
from tests.strategies import requantize_tensors

pytestmark = pytest.mark.rtl

FRAMES = 6
S8, S4, U4 = UniformFormat(8, True), UniformFormat(4, True), UniformFormat(4, False)
S16 = UniformFormat(16, True)
LEVELS = CodebookFormat((0, 1, -1, 2, -2, 4, -4))


@dataclass(frozen=True)
class Case:
    """A layer [rows, columns] of blocks of k on an engine of ``lanes``, ``out`` codes a beat.

    With ``frame`` (rows, columns, channels) and ``kernel`` (rows, columns, stride, padding) it is a
    convolution to ``rows`` channels.
    """

    k: int
    rows: int
    columns: int
    lanes: int
    out: int
    body: str = "pipelined"
    form: int = 3
    entry: Format = S8
    weight: Format = S8
    frame: tuple[int, int, int] | None = None
    kernel: tuple[int, int, int, int] = (1, 1, 1, 0)

    @property
    def spec(self) -> CirculantArraySpec:
        return CirculantArraySpec(self.k, self.lanes, self.body, self.form)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.frame or (self.columns,)

    def layer(self) -> LinearSpec | ConvSpec:
        levels = self.k.bit_length() - 1
        arithmetic = FFTArithmetic(1, tuple(n % 2 for n in range(levels)), 1, 3, (1,) * levels)
        rule = RequantizeSpec(UniformFormat(6, True), 5, "channel", 5, 20)
        formats = self.entry, self.weight, rule, arithmetic
        if self.frame is None:
            storage = BlockCirculantStorage(self.k)
            return spreading(LinearSpec(self.columns, self.rows, *formats, storage))
        storage = BlockCirculantStorage(self.k, self.kernel[0] * self.kernel[1])
        return spreading(ConvSpec(*self.frame, self.rows, *self.kernel, 1, *formats, storage))

    def node(self, n: int) -> Node:
        rng, spec = np.random.default_rng(n), self.layer()
        shape = spec.tensor_shapes()["weight"]
        weight = codes_of(spec.weight_format.codes, rng, *shape)
        tensors = requantize_tensors(spec.requantize, spec.matrix_rows, rng)
        scale = scale_of(spec.out_format)
        return Node(f"c{n}", spec, ("x",), scale, {"weight": weight, **tensors})

    def frames(self, n: int) -> np.ndarray:
        rng = np.random.default_rng(n)
        return codes_of(self.entry.codes, rng, FRAMES, math.prod(self.shape))


ARRAYS = [
    Case(2, 7, 9, 2, 1),  # p = 4, q = 5, a beat a row
    Case(2, 9, 5, 3, 6, form=4, entry=BipolarFormat()),  # p = 5, q = 3, three blocks a beat
    Case(4, 22, 14, 4, 8, form=4),  # p = 6, q = 4: two lanes idle in the second group
    Case(4, 13, 27, 3, 2, "folded", entry=U4),  # p = 4, q = 7: half a block a beat
    Case(8, 8, 8, 1, 8),  # a single block
    Case(8, 40, 8, 2, 16),  # a step a group
    Case(8, 61, 21, 3, 8, form=4, entry=LEVELS, weight=LEVELS),  # p = 8, q = 3
    Case(8, 61, 45, 3, 8, "folded", form=4),  # p = 8, q = 6
    Case(8, 61, 53, 3, 4, "folded"),  # two beats a block
    Case(16, 37, 70, 2, 32, entry=S16, weight=S4),  # p = 3, q = 5
    Case(16, 90, 90, 4, 64, "folded", entry=U4),  # p = 6, q = 6: the inverse slower than a block
]
# What enters in a width of its own: input lanes, and a case.
SMALL, STRIDED = (3, 3, 1, 1), (3, 2, 2, 0)
STAGES = [
    (8, ARRAYS[5]),
    (3, ARRAYS[6]),
    (5, ARRAYS[3]),
    (4, Case(4, 9, 0, 2, 4, frame=(3, 3, 6), kernel=SMALL)),  # p = 3, q = 18
    (3, Case(4, 9, 0, 1, 2, "folded", frame=(5, 6, 6), kernel=STRIDED)),  # q = 12
    (4, Case(4, 12, 0, 3, 12, form=4, frame=(3, 3, 4))),  # a step a vector, no line buffer
]


@cache
def bench():
    """Arrays and stages with the codes expected, and what they did."""
    blocks, expected = {}, {}
    for n, case in enumerate(ARRAYS):
        node, frames, name = case.node(n), case.frames(n), f"array {n}"
        engine, files = make_engine(case.spec, node, case.out), engine_files(case.spec, node)
        blocks[name] = Block(name, engine, frames, case.rows, files)
        expected[name] = evaluated(node, case.shape, frames)[0]
    for n, (in_lanes, case) in enumerate(STAGES, start=len(ARRAYS)):
        node, frames, name = case.node(n), case.frames(n), f"stage {n}"
        args = node.spec, node, case.spec, (Beats(case.shape, in_lanes),), case.out
        stage, files = make_stage(*args), stage_files(*args)
        blocks[name] = stage_block(name, stage, node, case.shape, frames, files)
        expected[name] = evaluated(node, case.shape, frames)[1]
    return blocks, expected, run_blocks(list(blocks.values()))


def test_equals_golden_under_every_stall_pattern() -> None:
    check_all(*bench())


def test_takes_the_cycles_of_its_formula_and_no_bubble() -> None:
    _, _, traces = bench()
    for n, case in enumerate(ARRAYS):
        p, q = case.layer().arithmetic.grid(case.layer())
        gaps = traces[f"array {n}", FULL_SPEED].gaps
        assert case.spec.steps(case.layer()) == -(-p // case.lanes) * q
        assert gaps[2:] == [case.spec.steps(case.layer())] * len(gaps[2:]), (case, gaps)


def test_an_array_has_the_latency_of_its_formula() -> None:
    _, _, traces = bench()
    for n, case in enumerate(ARRAYS):
        found = traces[f"array {n}", FULL_SPEED].latency
        assert found == case.spec.latency(case.layer(), case.out), case


def test_a_stage_takes_the_cycles_and_the_latency_of_its_formula() -> None:
    _, _, traces = bench()
    for n, (in_lanes, case) in enumerate(STAGES, start=len(ARRAYS)):
        cost = case.spec.cost(case.layer(), (Beats(case.shape, in_lanes),), case.out)
        trace = traces[f"stage {n}", FULL_SPEED]
        assert trace.gaps[2:] == [cost.cycles] * len(trace.gaps[2:]), (in_lanes, case)
        assert trace.latency <= cost.latency, (in_lanes, case)
        if case.frame is None or case.body == "pipelined":
            assert trace.latency == cost.latency, (in_lanes, case)
        assert trace.i_cycles.shape[1] == cost.input_beats
        assert trace.o_cycles.shape[1] == cost.output_beats


def test_steps_are_those_of_the_formula_under_every_stall_pattern() -> None:
    _, _, traces = bench()
    costs = {}
    for n, case in enumerate(ARRAYS):
        ins = (Beats(case.shape, case.k),)
        costs[f"array {n}"] = case.spec.cost(case.layer(), ins, case.out)
    for n, (in_lanes, case) in enumerate(STAGES, start=len(ARRAYS)):
        ins = (Beats(case.shape, in_lanes),)
        costs[f"stage {n}"] = case.spec.cost(case.layer(), ins, case.out)
    for (name, pattern), trace in traces.items():
        assert trace.steps == {"step": FRAMES * costs[name].steps}, (name, pattern)


def test_refuses_lanes_that_cannot_drain_a_group() -> None:
    case = ARRAYS[4]
    with pytest.raises(ValueError, match="a group of 1 lanes cannot leave 4 codes a beat"):
        CirculantArray(case.spec, case.layer(), lanes=4, weight_files=("w.hex",))


def test_refuses_another_number_of_weight_files() -> None:
    case = ARRAYS[5]
    with pytest.raises(ValueError, match="weight_files must be 2, not 1"):
        CirculantArray(case.spec, case.layer(), lanes=16, weight_files=("w.hex",))


@pytest.mark.parametrize(
    ("case", "lane"),
    [
        (Case(8, 61, 21, 3, 8), 11),
        (Case(8, 61, 45, 6, 16, "folded", form=4), 14),
        (Case(16, 90, 90, 2, 16), 23),
    ],
)
def test_multipliers_counted_in_the_design_equal_the_formula(case: Case, lane: int) -> None:
    spec, layer = case.spec, case.layer()
    target = VerilogTarget()
    target.convert(make_engine(spec, case.node(0), case.out), "top")
    units = spec.forward_unit(layer), spec.inverse_unit(layer, case.out)
    assert multipliers_in(target.modules, "top") == spec.multiplier_count(layer, case.out)
    assert spec.multiplier_count(layer, case.out) == (
        case.lanes * lane
        + units[0].multiplier_count
        + spec.blocks_per_beat(case.out) * units[1].multiplier_count
    )


def multipliers_in(modules: dict[str, str], name: str) -> int:
    """Multipliers of a module and of all that it is made of, in Verilog."""
    count = 0
    for text in re.split(r"^(?=module )", modules[name], flags=re.M):
        count += text.count(" * ")
        for placed in re.findall(r"^  (\w+) \S+ \($", text, re.M):
            if placed in modules:
                count += multipliers_in(modules, placed)
    return count
