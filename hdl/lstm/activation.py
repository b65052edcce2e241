"""Sigmoid and tanh in straight pieces."""

from functools import reduce
from itertools import pairwise
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.numerics import code_shape
from model.ir.piecewise import SLOPE_BITS, PiecewiseSpec


class Piecewise(wiring.Component):
    """A function of straight pieces: ``min((slope · |x| + intercept + r) >> s, top)``, mirrored.

    ::

        x -> [sign, |x|] -> [ends passed] -> [slope, intercept] -> [product] -> [sum, mirror] -> o

    Latency: ACTIVATION_LATENCY = 5 cycles of ``en``; one result a cycle. Multipliers: one, of 15
    bits × the bits of |x|, which as signed numbers are 16 × the input's. The table is logic, for a
    specification states it: pieces of ascending ends, found by as many comparators.

    Members
    -------
    en : In(1)
        Advance.
    x : In(input code)
    o : Out(output code)
    """

    def __init__(self, spec: PiecewiseSpec) -> None:
        self.spec = spec
        super().__init__(
            {
                "en": In(1),
                "x": In(code_shape(spec.in_format)),
                "o": Out(code_shape(spec.out_format)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        spec = self.spec
        size_bits = spec.in_format.bits - 1
        # Beyond the last end the slope is 0 and the intercept gives the top.
        slopes = (*spec.slopes, 0)
        starts = [intercept + spec.rounding for intercept in spec.intercepts]
        starts.append(spec.top << spec.shift)
        start_bits = max(start.bit_length() for start in starts) or 1

        # The least code's magnitude has a bit more than the others, but it is past every end.
        size = Signal(unsigned(size_bits + 1), reset_less=True)
        factor = Signal(unsigned(max(size_bits, 1)), reset_less=True)
        passed = Signal(len(spec.ends), reset_less=True)
        slope = Signal(unsigned(SLOPE_BITS - 1), reset_less=True)
        starting = Signal(unsigned(start_bits), reset_less=True)
        product = Signal(unsigned(SLOPE_BITS - 1 + len(factor)), reset_less=True)
        start = Signal(unsigned(start_bits), reset_less=True)
        operand = Signal.like(factor)
        negative = [Signal(name=f"negative_{n}", reset_less=True) for n in range(4)]

        below = ~Cat(passed, Const(0, 1))  # bit n: piece n, or one before it
        pieces = [below[0], *(below[n] & ~below[n - 1] for n in range(1, len(slopes)))]

        def chosen(numbers):
            return reduce(or_, (Mux(p, n, 0) for p, n in zip(pieces, numbers, strict=True)))

        total = Signal(unsigned(max(len(product), start_bits) + 1))
        right = Signal(unsigned(max(1, len(total) - spec.shift)))
        capped = Signal(unsigned(max(1, spec.top.bit_length())))
        code = Signal(signed(len(capped) + 2))
        m.d.comb += [
            total.eq(product + start),
            right.eq(total >> spec.shift),
            capped.eq(Mux(right > spec.top, spec.top, right)),
            code.eq(Mux(negative[3], (0 if spec.odd else spec.one) - capped, capped)),
        ]
        result = Signal.like(self.o, reset_less=True)
        with m.If(self.en):
            m.d.sync += [
                size.eq(Mux(self.x < 0, -self.x, self.x)),
                passed.eq(Cat(size >= end for end in spec.ends)),
                factor.eq(size),
                slope.eq(chosen(slopes)),
                starting.eq(chosen(starts)),
                operand.eq(factor),
                product.eq(slope * operand),
                start.eq(starting),
                negative[0].eq(self.x < 0),
                *[new.eq(old) for old, new in pairwise(negative)],
                result.eq(code),
            ]
        m.d.comb += self.o.eq(result)
        return m
