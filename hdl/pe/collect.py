"""The way out of a PE array: the sums of a row fold leave ``lanes`` a beat, vector by vector."""

from operator import or_

from amaranth.hdl import Module, Mux, Shape, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.halves import mark_halves
from hdl.lib.rom import address_bits
from hdl.lib.stream import beat_stream, transfer
from hdl.lib.tree import joined


def drain_ports(sums: data.Layout, beats: wiring.Signature) -> dict[str, wiring.Member]:
    """Ports of what takes sums all at once, as soon as it is free, and lets them leave in beats."""
    return {"sums": In(sums), "valid": In(1), "free": Out(1), "o": Out(beats)}


class Drain(wiring.Component):
    """The holding register: takes the sums of a fold and lets them leave ``lanes`` at a time.

    It is free in the cycle in which its last beat leaves. Latency: 1 cycle. The beats of a vector
    and the vectors of a frame are counted for the marks.

    Parameters
    ----------
    shape : Shape
        Shape of a sum.
    rows, lanes : int
        Sums of a fold, and of a beat; ``lanes`` divides ``rows``.
    outputs : int
        Sums of a vector; its last fold may have fewer than ``rows``.
    vectors : int
        Vectors of a frame.

    Members
    -------
    sums : In(rows sums)
    valid : In(1)
        There are the sums of a fold.
    free : Out(1)
        They are taken in this cycle, if valid.
    o : Out(beat stream)
    """

    def __init__(self, shape: Shape, *, rows: int, lanes: int, outputs: int, vectors: int) -> None:
        self.shape, self.rows, self.lanes = shape, rows, lanes
        self.outputs, self.vectors = outputs, vectors
        super().__init__(drain_ports(data.ArrayLayout(shape, rows), beat_stream(shape, lanes)))

    def elaborate(self, platform):
        m = Module()
        rows, lanes, width = self.rows, self.lanes, self.lanes * self.shape.width
        folds = -(-self.outputs // rows)
        drains, beats = rows // lanes, -(-self.outputs // lanes)
        last_drains = beats - (folds - 1) * drains
        holding = Signal(rows * self.shape.width, reset_less=True)
        left = Signal(range(drains + 1))
        beat, vector = Signal(address_bits(beats)), Signal(address_bits(self.vectors))
        leave, end = transfer(self.o), Signal()
        m.d.comb += [
            self.o.valid.eq(left != 0),
            self.o.p.codes.as_value().eq(holding[:width]),
            self.o.p.first.eq((beat == 0) & (vector == 0)),
            self.o.p.last.eq((beat == beats - 1) & (vector == self.vectors - 1)),
            end.eq(leave & (beat == beats - 1)),
            self.free.eq((left == 0) | ((left == 1) & self.o.ready)),
        ]
        with m.If(leave):
            m.d.sync += [left.eq(left - 1), beat.eq(Mux(end, 0, beat + 1))]
            if drains > 1:
                m.d.sync += holding.eq(holding >> width)
        with m.If(end):
            m.d.sync += vector.eq(Mux(self.o.p.last, 0, vector + 1))
        taken = Signal(address_bits(folds))
        final = taken == folds - 1
        with m.If(self.valid & self.free):
            m.d.sync += [
                holding.eq(self.sums.as_value()),
                left.eq(Mux(final, last_drains, drains)),
                taken.eq(Mux(final, 0, taken + 1)),
            ]
        return m


class Reorder(wiring.Component):
    """The result memory: takes the folds of a group's vectors at once, gives vector after vector.

    ::

        sums -> pixel 0: [memory, 2 vectors] -> [one of them] -> [Drain] -> o
                pixel 1: [memory, 2 vectors] ->
                ...

    One group is written while one is read, so a group takes as long as the slower of the two.
    Latency: 3 cycles from a group's last sums to its first beat. Memory: ``2 · pixels ·
    ceil(outputs / n)`` words of ``n = max(rows, lanes)`` sums.

    Parameters
    ----------
    shape, rows, outputs, vectors :
        See Drain.
    lanes : int
        Sums of a beat: a divisor or a multiple of ``rows``.
    pixels : int
        Vectors of a group; the last group of a frame has those that are left.

    Members
    -------
    sums : In(pixels · rows sums)
    valid, free, o :
        See Drain.
    """

    def __init__(
        self, shape: Shape, *, rows: int, lanes: int, outputs: int, vectors: int, pixels: int
    ) -> None:
        self.shape, self.rows, self.lanes = shape, rows, lanes
        self.outputs, self.vectors, self.pixels = outputs, vectors, pixels
        super().__init__(
            drain_ports(
                data.ArrayLayout(data.ArrayLayout(shape, rows), pixels), beat_stream(shape, lanes)
            )
        )

    def elaborate(self, platform):
        m = Module()
        pixels, folds = self.pixels, -(-self.outputs // self.rows)
        word = max(self.rows, self.lanes)  # sums
        parts, words = word // self.rows, -(-self.outputs // word)
        m.submodules.drain = drain = Drain(
            self.shape, rows=word, lanes=self.lanes, outputs=self.outputs, vectors=self.vectors
        )
        wiring.connect(m, drain.o, wiring.flipped(self.o))

        full = Signal(2)  # bit n: all folds of a group are in half n
        write_half, write_fold = Signal(), Signal(address_bits(folds))
        write_word, part = Signal(address_bits(words)), Signal(address_bits(parts))
        read_half, read_word = Signal(), Signal(address_bits(words))
        pixel, vector = Signal(address_bits(pixels)), Signal(address_bits(self.vectors))
        write, written = Signal(), Signal()
        fetch, fetched, take = Signal(), Signal(), Signal()
        vector_end, read = Signal(), Signal()
        m.d.comb += [
            self.free.eq(~full.bit_select(write_half, 1)),
            write.eq(self.valid & self.free),
            written.eq(write & (write_fold == folds - 1)),
            take.eq(fetched & drain.free),
            fetch.eq(full.bit_select(read_half, 1) & (~fetched | take)),
            vector_end.eq(fetch & (read_word == words - 1)),
            read.eq(vector_end & ((pixel == pixels - 1) | (vector == self.vectors - 1))),
        ]
        with m.If(write):
            m.d.sync += [write_fold.eq(write_fold + 1), part.eq(part + 1)]
            with m.If(part == parts - 1):
                m.d.sync += [part.eq(0), write_word.eq(write_word + 1)]
        with m.If(written):
            m.d.sync += [write_fold.eq(0), part.eq(0), write_word.eq(0)]
            m.d.sync += write_half.eq(~write_half)
        with m.If(fetch):
            m.d.sync += read_word.eq(Mux(vector_end, 0, read_word + 1))
        with m.If(vector_end):
            m.d.sync += [
                pixel.eq(Mux(read, 0, pixel + 1)),
                vector.eq(Mux(vector == self.vectors - 1, 0, vector + 1)),
            ]
        with m.If(read):
            m.d.sync += read_half.eq(~read_half)
        mark_halves(m, full, (written, write_half), (read, read_half))

        # The first fold of a word clears the others, so that lanes beyond the matrix are 0.
        fold_bits, stored = self.rows * self.shape.width, []
        for n in range(pixels):
            m.submodules[f"pixel_{n}"] = store = memory.Memory(
                shape=unsigned(word * self.shape.width), depth=2 * words, init=[]
            )
            port, out = store.write_port(granularity=fold_bits), store.read_port()
            for k in range(parts):
                mine, sums = part == k, self.sums[n].as_value()
                m.d.comb += [
                    port.en[k].eq(write & ((part == 0) | mine)),
                    port.data[k * fold_bits : (k + 1) * fold_bits].eq(Mux(mine, sums, 0)),
                ]
            m.d.comb += [
                port.addr.eq(Mux(write_half, write_word + words, write_word)),
                out.en.eq(fetch & (pixel == n)),
                out.addr.eq(Mux(read_half, read_word + words, read_word)),
            ]
            stored.append(out.data)
        sums = stored[0]
        if pixels > 1:  # a bit a memory, for what follows these slow blocks is two levels of gates
            chosen = Signal(pixels, reset_less=True)
            with m.If(fetch):
                m.d.sync += chosen.eq(1 << pixel)
            sums = joined(or_, [Mux(chosen[n], word, 0) for n, word in enumerate(stored)])
        with m.If(fetch):
            m.d.sync += fetched.eq(1)
        with m.Elif(take):
            m.d.sync += fetched.eq(0)
        m.d.comb += [drain.sums.as_value().eq(sums), drain.valid.eq(fetched)]
        return m
