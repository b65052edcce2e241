"""Frame source and sink: whole runs live in memories beside the accelerator.

The simulator then calls nobody in every cycle. Both can stall at random, in a pattern that a seed
chooses.
"""

from pathlib import Path

from amaranth.hdl import Cat, ClockSignal, Instance, Module, Mux, ResetSignal, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.rom import Rom, address_bits
from hdl.lib.stream import beat_stream, transfer

SOURCE = Path(__file__).with_name("gyre_capture.v")


class Noise(wiring.Component):
    """One pseudo-random bit a cycle (a 16-bit Galois LFSR); a stall pattern of probability 1/2.

    Members
    -------
    seed : In(16)
        Taken during reset, any value.
    o : Out(1)
    """

    seed: In(16)
    o: Out(1)

    def elaborate(self, platform):
        m = Module()
        state = Signal(16, init=1)
        started = Signal()
        m.d.sync += started.eq(1)
        with m.If(started):
            m.d.sync += state.eq((state >> 1) ^ Mux(state[0], 0xB400, 0))
        with m.Else():
            m.d.sync += state.eq(Mux(self.seed == 0, 0xACE1, self.seed))
        m.d.comb += self.o.eq(state[0])
        return m


class FrameSource(wiring.Component):
    """Sends the beats that a .hex file holds.

    Parameters
    ----------
    shape : Shape
        Shape of a code.
    lanes, beats : int
        Codes per beat and beats per frame.
    depth : int
        Beats that the memory can hold.
    file : str
        .hex file with the codes of a beat a word.

    Members
    -------
    o : Out(stream)
    words : In(32)
        Beats to send.
    stall : In(1)
        Pause at random.
    seed : In(16)
        Pattern of the pauses.
    left : Out(32)
        Beats not yet sent.
    """

    def __init__(self, shape: Shape, *, lanes: int, beats: int, depth: int, file: str) -> None:
        self.shape, self.lanes, self.beats = Shape.cast(shape), lanes, beats
        self.depth, self.file = depth, file
        super().__init__(
            {
                "o": Out(beat_stream(shape, lanes)),
                "words": In(32),
                "stall": In(1),
                "seed": In(16),
                "left": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.rom = rom = Rom(self.lanes * self.shape.width, self.depth, self.file)
        m.submodules.noise = noise = Noise()
        fetched, sent, beat = Signal(32), Signal(32), Signal(address_bits(self.beats))
        move = Signal()
        m.d.comb += [
            noise.seed.eq(self.seed),
            move.eq(~self.o.valid | self.o.ready),
            rom.en.eq(move & (fetched != self.words) & ~(self.stall & noise.o)),
            rom.addr.eq(fetched[: address_bits(self.depth)]),
            self.o.p.codes.as_value().eq(rom.data),
            self.o.p.first.eq(beat == 0),
            self.o.p.last.eq(beat == self.beats - 1),
            self.left.eq(self.words - sent),
        ]
        valid = Signal()
        m.d.comb += self.o.valid.eq(valid)
        with m.If(move):
            m.d.sync += valid.eq(rom.en)
        with m.If(rom.en):
            m.d.sync += fetched.eq(fetched + 1)
        with m.If(transfer(self.o)):
            m.d.sync += [sent.eq(sent + 1), beat.eq(Mux(self.o.p.last, 0, beat + 1))]
        return m


class Capture(wiring.Component):
    """Keeps words in a memory and writes them to a .hex file when told.

    Members
    -------
    we, data : In
        Keep a word.
    dump : In(1)
        Write the file.
    count : Out(32)
        Words seen, those beyond the depth included.
    """

    def __init__(self, width: int, depth: int, file: str) -> None:
        self.width, self.depth, self.file = width, depth, file
        super().__init__({"we": In(1), "data": In(width), "dump": In(1), "count": Out(32)})

    def elaborate(self, platform):
        m = Module()
        platform.include(SOURCE)
        m.submodules.memory = Instance(
            "gyre_capture",
            p_WIDTH=self.width,
            p_DEPTH=self.depth,
            p_ADDR=address_bits(self.depth),
            p_FILE=self.file,
            i_clk=ClockSignal(),
            i_rst=ResetSignal(),
            i_we=self.we,
            i_data=self.data,
            i_dump=self.dump,
            o_count=self.count,
        )
        return m


class FrameSink(wiring.Component):
    """Takes beats and keeps them: a word is the codes, above them ``first`` and ``last``.

    Members
    -------
    i : In(stream)
    stall : In(1)
        Pause at random.
    seed : In(16)
        Pattern of the pauses.
    dump : In(1)
        Write the file.
    count : Out(32)
        Beats taken.
    """

    def __init__(self, shape: Shape, *, lanes: int, depth: int, file: str) -> None:
        self.shape, self.lanes = Shape.cast(shape), lanes
        self.depth, self.file = depth, file
        super().__init__(
            {
                "i": In(beat_stream(shape, lanes)),
                "stall": In(1),
                "seed": In(16),
                "dump": In(1),
                "count": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width = self.lanes * self.shape.width + 2
        m.submodules.memory = memory = Capture(width, self.depth, self.file)
        m.submodules.noise = noise = Noise()
        m.d.comb += [
            noise.seed.eq(self.seed),
            self.i.ready.eq(~(self.stall & noise.o)),
            memory.we.eq(transfer(self.i)),
            memory.data.eq(Cat(self.i.p.codes.as_value(), self.i.p.first, self.i.p.last)),
            memory.dump.eq(self.dump),
            self.count.eq(memory.count),
        ]
        return m
