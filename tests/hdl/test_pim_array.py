"""The PIM engine against golden; ideal, it is the integer product; its cycles by formula."""

import math
import re
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from hdl.engine import make_engine
from hdl.pim.array import PimArray, Wires
from hdl.stage import make_stage, stage_files
from hdl.verilog import generate
from model.ir.arithmetic import ExactArithmetic
from model.ir.beats import Beats
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.block_sparse import BlockSparseStorage
from model.ir.conv import ConvSpec
from model.ir.faults import Faults
from model.ir.linear import LinearSpec
from model.ir.network import Node
from model.ir.numerics import BipolarFormat, CodebookFormat, Format, UniformFormat
from model.ir.pim_arithmetic import PIMArithmetic
from model.ir.pim_array import PimArraySpec
from model.ir.placement import place, repair
from model.ir.requantize import RequantizeSpec
from model.ir.storage import DenseStorage
from sim.block import FULL_SPEED, Block, run_blocks
from tests.examples import codes_of, scale_of
from tests.hdl.benches import check_all, evaluated, spreading, stage_block
from tests.pims import LEVELS, STATES
from tests.strategies import requantize_tensors
from tests.tools import require_tools

pytestmark = [pytest.mark.rtl, pytest.mark.timeout(900)]  # one build of all arrays

FRAMES = 6
S8, S4, U4, U8 = (UniformFormat(*of) for of in ((8, True), (4, True), (4, False), (8, False)))
U1, S2, BIPOLAR = UniformFormat(1, False), UniformFormat(2, True), BipolarFormat()
CONDUCTANCE = CodebookFormat((*LEVELS, *(-level for level in LEVELS)))
TWOS, PAIRS = {"form": "twos_complement"}, {"form": "pairs"}


