"""Streams inside the LSTM: rescaled codes, gates by groups, and words of x and y."""

from amaranth.hdl import Module, Mux, Shape, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.numerics import code_shape
from hdl.lib.rom import address_bits
from hdl.lib.stream import beat_stream, transfer
from model.ir.lstm import LSTMSpec
from model.ir.lstm_array import LSTMArraySpec
from model.ir.requantize import rounding


class Rescale(wiring.Component):
    """Codes that enter to the format of x and y: ``clamp((x + r) >> s)``, left if s < 0.

    Latency: 1 cycle. One beat a cycle.
    """

    def __init__(self, layer: LSTMSpec, lanes: int) -> None:
        self.layer, self.lanes = layer, lanes
        super().__init__(
            {
                "i": In(beat_stream(code_shape(layer.in_format), lanes)),
                "o": Out(beat_stream(code_shape(layer.gates.in_format), lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        right, left = max(0, self.layer.x_shift), max(0, -self.layer.x_shift)
        span = self.layer.gates.in_format.codes
        valid, beat = Signal(), Signal(self.o.p.shape(), reset_less=True)
        m.d.comb += [
            self.i.ready.eq(~valid | self.o.ready),
            self.o.valid.eq(valid),
            self.o.p.eq(beat),
        ]
        with m.If(self.i.ready):
            m.d.sync += [
                valid.eq(self.i.valid),
                beat.first.eq(self.i.p.first),
                beat.last.eq(self.i.p.last),
            ]
            for lane in range(self.lanes):
                code = ((self.i.p.codes[lane] << left) + rounding(right)) >> right
                with m.If(code < span.low):
                    m.d.sync += beat.codes[lane].eq(span.low)
                with m.Elif(code > span.high):
                    m.d.sync += beat.codes[lane].eq(span.high)
                with m.Else():
                    m.d.sync += beat.codes[lane].eq(code)
        return m


class Gather(wiring.Component):
    """Every ``parts`` beats become one, which stays ``shown`` cycles or longer without a stall.

    While a beat is shown the next one gathers, so where ``shown <= parts`` no beat has to wait.
    Latency: 1 cycle from the last of its beats. One beat a cycle.

    Parameters
    ----------
    shape : Shape
        Shape of a code.
    lanes, parts : int
        Codes of a beat that enters, and how many make one that leaves.
    count : int
        Beats of a frame that leave.
    """

    def __init__(self, shape: Shape, *, lanes: int, parts: int, count: int) -> None:
        self.shape, self.lanes, self.parts, self.count = Shape.cast(shape), lanes, parts, count
        super().__init__(
            {"i": In(beat_stream(shape, lanes)), "o": Out(beat_stream(shape, lanes * parts))}
        )

    def elaborate(self, platform):
        m = Module()
        width, parts = self.lanes * self.shape.width, self.parts
        waiting = Signal(width * (parts - 1), reset_less=True)
        group = Signal(width * parts, reset_less=True)
        whole = Signal(width * parts)
        part, index = Signal(address_bits(parts)), Signal(address_bits(self.count))
        full, last, free = Signal(), Signal(), Signal()
        m.d.comb += [
            last.eq(part == parts - 1),
            free.eq(~full | self.o.ready),
            self.i.ready.eq(~last | free),
            whole[-width:].eq(self.i.p.codes.as_value()),
            whole[: width * (parts - 1)].eq(waiting),
            self.o.valid.eq(full),
            self.o.p.codes.as_value().eq(group),
            self.o.p.first.eq(index == 0),
            self.o.p.last.eq(index == self.count - 1),
        ]
        with m.If(free):
            m.d.sync += full.eq(0)
        with m.If(transfer(self.i)):
            m.d.sync += [part.eq(Mux(last, 0, part + 1)), waiting.eq(whole >> width)]
            with m.If(last):
                m.d.sync += [group.eq(whole), full.eq(1)]
        with m.If(transfer(self.o)):
            m.d.sync += index.eq(Mux(self.o.p.last, 0, index + 1))
        return m


class Columns(wiring.Component):
    """The words that the engine of the gates reads: of x as it comes, then of y(t-1) from a memory.

    y of every slot is in the memory, ``sequences · Wy`` words. A frame's y is read once y of the
    frame before it in the same slot is all written; x loads meanwhile. Latency: 1 cycle. One word a
    cycle.

    Parameters
    ----------
    layer : LSTMSpec
    engine : LSTMArraySpec

    Members
    -------
    x : In(stream of ``cols`` codes)
        The features of a step.
    o : Out(stream of ``cols`` codes)
        The words, padding being code 0.
    y : In(stream of ``cols`` codes)
        y of every frame, for the memory; it always goes on.
    ready : In(1)
        The frame's marks are known: its y may be read.
    begin : In(1)
        Mark: y(t-1) is 0.
    slot, last : Out
        Slot of the frame, and whether its last word of y is read in this cycle.
    write_slot : Out
        Slot of the frame that enters at ``y``.
    idle : In(1)
        Mark of that frame: it is not written.
    """

    def __init__(self, layer: LSTMSpec, engine: LSTMArraySpec) -> None:
        self.layer, self.engine = layer, engine
        words = beat_stream(code_shape(layer.gates.in_format), engine.gates.cols)
        slots = address_bits(engine.sequences)
        super().__init__(
            {
                "x": In(words),
                "o": Out(words),
                "y": In(words),
                "ready": In(1),
                "begin": In(1),
                "slot": Out(slots),
                "last": Out(1),
                "write_slot": Out(slots),
                "idle": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        layer, engine = self.layer, self.engine
        cols, slots = engine.gates.cols, engine.sequences
        bits = layer.gates.in_format.bits
        x_words, y_words = engine.x_words(layer), engine.y_words(layer)
        x_beats, y_beats = -(-layer.features // cols), -(-layer.outputs // cols)
        en, issue = Signal(), Signal()
        index, of_y = Signal(range(max(x_words, y_words) + 1)), Signal()
        pending = Signal(range(slots + 1))  # frames whose y has been read, and not yet written
        written = Signal()
        base, write_base = (Signal(address_bits(slots * y_beats), name=n) for n in ("r", "w"))

        allowed, arrived = Signal(), Signal()
        m.d.comb += [
            allowed.eq(self.ready & (pending != slots)),
            arrived.eq(self.x.valid | (index >= x_beats)),
            en.eq(~self.o.valid | self.o.ready),
            issue.eq(en & Mux(of_y, allowed, arrived)),
            self.x.ready.eq(en & ~of_y & (index < x_beats)),
            self.last.eq(issue & of_y & (index == y_words - 1)),
        ]
        with m.If(issue):
            m.d.sync += index.eq(index + 1)
            with m.If(index == Mux(of_y, y_words - 1, x_words - 1)):
                m.d.sync += [index.eq(0), of_y.eq(~of_y)]
        m.d.sync += pending.eq(pending + self.last - written)
        with m.If(self.last):
            final = self.slot == slots - 1
            m.d.sync += [
                self.slot.eq(Mux(final, 0, self.slot + 1)),
                base.eq(Mux(final, 0, base + y_beats)),
            ]

        m.submodules.store = store = memory.Memory(
            shape=unsigned(cols * bits), depth=max(2, slots * y_beats), init=[]
        )
        read, write = store.read_port(), store.write_port()
        word, valid = Signal(cols * bits, reset_less=True), Signal()
        stored, zero = Signal(reset_less=True), Signal(reset_less=True)
        first, last = Signal(reset_less=True), Signal(reset_less=True)
        m.d.comb += [read.en.eq(issue & of_y), read.addr.eq(base + index)]
        x = _cut(self.x.p.codes.as_value(), index == x_beats - 1, layer.features, cols, bits)
        with m.If(en):
            m.d.sync += valid.eq(issue)
        with m.If(issue):
            m.d.sync += [
                word.eq(Mux(index < x_beats, x, 0)),
                stored.eq(of_y),
                zero.eq(self.begin | (index >= y_beats)),
                first.eq(~of_y & (index == 0)),
                last.eq(of_y & (index == y_words - 1)),
            ]
        m.d.comb += [
            self.o.valid.eq(valid),
            self.o.p.codes.as_value().eq(Mux(stored, Mux(zero, 0, read.data), word)),
            self.o.p.first.eq(first),
            self.o.p.last.eq(last),
        ]

        beat = Signal(address_bits(y_beats))
        enter = Signal()
        y = _cut(self.y.p.codes.as_value(), beat == y_beats - 1, layer.outputs, cols, bits)
        m.d.comb += [
            self.y.ready.eq(1),
            enter.eq(self.y.valid),
            written.eq(enter & (beat == y_beats - 1)),
            write.en.eq(enter & ~self.idle),
            write.addr.eq(write_base + beat),
            write.data.eq(y),
        ]
        with m.If(enter):
            m.d.sync += beat.eq(Mux(written, 0, beat + 1))
        with m.If(written):
            final = self.write_slot == slots - 1
            m.d.sync += [
                self.write_slot.eq(Mux(final, 0, self.write_slot + 1)),
                write_base.eq(Mux(final, 0, write_base + y_beats)),
            ]
        return m


def _cut(word, last, length: int, cols: int, bits: int):
    """The word with 0 in the lanes beyond the end of a frame of so many codes."""
    tail = length - (-(-length // cols) - 1) * cols
    return word if tail == cols else Mux(last, word[: tail * bits], word)
