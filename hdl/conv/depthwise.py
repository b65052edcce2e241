"""The lane array as an engine: windows in, accumulators of the depthwise convolution out."""

from operator import add

import numpy as np
from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.conv.reduce import LaneReduce
from hdl.engine import engine_files, make_engine
from hdl.lib.hexfile import hex_text, to_bits
from hdl.lib.numerics import (
    code_shape,
    decode,
    format_tag,
    range_shape,
    range_tag,
    without_scale,
)
from hdl.lib.rom import Rom, address_bits
from hdl.lib.stream import transfer
from hdl.lib.tree import joined, joined_but_two
from hdl.target import place
from model.ir.conv import ConvSpec
from model.ir.lane_array import LaneArraySpec
from model.ir.network import Node
from model.ir.numerics import Format, IntRange


class DepthwiseLane(wiring.Component):
    """One channel: ``o = (first ? 0 : o) + sum over n of x[n] * w[n]``, exact.

    Latency: ``2 + tree_stages(terms)`` cycles of ``en``: products, tree, accumulator. One beat a
    cycle. Multipliers: ``terms`` of activation × weight bits.

    Parameters
    ----------
    activation, weight : Format
        Formats of the codes.
    acc : IntRange
        Range of the accumulator.
    terms : int
        Products a cycle.

    Members
    -------
    en : In(1)
        Advance.
    valid, first : In(1)
        There is a beat that reaches the accumulator in this cycle; it is the first of its window.
    x : In(terms activation codes)
    w : In(terms weight codes)
    o : Out(accumulator)
    """

    def __init__(self, activation: Format, weight: Format, acc: IntRange, terms: int) -> None:
        self.activation, self.weight, self.terms = activation, weight, terms
        super().__init__(
            {
                "en": In(1),
                "valid": In(1),
                "first": In(1),
                "x": In(data.ArrayLayout(code_shape(activation), terms)),
                "w": In(data.ArrayLayout(code_shape(weight), terms)),
                "o": Out(range_shape(acc)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        product = self.activation.values * self.weight.values

        def shape(count: int) -> Shape:
            return range_shape(product.sum_of(count))

        products = []
        for n in range(self.terms):
            term = Signal(range_shape(product), name=f"product_{n}", reset_less=True)
            x, w = decode(self.activation, self.x[n]), decode(self.weight, self.w[n])
            with m.If(self.en):
                m.d.sync += term.eq(x * w)
            products.append(term)
        total = joined(add, joined_but_two(m, self.en, add, shape, products))
        acc = Signal.like(self.o, reset_less=True)
        with m.If(self.en & self.valid):
            m.d.sync += acc.eq(Mux(self.first, 0, acc) + total)
        m.d.comb += self.o.eq(acc)
        return m


class LaneArray(LaneReduce):
    """Each channel's windows times its weights; windows as in LaneReduce.

    ::

        i -> [operands] --x--> [operands] -> lanes × (products, tree, accumulator) -> o
             [weight memory] ------w-^

    Latency: ``spec.depth(layer)`` cycles from the last beat of a group. One beat a cycle.

    Parameters
    ----------
    spec : LaneArraySpec
    layer : ConvSpec
        Depthwise, one output channel for each input channel.
    weight_file : str
        .hex file of ``G · kernel_columns`` words: group by group, column by column, kernel row by
        kernel row, lane by lane.

    Members
    -------
    i : In(stream of kernel_rows · lanes codes)
    o : Out(stream of ``lanes`` accumulators)
    step : Out(1)
        The array performs a step in this cycle (it takes a beat and reads one weight word).
    """

    def __init__(self, spec: LaneArraySpec, layer: ConvSpec, *, weight_file: str) -> None:
        self.weight_file = weight_file
        super().__init__(
            layer,
            layer.in_format,
            layer.accumulator(),
            lanes=spec.lanes,
            depth=spec.depth(layer),
            clear=not (layer.in_format.has_zero or layer.weight_format.has_zero),
            ports={"step": Out(1)},
        )

    def lanes_of(self, m, platform, en, valid, first, codes):
        layer, lanes, rows = self.layer, self.lanes, self.layer.kernel_rows
        depth = -(-layer.channels // lanes) * layer.kernel_columns
        width = layer.weight_format.bits
        m.submodules.weights = weights = Rom(rows * lanes * width, depth, self.weight_file)
        word = Signal(address_bits(depth))
        m.d.comb += [
            self.step.eq(transfer(self.i)),
            weights.en.eq(en),
            weights.addr.eq(word),
        ]
        with m.If(self.step):
            m.d.sync += word.eq(Mux(word == depth - 1, 0, word + 1))
        x = Signal(codes.shape(), reset_less=True)
        w = Signal(data.ArrayLayout(code_shape(layer.weight_format), rows * lanes), reset_less=True)
        with m.If(en):
            m.d.sync += [x.eq(codes), w.as_value().eq(weights.data)]

        formats = without_scale(layer.in_format), without_scale(layer.weight_format)
        args = *formats, self.acc, rows
        name = "_".join(["depthwise", *map(format_tag, formats), range_tag(self.acc), f"{rows}"])
        results = []
        for lane in range(lanes):
            unit = place(m, platform, f"lane_{lane}", name, DepthwiseLane, *args)
            m.d.comb += [unit.en.eq(en), unit.valid.eq(valid), unit.first.eq(first)]
            for row in range(rows):
                m.d.comb += [
                    unit.x[row].eq(x[row * lanes + lane]),
                    unit.w[row].eq(w[row * lanes + lane]),
                ]
            results.append(unit.o)
        return results


@make_engine.register
def _(spec: LaneArraySpec, node: Node, lanes: int) -> LaneArray:
    return LaneArray(spec, node.spec, weight_file=f"{node.name}_weight.hex")


def weight_words(layer: ConvSpec, weight: np.ndarray, lanes: int) -> np.ndarray:
    """Weight codes [channels, area] as the words of the array's memory, [words, rows · lanes]."""
    groups = -(-layer.channels // lanes)
    padded = np.zeros((groups * lanes, layer.area), dtype=np.int64)
    padded[: layer.channels] = weight
    cut = padded.reshape(groups, lanes, layer.kernel_rows, layer.kernel_columns)
    return cut.transpose(0, 3, 2, 1).reshape(groups * layer.kernel_columns, -1)


@engine_files.register
def _(spec: LaneArraySpec, node: Node) -> dict[str, str]:
    layer = node.spec
    words = weight_words(layer, node.tensors["weight"], spec.lanes)
    return {f"{node.name}_weight.hex": hex_text(to_bits(words, layer.weight_format.bits))}