@dataclass(frozen=True)
class Case:
    """A layer [outputs, inputs] on macros, ``cols`` codes in and ``lanes`` out a beat.

    ``pim`` are fields of the arithmetic besides its 8 rows and 1-bit cells; ``blocks`` is (rows,
    columns, share) of block-sparse weights, ``k`` the size of circulant ones. With ``frame`` and
    ``kernel`` (rows, columns, stride, padding) it is a convolution to ``outputs`` channels.
    """

    outputs: int
    inputs: int
    cols: int
    lanes: int
    pim: dict = field(default_factory=dict)
    columns: int = 16
    entry: Format = U4
    weight: Format = S4
    blocks: tuple[int, int, float] | None = None
    k: int = 1
    engine: dict = field(default_factory=dict)
    frame: tuple[int, int, int] | None = None
    kernel: tuple[int, int, int, int] = (1, 1, 1, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.frame or (self.inputs,)

    @property
    def arithmetic(self) -> PIMArithmetic:
        return PIMArithmetic(**{"rows": 8, "cell_bits": 1, **TWOS, **self.pim})

    def node(self, n: int) -> Node:
        rng = np.random.default_rng(n)
        rule = RequantizeSpec(UniformFormat(6, True), 5, "channel", 5, 20)
        positions = self.kernel[0] * self.kernel[1]
        size = positions * self.shape[-1]
        tensors = {}
        if self.k > 1:
            storage = BlockCirculantStorage(self.k, positions)
            shape = storage.tensor_shapes(self.outputs, size)["weight"]
            tensors["weight"] = codes_of(self.weight.codes, rng, *shape)
        else:
            storage = DenseStorage()
            tensors["weight"] = codes_of(self.weight.codes, rng, self.outputs, size)
        if self.blocks is not None:
            sizes = [
                np.array([min(of, length - at) for at in range(0, length, of)])
                for length, of in zip((self.outputs, size), self.blocks, strict=False)
            ]
            mask = rng.random(tuple(map(len, sizes))) < self.blocks[2]
            mask[0, 0] = True
            storage, tensors = BlockSparseStorage.pack(tensors["weight"], mask, *sizes)
        formats = self.entry, self.weight, rule, self.arithmetic, storage
        if self.frame is None:
            spec = LinearSpec(self.inputs, self.outputs, *formats)
        else:
            spec = ConvSpec(*self.frame, self.outputs, *self.kernel, 1, *formats)
        spec = spreading(spec)
        tensors |= requantize_tensors(spec.requantize, self.outputs, rng)
        if "faults" in self.engine:
            tensors["cells"] = self.stuck_cells(spec, tensors)
        elif self.arithmetic.device:
            nominal = self.arithmetic.nominal(spec, tensors)
            drawn = rng.integers(-2, 3, nominal.shape) + nominal
            stuck = rng.random(nominal.shape) < 0.1
            drawn = np.where(
                stuck, rng.choice([0, self.arithmetic.level_top], nominal.shape), drawn
            )
            tensors["cells"] = drawn.clip(0, self.arithmetic.level_top)
        return Node(f"p{n}", spec, ("x",), scale_of(spec.out_format), tensors)

    def stuck_cells(self, spec: LinearSpec | ConvSpec, tensors: dict) -> np.ndarray:
        """The levels of the cells of weights, some of which are stuck."""
        placed = place(spec, tensors, self.columns, self.engine.get("spare", 0))
        drawn = self.engine["faults"].drawn(spec, placed)
        if self.engine["faults"].repair:
            placed, found = repair(placed, spec, tensors, drawn)
            assert found.columns
        return placed.gather(drawn, self.arithmetic.nominal(spec, tensors))

    def spec(self, node: Node) -> PimArraySpec:
        spare = self.engine.get("spare", 0)
        placed = place(node.spec, dict(node.tensors), self.columns, spare)
        tiles = len(self.arithmetic.tiles(node.spec, dict(node.tensors)))
        spec = PimArraySpec(self.cols, self.columns, placed.macros, tiles, **self.engine)
        spec.check(node, self.lanes)
        return spec

    def frames(self, n: int) -> np.ndarray:
        rng = np.random.default_rng(n)
        return codes_of(self.entry.codes, rng, FRAMES, math.prod(self.shape))


IDEAL = [
    Case(5, 7, 3, 2),  # a macro
    Case(9, 20, 7, 5),  # three row tiles, macros of four and of one output
    Case(9, 20, 20, 9, entry=S4),  # the top bit counts negative
    Case(6, 9, 9, 6, entry=U1),  # a vector a cycle
    Case(4, 9, 3, 1, {"cell_bits": 3}, entry=S2, weight=S8),
    Case(4, 9, 3, 1, {"cell_bits": 2}, weight=UniformFormat(5, False)),
    Case(4, 9, 3, 1, {"cell_bits": 4}, entry=BIPOLAR, weight=BIPOLAR),
    Case(5, 9, 3, 2, PAIRS, weight=CodebookFormat((0, 7, -3))),
    Case(5, 9, 3, 2, PAIRS | {"cell_bits": 4, "states": STATES}, weight=CONDUCTANCE),
    Case(5, 20, 5, 2, engine={"share": 3}),
    Case(5, 20, 5, 1, PAIRS, engine={"share": 5}),  # a weight's slices in different turns
    Case(5, 9, 3, 2, {"off": 2, "grid_bits": 2}, engine={"share": 2}),  # a reference column
    Case(9, 30, 10, 3, blocks=(1, 5, 0.3), engine={"spare": 2}),  # rows and columns absent
    Case(9, 40, 14, 3, blocks=(2, 12, 0.5)),  # groups larger than a macro
    Case(10, 18, 4, 2, k=4),
    Case(9, 7, 8, 8, k=4, entry=S4),
    Case(11, 21, 2, 1, k=2, engine={"share": 2}),
    Case(13, 6, 8, 16, {"rows": 16}, k=8, entry=S8, weight=S8, columns=24),
]
ADC = {"adc_bits": 3, "step": 2}
DEVICE = {"device": True, "grid_bits": 2, "off": 3, "cell_bits": 2}
PULSES = {"programs": True, "write_cycles": 2, "attempts": 9}
REAL = [
    Case(9, 20, 7, 5, ADC),  # converters that round and saturate
    Case(9, 20, 7, 5, ADC | DEVICE | {"step": 5}),  # spread, stuck cells, a reference column
    Case(6, 20, 7, 3, PAIRS | ADC | DEVICE | {"step": 7}, engine={"share": 2}, entry=S4),
    Case(5, 9, 3, 2, PAIRS | DEVICE | {"off": 0, "states": STATES}, weight=CONDUCTANCE),
    Case(9, 30, 10, 3, DEVICE | {"adc_bits": 6, "step": 1}, blocks=(1, 5, 0.3)),
    Case(10, 18, 4, 2, ADC | DEVICE | {"step": 3}, k=4, engine={"share": 2}),
    Case(5, 7, 3, 2, engine=PULSES),
    Case(5, 7, 3, 2, engine=PULSES | {"failures": 20_000}),
]
STUCK, DATA = {"faults": Faults(0.03, 0.03, 1)}, {"device": True}


def repaired(seed: int, share: float = 0.04) -> dict:
    """So many stuck cells, low and high, with rows and columns moved around them."""
    return {"faults": Faults(share, share, seed, repair=True)}


FAULTY = [
    Case(9, 20, 7, 5, DATA, engine=STUCK | {"spare": 4}),
    Case(9, 20, 7, 5, DATA, engine=STUCK | {"spare": 4} | PULSES | {"attempts": 3}),
    Case(9, 20, 7, 5, ADC | DEVICE, engine=repaired(2)),
    # pairs of columns, a weight's slices in different turns
    Case(6, 20, 7, 3, PAIRS | DATA, columns=18, engine=repaired(1) | {"share": 4}),
    Case(10, 18, 4, 2, DATA, k=4, engine=repaired(1) | {"share": 2, "spare": 4}),
]
MENDED = [Case(8, 24, 8, 4, DATA, engine=repaired(1, 0.02))]
ARRAYS = [*IDEAL, *REAL, *FAULTY, *MENDED]
BANKED = {1, 12, 14, ARRAYS.index(REAL[-2]), ARRAYS.index(MENDED[0])}
FAILING = [ARRAYS.index(REAL[-1]), ARRAYS.index(FAULTY[1])]
"""Arrays whose rows take more than a pulse."""

# What enters in a width of its own: input lanes, and a case.
SMALL, STRIDED = (3, 3, 1, 1), (3, 2, 2, 0)
STAGES = [
    (5, IDEAL[1]),
    (3, IDEAL[14]),
    (2, IDEAL[13]),
    (1, Case(5, 0, 3, 2, frame=(5, 5, 1), kernel=(3, 3, 1, 0))),
    (1, Case(5, 0, 3, 5, frame=(5, 5, 1), kernel=(3, 3, 1, 0), engine={"copies": 3})),
    (3, Case(7, 0, 6, 4, ADC, frame=(4, 4, 3), kernel=SMALL, engine={"copies": 2})),
    (4, Case(9, 0, 9, 3, frame=(5, 6, 6), kernel=STRIDED, blocks=(2, 4, 0.4))),
    (4, Case(9, 0, 12, 4, k=4, frame=(3, 3, 6), kernel=SMALL)),
    (2, Case(6, 0, 6, 2, k=4, frame=(5, 4, 2), kernel=STRIDED, engine={"copies": 2})),
    (4, Case(12, 0, 4, 12, frame=(3, 3, 4), entry=U8)),
]


class Loaded(wiring.Component):
    """A stage that takes nothing before its weights are written, as in an accelerator."""

    def __init__(self, stage: wiring.Component) -> None:
        self.stage = stage
        super().__init__({name: stage.signature.members[name] for name in ("i", "o", "step")})

    def elaborate(self, platform):
        m = Module()
        m.submodules.stage = stage = self.stage
        m.d.comb += [
            stage.i.p.eq(self.i.p),
            stage.i.valid.eq(self.i.valid & stage.loaded),
            self.i.ready.eq(stage.i.ready & stage.loaded),
            self.step.eq(stage.step),
        ]
        wiring.connect(m, stage.o, wiring.flipped(self.o))
        return m


@cache
def bench():
    """Arrays and stages with the codes expected, and what they did."""
    blocks, expected, specs = {}, {}, {}
    for n, case in enumerate(ARRAYS):
        node, frames, name = case.node(n), case.frames(n), f"array {n}"
        specs[name] = node, case.spec(node)
        engine = make_engine(specs[name][1], node, case.lanes)
        if n in BANKED:  # macros that do not fit one bank
            engine = PimArray(replace(engine.wires, bank_bits=300))
            assert len(engine.wires.banks()) > 1
        files = engine.wires.files(node)
        blocks[name] = Block(name, engine, frames, case.outputs, files)
        expected[name] = evaluated(node, case.shape, frames)[0]
    for n, (in_lanes, case) in enumerate(STAGES, start=len(ARRAYS)):
        node, frames, name = case.node(n), case.frames(n), f"stage {n}"
        specs[name] = node, case.spec(node)
        args = node.spec, node, specs[name][1], (Beats(case.shape, in_lanes),), case.lanes
        stage, files = Loaded(make_stage(*args)), stage_files(*args)
        blocks[name] = stage_block(name, stage, node, case.shape, frames, files)
        expected[name] = evaluated(node, case.shape, frames)[1]
    return blocks, expected, specs, run_blocks(list(blocks.values()))


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_tools("g++")


def test_equals_golden_under_every_stall_pattern() -> None:
    blocks, expected, _, traces = bench()
    check_all(blocks, expected, traces)


def test_hard_macros_are_placed_one_by_one_behind_the_same_array() -> None:
    case = IDEAL[1]
    node = case.node(1)
    spec = replace(case.spec(node), body="foundry_macro")
    design = generate(make_engine(spec, node, case.lanes), "top", {})
    wrapper = re.findall(r"foundry_macro \w+ \(", design.verilog)
    assert Wires.of(spec, node, case.lanes).banks() == [(0, spec.macros)]
    placed = re.findall(r"macro_foundry_macro \w+ \(", design.verilog)
    assert len(set(placed)) == spec.macros
    assert wrapper
    assert "gyre_macro" not in design.verilog


def test_an_ideal_array_gives_the_integer_product() -> None:
    _, _, _, traces = bench()
    for n, case in enumerate(IDEAL):
        node, frames = case.node(n), case.frames(n)
        plain = replace(node, spec=replace(node.spec, arithmetic=ExactArithmetic()))
        product = evaluated(plain, case.shape, frames)[0] << case.arithmetic.grid_bits
        assert (traces[f"array {n}", FULL_SPEED].codes == product).all(), case


def test_moved_rows_and_columns_put_right_what_stuck_cells_do() -> None:
    """Cells that are stuck change codes; moved around them, an array gives the product again."""
    _, _, specs, traces = bench()
    for n, case in enumerate(ARRAYS):
        if case not in (FAULTY[0], *MENDED):
            continue
        node, frames = case.node(n), case.frames(n)
        wires = Wires.of(specs[f"array {n}"][1], node, case.lanes)
        assert (case in MENDED) == (wires.rows is not None)
        if wires.rows is not None:
            assert (wires.rows != np.arange(case.arithmetic.rows)).any()
        tensors = {name: node.tensors[name] for name in node.tensors if name != "cells"}
        spec = replace(node.spec, arithmetic=ExactArithmetic())
        mended = replace(node, spec=spec, tensors=tensors)
        product = evaluated(mended, case.shape, frames)[0]
        found = traces[f"array {n}", FULL_SPEED].codes
        assert (found == product).all() == (case in MENDED), case


def test_a_vector_takes_its_activation_bits_times_passes() -> None:
    _, _, specs, traces = bench()
    for n, case in enumerate(ARRAYS):
        node, spec = specs[f"array {n}"]
        bits, share = case.entry.values.bits, case.engine.get("share", 1)
        gaps = traces[f"array {n}", FULL_SPEED].gaps
        cycles = spec.rate(node.spec, case.lanes)
        assert spec.vector_cycles(node.spec) == bits * case.k * share
        assert gaps[2:] == [cycles] * len(gaps[2:]), (case, gaps, cycles)


def test_an_array_has_the_latency_of_its_formula() -> None:
    _, _, specs, traces = bench()
    for n, case in enumerate(ARRAYS):
        node, spec = specs[f"array {n}"]
        found = traces[f"array {n}", FULL_SPEED].latency
        assert found == spec.latency(node.spec, case.lanes), case


def test_a_stage_takes_the_cycles_and_the_latency_of_its_formula() -> None:
    _, _, specs, traces = bench()
    for n, (in_lanes, case) in enumerate(STAGES, start=len(ARRAYS)):
        node, spec = specs[f"stage {n}"]
        cost = spec.cost(node.spec, (Beats(case.shape, in_lanes),), case.lanes)
        trace = traces[f"stage {n}", FULL_SPEED]
        assert trace.gaps[2:] == [cost.cycles] * len(trace.gaps[2:]), (in_lanes, case, trace.gaps)
        assert trace.latency == cost.latency, (in_lanes, case)
        assert trace.i_cycles.shape[1] == cost.input_beats
        assert trace.o_cycles.shape[1] == cost.output_beats


def test_the_first_vector_enters_when_every_row_is_written() -> None:
    """A fifth of the pulses and more fail in one of the arrays, and cells are stuck in another."""
    _, _, specs, traces = bench()
    before = {
        name: int(trace.i_cycles[0, 0]) - specs[name][1].writing_cycles(specs[name][0].spec)
        for (name, pattern), trace in traces.items()
        if pattern == FULL_SPEED
    }
    failing = [before.pop(f"array {n}") for n in FAILING]
    assert len(set(before.values())) == 1, before
    assert min(failing) > before["array 0"]


def test_evaluations_are_those_of_the_formula_under_every_stall_pattern() -> None:
    _, _, specs, traces = bench()
    for (name, pattern), trace in traces.items():
        node, spec = specs[name]
        if spec.copies == 1:  # the bench sees one bit of the steps
            case = (ARRAYS + [case for _, case in STAGES])[int(name.split()[1])]
            source = Beats(case.shape, case.cols)
            cost = spec.cost(node.spec, (source,), case.lanes)
            assert trace.steps == {"step": FRAMES * cost.steps}, (name, pattern)
