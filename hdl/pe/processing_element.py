"""The processing element: a dot product of ``cols`` terms a cycle, accumulated over a row fold."""

from operator import add

from amaranth.hdl import Module, Mux, Shape, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.numerics import code_shape, decode, range_shape
from hdl.lib.tree import joined, joined_but_two
from model.ir.numerics import BipolarFormat, Format, UniformFormat
from model.ir.tree import tree_stages

SHIFT_ADD_BITS = 3
"""Weights of so many bits are multiplied by shifting and adding."""


class ProcessingElement(wiring.Component):
    """``o = (first ? 0 : o) + sum over c of x[c] * w[c]``, exact.

    Latency: 2 + tree stages cycles of ``en`` from the operands to the accumulator: a register after
    the products, one after every two levels of the adder tree, and the accumulator, which adds the
    last two terms. One step a cycle. Multipliers: ``cols`` of activation × weight bits: of bipolar
    weights an addition or a subtraction, of weights of up to ``SHIFT_ADD_BITS`` bits a sum of
    shifted activations, so that a weight bit that is 0 adds nothing.

    A lean one has no register after the products: one cycle less, and longer paths.

    Each register stage advances on its own bit of ``en``: where no step has arrived, nothing
    switches, and synthesis can gate the clock.

    Parameters
    ----------
    activation, weight : Format
        Formats of the codes.
    acc : Shape
        Shape of the accumulator.
    cols : int
        Products a cycle.
    lean : bool
        No register after the products.

    Members
    -------
    en : In(stages)
        Advance: the products (unless lean), then each level of the tree, then the accumulator.
    first : In(1)
        The step that reaches the accumulator in this cycle begins a new sum.
    x : In(cols activation codes)
    w : In(cols weight codes)
    o : Out(accumulator)
    """

    def __init__(
        self, activation: Format, weight: Format, acc: Shape, cols: int, lean: bool = False
    ) -> None:
        self.activation, self.weight, self.acc, self.cols = activation, weight, acc, cols
        self.lean = lean
        super().__init__(
            {
                "en": In(1 + (not lean) + tree_stages(cols)),
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
            term = Signal(range_shape(product), name=f"product_{col}", reset_less=not self.lean)
            x = decode(self.activation, self.x[col])
            w = decode(self.weight, self.w[col])
            if self.lean:
                m.d.comb += term.eq(product_of(self.weight, x, w))
            else:
                with m.If(self.en[0]):
                    m.d.sync += term.eq(product_of(self.weight, x, w))
            terms.append(term)

        def shape(count: int) -> Shape:
            return range_shape(product.sum_of(count))

        terms = joined_but_two(m, list(self.en[0 if self.lean else 1 : -1]), add, shape, terms)
        acc = Signal(self.acc, reset_less=True)
        with m.If(self.en[-1]):
            m.d.sync += acc.eq(Mux(self.first, 0, acc) + joined(add, terms))
        m.d.comb += self.o.eq(acc)
        return m


def product_of(weight: Format, x: Value, w: Value) -> Value:
    """The product of an activation and a decoded weight, of which only the gates differ."""
    if isinstance(weight, BipolarFormat):
        return Mux(w < 0, -x, x)
    if not isinstance(weight, UniformFormat) or weight.bits > SHIFT_ADD_BITS:
        return x * w
    total = Mux(w[0], x, 0)
    if weight.bits == 1:
        return -total if weight.signed else total
    for bit in range(1, weight.bits):
        part = Mux(w[bit], x << bit, 0)
        total = total - part if weight.signed and bit == weight.bits - 1 else total + part
    return total
