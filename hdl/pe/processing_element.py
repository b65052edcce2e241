"""The processing element: a dot product of ``cols`` terms a cycle, accumulated over a row fold."""

from operator import add

from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.numerics import code_shape, decode, range_shape
from hdl.lib.tree import joined, joined_but_two
from model.ir.numerics import Format


class ProcessingElement(wiring.Component):
    """``o = (first ? 0 : o) + sum over c of x[c] * w[c]``, exact.

    Latency: 2 + tree stages cycles of ``en`` from the operands to the accumulator: a register after
    the products, one after every two levels of the adder tree, and the accumulator, which adds the
    last two terms. One step a cycle. Multipliers: ``cols`` of activation × weight bits.

    Parameters
    ----------
    activation, weight : Format
        Formats of the codes.
    acc : Shape
        Shape of the accumulator.
    cols : int
        Products a cycle.

    Members
    -------
    en : In(1)
        Advance.
    first : In(1)
        The step that reaches the accumulator in this cycle begins a new sum.
    x : In(cols activation codes)
    w : In(cols weight codes)
    o : Out(accumulator)
    """

    def __init__(self, activation: Format, weight: Format, acc: Shape, cols: int) -> None:
        self.activation, self.weight, self.acc, self.cols = activation, weight, acc, cols
        super().__init__(
            {
                "en": In(1),
                "first": In(1),
                "x": In(data.ArrayLayout(code_shape(activation), cols)),
                "w": In(data.ArrayLayout(code_shape(weight), cols)),
                "o": Out(acc),
            }
        )

    def elaborate(self, platform):
        m = Module()
        product = self.activation.values * self.weight.values
        terms = []
        for col in range(self.cols):
            term = Signal(range_shape(product), name=f"product_{col}", reset_less=True)
            x = decode(self.activation, self.x[col])
            w = decode(self.weight, self.w[col])
            with m.If(self.en):
                m.d.sync += term.eq(x * w)
            terms.append(term)

        def shape(count: int) -> Shape:
            return range_shape(product.sum_of(count))

        terms = joined_but_two(m, self.en, add, shape, terms)
        acc = Signal(self.acc, reset_less=True)
        with m.If(self.en):
            m.d.sync += acc.eq(Mux(self.first, 0, acc) + joined(add, terms))
        m.d.comb += self.o.eq(acc)
        return m
