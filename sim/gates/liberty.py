"""Standard-cell libraries in the Liberty form: what area, function and energy of a cell are.

Only what the gate flow needs is read: areas, pin capacitances, functions, flip-flops, leakage, and
the energies of ``internal_power``. Timing is left to OpenSTA, which reads the same file.
"""

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean

from model.ir.errors import BadInput

SLEW_POINT = 2
"""Which slew of a table energies are read at: its third (17 ps and 53 ps in the libraries that this
was written for). An energy moves by a few per cent over the slews of short nets."""

_PREFIXES = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}
_COMMENT = re.compile(r"/\*.*?\*/", re.S)
_TOKEN = re.compile(
    r"(?P<group>\w+)\s*\(\s*(?P<args>[^(){};]*?)\s*\)\s*\{"
    r"|(?P<name>\w+)\s*:\s*(?P<value>\"[^\"]*\"|[^;}\n]+)\s*;?"
    r"|(?P<complex>\w+)\s*\(\s*(?P<items>(?:\"[^\"]*\"|[^()\";])*)\)\s*;?"
    r"|(?P<end>\})"
)


@dataclass
class Group:
    """A group of the file: ``kind (name) { attributes, lists, groups }``."""

    kind: str
    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    groups: list["Group"] = field(default_factory=list)

    def of(self, *kinds: str) -> Iterator["Group"]:
        """The groups inside of such kinds."""
        return (group for group in self.groups if group.kind in kinds)

    def number(self, name: str, default: float | None = None) -> float | None:
        """An attribute as a number."""
        text = self.attributes.get(name)
        return default if text is None else float(text)


@dataclass(frozen=True)
class Table:
    """Energies over a slew and, if there are several columns, a load in the library's unit."""

    loads: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, load: float) -> float:
        """The energy at a load: straight lines between the columns, the last ones held."""
        if len(self.values) == 1:
            return self.values[0]
        right = next((n for n, x in enumerate(self.loads) if x >= load), len(self.loads) - 1)
        if right == 0 or load >= self.loads[right]:
            return self.values[right]
        low, high = self.loads[right - 1], self.loads[right]
        share = (load - low) / (high - low)
        return self.values[right - 1] * (1 - share) + self.values[right] * share


@dataclass(frozen=True)
class Power:
    """Energies of a pin's edges: ``rise`` and ``fall``, in a state ``when`` (or in any)."""

    when: str
    rise: Table | None
    fall: Table | None

    def mean(self, load: float = 0.0) -> float:
        """Energy of an edge: the mean of a rising and a falling one."""
        return fmean(0.0 if t is None else t.at(load) for t in (self.rise, self.fall))


@dataclass(frozen=True)
class Pin:
    """A pin: ``direction``, ``capacitance``, ``function`` and the energies of its edges."""

    name: str
    direction: str
    capacitance: float
    function: str | None
    powers: tuple[Power, ...]

    def edge(self, load: float = 0.0) -> float:
        """Energy inside the cell of an edge of this pin: the mean over the states it is told for.

        In the library's unit of energy.
        """
        return fmean(power.mean(load) for power in self.powers) if self.powers else 0.0


@dataclass(frozen=True)
class FlipFlop:
    """A flip-flop: its names of the state and its inverse, ``next_state`` and ``clocked_on``."""

    state: str
    inverse: str
    next_state: str
    clocked_on: str


@dataclass(frozen=True)
class Cell:
    """A standard cell."""

    name: str
    area: float
    leakage: float
    pins: dict[str, Pin]
    flip_flop: FlipFlop | None
    clock_gate: bool
    plain: bool
    """Nothing in it but logic, or a flip-flop without set, reset and scan."""

    @property
    def inputs(self) -> list[str]:
        """Names of the input pins."""
        return [name for name, pin in self.pins.items() if pin.direction == "input"]

    @property
    def outputs(self) -> list[str]:
        """Names of the output pins."""
        return [name for name, pin in self.pins.items() if pin.direction == "output"]

    @property
    def clocks(self) -> list[str]:
        """Names of the input pins that a clock drives: of a flip-flop, or of a clock gate."""
        if self.flip_flop is not None:
            return [name for name in self.inputs if name in self.flip_flop.clocked_on]
        return [n for n in self.inputs if self.clock_gate and n.startswith(("CK", "CLK"))]


@dataclass(frozen=True)
class Library:
    """A library of cells.

    ``voltage`` in volts; ``capacitance`` is the farads, ``leakage_unit`` the watts and ``time`` the
    seconds of the file's units. Energies of its tables are in ``capacitance`` times square volts.
    """

    name: str
    path: Path
    voltage: float
    capacitance: float
    leakage_unit: float
    time: float
    cells: dict[str, Cell]

    @property
    def energy(self) -> float:
        """Joules of the unit of energy."""
        return self.capacitance

    @cached_property
    def flip_flop(self) -> Cell:
        """The smallest flip-flop of a rising clock, without set, reset, enable or scan.

        Raises BadInput if the library has none: it cannot hold a state.
        """
        found = [
            cell
            for cell in self.cells.values()
            if (ff := cell.flip_flop) is not None
            and cell.plain
            and ff.next_state in cell.inputs
            and ff.clocked_on in cell.inputs
        ]
        if not found:
            raise BadInput(
                str(self.path),
                "no flip-flop of a rising clock edge",
                "a library with cells that have an ff group (clocked_on, next_state)",
                "give the library of the standard cells, not one of pads or memories",
            )
        return min(found, key=lambda cell: (cell.area, cell.name))

    @cached_property
    def clock_gate(self) -> Cell | None:
        """The smallest cell that gates a clock behind a latch, or None if there is none."""
        found = [cell for cell in self.cells.values() if cell.clock_gate]
        return min(found, key=lambda cell: (cell.area, cell.name)) if found else None


