"""The FIFO: beats wait in a memory."""

from amaranth.hdl import Module, Shape
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.stream import beat_layout, beat_stream
from model.ir.schedule import FIFO_LEAST
from model.ir.spec import check_int


class Fifo(wiring.Component):
    """A stream goes through a memory that holds up to ``depth`` beats.

    Both ``valid`` and ``ready`` come from registers. Latency: ``FIFO_LATENCY`` cycles. One beat a
    cycle.

    Memory: ``depth - 1`` words of ``lanes`` codes and the two marks; the last beat is in a register
    (the memory's output).

    Parameters
    ----------
    shape : Shape
        Shape of a code.
    lanes : int
        Codes per beat.
    depth : int
        Beats, at least ``FIFO_LEAST``.

    Members
    -------
    i : In(beat stream)
    o : Out(beat stream)
    level : Out
        Beats inside.
    """

    def __init__(self, shape: Shape, lanes: int, depth: int) -> None:
        check_int("depth", depth, FIFO_LEAST)
        self.layout, self.depth = beat_layout(shape, lanes), depth
        stream = beat_stream(shape, lanes)
        super().__init__({"i": In(stream), "o": Out(stream), "level": Out(range(depth + 1))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=self.layout.size, depth=self.depth)
        m.d.comb += [
            queue.w_data.eq(self.i.p.as_value()),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            self.o.p.as_value().eq(queue.r_data),
            self.o.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.o.ready),
            self.level.eq(queue.level),
        ]
        return m
