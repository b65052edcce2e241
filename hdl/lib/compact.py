"""Compaction: the codes of a beat that a mask keeps, moved together into the lowest lanes."""

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.rom import Rom, address_bits
from hdl.lib.stream import beat_stream
from model.ir.repack import COMPACT_LEVELS, compact_latency


class Compact(wiring.Component):
    """Drops the codes of each beat that the mask does not keep; the others keep their order.

    ::

        i -> [beat, mask word] -> [mask] -> count the dropped lanes below each lane -> move -> codes

    Each code moves down by the number of dropped lanes below it, one bit of that number at a time,
    lowest first, so that no two codes ever meet. Counting and moving take ``log2(lanes)`` levels
    each, with a register after every three.

    Latency: ``compact_latency(lanes)`` cycles of ``en``. One beat a cycle of ``en``.
    Memory: ``beats`` words of ``lanes`` bits.

    Parameters
    ----------
    shape : Shape
        Shape of a code.
    beats, lanes : int
        Beats per frame that enter, and codes per beat.
    mask : str
        .hex file with a word of ``lanes`` bits per beat, bit n set if lane n stays.

    Members
    -------
    en : In(1)
        Advance; ``i.ready`` is the same.
    i : In(beat stream)
    codes : Out(lanes codes)
        The codes that stay, then zeros.
    count : Out
        How many stay.
    last : Out(1)
        The beat is the last of its frame.
    valid : Out(1)
        There is a beat.
    """

    def __init__(self, shape: Shape, *, beats: int, lanes: int, mask: str) -> None:
        self.shape, self.beats, self.lanes, self.mask = Shape.cast(shape), beats, lanes, mask
        super().__init__(
            {
                "en": In(1),
                "i": In(beat_stream(shape, lanes)),
                "codes": Out(self.shape.width * lanes),
                "count": Out(range(lanes + 1)),
                "last": Out(1),
                "valid": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bits, lanes = self.shape.width, self.lanes
        m.submodules.mask = mask = Rom(lanes, self.beats, self.mask)
        index = Signal(address_bits(self.beats))
        moves = self.i.valid & self.en
        m.d.comb += [self.i.ready.eq(self.en), mask.addr.eq(index), mask.en.eq(moves)]
        with m.If(moves):
            m.d.sync += index.eq(Mux(self.i.p.last, 0, index + 1))

        valid, last, stages = self.i.valid, self.i.p.last, 0

        def register(*groups):
            """The groups of values, and with them the marks, one cycle of ``en`` later."""
            nonlocal valid, last, stages
            new_valid = Signal(name=f"valid_{stages}")
            later = [
                [
                    Signal(len(v), name=f"stage_{stages}_{g}_{n}", reset_less=True)
                    for n, v in enumerate(vs)
                ]
                for g, vs in enumerate(([last], *groups))
            ]
            with m.If(self.en):
                m.d.sync += new_valid.eq(valid)
                for new, old in zip(later, ([last], *groups), strict=True):
                    m.d.sync += [n.eq(o) for n, o in zip(new, old, strict=True)]
            valid, (last,), stages = new_valid, later[0], stages + 1
            return later[1:]

        def named(name, values):
            """The values as signals, so that each expression is written once."""
            signals = [Signal(len(v), name=f"{name}_{n}") for n, v in enumerate(values)]
            m.d.comb += [signal.eq(value) for signal, value in zip(signals, values, strict=True)]
            return signals

        beat = data.View(data.ArrayLayout(bits, lanes), self.i.p.codes.as_value())
        (codes,) = register([beat[lane] for lane in range(lanes)])
        codes, stays = register(codes, [mask.data[lane] for lane in range(lanes)])
        kept = [_when(keep, code) for keep, code in zip(stays, codes, strict=True)]
        codes = named("codes", kept)

        # counts[n]: dropped lanes below lane n; counts[lanes]: all of them. Prefix sums, doubling.
        counts = [Const(0, 1), *(~keep for keep in stays)]
        levels = (lanes - 1).bit_length()
        for level in range(levels):
            reach = 1 << level
            sums = [c + counts[n - reach] if n >= reach else c for n, c in enumerate(counts)]
            counts = named(f"counts_{level}", sums)
            if level % COMPACT_LEVELS == COMPACT_LEVELS - 1 or level == levels - 1:
                codes, counts, stays = register(codes, counts, stays)

        # A dropped lane is empty and must not move: neither its zeros nor its distance.
        total = counts[lanes]
        kept = [_when(keep, count) for keep, count in zip(stays, counts, strict=False)]
        distances = named("distances", kept)
        for level in range(levels):
            reach = 1 << level
            moved = []
            for lane in range(lanes):
                stay = ~_bit(distances[lane], level)
                code, distance = _when(stay, codes[lane]), _when(stay, distances[lane])
                if lane + reach < lanes:
                    come = _bit(distances[lane + reach], level)
                    code = code | _when(come, codes[lane + reach])
                    distance = distance | _when(come, distances[lane + reach])
                moved.append((code, distance))
            codes = named(f"codes_{level}", [code for code, _ in moved])
            distances = named(f"distances_{level}", [distance for _, distance in moved])
            if level % COMPACT_LEVELS == COMPACT_LEVELS - 1 or level == levels - 1:
                codes, distances, (total,) = register(codes, distances, [total])
        assert stages == compact_latency(lanes)
        m.d.comb += [
            self.codes.eq(Cat(*codes)),
            self.count.eq(lanes - total),
            self.last.eq(last),
            self.valid.eq(valid),
        ]
        return m


def _bit(value, position):
    return value[position] if position < len(value) else Const(0, 1)


def _when(condition, value):
    return value & condition.replicate(len(value))
