"""The fork: one stream to several readers."""

from amaranth.hdl import Cat, Module, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.stream import beat_stream, transfer


class Fork(wiring.Component):
    """Offers each beat to every reader until each has taken it, once; then the next beat enters.

    A reader that is ready takes a beat whether or not the others do, so the fastest is one beat
    ahead of the slowest at most. ``valid`` depends on no ``ready``. Latency: none. One beat a
    cycle if all readers keep up.

    Parameters
    ----------
    shape : Shape
        Shape of a code.
    lanes : int
        Codes per beat.
    readers : int
        Streams that leave.

    Members
    -------
    i : In(beat stream)
    o : Out(beat stream), an array of ``readers``
    """

    def __init__(self, shape: Shape, lanes: int, readers: int) -> None:
        self.readers = readers
        stream = beat_stream(shape, lanes)
        super().__init__({"i": In(stream), "o": Out(stream).array(readers)})

    def elaborate(self, platform):
        m = Module()
        taken = Signal(self.readers)  # readers that have this beat already
        done = Signal(self.readers)  # those, and the ones that take it in this cycle
        for n, side in enumerate(self.o):
            m.d.comb += [
                side.valid.eq(self.i.valid & ~taken[n]),
                side.p.as_value().eq(self.i.p.as_value()),
            ]
        m.d.comb += [
            done.eq(taken | Cat(transfer(side) for side in self.o)),
            # Not from `valid`: a reader that is ready takes the beat if there is one.
            self.i.ready.eq((taken | Cat(side.ready for side in self.o)).all()),
        ]
        with m.If(transfer(self.i)):
            m.d.sync += taken.eq(0)
        with m.Else():
            m.d.sync += taken.eq(done)
        return m
