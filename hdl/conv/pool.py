"""Pooling: the largest code, or the sum, of each window."""

from collections.abc import Callable
from operator import add

from amaranth.hdl import Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.conv.reduce import LaneReduce
from hdl.conv.window import Window
from hdl.lib.numerics import code_shape, decode, range_shape, range_tag
from hdl.lib.padding import without_padding
from hdl.lib.repack import Repack
from hdl.lib.requantize import Requantize, requantize_files
from hdl.lib.rom import address_bits
from hdl.lib.slice import RegisterSlice
from hdl.lib.stream import beat_stream, connect, transfer
from hdl.lib.tree import joined, joined_but_two
from hdl.stage import make_stage, stage_files
from hdl.target import place
from model.ir.beats import Beats
from model.ir.lanewise import lane_window
from model.ir.network import Node
from model.ir.numerics import IntRange
from model.ir.pool import AveragePoolSpec, PoolSpec
from model.ir.repack import repacks


def _larger(a: Value, b: Value) -> Value:
    return Mux(a < b, b, a)


def _join(layer: PoolSpec) -> Callable[[Value, Value], Value]:
    return add if isinstance(layer, AveragePoolSpec) else _larger


class PoolLane(wiring.Component):
    """One channel: ``o`` joins ``x`` to what it was, or begins anew with it.

    Latency: ``tree_stages(terms) + 1`` cycles of ``en``. One beat a cycle.

    Parameters
    ----------
    total : bool
        The sum, not the largest.
    span, acc : IntRange
        Ranges of an element and of the result.
    terms : int
        Elements per beat.

    Members
    -------
    en : In(1)
        Advance.
    valid, first : In(1)
        There is a beat that reaches the accumulator in this cycle; it is the first of its window.
    x : In(terms elements)
    o : Out(result)
    """

    def __init__(self, total: bool, span: IntRange, acc: IntRange, terms: int) -> None:
        self.total, self.span, self.terms = total, span, terms
        super().__init__(
            {
                "en": In(1),
                "valid": In(1),
                "first": In(1),
                "x": In(data.ArrayLayout(range_shape(span), terms)),
                "o": Out(range_shape(acc)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        join = add if self.total else _larger

        def shape(count: int):
            return range_shape(self.span.sum_of(count) if self.total else self.span)

        terms = [self.x[n] for n in range(self.terms)]
        element = joined(join, joined_but_two(m, self.en, join, shape, terms))
        acc = Signal.like(self.o, reset_less=True)
        with m.If(self.en & self.valid):
            m.d.sync += acc.eq(Mux(self.first, element, join(acc, element)))
        m.d.comb += self.o.eq(acc)
        return m


class Pool(LaneReduce):
    """The largest code or the sum of each window; windows as in LaneReduce.

    Latency: ``layer.depth()`` cycles.

    Parameters
    ----------
    layer : MaxPoolSpec or AveragePoolSpec
    lanes : int
        Channels per beat.
    """

    def __init__(self, layer: PoolSpec, *, lanes: int) -> None:
        (format,) = layer.in_formats()
        super().__init__(
            layer,
            format,
            layer.accumulator(),
            lanes=lanes,
            depth=layer.depth(),
            clear=not format.has_zero,
        )

    def lanes_of(self, m, platform, en, valid, first, codes):
        layer, values, rows = self.layer, self.format.values, self.layer.kernel_rows
        total = isinstance(layer, AveragePoolSpec)
        args = total, values, self.acc, rows
        name = f"pool_{'sum' if total else 'max'}_{range_tag(values)}_{range_tag(self.acc)}_{rows}"
        results = []
        for lane in range(self.lanes):
            unit = place(m, platform, f"lane_{lane}", name, PoolLane, *args)
            m.d.comb += [unit.en.eq(en), unit.valid.eq(valid), unit.first.eq(first)]
            for row in range(rows):
                code = codes[row * self.lanes + lane]
                m.d.comb += unit.x[row].eq(decode(self.format, code))
            results.append(unit.o)
        return results


class GlobalPool(wiring.Component):
    """The largest code or the sum of each channel of a frame, as the frame passes: no line buffer.

    ::

        i -> [operands] ---> join -> [results] -> o
             [partial results, a word a group] <-'

    Latency: 2 cycles from the last beat of a channel group. One beat a cycle, whatever comes.
    Memory: one word of ``lanes`` results for each group of channels, if there is more than one.

    Parameters
    ----------
    layer : MaxPoolSpec or AveragePoolSpec
        The kernel covers the frame.
    lanes : int
        Channels per beat.

    Members
    -------
    i : In(stream of ``lanes`` codes, pixel by pixel)
    o : Out(stream of ``lanes`` results)
    """

    def __init__(self, layer: PoolSpec, *, lanes: int) -> None:
        self.layer, self.lanes = layer, lanes
        (self.format,) = layer.in_formats()
        super().__init__(
            {
                "i": In(beat_stream(code_shape(self.format), lanes)),
                "o": Out(beat_stream(range_shape(layer.accumulator()), lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        layer, lanes = self.layer, self.lanes
        acc, join = layer.accumulator(), _join(layer)
        groups, pixels = Beats((layer.channels,), lanes).count, layer.area
        en, take = Signal(), Signal()
        m.d.comb += [
            en.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(en),
            take.eq(transfer(self.i)),
        ]
        group, pixel = Signal(address_bits(groups)), Signal(address_bits(pixels))
        with m.If(take):
            m.d.sync += group.eq(Mux(group == groups - 1, 0, group + 1))
            with m.If(group == groups - 1):
                m.d.sync += pixel.eq(Mux(pixel == pixels - 1, 0, pixel + 1))

        operands = Signal(self.i.p.codes.shape(), reset_less=True)
        valid, fresh, final = Signal(), Signal(reset_less=True), Signal(reset_less=True)
        where = Signal.like(group, reset_less=True)
        with m.If(en):
            m.d.sync += [
                operands.eq(self.i.p.codes),
                valid.eq(take),
                fresh.eq(pixel == 0),
                final.eq(pixel == pixels - 1),
                where.eq(group),
            ]

        layout = data.ArrayLayout(range_shape(acc), lanes)
        partial, new = Signal(layout), Signal(layout)
        for lane in range(lanes):
            element = decode(self.format, operands[lane])
            m.d.comb += new[lane].eq(Mux(fresh, element, join(partial[lane], element)))
        results = Signal(layout, reset_less=True)
        done, at = Signal(), Signal.like(group, reset_less=True)
        with m.If(en):
            m.d.sync += [done.eq(valid & final), at.eq(where)]
        with m.If(en & valid):
            m.d.sync += results.eq(new)
        if groups == 1:
            m.d.comb += partial.eq(results)
        else:
            # A group's next beat comes `groups` beats later: its word is written by then.
            m.submodules.partial = words = memory.Memory(
                shape=unsigned(lanes * acc.bits), depth=groups, init=[]
            )
            write, read = words.write_port(), words.read_port()
            m.d.comb += [
                read.en.eq(en),
                read.addr.eq(group),
                partial.as_value().eq(read.data),
                write.en.eq(en & valid),
                write.addr.eq(where),
                write.data.eq(new.as_value()),
            ]
        m.d.comb += [
            self.o.valid.eq(done),
            self.o.p.first.eq(at == 0),
            self.o.p.last.eq(at == groups - 1),
        ]
        codes = [results[lane] for lane in range(lanes)]
        if not self.format.has_zero:
            codes = without_padding(m, transfer(self.o), Beats((layer.channels,), lanes), codes)
        m.d.comb += [self.o.p.codes[lane].eq(code) for lane, code in enumerate(codes)]
        return m


class PoolStage(wiring.Component):
    """A pooling: a stream of codes in, a stream of codes out.

    ::

        i -> [repack] -> [window] -> pool -> slice -> [requantize] -> o

    The input is regrouped if it has other lanes. A pool whose kernel covers the frame needs no
    window; a maximum needs no requantization.

    Parameters
    ----------
    node : Node
    source : Beats
        The input stream.
    lanes : int
        Codes per beat of the output stream, and channels worked on at once.

    Members
    -------
    i : In(stream of codes)
    o : Out(stream of codes)

    Cycles, latency, memory and multipliers: ``stage_cost`` of the layer.
    """

    def __init__(self, node: Node, *, source: Beats, lanes: int) -> None:
        self.node, self.source, self.lanes = node, source, lanes
        layer = node.spec
        (format,) = layer.in_formats()
        super().__init__(
            {
                "i": In(beat_stream(code_shape(format), source.lanes)),
                "o": Out(beat_stream(code_shape(layer.out_format), lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        node, layer, lanes = self.node, self.node.spec, self.lanes
        (format,) = layer.in_formats()
        shape, stream = code_shape(format), wiring.flipped(self.i)

        def append(name, part):
            nonlocal stream
            m.submodules[name] = part
            connect(m, stream, part.i)
            stream = part.o

        pixels = Beats((layer.rows, layer.columns, layer.channels), lanes)
        if repacks(self.source, pixels):
            append("repack", Repack(shape, self.source, pixels))
        if layer.covers:
            append("pool", GlobalPool(layer, lanes=lanes))
        else:
            plan = lane_window(layer, lanes)
            append("window", Window(layer, shape, lanes=lanes, banks=plan.banks, order=plan.order))
            append("pool", Pool(layer, lanes=lanes))
        append("slice", RegisterSlice(range_shape(layer.accumulator()), lanes))
        if rule := getattr(layer, "requantize", None):
            part = Requantize(
                rule,
                layer.accumulator(),
                channels=layer.channels,
                lanes=lanes,
                channel_file=f"{node.name}_channel.hex",
                layer_file=f"{node.name}_layer.hex",
            )
            append("requantize", part)
        connect(m, stream, wiring.flipped(self.o))
        return m


@make_stage.register
def _(layer: PoolSpec, node: Node, engine: None, ins: tuple[Beats, ...], lanes: int) -> PoolStage:
    (source,) = ins
    return PoolStage(node, source=source, lanes=lanes)


@stage_files.register
def _(
    layer: PoolSpec, node: Node, engine: None, ins: tuple[Beats, ...], lanes: int
) -> dict[str, str]:
    rule = getattr(layer, "requantize", None)
    return {} if rule is None else requantize_files(rule, node, lanes)
