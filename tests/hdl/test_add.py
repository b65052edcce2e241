"""The residual addition against golden: values, cycles, latency, waiting for a partner."""

from functools import cache

import numpy as np
import pytest
import torch
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.conv.add import Add
from hdl.lib.stream import beat_stream
from hdl.stage import make_stage, stage_files
from model import golden
from model.ir.add import AddSpec
from model.ir.beats import Beats
from model.ir.network import Node
from model.ir.numerics import BipolarFormat, CodebookFormat, FixedPointFormat, UniformFormat
from sim.block import FULL_SPEED, Block, run_blocks
from tests.examples import codes_of, scale_of
from tests.hdl.benches import check_all

pytestmark = pytest.mark.rtl

FRAMES = 6
U, B, F = UniformFormat, BipolarFormat(), FixedPointFormat
LEVELS = CodebookFormat((-3, -1, 1, 3, 6))
# Shape, formats of x, y and the result, shift, bits of the factors, lanes.
CASES = [
    ((3, 2, 4), U(4, False), U(4, False), U(4, False), 4, 6, 4),
    ((3, 2, 4), U(4, True), U(4, True), U(4, True), 5, 6, 2),
    ((2, 2, 5), U(4, False), U(4, True), U(6, True), 3, 5, 3),  # lanes that do not divide
    ((2, 2, 3), U(8, True), U(3, False), U(5, False), 6, 8, 7),  # several pixels a beat
    ((7,), U(16, True), U(16, True), U(16, True), 15, 16, 2),
    ((2, 1, 3), U(16, False), U(16, False), U(16, False), 16, 16, 1),
    ((2, 3, 2), F(8, True, 4), F(6, True, 2), F(8, True, 3), 0, 2, 2),
    ((2, 2, 3), U(1, False), U(1, True), U(1, True), 1, 1, 2),
    ((2, 2, 3), B, U(4, True), U(6, True), 2, 5, 2),  # padding lanes that are not 0 by themselves
    ((2, 2, 3), LEVELS, B, U(6, False), 0, 5, 4),
    ((1, 1, 1), U(2, True), U(2, True), U(16, True), 0, 16, 1),
]


class Pairs(wiring.Component):
    """The adder behind one stream: ``x`` in the lower lanes and bits, ``y`` in the upper.

    The two parts of a beat reach the adder apart: ``lead`` cycles pass before ``y`` follows.
    """

    def __init__(self, adder: Add, lead: int) -> None:
        self.adder, self.lead = adder, lead
        bits = max(len(adder.x.p.codes[0]), len(adder.y.p.codes[0]))
        super().__init__(
            {
                "i": In(beat_stream(bits, 2 * adder.lanes)),
                "o": Out(beat_stream(adder.o.p.codes.shape().elem_shape, adder.lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.adder = adder = self.adder
        gone, waited = Signal(2), Signal(range(self.lead + 2))
        sides = adder.x, adder.y
        for n, side in enumerate(sides):
            late = waited < self.lead if n and self.lead else 0
            m.d.comb += [
                side.valid.eq(self.i.valid & ~gone[n] & ~late),
                side.p.first.eq(self.i.p.first),
                side.p.last.eq(self.i.p.last),
            ]
            for lane in range(adder.lanes):
                m.d.comb += side.p.codes[lane].eq(self.i.p.codes[n * adder.lanes + lane])
        done = [gone[n] | (side.valid & side.ready) for n, side in enumerate(sides)]
        m.d.comb += self.i.ready.eq(done[0] & done[1])
        if self.lead:
            with m.If(self.i.valid & (waited < self.lead)):
                m.d.sync += waited.eq(waited + 1)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [gone.eq(0), waited.eq(0)]
        with m.Elif(self.i.valid):
            m.d.sync += [gone[n].eq(d) for n, d in enumerate(done)]
        m.d.comb += [
            self.o.valid.eq(adder.o.valid),
            adder.o.ready.eq(self.o.ready),
            self.o.p.eq(adder.o.p),
        ]
        return m


def node_of(case, n: int) -> Node:
    spec = AddSpec(*case[:6])
    rng = np.random.default_rng(n)
    half = 1 << (spec.m_bits - 1)
    factors = {name: rng.integers(-half, half, 1) for name in ("mx", "my")}
    return Node(f"add{n}", spec, ("x", "y"), scale_of(spec.out_format), factors)


@cache
def bench():
    """Adders with the codes expected, and what they did."""
    blocks, expected = [], []
    for n, case in enumerate(CASES):
        node, lanes = node_of(case, n), case[6]
        spec, beats = node.spec, Beats(case[0], lanes)
        rng = np.random.default_rng(n)
        codes = [
            codes_of(format.codes, rng, FRAMES, beats.length)
            for format in (spec.x_format, spec.y_format)
        ]
        inputs = [torch.from_numpy(c.reshape(FRAMES, *spec.shape)) for c in codes]
        out = golden.evaluate(spec, node, inputs, {}).numpy().reshape(FRAMES, -1)
        args = spec, node, None, (beats, beats), lanes
        # The frame as a vector of pairs of beats, padding included.
        places = beats.indices()
        padded = [np.pad(c, ((0, 0), (0, 1)))[:, places] for c in codes]
        both = np.concatenate(padded, axis=2).reshape(FRAMES, -1)
        for lead in (0, n % 3 + 1):
            blocks.append(
                Block(
                    f"{lead} after {n}",
                    Pairs(make_stage(*args), lead),
                    both,
                    beats.length,
                    {} if lead else stage_files(*args),
                    out_shape=spec.shape,
                )
            )
            expected.append(out)
    return blocks, expected, run_blocks(blocks)


def test_equals_golden_under_every_stall_pattern() -> None:
    check_all(*bench())


def test_the_cases_clamp_at_both_ends() -> None:
    _, expected, _ = bench()
    ends = {
        (codes.min() == case[3].codes.low, codes.max() == case[3].codes.high)
        for case, codes in zip(CASES, expected[::2], strict=True)
    }
    assert (True, True) in ends


def test_a_beat_a_cycle_at_the_stated_latency() -> None:
    _, _, traces = bench()
    for n, case in enumerate(CASES):
        beats = Beats(case[0], case[6])
        cost = node_of(case, n).spec.stage_cost((beats, beats), case[6])
        trace = traces[f"0 after {n}", FULL_SPEED]
        assert trace.latency == cost.latency == beats.count + 3, case
        assert trace.gaps == [cost.cycles] * (FRAMES - 1), case
