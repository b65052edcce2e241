"""Change of the number of lanes of a stream, with or without dropping codes."""

import math

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.rom import Rom, address_bits
from hdl.lib.stream import beat_stream, transfer


class Repack(wiring.Component):
    """Repack frames from ``in_lanes`` to ``lanes`` codes a beat, dropping codes by a mask.

    The codes that stay keep their order; each frame begins in lane 0 of a new beat, and its last
    beat is filled up with code 0. A beat enters and a beat leaves in every cycle that allows it, so
    frames follow each other without a gap: the rate is that of the busier side. Only where the
    codes that stay cluster can the buffer run empty or full: at worst the two sides take turns.

    ::

        i -> [beat, mask] -> [compacted] -> [buffer] -> o
             (the first two registers only with a mask)

    Latency: a beat is in the buffer, and can leave, 1 cycle after it arrived (3 with a mask). The
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
            m.d.comb += self.i.ready.eq(room)
            self._compact(m, room, codes, count, enter, in_beats, padding)

        leave = Signal()
        m.d.comb += [
            self.o.valid.eq(fill >= lanes // unit),
            leave.eq(transfer(self.o)),
            self.o.p.codes.as_value().eq(buffer[: lanes * bits]),
        ]
        base = Signal.like(fill)
        rest = Signal(capacity * bits)
        m.d.comb += [
            base.eq(Mux(leave, fill - lanes // unit, fill)),
            rest.eq(Mux(leave, buffer >> (lanes * bits), buffer)),
        ]
        shifted = codes
        for step in range(len(base)):
            moved = Signal(capacity * bits, name=f"shifted_{step}")
            m.d.comb += moved.eq(Mux(base[step], shifted << (unit * bits << step), shifted))
            shifted = moved
        with m.If(enter):
            m.d.sync += [buffer.eq(rest | shifted), fill.eq(base + count)]
        with m.Elif(leave):
            m.d.sync += [buffer.eq(rest), fill.eq(base)]

        if beats == 1:
            m.d.comb += [self.o.p.first.eq(1), self.o.p.last.eq(1)]
        else:
            index = Signal(range(beats))
            m.d.comb += [self.o.p.first.eq(index == 0), self.o.p.last.eq(index == beats - 1)]
            with m.If(leave):
                m.d.sync += index.eq(Mux(self.o.p.last, 0, index + 1))
        return m

    def _compact(self, m, ce, codes, count, enter, in_beats, padding):
        """Two register stages: the beat beside its mask word, then the codes that stay."""
        bits, in_lanes = self.shape.width, self.in_lanes
        m.submodules.mask = mask = Rom(in_lanes, in_beats, self.mask)
        index = Signal(address_bits(in_beats))
        m.d.comb += [mask.addr.eq(index), mask.en.eq(transfer(self.i))]
        with m.If(transfer(self.i)):
            m.d.sync += index.eq(Mux(self.i.p.last, 0, index + 1))
        beat = Signal(data.ArrayLayout(bits, in_lanes), reset_less=True)
        last = Signal(reset_less=True)
        full = Signal()
        kept = Signal(data.ArrayLayout(bits, in_lanes), reset_less=True)
        kept_count = Signal.like(count, reset_less=True)
        kept_full = Signal()
        with m.If(ce):
            m.d.sync += [full.eq(self.i.valid), kept_full.eq(full)]
            m.d.sync += [beat.eq(self.i.p.codes.as_value()), last.eq(self.i.p.last)]
        # Move each code down by the number of dropped lanes below it, one bit of that number at a
        # time, lowest first: no two codes ever meet.
        lanes = []
        dropped = Const(0, 1)
        for lane in range(in_lanes):
            stays = mask.data[lane]
            lanes.append((beat[lane] & stays.replicate(bits), dropped * stays))
            total = Signal(range(in_lanes + 1), name=f"dropped_{lane}")
            m.d.comb += total.eq(dropped + ~stays)
            dropped = total
        for step in range(in_lanes.bit_length()):
            moved = []
            for lane in range(in_lanes):
                code, distance = lanes[lane]
                moves = distance[step] if step < len(distance) else Const(0, 1)
                terms = [code & (~moves).replicate(bits)]
                carry = [distance & (~moves).replicate(len(distance))]
                if lane + (1 << step) < in_lanes:
                    other, reach = lanes[lane + (1 << step)]
                    comes = reach[step] if step < len(reach) else Const(0, 1)
                    terms.append(other & comes.replicate(bits))
                    carry.append(reach & comes.replicate(len(reach)))
                place = Signal(bits, name=f"code_{step}_{lane}")
                still = Signal(range(in_lanes + 1), name=f"distance_{step}_{lane}")
                m.d.comb += [place.eq(_any(terms)), still.eq(_any(carry))]
                moved.append((place, still))
            lanes = moved
        with m.If(ce):
            m.d.sync += [
                Cat(*(kept[lane] for lane in range(in_lanes))).eq(
                    Cat(*(code for code, _ in lanes))
                ),
                kept_count.eq(in_lanes - dropped + Mux(last, padding, 0)),
            ]
        m.d.comb += [codes.eq(kept), count.eq(kept_count), enter.eq(kept_full & ce)]


def _any(terms):
    out = terms[0]
    for term in terms[1:]:
        out = out | term
    return out
