"""The activation buffer of a PE array: two groups of vectors, one loads while one is computed."""

from amaranth.hdl import Module, Mux, Shape, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.halves import mark_halves
from hdl.lib.rom import address_bits
from hdl.lib.stream import beat_stream, transfer


class ActivationBuffer(wiring.Component):
    """Vectors of ``words`` beats in, ``pixels`` of them at once out, any word at a time.

    ::

        i -> pixel 0: [memory, 2 vectors] -> x[0]
             pixel 1: [memory, 2 vectors] -> x[1]
             ...

    A group is the next ``pixels`` vectors, or those that are left of the frame. A beat enters in
    each cycle, as long as a half is free. Memory: ``2 · pixels · words`` beats.

    Parameters
    ----------
    shape : Shape
        Shape of a code.
    cols, words, pixels : int
        Codes per beat, beats per vector, vectors per group.

    Members
    -------
    i : In(beat stream)
    full : Out(1)
        A group is loaded, and its words can be read.
    used : In(1)
        The group's last word is read in this cycle; the next group takes its place.
    en, addr : In
        Read word ``addr`` of each vector of the group.
    x : Out(pixels words)
        The words read last, registered.
    """

    def __init__(self, shape: Shape, *, cols: int, words: int, pixels: int) -> None:
        self.cols, self.words, self.pixels = cols, words, pixels
        self.width = cols * Shape.cast(shape).width
        super().__init__(
            {
                "i": In(beat_stream(shape, cols)),
                "full": Out(1),
                "used": In(1),
                "en": In(1),
                "addr": In(address_bits(words)),
                "x": Out(data.ArrayLayout(self.width, pixels)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        words, pixels = self.words, self.pixels
        full = Signal(2)  # bit n: half n is loaded
        load_half, load_index, pixel = (
            Signal(),
            Signal(address_bits(words)),
            Signal(address_bits(pixels)),
        )
        half, enter, vector_end, loaded = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(~full.bit_select(load_half, 1)),
            enter.eq(transfer(self.i)),
            vector_end.eq(enter & (load_index == words - 1)),
            loaded.eq(vector_end & ((pixel == pixels - 1) | self.i.p.last)),
            self.full.eq(full.bit_select(half, 1)),
        ]
        with m.If(enter):
            m.d.sync += load_index.eq(load_index + 1)
        with m.If(vector_end):
            m.d.sync += [load_index.eq(0), pixel.eq(pixel + 1)]
        with m.If(loaded):
            m.d.sync += [pixel.eq(0), load_half.eq(~load_half)]
        with m.If(self.used):
            m.d.sync += half.eq(~half)
        mark_halves(m, full, (loaded, load_half), (self.used, half))

        for n in range(pixels):
            m.submodules[f"pixel_{n}"] = store = memory.Memory(
                shape=unsigned(self.width), depth=2 * words, init=[]
            )
            write, read = store.write_port(), store.read_port()
            m.d.comb += [
                write.en.eq(enter & (pixel == n)),
                write.addr.eq(Mux(load_half, load_index + words, load_index)),
                write.data.eq(self.i.p.codes.as_value()),
                read.en.eq(self.en),
                read.addr.eq(Mux(half, self.addr + words, self.addr)),
                self.x[n].eq(read.data),
            ]
        return m
