"""Whole frames only: one of the wrong length is dropped before the accelerator sees any of it."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from model.ir.spec import check_int


class FrameGate(wiring.Component):
    """Takes frames that end where TLAST says, and gives those of the right length.

    Two banks of a frame each: one fills while the other is read, so frames of the right length
    pass at a beat a cycle. Latency: a beat leaves ``beats + 1`` cycles after the one in its place
    has entered, if neither side stalls.

    Memory: ``2 · beats`` words of ``width`` bits.

    A frame is **short** if it ends before its last beat, and **long** if it does not end there; a
    long one is dropped up to its end. Either way the bank is filled anew by the next frame.

    Parameters
    ----------
    width : int
        Bits of a beat.
    beats : int
        Beats of a frame.

    Members
    -------
    enable : In(1)
        Take further frames; one that has begun is taken to its end.
    i_data, i_last, i_valid : In and i_ready : Out(1)
        What enters.
    o_data, o_first, o_last, o_valid : Out and o_ready : In(1)
        What leaves: whole frames.
    taken, short, long : Out(1)
        In this cycle a frame has entered whole, has ended too early, or goes beyond its end.
    receiving : Out(1)
        A frame has begun to enter and has not ended.
    """

    def __init__(self, width: int, beats: int) -> None:
        check_int("beats", beats, 1)
        self.width, self.beats = width, beats
        super().__init__(
            {
                "enable": In(1),
                "i_data": In(unsigned(width)),
                "i_last": In(1),
                "i_valid": In(1),
                "i_ready": Out(1),
                "o_data": Out(unsigned(width)),
                "o_first": Out(1),
                "o_last": Out(1),
                "o_valid": Out(1),
                "o_ready": In(1),
                "taken": Out(1),
                "short": Out(1),
                "long": Out(1),
                "receiving": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        last, depth = self.beats - 1, 2 * self.beats
        m.submodules.store = store = memory.Memory(shape=unsigned(self.width), depth=depth, init=[])
        write, read = store.write_port(), store.read_port()
        full = Signal(range(3))  # banks that hold a whole frame
        freed = Signal()

        # The way in.
        place, bank = Signal(range(depth)), Signal()  # bank: the frame goes into the upper one
        beat = Signal(range(max(self.beats, 2)))
        skipping, move = Signal(), Signal()
        m.d.comb += [
            self.i_ready.eq(self.receiving | (self.enable & (full != 2))),
            move.eq(self.i_valid & self.i_ready),
            write.en.eq(move & ~skipping),
            write.addr.eq(place),
            write.data.eq(self.i_data),
        ]
        with m.If(move):
            at_end = beat == last
            m.d.comb += [
                self.taken.eq(self.i_last & at_end & ~skipping),
                self.short.eq(self.i_last & ~at_end & ~skipping),
                self.long.eq(~self.i_last & at_end & ~skipping),
            ]
            m.d.sync += self.receiving.eq(~self.i_last)
            with m.If(self.i_last):
                into = bank ^ self.taken
                m.d.sync += [
                    beat.eq(0),
                    bank.eq(into),
                    place.eq(Mux(into, self.beats, 0)),
                    skipping.eq(0),
                ]
            with m.Elif(at_end):
                m.d.sync += skipping.eq(1)
            with m.Else():
                m.d.sync += [beat.eq(beat + 1), place.eq(place + 1)]

        # The way out: the memory's output register is the beat that is offered.
        source = Signal(range(depth))
        out, go = Signal(range(max(self.beats, 2))), Signal()
        m.d.comb += [
            go.eq(~self.o_valid | self.o_ready),
            read.en.eq(go & (full != 0)),
            read.addr.eq(source),
            freed.eq(read.en & (out == last)),
            self.o_data.eq(read.data),
        ]
        with m.If(go):
            m.d.sync += self.o_valid.eq(read.en)
        with m.If(read.en):
            m.d.sync += [
                self.o_first.eq(out == 0),
                self.o_last.eq(out == last),
                out.eq(Mux(out == last, 0, out + 1)),
                source.eq(Mux(source == depth - 1, 0, source + 1)),
            ]
        m.d.sync += full.eq(full + self.taken - freed)
        return m
