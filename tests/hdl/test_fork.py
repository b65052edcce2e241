"""The fork: every reader gets every beat once, in order, however the others pause."""

import numpy as np
import pytest
from amaranth.hdl import Module, Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.fork import Fork
from hdl.lib.frames import Noise
from hdl.lib.stream import beat_layout, beat_stream, connect, transfer
from model.ir.numerics import IntRange
from sim.block import FULL_SPEED, Block, check_values, run_blocks
from tests.examples import codes_of
from tests.tools import require_tools

pytestmark = pytest.mark.rtl

FRAMES = 12


class Readers(wiring.Component):
    """A fork of which the bench reads stream 0; every other reader is always ready, or at random.

    The beats of reader n show at ``tap_reader_<n>``.
    """

    def __init__(self, shape: Shape, lanes: int, pauses: tuple[bool, ...]) -> None:
        self.shape, self.lanes, self.pauses = shape, lanes, pauses
        stream = beat_stream(shape, lanes)
        ports = {"i": In(stream), "o": Out(stream)}
        for n in range(1, len(pauses) + 1):
            ports[f"tap_reader_{n}"] = Out(beat_layout(shape, lanes))
            ports[f"moves_reader_{n}"] = Out(1)
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        m.submodules.fork = fork = Fork(self.shape, self.lanes, len(self.pauses) + 1)
        connect(m, wiring.flipped(self.i), fork.i)
        connect(m, fork.o[0], wiring.flipped(self.o))
        for n, pauses in enumerate(self.pauses, 1):
            side = fork.o[n]
            if pauses:
                m.submodules[f"noise_{n}"] = noise = Noise()
                m.d.comb += [noise.seed.eq(977 * n), side.ready.eq(noise.o)]
            else:
                m.d.comb += side.ready.eq(1)
            m.d.comb += [
                getattr(self, f"tap_reader_{n}").eq(side.p),
                getattr(self, f"moves_reader_{n}").eq(transfer(side)),
            ]
        return m


def test_every_reader_gets_every_beat_once() -> None:
    require_tools("g++")
    rng = np.random.default_rng(1)
    blocks = []
    for length, lanes, bits, signed, pauses in (
        (7, 2, 5, True, (True,)),
        (4, 4, 3, False, (False,)),
        (9, 1, 8, True, (True, True, False)),
    ):
        codes = codes_of(IntRange.of_bits(bits, signed), rng, FRAMES, length)
        component = Readers(Shape(bits, signed), lanes, pauses)
        taps = {f"reader_{n}": length for n in range(1, len(pauses) + 1)}
        blocks.append(Block(f"{length} codes, {pauses}", component, codes, length, taps=taps))
    traces = run_blocks(blocks)
    for block in blocks:
        check_values(traces, block, block.codes)
        for (name, pattern), trace in traces.items():
            for reader, codes in trace.taps.items():
                if name == block.name:
                    assert np.array_equal(codes, block.codes), (name, pattern, reader)
    free, beats = blocks[1], blocks[1].beats("o").count
    trace = traces[free.name, FULL_SPEED]
    assert (trace.latency, trace.gaps) == (beats, [beats] * (FRAMES - 1))
