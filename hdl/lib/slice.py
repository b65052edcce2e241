"""The register slice: a stream goes through, and no signal crosses it within a cycle."""

from amaranth.hdl import Module, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.stream import beat_stream


class RegisterSlice(wiring.Component):
    """Two registers, so that both ``valid`` and ``ready`` come from registers.

    It ends the paths of ``ready`` through a chain of blocks. Latency: 1 cycle. One beat a cycle.

    Parameters
    ----------
    shape : Shape
        Shape of a code.
    lanes : int
        Codes per beat.

    Members
    -------
    i : In(beat stream)
    o : Out(beat stream)
    """

    def __init__(self, shape: Shape, lanes: int) -> None:
        super().__init__({"i": In(beat_stream(shape, lanes)), "o": Out(beat_stream(shape, lanes))})

    def elaborate(self, platform):
        m = Module()
        beat = Signal.like(self.i.p.as_value(), reset_less=True)
        spare = Signal.like(beat, reset_less=True)
        valid, waiting = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(~waiting),
            self.o.valid.eq(valid),
            self.o.p.as_value().eq(beat),
        ]
        with m.If(~valid | self.o.ready):
            m.d.sync += [valid.eq(self.i.valid | waiting), waiting.eq(0)]
            with m.If(waiting):
                m.d.sync += beat.eq(spare)
            with m.Elif(self.i.valid):
                m.d.sync += beat.eq(self.i.p.as_value())
        with m.Elif(self.i.valid & ~waiting):
            m.d.sync += [spare.eq(self.i.p.as_value()), waiting.eq(1)]
        return m
