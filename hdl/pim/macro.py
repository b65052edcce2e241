"""The SOT-MRAM macro: one signature, a behavioural body and a hard macro's."""

from pathlib import Path

import numpy as np
from amaranth.hdl import (
    ClockSignal,
    Const,
    Instance,
    Module,
    ResetSignal,
    Shape,
    ShapeCastable,
    Value,
    unsigned,
)
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.hexfile import hex_text
from hdl.lib.rom import address_bits
from model.ir.macro import MacroSpec

SOURCE = Path(__file__).with_name("gyre_macro.v")


class Macro(wiring.Component):
    """Cells that count along their columns, with converters and a port for writing.

    Evaluation is pipelined under ``en``, which one controller may give to many macros in lock step:
    what is started in a cycle with ``en`` has its first results ``spec.latency - 1`` cycles of
    ``en`` later, and the next evaluation may start ``spec.interval`` cycles after it. With shared
    converters the results leave in ``share`` successive cycles, ``phase`` 0 first: in phase p
    converter j gives result ``p * converters + j``, and 0 where there is none. A macro that is not
    started keeps still, in a simulation too. The data port does not need ``en``.

    A write pulse lasts ``write_cycles`` cycles of ``write``; the cells switch at its end, and a
    pulse cut short changes nothing. ``row`` and ``levels`` hold meanwhile. Every pulse advances a
    shift register of 32 bits: if its low half is below ``failures`` the pulse fails, and the cells
    of the columns marked by its high half (bit ``column % 16``) keep their level. A cell that is
    stuck keeps it always. Contents, and which rows are programmed and how worn, survive a reset.

    Parameters
    ----------
    spec : MacroSpec
    file : str
        .hex file of the contents at the start (:func:`contents`), with which every row counts as
        programmed; none leaves the rows to be written.
    stuck : str
        .hex file that marks stuck cells (:func:`stuck_cells`); their level is that in ``file``, or
        0 without one.
    body : str
        Name of a hard macro with these ports, and ``clk`` and ``rst``; none is the behavioural
        body, ``gyre_macro.v``.
    programmed : bool
        Whether the rows of ``file`` count as programmed; if not, they are what the device happens
        to hold before it is written.

    Members
    -------
    en, start : In(1)
        Advance; begin an evaluation.
    x : In(rows)
        A bit for each word line.
    valid : Out(1)
        Results are at the port.
    phase : Out
        Which of the converters' turns it is.
    o : Out(results of ``result_lane`` bits, one for each converter)
    write : In(1)
        A write pulse goes on.
    load : In(1)
        Write the row in this cycle, with no pulse and no failure: a fast start, not a write.
    verify : In(1)
        Read the row; ``found`` and ``match`` follow one cycle later.
    row : In(address of a row)
    levels : In(a level for each column)
    seed : In(32)
        Where the shift register of failures begins; taken during a reset.
    match : Out(1)
        The row that was read holds ``levels``.
    found : Out(a level for each column)
        The row that was read.
    blank : Out(1)
        There is a row that was never programmed.
    unprogrammed, worn, clash : Out(1)
        Errors that stay until a reset: a row was evaluated that was never programmed; a pulse went
        to a row past its endurance, and changed nothing; an evaluation began during another's turn
        at the converters, or during a write.
    """

    def __init__(
        self,
        spec: MacroSpec,
        file: str = "",
        stuck: str = "",
        body: str = "",
        programmed: bool = True,
    ) -> None:
        self.spec, self.file, self.stuck, self.body = spec, file, stuck, body
        self.programmed = bool(file) and programmed
        super().__init__(ports(spec, spec.rows, data.ArrayLayout(_lane(spec), spec.converters)))

    def elaborate(self, platform):
        m = Module()
        if self.body:
            m.submodules.body = Instance(self.body, **connections(self))
            return m
        platform.include(SOURCE)
        m.submodules.body = Instance(
            "gyre_macro",
            **parameters(self.spec),
            p_PROGRAMMED=int(self.programmed),
            **named_files(self.file, self.stuck),
            i_number=Const(0, 1),
            **connections(self),
        )
        return m


def ports(spec: MacroSpec, x: int, o: ShapeCastable | int) -> dict[str, wiring.Member]:
    """Ports of a macro, or of a bank of them: with so many word lines, and results so shaped."""
    levels = data.ArrayLayout(unsigned(spec.level_bits), spec.columns)
    return {
        "en": In(1),
        "start": In(1),
        "x": In(x),
        "valid": Out(1),
        "phase": Out(address_bits(spec.share)),
        "o": Out(o),
        "load": In(1),
        "write": In(1),
        "verify": In(1),
        "row": In(address_bits(spec.rows)),
        "levels": In(levels),
        "seed": In(32),
        "match": Out(1),
        "found": Out(levels),
        "blank": Out(1),
        "unprogrammed": Out(1),
        "worn": Out(1),
        "clash": Out(1),
    }


def connections(component: wiring.Component) -> dict[str, Value]:
    """A component's ports and its clock and reset, as an Instance names them."""
    found = {
        f"{'i' if member.flow == In else 'o'}_{name}": getattr(component, name)
        for name, member in component.signature.members.items()
    }
    return found | {"i_clk": ClockSignal(), "i_rst": ResetSignal()}


def named_files(file: str, stuck: str) -> dict[str, str]:
    """The parameters of the files that there are."""
    names = {"p_FILE": file, "p_STUCK": stuck}
    return {name: file for name, file in names.items() if file}


def _lane(spec: MacroSpec) -> Shape:
    return Shape(spec.result_lane, spec.result.signed)


def parameters(spec: MacroSpec) -> dict[str, int]:
    """Parameters of the behavioural body."""
    reciprocal, shift = spec.reciprocal
    return {
        "p_ROWS": spec.rows,
        "p_COLUMNS": spec.columns,
        "p_BITS": spec.level_bits,
        "p_ROW_BITS": address_bits(spec.rows),
        "p_LANE": spec.count_lane,
        "p_REFERENCE": int(spec.reference),
        "p_PAIRS": int(spec.pairs),
        "p_RESULTS": spec.results,
        "p_SHARE": spec.share,
        "p_CONVERTERS": spec.converters,
        "p_PHASE_BITS": address_bits(spec.share),
        "p_O_LANE": spec.result_lane,
        "p_ADC": int(spec.adc_bits is not None),
        "p_BIAS": spec.step // 2 + spec.offset * spec.step,
        "p_OFFSET": spec.offset,
        "p_RECIPROCAL": reciprocal,
        "p_SHIFT": shift,
        "p_LOW": spec.result.low & 0xFFFFFFFF,
        "p_HIGH": spec.result.high,
        "p_WRITE_CYCLES": spec.write_cycles,
        "p_FAILURES": spec.failures,
        "p_ENDURANCE": spec.endurance,
    }


def contents(spec: MacroSpec, levels: np.ndarray, thing: str = "levels") -> str:
    """The .hex file of levels [rows, columns]; raises BadInput if they do not fit the macro."""
    spec.check_levels(levels, thing)
    return hex_text(spec.words(levels))


def stuck_cells(spec: MacroSpec, stuck: np.ndarray, thing: str = "fault map") -> str:
    """The .hex file of a fault map [rows, columns] of 0 and 1, or raise BadInput."""
    spec.check_stuck(stuck, thing)
    return hex_text(spec.stuck_words(stuck))
