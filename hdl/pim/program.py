"""Programming: rows into macros, by pulses, read-back and retry."""

from collections.abc import Sequence

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.rom import address_bits
from hdl.lib.stream import transfer
from model.ir.macro import MacroSpec
from model.ir.programming import CellRows


def row_stream(rows: CellRows) -> stream.Signature:
    """Rows for the cells of a layer: ``macro``, ``row``, and the ``levels`` of its columns.

    A transfer ends the writing of a row, so a payload holds until its row is written.
    """
    return stream.Signature(data.StructLayout(_row(rows.macros, rows.rows, rows.bits)))


def program_stream(layers: Sequence[CellRows]) -> stream.Signature:
    """The same for all layers, of which ``layer`` counts, fields as wide as the widest needs."""
    fields = _row(*(max(getattr(one, name) for one in layers) for name in _FIELDS))
    return stream.Signature(data.StructLayout({"layer": address_bits(len(layers))} | fields))


_FIELDS = ("macros", "rows", "bits")


def _row(macros: int, rows: int, bits: int) -> dict[str, int]:
    return {"macro": address_bits(macros), "row": address_bits(rows), "levels": bits}


class Programmer(wiring.Component):
    """Writes rows into the macros that it serves, one row at a time.

    ::

        take a row -> pulse, write_cycles -> read back -> compare -> the same: next row
                        ^                                   |     -> not: pulse again, up to
                        +-----------------------------------+        `attempts`, else report it

    A row of ``a`` pulses takes ``spec.row_write_cycles(a)`` = ``1 + a (write_cycles + 2)`` cycles.
    ``row`` and ``levels`` go to all macros, strobes to one.

    Parameters
    ----------
    spec : MacroSpec
    macros : int
        How many macros it serves.

    Members
    -------
    i : In(stream of ``macro``, ``row``, ``levels``)
        Rows to write.
    write, verify : Out(macros)
        Strobes, a bit for each macro.
    row, levels : Out
        To all macros.
    match : In(macros)
        From the macros.
    done : Out(1)
        The row taken last is finished in this cycle, for good or not.
    failed : Out(1)
        With ``done``: it differs from what was wanted after ``attempts`` pulses.
    failures : Out(32)
        Rows that failed since the reset.
    failed_macro, failed_row : Out
        The row that failed last.
    rows, pulses : Out(32)
        Rows finished and pulses given since the reset.
    pulse : Out(1)
        A pulse ends in this cycle.
    """

    def __init__(self, spec: MacroSpec, macros: int = 1) -> None:
        self.spec, self.macros = spec, macros
        levels = data.ArrayLayout(unsigned(spec.level_bits), spec.columns)
        command = data.StructLayout(
            {
                "macro": unsigned(address_bits(macros)),
                "row": unsigned(address_bits(spec.rows)),
                "levels": levels,
            }
        )
        super().__init__(
            {
                "i": In(stream.Signature(command)),
                "write": Out(macros),
                "verify": Out(macros),
                "row": Out(address_bits(spec.rows)),
                "levels": Out(levels),
                "match": In(macros),
                "done": Out(1),
                "failed": Out(1),
                "failures": Out(32),
                "failed_macro": Out(address_bits(macros)),
                "failed_row": Out(address_bits(spec.rows)),
                "rows": Out(32),
                "pulses": Out(32),
                "pulse": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        spec = self.spec
        held = Signal(self.i.payload.shape(), reset_less=True)
        cycle = Signal(address_bits(spec.write_cycles))
        pulse = Signal(address_bits(spec.attempts))
        same, last = Signal(), Signal()
        m.d.comb += [
            self.row.eq(held.row),
            self.levels.eq(held.levels),
            same.eq(self.match.bit_select(held.macro, 1)),
            last.eq(pulse == spec.attempts - 1),
        ]
        with m.FSM():
            with m.State("TAKE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [cycle.eq(0), pulse.eq(0)]
                with m.If(transfer(self.i)):
                    m.d.sync += held.eq(self.i.payload)
                    m.next = "PULSE"
            with m.State("PULSE"):
                m.d.comb += self.write.bit_select(held.macro, 1).eq(1)
                m.d.sync += cycle.eq(cycle + 1)
                with m.If(cycle == spec.write_cycles - 1):
                    m.d.comb += self.pulse.eq(1)
                    m.d.sync += [cycle.eq(0), self.pulses.eq(self.pulses + 1)]
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.verify.bit_select(held.macro, 1).eq(1)
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += pulse.eq(pulse + 1)
                m.d.comb += [self.done.eq(same | last), self.failed.eq(~same & last)]
                m.next = "PULSE"
                with m.If(self.done):
                    m.d.sync += self.rows.eq(self.rows + 1)
                    m.next = "TAKE"
                with m.If(self.failed):
                    m.d.sync += [
                        self.failures.eq(self.failures + 1),
                        self.failed_macro.eq(held.macro),
                        self.failed_row.eq(held.row),
                    ]
        return m
