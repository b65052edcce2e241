"""The programming port of the shell: rows of cells, written by registers."""

from collections.abc import Sequence

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.axi.fields import word_of, written
from hdl.pim.program import program_stream
from model.ir.axi import PROGRAM, PROGRAM_REGISTERS, register
from model.ir.programming import WORD, CellRows

PLACE_BITS = (len(PROGRAM) // 4 - 1).bit_length()
"""Bits of the place of a word among those of the port."""


def _place(name: str) -> int:
    return (register(name).offset - PROGRAM[0]) // 4


class ProgramPort(wiring.Component):
    """The registers of the programming port, ``model.ir.axi.PROGRAM_REGISTERS``.

    A row is gathered word by word, then ``start`` gives it to the layer that is meant, unless it is
    refused: there is no such layer, macro or row, or a frame is inside. While a row is being
    written, whatever is written to the port is refused but a clearing of ``program_status``. So
    what is refused changes nothing, and is flagged.

    Memory: a register of the bits of the widest row.

    Parameters
    ----------
    layers : sequence of CellRows

    Members
    -------
    write : In(1), write_place : In, data : In(32), strobe : In(4)
        A word of the port is written in this cycle.
    writable : Out(1)
        ``write_place`` is a register that can be written.
    read_place : In, readable : Out(1), word : Out(32)
        The word there, and whether it is a register.
    inside : In(1)
        A frame is in the accelerator, or enters it.
    clear : In(1)
        Set the counters to 0.
    o : Out(program_stream)
        The row to write.
    failed, pulse : In(1)
        See PimArray.
    """

    def __init__(self, layers: Sequence[CellRows]) -> None:
        self.layers = tuple(layers)
        self.words = max(layer.words for layer in layers)
        super().__init__(
            {
                "write": In(1),
                "write_place": In(PLACE_BITS),
                "data": In(32),
                "strobe": In(4),
                "writable": Out(1),
                "read_place": In(PLACE_BITS),
                "readable": Out(1),
                "word": Out(32),
                "inside": In(1),
                "clear": In(1),
                "o": Out(program_stream(layers)),
                "failed": In(1),
                "pulse": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        busy, end, start = self.o.valid, Signal(), Signal()
        meant = {name: Signal(32, name=name) for name in ("layer", "macro", "row")}
        status = register("program_status")
        kept = {
            (status.name, field.name): Signal(name=f"status_{field.name}")
            for field in status.fields
            if field.name != "busy"
        }
        row = Signal(WORD * self.words, name="levels")
        sizes = {
            name: Signal(32, name=name) for name in ("macros", "rows", "columns", "level_bits")
        }
        with m.Switch(meant["layer"]):
            for n, layer in enumerate(self.layers):
                with m.Case(n):
                    m.d.comb += [signal.eq(getattr(layer, name)) for name, signal in sizes.items()]
        known = (meant["macro"] < sizes["macros"]) & (meant["row"] < sizes["rows"])
        m.d.comb += [
            end.eq(busy & self.o.ready),
            self.o.p.layer.eq(meant["layer"]),
            self.o.p.macro.eq(meant["macro"]),
            self.o.p.row.eq(meant["row"]),
            self.o.p.levels.eq(row),
        ]
        self._write(m, meant, row, kept, start)
        done, failed = kept[status.name, "done"], kept[status.name, "failed"]
        with m.If(start & ~known):
            m.d.sync += kept[status.name, "range"].eq(1)
        with m.Elif(start & self.inside):
            m.d.sync += kept[status.name, "in_flight"].eq(1)
        with m.Elif(start):
            m.d.sync += [busy.eq(1), done.eq(0), failed.eq(0)]
        with m.If(end):
            m.d.sync += [busy.eq(0), done.eq(1), failed.eq(self.failed)]

        values: dict[str, Value] = {"layers": Const(len(self.layers), 32)} | meant | sizes
        events = {"written": end, "failures": end & self.failed, "pulses": self.pulse}
        for name, event in (events | {"cycles": busy}).items():
            values[name] = count = Signal(32, name=name)
            m.d.sync += count.eq(Mux(self.clear, 0, count) + event)
        values["status"] = word_of(status, kept | {(status.name, "busy"): busy})
        with m.Switch(self.read_place):
            for one in PROGRAM_REGISTERS:
                words = self.words if one.name == "program_data" else one.words
                with m.Case(*range(_place(one.name), _place(one.name) + words)):
                    m.d.comb += self.readable.eq(1)
                    if one.name.removeprefix("program_") in values:
                        m.d.comb += self.word.eq(values[one.name.removeprefix("program_")])
        return m

    def _write(self, m: Module, meant, row: Signal, kept, start: Signal) -> None:
        """What a write does; ``start`` is written while no row is."""
        locked, free = Signal(), self.write & ~self.o.valid  # locked: while a row is written
        status = register("program_status")
        with m.If(self.write & self.o.valid & locked):
            m.d.sync += kept[status.name, "overrun"].eq(1)
        targets = {_place(f"program_{name}"): target for name, target in meant.items()}
        for n in range(self.words):
            targets[_place("program_data") + n] = row[WORD * n : WORD * (n + 1)]
        with m.Switch(self.write_place):
            for place, target in targets.items():
                with m.Case(place):
                    m.d.comb += locked.eq(1)
                    with m.If(free):
                        m.d.sync += target.eq(written(target, self.data, self.strobe))
            with m.Case(_place("program_control")):
                m.d.comb += [locked.eq(1), start.eq(free & self.data[0] & self.strobe[0])]
            with m.Case(_place("program_status")):
                m.d.comb += self.writable.eq(1)
                for field in status.fields:
                    if field.access == "w1c":
                        flag = kept[status.name, field.name]
                        with m.If(self.write & self.strobe[field.low // 8]):
                            m.d.sync += flag.eq(flag & ~self.data[field.low])
        with m.If(locked):
            m.d.comb += self.writable.eq(1)
