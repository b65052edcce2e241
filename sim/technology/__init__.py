"""Technologies: what an event costs in energy, area and time. One TOML file each, beside this one.

A file is of one of three kinds: ``cell`` (a device that holds weights), ``cmos`` (the parts around
the cells) or ``memory`` (the memories beside synthesized gates). Every constant stands with low,
typical and high, its unit, its source and how sure it is:

- ``R``: read in the source that is named,
- ``D``: derived from such figures by arithmetic,
- ``U``: widely cited, not verified against its source here,
- ``A``: our assumption; nothing published stands behind the figure, or behind its spread.
"""

import math
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from model.ir.errors import BadInput
from model.ir.options import Options, checked

FOLDER = Path(__file__).parent
LEVELS = ("low", "typical", "high")
MARKS = {
    "R": "read in the source",
    "D": "derived",
    "U": "widely cited, not verified here",
    "A": "assumption",
}
PREFIXES = {"a": 1e-18, "f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}
MOST_ADC_BITS = 12


@dataclass(frozen=True)
class Range:
    """A quantity as low, typical and high: all constants at their low, and so on."""

    low: float
    typical: float
    high: float

    def __add__(self, other: "Range") -> "Range":
        return self.apply(lambda a, b: a + b, other)

    def __mul__(self, factor: float) -> "Range":
        return self.apply(lambda a: a * factor)

    def apply(self, function: Callable[..., float], *others: "Range") -> "Range":
        """``function`` of the three values, each with those of the same name of the others."""
        return Range(*(function(*(getattr(r, n) for r in (self, *others))) for n in LEVELS))

    def plain(self) -> dict[str, float]:
        """As JSON data."""
        return {name: getattr(self, name) for name in LEVELS}


ZERO = Range(0.0, 0.0, 0.0)


class Constant(Options):
    """A constant: ``low`` <= ``typical`` <= ``high`` in ``unit``, ``mark`` and ``source``.

    ``node`` is the feature size in nm of the process that it was found in; a constant without one
    does not depend on the process.
    """

    dimension: ClassVar[str]
    base: ClassVar[str]

    low: float = Field(gt=0)
    typical: float = Field(gt=0)
    high: float = Field(gt=0)
    unit: str
    mark: Literal["R", "D", "U", "A"]
    source: str = Field(min_length=4)
    node: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.low <= self.typical <= self.high:
            raise ValueError("low <= typical <= high")
        return self

    @property
    def range(self) -> Range:
        """The values in joules, square millimetres or seconds."""
        prefix = PREFIXES[self.unit.removesuffix("m2").removesuffix(self.base)]
        factor = (prefix / PREFIXES["m"]) ** 2 if self.unit.endswith("m2") else prefix
        return Range(self.low, self.typical, self.high) * factor

    def scaled(self, node: float) -> Self:
        """The constant at another feature size: energy in proportion to it, area to its square.

        Energy is C V^2, and C falls with the feature size; that V stays is pessimistic for a
        smaller node and optimistic for a larger one. Time is left as it is.
        """
        power = {"energy": 1, "area": 2}.get(self.dimension, 0)
        if self.node is None or not power:
            return self
        factor = (node / self.node) ** power
        change = {name: getattr(self, name) * factor for name in LEVELS}
        return self.model_copy(update=change | {"node": node})


class Energy(Constant):
    """An energy."""

    dimension = "energy"
    base = "J"
    unit: Literal["aJ", "fJ", "pJ", "nJ", "uJ"]


class Area(Constant):
    """An area."""

    dimension = "area"
    base = "m2"
    unit: Literal["nm2", "um2", "mm2"]


class Time(Constant):
    """A time."""

    dimension = "time"
    base = "s"
    unit: Literal["ps", "ns", "us"]


class Power(Constant):
    """A power."""

    dimension = "power"
    base = "W"
    unit: Literal["pW", "nW", "uW"]


class Capacitance(Constant):
    """A capacitance."""

    dimension = "capacitance"
    base = "F"
    unit: Literal["aF", "fF", "pF"]


class EnergyAt(Energy):
    """An energy at one ``size``: bits of an adder, product of widths, or bytes of a memory."""

    size: int = Field(ge=1)


class AreaAt(Area):
    """An area at one ``size``."""

    size: int = Field(ge=1)


Energies = Annotated[tuple[EnergyAt, ...], Field(min_length=1)]
Areas = Annotated[tuple[AreaAt, ...], Field(min_length=1)]


class Technology(Options):
    """Base of the kinds of technology."""

    kind: str
    title: str = Field(min_length=1)

    def constants(self) -> dict[str, Constant]:
        """Every constant by its name; ``name@size`` where there are several sizes."""
        found: dict[str, Constant] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Constant):
                found[name] = value
            elif isinstance(value, tuple):
                found |= {f"{name}@{point.size}": point for point in value}
        return found

    def scaled(self, node: float) -> Self:
        """The technology with every constant at another feature size in nm."""
        change: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Constant):
                change[name] = value.scaled(node)
            elif isinstance(value, tuple):
                change[name] = tuple(point.scaled(node) for point in value)
        return self.model_copy(update=change)


