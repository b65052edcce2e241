from pathlib import Path

import pytest

from sim import technology
from sim.technology import LEVELS, Area, Energy, EnergyAt, Range, Time
from tests.tools import refused

CONSTANTS = [
    pytest.param(constant, id=f"{name}.{key}")
    for name in technology.known()
    for key, constant in technology.load(name).constants().items()
]
CELL = """
kind = "cell"
title = "a cell"
level_bits = 1
"""


def cell(**replaced: str) -> str:
    """A technology file of cells; ``replaced`` are whole tables."""
    text = CELL
    for name, unit in (
        ("cell_read", "fJ"),
        ("cell_write", "pJ"),
        ("cell_area", "um2"),
        ("evaluation_time", "ns"),
        ("write_time", "ns"),
    ):
        table = f'low = 1\ntypical = 2\nhigh = 3\nunit = "{unit}"\nmark = "A"\nsource = "assumed"\n'
        text += f"[{name}]\n" + replaced.pop(name, table)
    return text + "".join(replaced.values())


def written(folder: Path, text: str, name: str = "mine") -> Path:
    (folder / f"{name}.toml").write_text(text)
    return folder


def test_known_technologies_are_there() -> None:
    assert {"sot_mram", "memristor", "cmos"} <= set(technology.known())
    assert technology.known("cmos") == ["cmos"]
    assert "cmos" not in technology.known("cell")


@pytest.mark.parametrize("constant", CONSTANTS)
def test_every_constant_has_source_mark_unit_and_order(constant: technology.Constant) -> None:
    assert len(constant.source) >= 20
    assert constant.mark in technology.MARKS
    values = constant.range
    assert 0 < values.low <= values.typical <= values.high


@pytest.mark.parametrize("constant", CONSTANTS)
def test_an_assumption_says_so_in_words(constant: technology.Constant) -> None:
    if constant.mark == "A":
        assert "assumed" in constant.source or "our choice" in constant.source


@pytest.mark.parametrize(
    ("form", "unit", "factor"),
    [
        *(
            (Energy, "aJ", 1e-18),
            (Energy, "fJ", 1e-15),
            (Energy, "pJ", 1e-12),
            (Energy, "nJ", 1e-9),
        ),
        *((Area, "nm2", 1e-12), (Area, "um2", 1e-6), (Area, "mm2", 1.0)),
        *((Time, "ps", 1e-12), (Time, "ns", 1e-9), (Time, "us", 1e-6)),
    ],
)
def test_units_become_joules_square_millimetres_and_seconds(
    form: type[technology.Constant], unit: str, factor: float
) -> None:
    found = form(low=1, typical=2, high=3, unit=unit, mark="A", source="assumed").range
    for level, value in zip(LEVELS, (1, 2, 3), strict=True):
        assert getattr(found, level) == pytest.approx(value * factor)


def test_scaling_follows_the_feature_size() -> None:
    cmos = technology.load_cmos()
    scaled = cmos.scaled(90.0)
    assert scaled.add[0].range.typical == pytest.approx(2 * cmos.add[0].range.typical)
    assert scaled.add_area[0].range.high == pytest.approx(4 * cmos.add_area[0].range.high)
    sot = technology.load_cell("sot_mram")
    assert sot.scaled(90.0).cell_read == sot.cell_read  # no node: not of the process
    assert sot.scaled(90.0).evaluation_time == sot.evaluation_time


def test_scaling_to_the_own_node_changes_nothing() -> None:
    cmos = technology.load_cmos()
    assert cmos.adc.scaled(cmos.adc.node) == cmos.adc


def test_a_conversion_of_the_reference_width_is_the_constant() -> None:
    cmos = technology.load_cmos()
    assert cmos.conversion(cmos.adc_reference_bits) == cmos.adc.range
    assert cmos.converter(cmos.adc_reference_bits) == cmos.adc_area.range


def test_conversions_grow_with_each_bit_at_every_level() -> None:
    cmos = technology.load_cmos()
    found = [cmos.conversion(bits) for bits in range(1, technology.MOST_ADC_BITS + 1)]
    for level in LEVELS:
        values = [getattr(each, level) for each in found]
        assert values == sorted(values)
    assert all(each.low <= each.typical <= each.high for each in found)


def test_conversion_of_four_bits_by_hand() -> None:
    """1.6 pJ x sqrt(1/16 x 1/2), between 0.8 / 16 and 3.2 / 2."""
    found = technology.load_cmos().conversion(4)
    assert found.low == pytest.approx(0.05e-12)
    assert found.typical == pytest.approx(1.6e-12 * (1 / 32) ** 0.5)
    assert found.high == pytest.approx(1.6e-12)


@pytest.mark.parametrize("bits", [0, technology.MOST_ADC_BITS + 1])
def test_refuses_converters_out_of_range(bits: int) -> None:
    error = refused(lambda: technology.load_cmos().conversion(bits))
    assert (error.thing, error.found) == ("converter bits", str(bits))


