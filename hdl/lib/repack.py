"""Change of the number of lanes of a stream, with or without dropping codes."""

import math

from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.compact import Compact
from hdl.lib.stream import beat_stream, connect, transfer


class Repack(wiring.Component):
    """Repack frames from ``in_lanes`` to ``lanes`` codes a beat, dropping codes by a mask.

    The codes that stay keep their order; each frame begins in lane 0 of a new beat, and its last
    beat is filled up with code 0. A beat enters and a beat leaves in every cycle that allows it, so
    frames follow each other without a gap: the rate is that of the busier side. Only where the
    codes that stay cluster can the buffer run empty or full: at worst the two sides take turns.

    ::

        i -> [compaction, with a mask] -> [buffer] -> o

    Latency: a beat is in the buffer, and can leave, ``repack_latency`` cycles after it arrived. The
    buffer holds what one input beat adds at most, twice, and less than one output beat.

    Parameters
    ----------
    shape : Shape
        Shape of a code.
    in_length : int
        Codes per frame that enter.
    length : int
        Codes per frame that leave.
    in_lanes, lanes : int
        Codes per beat on either side.
    mask : str or None
        .hex file with a word of ``in_lanes`` bits per input beat, bit n set if lane n stays;
        None keeps everything.

    Members
    -------
    i : In(beat stream)
    o : Out(beat stream)
    """

    def __init__(
        self,
        shape: Shape,
        *,
        in_length: int,
        length: int,
        in_lanes: int,
        lanes: int,
        mask: str | None = None,
    ) -> None:
        if mask is None and in_length != length:
            raise ValueError(f"length must be {in_length} without a mask, not {length}")
        self.shape, self.mask = Shape.cast(shape), mask
        self.in_length, self.length, self.in_lanes, self.lanes = in_length, length, in_lanes, lanes
        super().__init__(
            {"i": In(beat_stream(shape, in_lanes)), "o": Out(beat_stream(shape, lanes))}
        )

    def elaborate(self, platform):
        m = Module()
        bits, in_lanes, lanes = self.shape.width, self.in_lanes, self.lanes
        in_beats, beats = -(-self.in_length // in_lanes), -(-self.length // lanes)
        tail = self.in_length - (in_beats - 1) * in_lanes
        padding = beats * lanes - self.length

        # The fill level counts units: without a mask only multiples of the unit occur.
        unit = math.gcd(in_lanes, lanes) if self.mask is None else 1
        # The most that one beat adds; a frame's last beat is filled up to whole output beats. The
        # buffer takes that much on top of what can be in it while the output never pauses.
        most = in_lanes + padding if self.mask else max(in_lanes, tail + padding)
        capacity = lanes - unit + 2 * most

        buffer = Signal(capacity * bits)  # reset: lanes above the fill level must be 0
        fill = Signal(range(capacity // unit + 1))
        room = Signal()
        m.d.comb += room.eq(fill <= (capacity - most) // unit)

        # What enters the buffer in this cycle: codes beyond `count` are 0.
        codes = Signal(in_lanes * bits)
        count = Signal(range((in_lanes + lanes) // unit))
        enter = Signal()
        if self.mask is None:
            last = self.i.p.last
            m.d.comb += [
                self.i.ready.eq(room),
                enter.eq(transfer(self.i)),
                codes.eq(self.i.p.codes.as_value()),
                count.eq(Mux(last, (tail + padding) // unit, in_lanes // unit)),
            ]
            if tail < in_lanes:
                with m.If(last):
                    m.d.comb += codes[tail * bits :].eq(0)
        else:
            m.submodules.compact = compact = Compact(
                self.shape, length=self.in_length, lanes=in_lanes, mask=self.mask
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