def read_liberty(path: Path) -> Library:
    """A library from its file, which may be compressed with gzip.

    Raises BadInput if it cannot be read, is no library, or has no cells.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("latin-1")
    except (OSError, EOFError) as error:
        raise BadInput(
            str(path), f"unreadable ({error})", "a Liberty file, plain or .gz", "correct the path"
        ) from error
    top = _parse(text, path)
    cells = {group.name: _cell(group) for group in top.of("cell")}
    if not cells:
        raise BadInput(str(path), "no cells", "a Liberty file with cells", "give another file")
    voltage = top.number("nom_voltage")
    for group in top.of("operating_conditions"):
        voltage = group.number("voltage", voltage)
    if voltage is None:
        raise BadInput(str(path), "no nom_voltage", "the supply in volts", "give another file")
    number, unit = (item.strip().strip('"') for item in top.lists["capacitive_load_unit"][:2])
    return Library(
        name=top.name,
        path=path,
        voltage=voltage,
        capacitance=float(number) * {"ff": 1e-15, "pf": 1e-12}[unit.lower()],
        leakage_unit=_unit(top.attributes.get("leakage_power_unit", "1nW")),
        time=_unit(top.attributes.get("time_unit", "1ns")),
        cells=cells,
    )


def _unit(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)\s*([fpnum]?)\w", text)
    assert match is not None, text
    return (
        float(match[1])
        * {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}[match[2]]
    )


def _parse(text: str, path: Path) -> Group:
    """The outermost group."""
    text = _COMMENT.sub(" ", text).replace("\\\n", " ")
    root = Group("", "")
    stack = [root]
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "args":
            group = Group(match["group"], match["args"].strip().strip('"'))
            stack[-1].groups.append(group)
            stack.append(group)
        elif kind == "value":
            stack[-1].attributes[match["name"]] = match["value"].strip().strip('"').strip()
        elif kind == "items":
            items = re.findall(r'"[^"]*"|[^,\s]+', match["items"])
            stack[-1].lists[match["complex"]] = [item.strip('"') for item in items]
        elif len(stack) > 1:
            stack.pop()
    libraries = list(root.of("library"))
    if len(libraries) != 1 or len(stack) != 1:
        raise BadInput(
            str(path),
            "no whole library group",
            "a Liberty file: library (name) { ... }",
            "give another file, or fetch it again",
        )
    return libraries[0]


def _cell(group: Group) -> Cell:
    pins = {}
    for pin in group.of("pin"):
        pins[pin.name] = Pin(
            name=pin.name,
            direction=pin.attributes.get("direction", ""),
            capacitance=pin.number("capacitance", 0.0) or 0.0,
            function=pin.attributes.get("function"),
            powers=tuple(_power(power) for power in pin.of("internal_power")),
        )
    ffs = list(group.of("ff"))
    flip_flop, plain = None, not any(group.of("latch", "ff_bank", "statetable", "test_cell"))
    if ffs:
        names = [name.strip().strip('"') for name in ffs[0].name.split(",")]
        found = ffs[0].attributes
        flip_flop = FlipFlop(
            names[0],
            names[1],
            found.get("next_state", "").strip("() "),
            found.get("clocked_on", "").strip("() "),
        )
        plain = plain and not {"clear", "preset"} & set(found)
    states = [state.number("value", 0.0) for state in group.of("leakage_power")]
    leakage = group.number("cell_leakage_power")
    if leakage is None:
        leakage = fmean(value or 0.0 for value in states) if states else 0.0
    gate = group.attributes.get("clock_gating_integrated_cell", "")
    return Cell(
        name=group.name,
        area=group.number("area", 0.0) or 0.0,
        leakage=leakage,
        pins=pins,
        flip_flop=flip_flop,
        clock_gate=gate == "latch_posedge",
        plain=plain,
    )


def _power(group: Group) -> Power:
    tables = {"rise_power": None, "fall_power": None, "power": None}
    for kind in tables:
        for table in group.of(kind):
            tables[kind] = _table(table)
    both = tables["power"]
    return Power(
        group.attributes.get("when", ""), tables["rise_power"] or both, tables["fall_power"] or both
    )


def _table(group: Group) -> Table:
    """A table at ``SLEW_POINT``; a table of one index that is not a load is one number."""
    rows = [[float(x) for x in re.split(r"[\s,]+", row.strip())] for row in group.lists["values"]]
    if len(rows) > 1:
        row = rows[min(SLEW_POINT, len(rows) - 1)]
        loads = [float(x) for x in re.split(r"[\s,]+", group.lists["index_2"][0].strip())]
        return Table(tuple(loads), tuple(row))
    (row,) = rows
    return Table((0.0,), (row[min(SLEW_POINT, len(row) - 1)],))
