"""The ledger: counted events times the constants of a technology, in joules and in mm2.

Whoever counts fills :class:`Events` (what happened) and :class:`Parts` (what was built), from
counters of a simulation or from formulas; they are plain data and add up. A ledger gives each part
its total and its share, at low, typical and high. Low means that every constant is at its low: the
band is the widest that the sources allow, not a confidence interval.

Not counted, because nothing in the technology files is a source for it: leakage, the clock tree,
control, wires between macros.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from rich.table import Table

from model.ir.errors import BadInput
from sim.technology import LEVELS, ZERO, CellTechnology, CmosTechnology, Range, power_law

ACCUMULATOR_BITS = 32
"""Width of the addition in a multiply-accumulate."""
SIZE = " of "
"""Between a part's name and its size."""
NOT_COUNTED = ("leakage", "clock tree", "control", "wires between macros")


class Counts:
    """Base of what is counted: fields are counts, or mappings of a size to counts."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            for count in value.values() if isinstance(value, Mapping) else (value,):
                if type(count) is not int or count < 0:
                    raise BadInput(
                        f"count of {item.name}", repr(count), "an integer, 0 or more", "count anew"
                    )

    def __add__(self, other: Any) -> Any:
        if type(other) is not type(self):
            return NotImplemented
        total = {}
        for item in fields(self):
            a, b = getattr(self, item.name), getattr(other, item.name)
            if isinstance(a, Mapping):
                total[item.name] = {k: a.get(k, 0) + b.get(k, 0) for k in sorted({*a, *b})}
            else:
                total[item.name] = a + b
        return type(self)(**total)

    def __mul__(self, times: int) -> Any:
        scaled = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Mapping):
                scaled[item.name] = {key: count * times for key, count in value.items()}
            else:
                scaled[item.name] = value * times
        return type(self)(**scaled)


@dataclass(frozen=True)
class Events(Counts):
    """What happened.

    Parameters
    ----------
    word_lines : int
        Pulses on word lines.
    cell_reads : int
        Cells on pulsed word lines, each evaluation counted, in columns whose currents are summed.
    cell_senses : int
        Bits read by sense amplifiers.
    conversions : mapping of int to int
        Bits of the converter to conversions.
    adds : mapping of int to int
        Bits of the adder to additions: shift-adds, counters.
    macs : mapping of (int, int) to int
        Widths of the factors to multiply-accumulates.
    register_bits : int
        Bits written to registers (and read from them once).
    memory_reads, memory_writes : mapping of int to int
        Bytes of the memory to bits.
    dram_bits : int
        Bits to and from the memory off the chip.
    cell_writes : int
        Write pulses on cells, those of retries included.
    """

    word_lines: int = 0
    cell_reads: int = 0
    cell_senses: int = 0
    conversions: Mapping[int, int] = field(default_factory=dict)
    adds: Mapping[int, int] = field(default_factory=dict)
    macs: Mapping[tuple[int, int], int] = field(default_factory=dict)
    register_bits: int = 0
    memory_reads: Mapping[int, int] = field(default_factory=dict)
    memory_writes: Mapping[int, int] = field(default_factory=dict)
    dram_bits: int = 0
    cell_writes: int = 0


@dataclass(frozen=True)
class Parts(Counts):
    """What was built.

    Parameters
    ----------
    cells : int
        Cells, those that hold nothing included.
    word_lines : int
        Drivers.
    converters, adders : mapping of int to int
        Bits to converters and adders.
    multipliers : mapping of (int, int) to int
        Widths of the factors to multipliers.
    register_bits, memory_bits : int
        Bits of registers and of memories.
    """

    cells: int = 0
    word_lines: int = 0
    converters: Mapping[int, int] = field(default_factory=dict)
    adders: Mapping[int, int] = field(default_factory=dict)
    multipliers: Mapping[tuple[int, int], int] = field(default_factory=dict)
    register_bits: int = 0
    memory_bits: int = 0


@dataclass(frozen=True)
class Entry:
    """A line of a ledger: so many events of a kind, what each costs, and all of them."""

    part: str
    count: int
    each: Range

    @property
    def total(self) -> Range:
        return self.each * self.count


@dataclass(frozen=True)
class Ledger:
    """Lines that add up.

    Parameters
    ----------
    title : str
        What it is of.
    unit : str
        ``"J"`` or ``"mm2"``.
    entries : tuple of Entry
        The lines; parts that did not occur are left out.
    technologies : tuple of str
        Where the constants come from.
    """

    title: str
    unit: str
    entries: tuple[Entry, ...]
    technologies: tuple[str, ...]

    @property
    def total(self) -> Range:
        """The sum of the lines."""
        return sum((entry.total for entry in self.entries), ZERO)

    def share(self, entry: Entry) -> Range:
        """Part of the total, of 1, at each level; the shares of all lines sum to 1."""
        return entry.total.apply(lambda part, whole: part / whole if whole else 0.0, self.total)

    def summary(self) -> "Ledger":
        """The ledger with one line for all sizes of a part; ``each`` is their mean."""
        merged: dict[str, Entry] = {}
        for entry in self.entries:
            part = entry.part.partition(SIZE)[0]
            total, count = entry.total, entry.count
            if part in merged:
                total, count = total + merged[part].total, count + merged[part].count
            merged[part] = Entry(part, count, total * (1 / count))
        return Ledger(self.title, self.unit, tuple(merged.values()), self.technologies)

    def plain(self) -> dict[str, Any]:
        """As JSON data: the section ``energy`` of a report, and ``area`` of its ``resources``."""
        return {
            "title": self.title,
            "unit": self.unit,
            "technologies": list(self.technologies),
            "total": self.total.plain(),
            "parts": [
                {
                    "part": entry.part,
                    "count": entry.count,
                    "each": entry.each.plain(),
                    "total": entry.total.plain(),
                    "share": self.share(entry).plain(),
                }
                for entry in self.entries
            ],
            "not_counted": list(NOT_COUNTED),
        }

    def table(self) -> Table:
        """As a table of rich, the total last."""
        table = Table(title=f"{self.title} ({', '.join(self.technologies)})", title_justify="left")
        table.add_column("part", overflow="fold")
        for name in ("count", "each", *LEVELS, "share"):
            table.add_column(name, justify="right")
        for entry in self.entries:
            total, share = entry.total, self.share(entry)
            table.add_row(
                entry.part,
                f"{entry.count:,}",
                engineering(entry.each.typical, self.unit),
                *(engineering(getattr(total, level), self.unit) for level in LEVELS),
                f"{100 * share.typical:.1f} %",
            )
        table.add_section()
        total = self.total
        cells = (engineering(getattr(total, level), self.unit) for level in LEVELS)
        table.add_row("total", "", "", *cells, "100.0 %" if self.entries else "")
        return table


def engineering(value: float, unit: str) -> str:
    """A value with three digits and a prefix; areas stay in mm2 or go to um2."""
    if unit == "mm2":
        return f"{value:,.3g} mm2" if value >= 1e-3 else f"{value * 1e6:,.3g} um2"
    for prefix, factor in (("", 1.0), ("m", 1e-3), ("u", 1e-6), ("n", 1e-9), ("p", 1e-12)):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value / 1e-15:.3g} f{unit}" if value else f"0 {unit}"


def energy(title: str, events: Events, cell: CellTechnology | None, cmos: CmosTechnology) -> Ledger:
    """The energy of events in joules.

    A multiply-accumulate is a multiplication and an addition of ``ACCUMULATOR_BITS`` bits. Raises
    BadInput for events of cells without a technology of cells, for sensing with a technology that
    has no ``cell_sense``, and for sizes that the technology does not reach.
    """
    return _ledger(title, "J", _events(events, cell, cmos), cell, cmos)


def area(title: str, parts: Parts, cell: CellTechnology | None, cmos: CmosTechnology) -> Ledger:
    """The area of parts in mm2; raises BadInput as :func:`energy`."""
    return _ledger(title, "mm2", _parts(parts, cell, cmos), cell, cmos)


def _ledger(
    title: str,
    unit: str,
    entries: Iterator[Entry],
    cell: CellTechnology | None,
    cmos: CmosTechnology,
) -> Ledger:
    technologies = tuple(each.title for each in (cell, cmos) if each is not None)
    return Ledger(title, unit, tuple(e for e in entries if e.count), technologies)


def _events(events: Events, cell: CellTechnology | None, cmos: CmosTechnology) -> Iterator[Entry]:
    yield Entry("word lines", events.word_lines, cmos.word_line.range)
    for part, count, name in (
        ("cells, summed currents", events.cell_reads, "cell_read"),
        ("cells, sensed", events.cell_senses, "cell_sense"),
        ("cells, written", events.cell_writes, "cell_write"),
    ):
        if count:
            yield Entry(part, count, _constant(cell, name))
    for bits, count in events.conversions.items():
        yield Entry(f"conversions{SIZE}{bits} bits", count, cmos.conversion(bits))
    for bits, count in events.adds.items():
        yield Entry(f"additions{SIZE}{bits} bits", count, power_law(cmos.add, bits))
    for (a, b), count in events.macs.items():
        each = power_law(cmos.multiply, a * b) + power_law(cmos.add, ACCUMULATOR_BITS)
        yield Entry(f"multiply-accumulates{SIZE}{a} x {b} bits", count, each)
    yield Entry("register bits", events.register_bits, cmos.register_bit.range)
    for done, counts in (("read", events.memory_reads), ("written", events.memory_writes)):
        for size, count in counts.items():
            yield Entry(f"memory bits {done}{SIZE}{size:,} bytes", count, cmos.memory(size))
    yield Entry("bits off the chip", events.dram_bits, cmos.dram_bit.range)


def _parts(parts: Parts, cell: CellTechnology | None, cmos: CmosTechnology) -> Iterator[Entry]:
    if parts.cells:
        yield Entry("cells", parts.cells, _constant(cell, "cell_area"))
    yield Entry("word-line drivers", parts.word_lines, cmos.word_line_area.range)
    for bits, count in parts.converters.items():
        yield Entry(f"converters{SIZE}{bits} bits", count, cmos.converter(bits))
    for bits, count in parts.adders.items():
        yield Entry(f"adders{SIZE}{bits} bits", count, power_law(cmos.add_area, bits))
    for (a, b), count in parts.multipliers.items():
        yield Entry(f"multipliers{SIZE}{a} x {b} bits", count, power_law(cmos.multiply_area, a * b))
    yield Entry("register bits", parts.register_bits, cmos.register_bit_area.range)
    yield Entry("memory bits", parts.memory_bits, cmos.memory_bit_area.range)


def _constant(cell: CellTechnology | None, name: str) -> Range:
    constant = getattr(cell, name, None)
    if constant is None:
        found = "no technology of cells" if cell is None else f"{cell.title}: no {name}"
        raise BadInput(
            "technology", found, f"the constant {name}", "name a technology of cells that has it"
        )
    return constant.range
