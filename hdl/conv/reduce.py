"""Reduction of windows lane by lane: each channel's elements become one number.

The parts that pooling and the depthwise convolution share: what they do with the elements of a
window is the lane's business, when a sum begins and ends is the reduction's.
"""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.numerics import code_shape, range_shape
from hdl.lib.padding import without_padding
from hdl.lib.rom import address_bits
from hdl.lib.stream import beat_stream, transfer
from model.ir.beats import Beats
from model.ir.numerics import Format, IntRange
from model.ir.window import Windowed


class LaneReduce(wiring.Component):
    """Windows in, one number for each channel of each position out.

    ::

        i -> [operands] -> lanes × (registers of the lane, accumulator) -> o

    A beat holds a kernel column of one group of channels; ``kernel_columns`` beats in a row belong
    to one group, then comes the next group, then the next position. One beat a cycle; the result
    leaves ``depth`` cycles after the last beat of its group has entered.

    Parameters
    ----------
    layer : Windowed
        The windows.
    format : Format
        Format of the codes that enter.
    acc : IntRange
        Range of the results.
    lanes : int
        Channels per beat.
    depth : int
        Register stages from the beat to the result: the operands, then those of a lane, its
        accumulator included.
    clear : bool
        Whether padding lanes must be set to 0, since the arithmetic does not leave them so.
    ports : mapping, optional
        Further members.

    Members
    -------
    i : In(stream of kernel_rows · lanes codes, lane index = kernel row · lanes + lane)
    o : Out(stream of ``lanes`` results)

    A subclass says what a lane is: :meth:`lanes_of`.
    """

    def __init__(
        self,
        layer: Windowed,
        format: Format,
        acc: IntRange,
        *,
        lanes: int,
        depth: int,
        clear: bool,
        ports: dict | None = None,
    ) -> None:
        self.layer, self.format, self.acc, self.lanes = layer, format, acc, lanes
        self.depth, self.clear = depth, clear
        super().__init__(
            {
                "i": In(beat_stream(code_shape(format), layer.kernel_rows * lanes)),
                "o": Out(beat_stream(range_shape(acc), lanes)),
                **(ports or {}),
            }
        )

    def lanes_of(
        self, m: Module, platform, en: Value, valid: Value, first: Value, codes: data.View
    ) -> list[Value]:
        """Add the lanes to ``m`` and return their accumulators.

        Parameters
        ----------
        m, platform
            As in ``elaborate``.
        en : Value
            Advance.
        valid, first : Value
            The beat that reaches the accumulators in this cycle is one; it begins a new group.
        codes : View
            The operands: a cycle of ``en`` after their beat.
        """
        raise NotImplementedError

    def elaborate(self, platform):
        m = Module()
        columns = self.layer.kernel_columns
        en, take = Signal(), Signal()
        m.d.comb += [
            en.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(en),
            take.eq(transfer(self.i)),
        ]
        index, begin, end = Signal(address_bits(columns)), Signal(), Signal()
        m.d.comb += [begin.eq(index == 0), end.eq(index == columns - 1)]
        with m.If(take):
            m.d.sync += index.eq(Mux(end, 0, index + 1))

        # The frame's first beat and the end of its group are kernel_columns - 1 beats apart.
        opened, opens = Signal(), Signal()
        m.d.comb += opens.eq(self.i.p.first | opened)
        with m.If(take):
            m.d.sync += opened.eq(opens & ~end)

        operands = Signal(self.i.p.codes.shape(), reset_less=True)
        with m.If(en):
            m.d.sync += operands.eq(self.i.p.codes)
        marks = [(take, begin, take & end, opens, self.i.p.last)]
        names = ("valid", "begin", "done", "first", "last")
        for stage in range(self.depth):
            marks.append(tuple(Signal(name=f"{name}_{stage}") for name in names))
            with m.If(en):
                m.d.sync += [new.eq(old) for new, old in zip(marks[-1], marks[-2], strict=True)]
        valid, first = marks[-2][:2]
        done = marks[-1][2]
        results = self.lanes_of(m, platform, en, valid, first, operands)
        m.d.comb += [
            self.o.valid.eq(done),
            self.o.p.first.eq(marks[-1][3]),
            self.o.p.last.eq(marks[-1][4]),
        ]
        if self.clear:
            beats = Beats((1, 1, self.layer.channels), self.lanes)
            results = without_padding(m, transfer(self.o), beats, results)
        m.d.comb += [self.o.p.codes[n].eq(result) for n, result in enumerate(results)]
        return m
