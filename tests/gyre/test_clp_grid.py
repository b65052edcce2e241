"""The grid: its points, its front, its table and its picture, of made-up reports."""

import xml.etree.ElementTree as ET

import pytest

from gyre.clp_grid import Point, measure, names, pareto, picture, point, table
from tests.tools import refused


def made(name: str, accuracy: float, nj: float) -> Point:
    report = {
        "energy": {"total": {"low": nj / 2, "typical": nj, "high": 2 * nj}, "logic": nj / 4},
        "area": {"total": {"typical": 1e5}},
        "simulation": {"cycles_per_frame": 308.0, "mismatches": 0},
    }
    result = {"accuracy": {"golden": accuracy}, "compression": {"bits_stored": 1000}}
    return point(name, report, result)


POINTS = [
    made("b1_x1", 0.980, 10.0),
    made("b1_x8", 0.950, 4.0),
    made("b2_x2", 0.985, 12.0),
    made("b3_x1", 0.985, 30.0),  # dearer, no better
    made("b3_x8", 0.940, 9.0),  # dearer and worse
    made("b3_x2", 0.990, 20.0),
]


def test_the_grid_has_three_widths_and_five_compressions() -> None:
    assert names() == [f"b{bits}_x{fold}" for bits in (1, 2, 3) for fold in (1, 2, 4, 8, 16)]


def test_the_front_holds_what_no_other_point_beats() -> None:
    assert [p.name for p in pareto(POINTS)] == ["b1_x8", "b1_x1", "b2_x2", "b3_x2"]
    for p in POINTS:
        beaten = any(q.typical <= p.typical and q.accuracy > p.accuracy for q in POINTS)
        assert (p in pareto(POINTS)) <= (not beaten)


def test_the_table_has_a_row_for_each_point_and_marks_the_front() -> None:
    rows = table(POINTS).splitlines()[2:]
    assert len(rows) == len(POINTS)
    assert sum("**" in row for row in rows) == len(pareto(POINTS))
    assert "| **1 bit, 8x** | 95.00 | 1,000 | 0.100 | 308 | 2.0 / 4.0 / 8.0 | 1.0 |" in rows


@pytest.mark.parametrize("count", [1, len(POINTS)])
def test_the_picture_shows_each_point(count: int) -> None:
    root = ET.fromstring(picture(POINTS[:count]))
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}circle")) == count
    (line,) = root.findall(f"{space}polyline")
    assert len(line.attrib["points"].split()) == len(pareto(POINTS[:count]))


@pytest.mark.parametrize("name", ["b4_x8", "energy", ""])
def test_refuses_a_point_that_is_none(name: str, tmp_path) -> None:
    assert "point" in refused(lambda: measure(name, tmp_path, 2.0)).thing
