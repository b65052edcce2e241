"""Macros behind streams: how the benches evaluate and program them."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Shape, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.stream import beat_stream, transfer
from hdl.pim.macro import Macro
from hdl.pim.program import Programmer
from model.ir.macro import MacroSpec

WIDE = 16


class Evaluated(wiring.Component):
    """A frame is the bits of the word lines; what leaves are the turns of the converters."""

    def __init__(self, spec: MacroSpec, file: str) -> None:
        self.spec, self.file = spec, file
        result = Shape(spec.result.bits, spec.result.signed)
        super().__init__(
            {
                "i": In(beat_stream(unsigned(1), spec.rows)),
                "o": Out(beat_stream(result, spec.converters)),
                "step_error": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        spec = self.spec
        m.submodules.macro = macro = Macro(spec, self.file)
        wait = Signal(range(spec.share + 1))
        m.d.comb += [
            macro.en.eq(~macro.valid | self.o.ready),
            self.i.ready.eq(macro.en & (wait == 0)),
            macro.start.eq(transfer(self.i)),
            macro.x.eq(self.i.p.codes.as_value()),
            self.o.valid.eq(macro.valid),
            self.o.p.first.eq(macro.phase == 0),
            self.o.p.last.eq(macro.phase == spec.share - 1),
            self.step_error.eq(macro.unprogrammed | macro.clash | macro.worn | macro.blank),
        ]
        m.d.comb += [self.o.p.codes[n].eq(macro.o[n]) for n in range(spec.converters)]
        with m.If(macro.en):
            m.d.sync += wait.eq(Mux(macro.start, spec.share - 1, wait - (wait != 0)))
        return m


class Twins(wiring.Component):
    """A macro that is programmed, beside one that holds the same from the start.

    A frame is the rows, a beat each; what leaves are the turns of the programmed macro's converters
    for ``inputs``, the bits of the word lines of successive evaluations. ``step_differs`` shows
    wherever the other macro gives anything else, and ``step_error`` an error of either.
    """

    def __init__(self, spec: MacroSpec, file: str, inputs: tuple[int, ...]) -> None:
        self.spec, self.file, self.inputs = spec, file, inputs
        result = Shape(spec.result.bits, spec.result.signed)
        super().__init__(
            {
                "i": In(beat_stream(unsigned(spec.level_bits), spec.columns)),
                "o": Out(beat_stream(result, spec.converters)),
                "step_differs": Out(1),
                "step_error": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        spec, last = self.spec, len(self.inputs) - 1
        m.submodules.macro = macro = Macro(spec)
        m.submodules.other = other = Macro(spec, self.file)
        m.submodules.programmer = programmer = Programmer(spec)
        row, wait = Signal(range(spec.rows)), Signal(range(spec.share + 1))
        begun, ended = Signal(range(last + 2)), Signal(range(last + 2))
        for one in (macro, other):
            m.d.comb += [
                one.en.eq(~macro.valid | self.o.ready),
                one.x.eq(Array(Const(x, spec.rows) for x in self.inputs)[begun]),
                one.seed.eq(1),
                one.row.eq(programmer.row),
                one.levels.eq(programmer.levels),
            ]
        m.d.comb += [
            macro.write.eq(programmer.write),
            macro.verify.eq(programmer.verify),
            programmer.match.eq(macro.match),
            programmer.i.p.row.eq(row),
            programmer.i.p.levels.eq(self.i.p.codes),
            self.o.valid.eq(macro.valid),
            self.o.p.first.eq((ended == 0) & (macro.phase == 0)),
            self.o.p.last.eq((ended == last) & (macro.phase == spec.share - 1)),
            self.step_differs.eq(
                (macro.valid != other.valid)
                | (macro.valid & Cat(macro.o != other.o, macro.phase != other.phase).any())
            ),
            self.step_error.eq(
                Cat(one.unprogrammed | one.worn | one.clash for one in (macro, other)).any()
                | other.blank
                | programmer.failed
                | (macro.valid & macro.blank)
            ),
        ]
        m.d.comb += [self.o.p.codes[n].eq(macro.o[n]) for n in range(spec.converters)]
        with m.FSM():
            with m.State("WRITE"):
                m.d.comb += programmer.i.valid.eq(self.i.valid)
                m.d.comb += self.i.ready.eq(programmer.i.ready)
                with m.If(transfer(self.i)):
                    m.next = "WAIT"
            with m.State("WAIT"), m.If(programmer.done):
                m.d.sync += row.eq(row + 1)
                m.next = "WRITE"
                with m.If(row == spec.rows - 1):
                    m.d.sync += [row.eq(0), begun.eq(0), ended.eq(0), wait.eq(0)]
                    m.next = "EVALUATE"
            with m.State("EVALUATE"):
                starts = macro.en & (wait == 0) & (begun <= last)
                m.d.comb += [macro.start.eq(starts), other.start.eq(starts)]
                with m.If(macro.en):
                    m.d.sync += wait.eq(Mux(starts, spec.share - 1, wait - (wait != 0)))
                    m.d.sync += begun.eq(begun + starts)
                with m.If(transfer(self.o) & (macro.phase == spec.share - 1)):
                    m.d.sync += ended.eq(ended + 1)
                    with m.If(ended == last):
                        m.next = "WRITE"
        return m


class Programmed(wiring.Component):
    """A frame is the rows that are written, in order; what leaves is what the macro then holds.

    First all word lines are driven; then come the rows as they are before, the rows that are
    written enter, then the rows as they are after, the results of all word lines, and a beat of
    ``failures, failed_row, rows, pulses, unprogrammed, worn, clash, blank before, blank after``.
    """

    STATUS = 9

    def __init__(self, spec: MacroSpec, seed: int, file: str, stuck: str, loads: bool) -> None:
        self.spec, self.seed, self.file, self.stuck, self.loads = spec, seed, file, stuck, loads
        assert spec.direct
        assert spec.columns >= self.STATUS
        super().__init__(
            {
                "i": In(beat_stream(unsigned(spec.level_bits), spec.columns)),
                "o": Out(beat_stream(unsigned(WIDE), spec.columns)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        spec = self.spec
        m.submodules.macro = macro = Macro(
            spec, self.file, self.stuck, programmed=not (self.stuck and self.file)
        )
        m.submodules.programmer = programmer = Programmer(spec)
        row, blank = Signal(range(spec.rows + 1)), Signal()
        reads, count = Signal(), Signal(range(4))
        m.d.comb += [
            macro.en.eq(1),
            macro.x.eq(~Const(0, spec.rows)),
            macro.seed.eq(self.seed),
            programmer.i.p.row.eq(row),
            programmer.i.p.levels.eq(self.i.p.codes),
            programmer.match.eq(macro.match),
            macro.write.eq(programmer.write),
            macro.verify.eq(programmer.verify | reads),
            macro.row.eq(Mux(reads | macro.load, row, programmer.row)),
            macro.levels.eq(Mux(macro.load, self.i.p.codes.as_value(), programmer.levels)),
            self.o.p.first.eq(0),
        ]

        def give(values, then):
            m.d.comb += self.o.valid.eq(1)
            m.d.comb += [self.o.p.codes[n].eq(value) for n, value in enumerate(values)]
            with m.If(self.o.ready):
                then()

        def goto(state):
            def then():
                m.next = state
                m.d.sync += [row.eq(0), count.eq(0)]

            return then

        def rows(name, after):
            with m.State(f"{name}_READ"):
                m.d.comb += reads.eq(1)
                m.next = f"{name}_GIVE"
            with m.State(f"{name}_GIVE"):
                m.d.comb += self.o.p.first.eq((row == 0) & (name == "BEFORE"))

                def then():
                    m.d.sync += row.eq(row + 1)
                    m.next = f"{name}_READ"
                    with m.If(row == spec.rows - 1):
                        goto(after)()

                give(macro.found, then)

        with m.FSM():
            with m.State("EVALUATE"), m.If(self.i.valid):
                m.d.comb += macro.start.eq(1)
                m.d.sync += blank.eq(macro.blank)
                m.next = "BEFORE_READ"
            rows("BEFORE", "WRITE")
            with m.State("WRITE"):
                with m.If(row == spec.rows):
                    goto("AFTER_READ")()
                if self.loads:
                    with m.Elif(self.i.valid):
                        m.d.comb += [self.i.ready.eq(1), macro.load.eq(1)]
                        m.d.sync += row.eq(row + 1)
                else:
                    with m.Else():
                        m.d.comb += programmer.i.valid.eq(self.i.valid)
                        m.d.comb += self.i.ready.eq(programmer.i.ready)
                        with m.If(transfer(self.i)):
                            m.next = "WAIT"
            with m.State("WAIT"), m.If(programmer.done):
                m.d.sync += row.eq(row + 1)
                m.next = "WRITE"
            rows("AFTER", "AGAIN")
            with m.State("AGAIN"):
                m.d.comb += macro.start.eq(count == 0)
                m.d.sync += count.eq(count + 1)
                with m.If(macro.valid):
                    m.next = "RESULTS"
            with m.State("RESULTS"):
                give(macro.o, goto("STATUS"))
            with m.State("STATUS"):
                m.d.comb += self.o.p.last.eq(1)
                status = (programmer.failures, programmer.failed_row, programmer.rows)
                errors = (macro.unprogrammed, macro.worn, macro.clash, blank, macro.blank)
                give((*status, programmer.pulses, *errors), goto("EVALUATE"))
        return m
