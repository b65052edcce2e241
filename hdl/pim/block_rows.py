"""The way out of circulant blocks: outputs come step by step, and leave in their order."""

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, unsigned
from amaranth.lib import data, memory, wiring

from hdl.lib.halves import mark_halves
from hdl.lib.rom import address_bits
from hdl.lib.stream import beat_stream
from hdl.pe.collect import Drain, drain_ports


class BlockRows(wiring.Component):
    """Takes output i of every block row in step i, ``group`` block rows at a time.

    ::

        sums -> step 0: [memory, 2 vectors] -.
                step 1: [memory, 2 vectors] -+-> [Drain] -> o
                ...

    One vector is written while one is read. Latency: 3 cycles from a vector's last sums to its
    first beat. Memory: ``2 · k · words · group`` sums.

    Parameters
    ----------
    shape : Shape
        Shape of a sum.
    k, group, words : int
        Steps; block rows that come at once; such groups of a step.
    lanes : int
        Sums of a beat, a divisor of ``group · k``.
    outputs : int
        Sums of a vector; those that pad its last block are left out.

    Members
    -------
    sums : In(group sums)
    valid, free, o :
        See Drain; marks are those of a vector.
    """

    def __init__(
        self, shape: Shape, *, k: int, group: int, words: int, lanes: int, outputs: int
    ) -> None:
        self.shape, self.k, self.group, self.words = shape, k, group, words
        self.lanes, self.outputs = lanes, outputs
        super().__init__(drain_ports(data.ArrayLayout(shape, group), beat_stream(shape, lanes)))

    def elaborate(self, platform):
        m = Module()
        k, group, words, width = self.k, self.group, self.words, self.shape.width
        m.submodules.drain = drain = Drain(
            self.shape, rows=group * k, lanes=self.lanes, outputs=self.outputs, vectors=1
        )
        full = Signal(2)  # bit n: all steps of a vector are in half n
        write_half, step, write_word = (
            Signal(),
            Signal(address_bits(k)),
            Signal(address_bits(words)),
        )
        read_half, read_word = Signal(), Signal(address_bits(words))
        write, row_end, written = Signal(), Signal(), Signal()
        fetch, fetched, take, read = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.free.eq(~full.bit_select(write_half, 1)),
            write.eq(self.valid & self.free),
            row_end.eq(write & (write_word == words - 1)),
            written.eq(row_end & (step == k - 1)),
            take.eq(fetched & drain.free),
            fetch.eq(full.bit_select(read_half, 1) & (~fetched | take)),
            read.eq(fetch & (read_word == words - 1)),
            drain.valid.eq(fetched),
        ]
        with m.If(write):
            m.d.sync += write_word.eq(Mux(row_end, 0, write_word + 1))
        with m.If(row_end):
            m.d.sync += step.eq(Mux(written, 0, step + 1))
        with m.If(written):
            m.d.sync += write_half.eq(~write_half)
        with m.If(fetch):
            m.d.sync += [read_word.eq(Mux(read, 0, read_word + 1)), fetched.eq(1)]
        with m.Elif(take):
            m.d.sync += fetched.eq(0)
        with m.If(read):
            m.d.sync += read_half.eq(~read_half)
        mark_halves(m, full, (written, write_half), (read, read_half))

        stored = []
        for n in range(k):
            m.submodules[f"step_{n}"] = store = memory.Memory(
                shape=unsigned(group * width), depth=2 * words, init=[]
            )
            port, out = store.write_port(), store.read_port()
            m.d.comb += [
                port.en.eq(write & (step == n)),
                port.data.eq(self.sums.as_value()),
                port.addr.eq(Mux(write_half, write_word + words, write_word)),
                out.en.eq(fetch),
                out.addr.eq(Mux(read_half, read_word + words, read_word)),
            ]
            stored.append(out.data)
        m.d.comb += drain.sums.as_value().eq(
            Cat(stored[n][b * width : (b + 1) * width] for b in range(group) for n in range(k))
        )
        # What pads the last block has sums of its own; on the stream they are 0.
        tail = self.outputs - (-(-self.outputs // self.lanes) - 1) * self.lanes
        m.d.comb += [
            self.o.valid.eq(drain.o.valid),
            drain.o.ready.eq(self.o.ready),
            self.o.p.first.eq(drain.o.p.first),
            self.o.p.last.eq(drain.o.p.last),
        ]
        for n, code in enumerate(drain.o.p.codes):
            kept = code if n < tail else Mux(drain.o.p.last, 0, code)
            m.d.comb += self.o.p.codes[n].eq(kept)
        return m
