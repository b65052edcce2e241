"""The FIFO: nothing changes but the cycle, and it holds exactly its depth."""

import numpy as np
import pytest
from amaranth.hdl import Module, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.fifo import Fifo
from hdl.lib.stream import beat_stream, connect
from model.ir.numerics import IntRange
from model.ir.schedule import FIFO_LATENCY, FIFO_LEAST
from sim.block import FULL_SPEED, Block, check_values, run_blocks
from tests.examples import codes_of
from tests.tools import require_tools

pytestmark = pytest.mark.rtl

FRAMES = 12
CASES = [(FIFO_LEAST, 7, 2), (4, 3, 3), (5, 9, 1), (16, 8, 2), (17, 8, 2)]
"""Depth, codes per frame and lanes."""


class Gate(wiring.Component):
    """A FIFO whose beats come out only after it has been full once."""

    def __init__(self, shape: Shape, lanes: int, depth: int) -> None:
        self.shape, self.lanes, self.depth = shape, lanes, depth
        super().__init__({"i": In(beat_stream(shape, lanes)), "o": Out(beat_stream(shape, lanes))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = Fifo(self.shape, self.lanes, self.depth)
        opened = Signal()
        with m.If(fifo.level == self.depth):
            m.d.sync += opened.eq(1)
        connect(m, wiring.flipped(self.i), fifo.i)
        m.d.comb += [
            self.o.p.eq(fifo.o.p),
            self.o.valid.eq(fifo.o.valid & opened),
            fifo.o.ready.eq(self.o.ready & opened),
        ]
        return m


def test_passes_every_beat_at_full_rate_and_holds_its_depth() -> None:
    require_tools("g++")
    rng = np.random.default_rng(1)
    blocks, gates = [], []
    for depth, length, lanes in CASES:
        codes = codes_of(IntRange.of_bits(5, True), rng, FRAMES, length)
        args = (Shape(5, True), lanes, depth)
        blocks.append(Block(f"depth {depth}", Fifo(*args), codes, length))
        gates.append(Block(f"gate of {depth}", Gate(*args), codes, length))
    traces = run_blocks([*blocks, *gates])
    for block in (*blocks, *gates):
        check_values(traces, block, block.codes)
    for block in blocks:
        trace, beats = traces[block.name, FULL_SPEED], block.beats("o").count
        assert trace.latency == beats + FIFO_LATENCY
        assert trace.gaps == [beats] * (FRAMES - 1)
    for (depth, _, _), block in zip(CASES, gates, strict=True):
        trace = traces[block.name, FULL_SPEED]
        assert int((trace.i_cycles < trace.o_cycles[0, 0]).sum()) == depth


def test_refuses_a_depth_that_cannot_keep_the_rate() -> None:
    with pytest.raises(ValueError, match=f"depth must be at least {FIFO_LEAST}, not 2"):
        Fifo(Shape(4, False), 2, 2)
