"""Sigmoid and tanh in gates against their tables, over every input code."""

from functools import cache

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.numerics import code_shape
from hdl.lib.stream import beat_stream
from hdl.lstm.activation import Piecewise
from hdl.target import place
from model.ir.lstm_array import ACTIVATION_LATENCY
from model.ir.numerics import FixedPointFormat
from model.ir.piecewise import PiecewiseSpec, piecewise
from sim.block import FULL_SPEED, Block, Pattern, check_values, run_blocks

pytestmark = pytest.mark.rtl

LANES = 32
PATTERNS = [FULL_SPEED, Pattern(True, True, 1)]


def fixed(bits: int, frac_bits: int) -> FixedPointFormat:
    return FixedPointFormat(bits, True, frac_bits)


SPECS = {
    "sigmoid": piecewise("sigmoid", fixed(16, 11), fixed(16, 14)),
    "tanh": piecewise("tanh", fixed(16, 8), fixed(16, 14)),
    "sigmoid_of_1": piecewise("sigmoid", fixed(16, 12), fixed(16, 14), 1),
    "tanh_of_45": piecewise("tanh", fixed(16, 12), fixed(12, 9), 45),
    "narrow": piecewise("tanh", fixed(6, 3), fixed(6, 4), 9),
    "truncated": piecewise("sigmoid", fixed(8, 7), fixed(8, 6), 7),
    "last_code": PiecewiseSpec(fixed(4, 0), fixed(5, 2), True, (8,), (3,), (1,), 2, 4),
    "one_bit": PiecewiseSpec(fixed(1, 0), fixed(5, 2), False, (1,), (0,), (9,), 1, 4),
}


class Many(wiring.Component):
    """Functions side by side, on a stream."""

    def __init__(self, spec: PiecewiseSpec, name: str, lanes: int) -> None:
        self.spec, self.name, self.lanes = spec, name, lanes
        super().__init__(
            {
                "i": In(beat_stream(code_shape(spec.in_format), lanes)),
                "o": Out(beat_stream(code_shape(spec.out_format), lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        en = Signal()
        m.d.comb += [en.eq(~self.o.valid | self.o.ready), self.i.ready.eq(en)]
        marks = [(self.i.valid, self.i.p.first, self.i.p.last)]
        for stage in range(ACTIVATION_LATENCY):
            marks.append(tuple(Signal(name=f"{n}_{stage}") for n in ("valid", "first", "last")))
            with m.If(en):
                m.d.sync += [new.eq(old) for new, old in zip(marks[-1], marks[-2], strict=True)]
        m.d.comb += [
            self.o.valid.eq(marks[-1][0]),
            self.o.p.first.eq(marks[-1][1]),
            self.o.p.last.eq(marks[-1][2]),
        ]
        for lane in range(self.lanes):
            unit = place(m, platform, f"lane_{lane}", f"pwl_{self.name}", Piecewise, self.spec)
            m.d.comb += [
                unit.en.eq(en),
                unit.x.eq(self.i.p.codes[lane]),
                self.o.p.codes[lane].eq(unit.o),
            ]
        return m


@cache
def bench():
    blocks = {}
    for name, spec in SPECS.items():
        span = spec.in_format.codes
        codes = np.arange(span.low, span.high + 1)[None]
        lanes = min(LANES, codes.shape[1])
        blocks[name] = Block(name, Many(spec, name, lanes), codes, codes.shape[1])
    return blocks, run_blocks(list(blocks.values()), PATTERNS)


def test_equals_the_table_for_every_input_code() -> None:
    blocks, traces = bench()
    for name, spec in SPECS.items():
        check_values(traces, blocks[name], spec.table()[None])


def test_takes_a_code_a_cycle_and_has_the_latency_of_its_constant() -> None:
    blocks, traces = bench()
    for name, block in blocks.items():
        found = traces[name, FULL_SPEED]
        assert found.latency == block.beats("i").count + ACTIVATION_LATENCY