def test_power_law_meets_its_points_and_the_law_between() -> None:
    constants = {"unit": "pJ", "mark": "A", "source": "assumed"}
    points = [EnergyAt(size=s, low=e, typical=e, high=e, **constants) for s, e in ((4, 2), (16, 4))]
    for size, value in ((4, 2), (16, 4), (8, 8**0.5), (64, 8), (1, 1)):
        assert technology.power_law(points, size).typical == pytest.approx(value * 1e-12)
    assert technology.power_law(points[:1], 8).typical == pytest.approx(4e-12)


def test_memories_cost_what_their_size_costs() -> None:
    cmos = technology.load_cmos()
    assert cmos.memory(8192).typical * 64 == pytest.approx(10e-12, rel=0.01)
    assert cmos.memory(32768).typical * 64 == pytest.approx(20e-12, rel=0.01)
    assert cmos.memory(1 << 20).typical * 64 == pytest.approx(100e-12, rel=0.01)
    assert cmos.memory(10) == cmos.memory(8192)
    error = refused(lambda: cmos.memory((1 << 20) + 1))
    assert error.thing == "memory"
    assert "banks" in error.remedy


def test_range_adds_and_scales() -> None:
    assert Range(1, 2, 3) + Range(1, 1, 1) * 2 == Range(3, 4, 5)


@pytest.mark.parametrize("name", technology.known())
def test_the_page_states_every_constant_as_it_is(name: str) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "energy.md").read_text()
    for key, found in technology.load(name).constants().items():
        values = f"{found.low:g} / {found.typical:g} / {found.high:g} {found.unit}"
        node = "" if found.node is None else f"{found.node:g} nm"
        assert f"| `{key}` | {values} | {node} | {found.mark} | {found.source} |" in page


def test_a_new_file_is_a_new_technology(tmp_path: Path) -> None:
    folder = written(tmp_path, cell())
    assert technology.known(folder=folder) == ["mine"]
    assert technology.load_cell("mine", folder).cell_write.range.high == pytest.approx(3e-12)


def test_refuses_an_unknown_technology() -> None:
    error = refused(lambda: technology.load("flux"))
    assert error.found == "'flux'"
    assert all(name in error.expected for name in technology.known())


def test_refuses_a_technology_of_another_kind() -> None:
    error = refused(lambda: technology.load_cell("cmos"))
    assert "kind cmos" in error.found
    assert "sot_mram" in error.expected


GOOD = 'low = 1\ntypical = 2\nhigh = 3\nunit = "fJ"\nmark = "A"\nsource = "assumed"\n'


@pytest.mark.parametrize(
    ("table", "thing", "expected"),
    [
        (GOOD.replace("high", "hihg"), "cell_read.hihg", "high"),
        (GOOD.replace('unit = "fJ"\n', ""), "cell_read.unit", "a value"),
        (GOOD.replace("fJ", "ns"), "cell_read.unit", "'fJ'"),
        (GOOD.replace("low = 1", "low = 2.5"), "cell_read", "low <= typical <= high"),
        (GOOD.replace("high = 3", "high = 1.5"), "cell_read", "low <= typical <= high"),
        (GOOD.replace("low = 1", "low = 0"), "cell_read.low", "greater than 0"),
        (GOOD.replace("low = 1", 'low = "1"'), "cell_read.low", "number"),
        (GOOD.replace('source = "assumed"\n', ""), "cell_read.source", "a value"),
        (GOOD.replace("assumed", ""), "cell_read.source", "at least 4 characters"),
        (GOOD.replace('mark = "A"', 'mark = "X"'), "cell_read.mark", "'R'"),
    ],
)
def test_refuses_a_bad_constant(tmp_path: Path, table: str, thing: str, expected: str) -> None:
    folder = written(tmp_path, cell(cell_read=table))
    error = refused(lambda: technology.load("mine", folder))
    assert error.thing == f"technology mine.{thing}"
    assert expected in error.expected


def test_refuses_an_unknown_part_a_missing_part_and_an_unknown_kind(tmp_path: Path) -> None:
    def error_of(text: str) -> str:
        return str(refused(lambda: technology.load("mine", written(tmp_path, text))))

    assert "unknown key 'cell_reed'" in error_of(cell(more=f"[cell_reed]\n{GOOD}"))
    assert "cell_write: found nothing" in error_of(cell().replace("cell_write", "cell_sense"))
    assert "one of cell, cmos" in error_of(cell().replace('"cell"', '"spin"'))


def test_refuses_a_file_that_is_no_toml(tmp_path: Path) -> None:
    error = refused(lambda: technology.load("mine", written(tmp_path, "kind = ")))
    assert "unreadable" in error.found
