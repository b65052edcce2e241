"""The grid: its points, its front, its table and its picture, of made-up and of kept points."""

import json
import xml.etree.ElementTree as ET
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from gyre import clp_grid
from gyre.clp_grid import (
    Point,
    kept,
    main,
    measure,
    names,
    pareto,
    picture,
    point,
    recipe_of,
    table,
)
from gyre.flow import ZOO
from gyre.zoo import read_entry
from tests.tools import refused

TINY = Path(__file__).parents[1] / "sim" / "gates" / "tiny.lib"
SPACE = "{http://www.w3.org/2000/svg}"


def made(name: str, nj: float | None) -> Point:
    report = {
        "clock_ns": 2.5,
        "cycles_per_frame": 308,
        "area": {"cells": 5e4, "memories": {"low": 2e4, "typical": 5e4, "high": 9e4}},
    }
    if nj is not None:
        report |= {
            "energy": {"total": {"low": nj / 2, "typical": nj, "high": 2 * nj}, "logic": nj / 4},
            "simulation": {"counted": 20, "mismatches": 0},
            "timing": {"least_ns": 2.25},
        }
    return point(name, report, "library", recipe_of(name))


def accuracies() -> dict[str, float]:
    return {name: made(name, 1.0).accuracy for name in names()}


POINTS = [
    made("b1_x8", 4.0),
    made("b1_x16", 9.0),  # dearer and worse
    made("b2_x8", 12.0),
    made("b3_x8", 13.0),
    made("b3_x16", 30.0),  # dearer and worse
    made("b3_x1", 40.0),
    made("b2_x1", None),  # as good as any, but of no known energy
]


def test_the_grid_has_three_widths_and_five_compressions() -> None:
    assert names() == [f"b{bits}_x{fold}" for bits in (1, 2, 3) for fold in (1, 2, 4, 8, 16)]


def test_a_point_s_accuracy_and_bits_are_those_of_its_kept_result() -> None:
    assert made("b3_x8", 1.0).accuracy == read_entry(ZOO / "clp_mnist")[1].accuracy["golden"]
    assert len(set(accuracies().values())) > 10


def test_the_front_holds_what_no_other_point_beats() -> None:
    assert [p.name for p in pareto(POINTS)] == ["b1_x8", "b2_x8", "b3_x8", "b3_x1"]
    for p in POINTS:
        beaten = any(q.typical <= p.typical and q.accuracy > p.accuracy for q in POINTS)
        assert (p in pareto(POINTS)) <= (not beaten)


def test_the_table_has_a_row_for_each_point_and_marks_the_front() -> None:
    rows = table(POINTS).splitlines()[2:]
    assert len(rows) == len(POINTS)
    assert sum("**" in row for row in rows) == len(pareto(POINTS))
    stored = made("b1_x8", 1.0).result["compression"]["bits_stored"]
    first = f"| **1 bit, 8x** | 98.04 | {stored:,} | 0.050, 0.050 | 2.25 | 308 |"
    assert f"{first} 2.0 / 4.0 / 8.0 | 1.0 | 20 |" in rows
    assert sum(row.endswith("|  | 308 | | | |") for row in rows) == 1


@pytest.mark.parametrize("count", [1, len(POINTS)])
def test_the_picture_shows_each_point_of_known_energy(count: int) -> None:
    root = ET.fromstring(picture(POINTS[:count]))
    known = [p for p in POINTS[:count] if p.energy is not None]
    assert len(root.findall(f"{SPACE}circle")) == len(known)
    (line,) = root.findall(f"{SPACE}polyline")
    assert len(line.attrib["points"].split()) == len(pareto(POINTS[:count]))


def test_a_point_is_kept_until_its_recipe_changes(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(clp_grid, "KEPT", tmp_path)
    assert kept("b1_x8") is None
    (tmp_path / "b1_x8.json").write_text(json.dumps(asdict(POINTS[0])))
    assert kept("b1_x8") == POINTS[0]
    for key in ("recipe", "mapping"):
        other = replace(POINTS[0], **{key: "another"})
        (tmp_path / "b1_x8.json").write_text(json.dumps(asdict(other)))
        assert kept("b1_x8") is None


def test_a_kept_point_of_the_same_library_and_clock_is_not_measured_again(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(clp_grid, "KEPT", tmp_path)
    begun = []
    monkeypatch.setattr(clp_grid, "Flow", lambda *_: begun.append(1) or 1 / 0)
    same = replace(POINTS[0], liberty=clp_grid.sha256(TINY.read_bytes()))
    (tmp_path / "b1_x8.json").write_text(json.dumps(asdict(same)))
    assert measure("b1_x8", TINY, 2.5) == same
    without = replace(same, energy=None)
    (tmp_path / "b1_x8.json").write_text(json.dumps(asdict(without)))
    assert measure("b1_x8", TINY, 2.5, area=True) == without
    assert not begun
    for again in (lambda: measure("b1_x8", TINY, 2.5), lambda: measure("b1_x8", TINY, 2.0)):
        with pytest.raises(ZeroDivisionError):
            again()


def test_every_kept_point_is_of_its_recipe_and_its_netlist_equalled_golden() -> None:
    for path in clp_grid.KEPT.glob("*.json"):
        found = kept(path.stem)
        assert found is not None, path.stem
        assert found.name == path.stem
        if found.energy is not None:
            assert found.energy.mismatches == 0
            assert found.energy.frames >= clp_grid.FRAMES


def test_the_page_is_that_of_the_kept_points(tmp_path, monkeypatch) -> None:
    here = clp_grid.TABLE.read_text(), clp_grid.PICTURE.read_text()
    monkeypatch.setattr(clp_grid, "TABLE", tmp_path / "table.md")
    monkeypatch.setattr(clp_grid, "PICTURE", tmp_path / "picture.svg")
    main(["--page"])
    assert (clp_grid.TABLE.read_text(), clp_grid.PICTURE.read_text()) == here


@pytest.mark.parametrize("name", ["b4_x8", "energy", ""])
def test_refuses_a_point_that_is_none(name: str) -> None:
    assert "point" in refused(lambda: measure(name, TINY, 2.0)).thing


def test_refuses_a_clock_and_a_library_that_are_none(tmp_path) -> None:
    assert refused(lambda: measure("b1_x8", TINY, 0.0)).thing == "--clock"
    path = tmp_path / "none.lib"
    path.write_text("nothing")
    assert "none.lib" in refused(lambda: measure("b1_x8", path, 2.0)).thing
