"""Requantization in gates: ``y = clamp((acc * m + b + r) >> s)``."""

from dataclasses import replace

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.hexfile import hex_text, to_bits
from hdl.lib.numerics import clamped, code_shape, format_tag, range_shape, range_tag, without_scale
from hdl.lib.rom import Rom, address_bits
from hdl.lib.stream import beat_stream, transfer
from hdl.target import place
from model.ir.network import Node
from model.ir.numerics import IntRange
from model.ir.requantize import RequantizeSpec


class RequantizeLane(wiring.Component):
    """One requantizer: an accumulator, its ``m`` and its ``b`` to a code.

    Latency: 2 cycles of ``en`` if the specification multiplies, else 1. One result a cycle.
    Multipliers: one of accumulator bits × ``m_bits``, or none.

    Members
    -------
    en : In(latency)
        Advance, each register stage on its own bit: where nothing has arrived nothing switches.
    acc : In(accumulator)
    m : In(signed(m_bits))
        Only if the specification multiplies.
    b : In(signed(b_bits))
    o : Out(code)
    """

    def __init__(self, spec: RequantizeSpec, acc: IntRange) -> None:
        self.spec, self.acc_range = spec, acc
        ports = {
            "en": In(2 if spec.multiplies else 1),
            "acc": In(range_shape(acc)),
            "b": In(signed(spec.b_bits)),
            "o": Out(code_shape(spec.out_format)),
        }
        if spec.multiplies:
            ports["m"] = In(signed(spec.m_bits))
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        spec = self.spec
        product, bias = self.acc, self.b + spec.rounding
        if spec.multiplies:
            product = Signal(range_shape(spec.product(self.acc_range)), reset_less=True)
            rounded, bias = bias, Signal(bias.shape(), reset_less=True)
            with m.If(self.en[0]):
                m.d.sync += [product.eq(self.acc * self.m), bias.eq(rounded)]
        total = Signal(range_shape(spec.total(self.acc_range)))
        m.d.comb += total.eq(product + bias)
        result = Signal(range_shape(spec.total(self.acc_range)))
        m.d.comb += result.eq(total >> spec.shift)
        code = Signal.like(self.o, reset_less=True)
        with m.If(self.en[-1]):
            m.d.sync += code.eq(clamped(result, spec.out_format))
        m.d.comb += self.o.eq(code)
        return m