class CellTechnology(Technology):
    """A cell that holds weights.

    Parameters
    ----------
    level_bits : int
        Most bits of a cell's level.
    cell_read : Energy
        A cell whose word line is on, in one evaluation of its column by summed currents.
    cell_sense : Energy or None
        A bit read by a sense amplifier of its own, for arrays that count digitally.
    cell_write : Energy
        A write pulse on one cell.
    cell_area : Area
        A cell.
    evaluation_time : Time
        One evaluation of an array by summed currents.
    sense_time : Time or None
        One read of a row by sense amplifiers.
    write_time : Time
        A write pulse.
    """

    kind: Literal["cell"]
    level_bits: int = Field(ge=1, le=8)
    cell_read: Energy
    cell_sense: Energy | None = None
    cell_write: Energy
    cell_area: Area
    evaluation_time: Time
    sense_time: Time | None = None
    write_time: Time


class CmosTechnology(Technology):
    """The parts around the cells.

    Parameters
    ----------
    word_line : Energy
        A pulse on one word line of a macro.
    adc : Energy
        A conversion of ``adc_reference_bits`` bits; other widths by :meth:`conversion`.
    add, multiply : Energies
        An addition by bits; a multiplication by the product of its widths.
    register_bit : Energy
        A bit written to and read from a register.
    memory_bit : Energies
        A bit read from or written to an on-chip memory by its bytes.
    dram_bit : Energy
        A bit read from or written to the memory off the chip.
    word_line_area, adc_area, add_area, multiply_area, register_bit_area, memory_bit_area :
        Areas of the same parts: driver of a word line, converter, adder, multiplier, bits.
    """

    kind: Literal["cmos"]
    word_line: Energy
    adc_reference_bits: int = Field(ge=1, le=MOST_ADC_BITS)
    adc: Energy
    add: Energies
    multiply: Energies
    register_bit: Energy
    memory_bit: Energies
    dram_bit: Energy
    word_line_area: Area
    adc_area: Area
    add_area: Areas
    multiply_area: Areas
    register_bit_area: Area
    memory_bit_area: Area

    def conversion(self, bits: int) -> Range:
        """Energy in joules of a conversion of ``bits`` bits."""
        return self._by_bits(self.adc.range, bits)

    def converter(self, bits: int) -> Range:
        """Area in mm2 of a converter of ``bits`` bits."""
        return self._by_bits(self.adc_area.range, bits)

    def _by_bits(self, reference: Range, bits: int) -> Range:
        """Two laws bound it: doubling with each bit (a capacitor array), and b / b0 (its logic).

        The lower of the two is low, the higher high, their geometric mean typical. An assumption.
        """
        if not 1 <= bits <= MOST_ADC_BITS:
            raise BadInput(
                "converter bits", bits, f"1 to {MOST_ADC_BITS}", "use smaller row tiles or steps"
            )
        laws = (2.0 ** (bits - self.adc_reference_bits), bits / self.adc_reference_bits)
        return Range(
            reference.low * min(laws),
            reference.typical * math.sqrt(laws[0] * laws[1]),
            reference.high * max(laws),
        )

    def memory(self, bytes_: int) -> Range:
        """Energy in joules of a bit of a memory of so many bytes.

        Below the smallest memory of the file a bit costs what it costs there. Raises BadInput
        above the largest.
        """
        return of_memory(self.memory_bit, bytes_)


