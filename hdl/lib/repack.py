"""Change of the lanes that the codes of a stream travel on, with or without dropping codes."""

from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.compact import Compact
from hdl.lib.stream import beat_stream, connect, transfer
from model.ir.beats import Beats
from model.ir.repack import RepackBuffer, check_repack


class Repack(wiring.Component):
    """Lay the codes of each frame onto other lanes, dropping some of them by a mask.

    The codes that stay keep their order and the frame begins in lane 0 of a new beat; lanes without
    a code hold code 0. What lies between the pixels of an image follows from the two layouts:

    - the same pixels on either side: each begins a new beat, padding is dropped and made anew;
    - an image to a vector: padding is dropped (flatten);
    - to new pixels, or with a mask: only where the lanes divide the channels that leave.

    A beat enters and a beat leaves in every cycle that allows it, so frames follow each other
    without a gap: the rate is that of the busier side. Only where the codes that a mask keeps
    cluster can the buffer run empty or full: at worst the two sides take turns.

    ::

        i -> [compaction, with a mask] -> [buffer] -> o

    Latency: a beat is in the buffer, and can leave, ``repack_latency`` cycles after it arrived. The
    buffer holds what one input beat adds at most, twice, and less than one output beat; one output
    beat more where pixels end in the middle of a beat that leaves.

    Parameters
    ----------
    shape : Shape
        Shape of a code.
    i, o : Beats
        How frames enter and leave.
    mask : str or None
        .hex file with a word of ``i.lanes`` bits per input beat, bit n set if lane n stays; None
        keeps everything.

    Members
    -------
    i : In(beat stream)
    o : Out(beat stream)

    Raises
    ------
    ValueError
        If the frames cannot be laid out so: see ``check_repack``.
    """

    def __init__(self, shape: Shape, i: Beats, o: Beats, mask: str | None = None) -> None:
        check_repack(i, o, mask is not None)
        self.shape, self.mask = Shape.cast(shape), mask
        self.before, self.after = i, o
        super().__init__(
            {"i": In(beat_stream(shape, i.lanes)), "o": Out(beat_stream(shape, o.lanes))}
        )

    def elaborate(self, platform):
        m = Module()
        before, after = self.before, self.after
        bits, in_lanes, lanes, beats = self.shape.width, before.lanes, after.lanes, after.count
        size = RepackBuffer.of(before, after, self.mask is not None)
        unit, capacity, pixels = size.unit, size.capacity, size.pixels
        tail, padding = size.tail, size.padding

        buffer = Signal(capacity * bits)  # reset: lanes above the fill level must be 0
        fill = Signal(range(capacity // unit + 1))
        room = Signal()
        m.d.comb += room.eq(fill <= size.room)

        # What enters the buffer in this cycle: codes beyond `count` are 0.
        codes = Signal(in_lanes * bits)
        count = Signal(range((in_lanes + lanes) // unit))
        enter = Signal()
        if self.mask is None:
            last = Signal()  # the last beat of a run
            m.d.comb += [
                self.i.ready.eq(room),
                enter.eq(transfer(self.i)),
                codes.eq(self.i.p.codes.as_value()),
                count.eq(in_lanes // unit),
            ]
            if before.groups == 1:
                m.d.comb += last.eq(self.i.p.last)
            elif before.per_group == 1:
                m.d.comb += last.eq(1)
            else:
                beat = Signal(range(before.per_group))
                m.d.comb += last.eq(beat == before.per_group - 1)
                with m.If(enter):
                    m.d.sync += beat.eq(Mux(last, 0, beat + 1))
            with m.If(last):
                m.d.comb += count.eq(
                    (tail + padding) // unit
                    if pixels
                    else Mux(self.i.p.last, (tail + padding) // unit, tail // unit)
                )
                if tail < in_lanes:
                    m.d.comb += codes[tail * bits :].eq(0)
        else:
            m.submodules.compact = compact = Compact(
                self.shape, beats=before.count, lanes=in_lanes, mask=self.mask
            )
            connect(m, wiring.flipped(self.i), compact.i)
            m.d.comb += [
                compact.en.eq(room),
                enter.eq(compact.valid & room),
                codes.eq(compact.codes),
                count.eq(compact.count + Mux(compact.last, padding, 0)),
            ]

        leave = Signal()
        m.d.comb += [
            self.o.valid.eq(fill >= lanes // unit),
            leave.eq(transfer(self.o)),
            self.o.p.codes.as_value().eq(buffer[: lanes * bits]),
        ]
        # New codes go on top of the fill level; then, if a beat leaves, all move down by its lanes.
        # In this order the level, a register, decides the long shift, and `ready` a short one.
        shifted = codes
        for step in range(len(fill)):
            moved = Signal(capacity * bits, name=f"shifted_{step}")
            m.d.comb += moved.eq(Mux(fill[step], shifted << (unit * bits << step), shifted))
            shifted = moved
        joined, level = Signal(capacity * bits), Signal.like(fill)
        m.d.comb += [
            joined.eq(buffer | Mux(enter, shifted, 0)),
            level.eq(fill + Mux(enter, count, 0)),
        ]
        m.d.sync += [buffer.eq(joined), fill.eq(level)]
        with m.If(leave):
            m.d.sync += [buffer.eq(joined >> (lanes * bits)), fill.eq(level - lanes // unit)]

        if beats == 1:
            m.d.comb += [self.o.p.first.eq(1), self.o.p.last.eq(1)]
        else:
            index = Signal(range(beats))
            m.d.comb += [self.o.p.first.eq(index == 0), self.o.p.last.eq(index == beats - 1)]
            with m.If(leave):
                m.d.sync += index.eq(Mux(self.o.p.last, 0, index + 1))
        return m