class Requantize(wiring.Component):
    """A stream of accumulators to a stream of codes, ``lanes`` at a time.

    The beats of a pixel are counted, so a frame may hold any number of pixels. A product of each
    channel's own ``m`` takes it from a register, into which the memory, read one beat ahead, has
    put it: a block of memory is too slow to feed a multiplier. The first word is read in the cycle
    after a reset, in which no beat is taken.

    Latency: 3 cycles if the specification multiplies, else 2. One beat a cycle.
    Memory: ``ceil(channels / lanes)`` words of ``lanes`` times the bits per channel; a register of
    such a word if there are several and each channel has its ``m``.

    Parameters
    ----------
    spec : RequantizeSpec
    acc : IntRange
        Range of the accumulators.
    channels, lanes : int
        Channels per pixel and per beat.
    channel_file, layer_file : str
        .hex files of the parameters: per beat, ``lanes`` of ``b`` (above it ``m``, if there is one
        per channel); and the one ``m`` of the layer, read only if there is one.

    Members
    -------
    i : In(stream of accumulators)
    o : Out(stream of codes)
    """

    def __init__(
        self,
        spec: RequantizeSpec,
        acc: IntRange,
        *,
        channels: int,
        lanes: int,
        channel_file: str,
        layer_file: str,
    ) -> None:
        self.spec, self.acc = spec, acc
        self.channels, self.lanes = channels, lanes
        self.channel_file, self.layer_file = channel_file, layer_file
        super().__init__(
            {
                "i": In(beat_stream(range_shape(acc), lanes)),
                "o": Out(beat_stream(code_shape(spec.out_format), lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        spec = self.spec
        beats = -(-self.channels // self.lanes)
        en = Signal()
        m.d.comb += [en.eq(~self.o.valid | self.o.ready), self.i.ready.eq(en)]

        width = spec.channel_bits()
        m.submodules.channel = channel = Rom(width * self.lanes, beats, self.channel_file)
        index = Signal(address_bits(beats))
        m.d.comb += [channel.addr.eq(index), channel.en.eq(transfer(self.i))]
        with m.If(channel.en):
            m.d.sync += index.eq(Mux(index == beats - 1, 0, index + 1))
        word = channel.data
        if spec.per == "channel" and beats > 1:
            word = Signal.like(channel.data, reset_less=True)
            ahead = Signal()  # the word of the next beat is there
            m.d.sync += ahead.eq(1)
            m.d.comb += [channel.en.eq(transfer(self.i) | ~ahead), self.i.ready.eq(en & ahead)]
            with m.If(transfer(self.i)):
                m.d.sync += word.eq(channel.data)
        if spec.per == "layer":
            m.submodules.layer = layer = Rom(spec.m_bits, 1, self.layer_file)
            read = Signal()  # once is enough
            m.d.sync += read.eq(1)
            m.d.comb += [layer.addr.eq(0), layer.en.eq(~read)]

        operands = Signal(data.ArrayLayout(range_shape(self.acc), self.lanes), reset_less=True)
        with m.If(transfer(self.i)):
            m.d.sync += operands.eq(self.i.p.codes)
        stages = 3 if spec.multiplies else 2
        marks = [(transfer(self.i), self.i.p.first, self.i.p.last)]
        for stage in range(stages):
            marks.append(tuple(Signal(name=f"{n}_{stage}") for n in ("valid", "first", "last")))
            with m.If(en):
                m.d.sync += [new.eq(old) for new, old in zip(marks[-1], marks[-2], strict=True)]
        advance = Cat(en & valid for valid, _, _ in marks[1:stages])
        parameters = data.View(data.ArrayLayout(width, self.lanes), word)
        # One module serves all layers whose lanes have the same gates.
        gates = replace(
            spec,
            out_format=without_scale(spec.out_format),
            per="layer" if spec.multiplies else "one",
        )
        name = f"requantize_{_tag(gates, self.acc)}"
        for lane in range(self.lanes):
            unit = place(m, platform, f"lane_{lane}", name, RequantizeLane, gates, self.acc)
            m.d.comb += [
                unit.en.eq(advance),
                unit.acc.eq(operands[lane]),
                unit.b.eq(parameters[lane][: spec.b_bits].as_signed()),
                self.o.p.codes[lane].eq(unit.o),
            ]
            if spec.per == "channel":
                m.d.comb += unit.m.eq(parameters[lane][spec.b_bits :].as_signed())
            elif spec.per == "layer":
                m.d.comb += unit.m.eq(layer.data.as_signed())

        valid, first, last = marks[-1]
        m.d.comb += [self.o.valid.eq(valid), self.o.p.first.eq(first), self.o.p.last.eq(last)]
        return m


def _tag(spec: RequantizeSpec, acc: IntRange) -> str:
    sign = "s" if acc.signed else "u"
    return (
        f"{sign}{acc.bits}_{range_tag(acc)}_m{spec.m_bits}_b{spec.b_bits}_r{spec.shift}"
        f"_{format_tag(spec.out_format)}"
    )


def requantize_files(spec: RequantizeSpec, node: Node, lanes: int) -> dict[str, str]:
    """Contents of the .hex files of a requantizer of ``lanes`` lanes."""
    channels = len(node.tensors["b"])
    parameters = [to_bits(node.tensors["b"][:, None], spec.b_bits)]
    if spec.per == "channel":
        parameters.append(to_bits(node.tensors["m"][:, None], spec.m_bits))
    matrix = np.zeros((channels + -channels % lanes, spec.channel_bits()), dtype=np.uint8)
    matrix[:channels] = np.concatenate(parameters, axis=1)
    files = {f"{node.name}_channel.hex": hex_text(matrix.reshape(-1, lanes * matrix.shape[1]))}
    if spec.per == "layer":
        files[f"{node.name}_layer.hex"] = hex_text(to_bits(node.tensors["m"][:, None], spec.m_bits))
    return files
