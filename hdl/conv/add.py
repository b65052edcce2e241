"""Residual addition in gates: ``z = clamp((x * mx + y * my + r) >> s)``."""

from dataclasses import replace

import numpy as np
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.hexfile import hex_text, to_bits
from hdl.lib.numerics import clamped, code_shape, decode, format_tag, range_shape, without_scale
from hdl.lib.padding import without_padding
from hdl.lib.rom import Rom
from hdl.lib.slice import RegisterSlice
from hdl.lib.stream import beat_stream, connect, transfer
from hdl.stage import make_stage, stage_files
from hdl.target import place
from model.ir.add import AddSpec
from model.ir.beats import Beats
from model.ir.network import Node
from model.ir.numerics import IntRange


class AddLane(wiring.Component):
    """One element: two codes and their factors to a code.

    Latency: 2 cycles of ``en``. One result a cycle. Multipliers: one of the bits of each code ×
    ``m_bits``.

    Members
    -------
    en : In(1)
        Advance.
    x, y : In(code)
    mx, my : In(signed(m_bits))
    o : Out(code)
    """

    def __init__(self, spec: AddSpec) -> None:
        self.spec = spec
        super().__init__(
            {
                "en": In(1),
                "x": In(code_shape(spec.x_format)),
                "y": In(code_shape(spec.y_format)),
                "mx": In(signed(spec.m_bits)),
                "my": In(signed(spec.m_bits)),
                "o": Out(code_shape(spec.out_format)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        spec = self.spec
        factor = IntRange.of_bits(spec.m_bits, True)
        products = []
        for name, format in (("x", spec.x_format), ("y", spec.y_format)):
            product = Signal(range_shape(format.values * factor), name=f"{name}m", reset_less=True)
            value = decode(format, getattr(self, name))
            with m.If(self.en):
                m.d.sync += product.eq(value * getattr(self, f"m{name}"))
            products.append(product)
        total, result = Signal(range_shape(spec.total())), Signal(range_shape(spec.total()))
        m.d.comb += [
            total.eq(products[0] + products[1] + spec.rounding),
            result.eq(total >> spec.shift),
        ]
        code = Signal.like(self.o, reset_less=True)
        with m.If(self.en):
            m.d.sync += code.eq(clamped(result, spec.out_format))
        m.d.comb += self.o.eq(code)
        return m


class Add(wiring.Component):
    """Two streams of equal beats, added lane by lane.

    ::

        x -> [slice] --+-> lanes × (products, sum) -> o
        y -> [slice] --'

    A beat of one stream waits for its partner; the slices hold it, so that neither stream's
    ``ready`` depends on anything of the other in the same cycle.

    Latency: 3 cycles. One beat a cycle.

    Parameters
    ----------
    spec : AddSpec
    lanes : int
        Codes per beat of all three streams.
    file : str
        .hex file of one word: ``mx``, above it ``my``.

    Members
    -------
    x, y : In(stream of codes)
    o : Out(stream of codes)
    """

    def __init__(self, spec: AddSpec, *, lanes: int, file: str) -> None:
        self.spec, self.lanes, self.file = spec, lanes, file
        super().__init__(
            {
                "x": In(beat_stream(code_shape(spec.x_format), lanes)),
                "y": In(beat_stream(code_shape(spec.y_format), lanes)),
                "o": Out(beat_stream(code_shape(spec.out_format), lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        spec = self.spec
        m.submodules.x = x = RegisterSlice(code_shape(spec.x_format), self.lanes)
        m.submodules.y = y = RegisterSlice(code_shape(spec.y_format), self.lanes)
        connect(m, wiring.flipped(self.x), x.i)
        connect(m, wiring.flipped(self.y), y.i)
        m.submodules.factors = factors = Rom(2 * spec.m_bits, 1, self.file)
        en, both = Signal(), Signal()
        m.d.comb += [
            factors.addr.eq(0),
            factors.en.eq(1),
            en.eq(~self.o.valid | self.o.ready),
            both.eq(x.o.valid & y.o.valid),
            x.o.ready.eq(en & y.o.valid),
            y.o.ready.eq(en & x.o.valid),
        ]
        # One module serves all layers whose lanes have the same gates.
        gates = replace(
            spec,
            shape=(1,),
            x_format=without_scale(spec.x_format),
            y_format=without_scale(spec.y_format),
            out_format=without_scale(spec.out_format),
        )
        formats = gates.x_format, gates.y_format, gates.out_format
        name = "_".join(["add", *map(format_tag, formats), f"m{spec.m_bits}", f"r{spec.shift}"])
        results = []
        for lane in range(self.lanes):
            unit = place(m, platform, f"lane_{lane}", name, AddLane, gates)
            m.d.comb += [
                unit.en.eq(en),
                unit.x.eq(x.o.p.codes[lane]),
                unit.y.eq(y.o.p.codes[lane]),
                unit.mx.eq(factors.data[: spec.m_bits].as_signed()),
                unit.my.eq(factors.data[spec.m_bits :].as_signed()),
            ]
            results.append(unit.o)
        if not (spec.x_format.has_zero and spec.y_format.has_zero):
            beats = Beats(spec.shape, self.lanes)
            results = without_padding(m, transfer(self.o), beats, results)
        m.d.comb += [self.o.p.codes[lane].eq(result) for lane, result in enumerate(results)]

        marks = [(both, x.o.p.first, x.o.p.last)]
        for stage in range(2):
            marks.append(tuple(Signal(name=f"{n}_{stage}") for n in ("valid", "first", "last")))
            with m.If(en):
                m.d.sync += [new.eq(old) for new, old in zip(marks[-1], marks[-2], strict=True)]
        valid, first, last = marks[-1]
        m.d.comb += [self.o.valid.eq(valid), self.o.p.first.eq(first), self.o.p.last.eq(last)]
        return m


@make_stage.register
def _(layer: AddSpec, node: Node, engine: None, ins: tuple[Beats, ...], lanes: int) -> Add:
    return Add(layer, lanes=lanes, file=f"{node.name}_factors.hex")


@stage_files.register
def _(
    layer: AddSpec, node: Node, engine: None, ins: tuple[Beats, ...], lanes: int
) -> dict[str, str]:
    factors = np.array([[node.tensors[name][0] for name in ("mx", "my")]])
    return {f"{node.name}_factors.hex": hex_text(to_bits(factors, layer.m_bits))}