class MemoryTechnology(Technology):
    """The memories beside synthesized gates, of one port for reading and one for writing.

    Parameters
    ----------
    bit : Energies
        A bit read or written, by the bytes of the memory.
    bit_area : Area
        A bit with its part of the periphery.
    bit_leakage : Power
        The same, leaking.
    access_time, setup_time : Time
        From the clock's edge to what was read; of address, data and enables before the edge.
    input_pin : Capacitance
        An input.
    """

    kind: Literal["memory"]
    bit: Energies
    bit_area: Area
    bit_leakage: Power
    access_time: Time
    setup_time: Time
    input_pin: Capacitance

    def energy(self, bytes_: float) -> Range:
        """Energy in joules of a bit read or written; raises BadInput as CmosTechnology.memory."""
        return of_memory(self.bit, bytes_)

    def flat(self, bytes_: float, least: int = 8192) -> Range:
        """The same if small memories cost a bit what one of ``least`` bytes costs."""
        return of_memory(self.bit, max(bytes_, least))


def of_memory(points: Sequence[EnergyAt], bytes_: float) -> Range:
    """Energy in joules of a bit of a memory of so many bytes; below the smallest what that costs.

    Raises BadInput above the largest.
    """
    sizes = [point.size for point in points]
    if bytes_ > max(sizes):
        raise BadInput(
            "memory", f"{bytes_:,} bytes", f"at most {max(sizes):,} bytes", "split it into banks"
        )
    return power_law(points, max(bytes_, min(sizes)))


def power_law(points: Sequence[EnergyAt | AreaAt], size: float) -> Range:
    """A quantity at a size: straight lines between the points in logarithms, and beyond them.

    One point alone stands for proportionality.
    """
    points = sorted(points, key=lambda point: point.size)
    if len(points) == 1:
        return points[0].range * (size / points[0].size)
    at = sum(point.size < size for point in points[1:-1])
    first, second = points[at], points[at + 1]
    share = math.log(size / first.size) / math.log(second.size / first.size)
    return first.range.apply(lambda a, b: a * (b / a) ** share, second.range)


KINDS: dict[str, type[Technology]] = {
    "cell": CellTechnology,
    "cmos": CmosTechnology,
    "memory": MemoryTechnology,
}


def known(kind: str | None = None, folder: Path = FOLDER) -> list[str]:
    """Names of the technologies, sorted; only those of one kind if it is named."""
    names = sorted(path.stem for path in folder.glob("*.toml"))
    return [name for name in names if kind in (None, _read(name, folder).get("kind"))]


def load(name: str, folder: Path = FOLDER) -> Technology:
    """A technology by its name.

    Raises BadInput if it is unknown, for an unknown key, a missing or wrong unit, a constant
    without source, and low, typical and high out of order.
    """
    if name not in known(folder=folder):
        raise BadInput(
            "technology",
            repr(name),
            f"one of {', '.join(known(folder=folder))}",
            "correct the name, or add its file",
        )
    form = _read(name, folder)
    kind = form.get("kind")
    if kind not in KINDS:
        raise BadInput(
            f"technology {name}.kind", repr(kind), f"one of {', '.join(KINDS)}", "correct kind"
        )
    return checked(KINDS[kind], form, f"technology {name}")


def load_cell(name: str, folder: Path = FOLDER) -> CellTechnology:
    """A technology of cells by its name; raises BadInput as :func:`load`, and for another kind."""
    return _of_kind(name, CellTechnology, "cell", folder)


def load_cmos(name: str = "cmos", folder: Path = FOLDER) -> CmosTechnology:
    """A technology of the parts around the cells; raises BadInput as :func:`load_cell`."""
    return _of_kind(name, CmosTechnology, "cmos", folder)


def load_memory(name: str = "sram", folder: Path = FOLDER) -> MemoryTechnology:
    """A technology of memories by its name; raises BadInput as :func:`load_cell`."""
    return _of_kind(name, MemoryTechnology, "memory", folder)


def _of_kind(name: str, form: type, kind: str, folder: Path) -> Any:
    technology = load(name, folder)
    if not isinstance(technology, form):
        raise BadInput(
            "technology",
            f"{name!r}, which is of kind {technology.kind}",
            f"one of {', '.join(known(kind, folder))}",
            "correct the name",
        )
    return technology


def _read(name: str, folder: Path) -> dict[str, Any]:
    path = folder / f"{name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(
            f"technology {path}", f"unreadable ({error})", "a TOML file", "correct the file"
        ) from error
