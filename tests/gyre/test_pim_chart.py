import xml.etree.ElementTree as ElementTree

import pytest

from gyre.pim_chart import TICKS, Line, Panel, height, svg


def test_errors_stand_by_their_logarithm_and_stay_inside() -> None:
    assert height(TICKS[0]) == 0 == height(0)
    assert height(TICKS[-1]) == 1 == height(1000)
    assert height(2) - height(1) == pytest.approx(height(20) - height(10))


def test_a_chart_has_a_line_and_a_mark_for_each_point() -> None:
    line = Line("a < b", ((0.0, 99.0, 99.0), (1.0, 90.0, 80.0)))
    other = Line("other", ((1.0, 50.0, 50.0),), second=True, dashed=True)
    text = svg([[Panel("one", "x", (line, other)), Panel("empty", "x", (Line("c", ()),))]])
    root = ElementTree.fromstring(text)
    found = [child.tag.rpartition("}")[2] for child in root.iter()]
    assert found.count("polyline") == 2
    assert found.count("circle") == 3
    assert "a &lt; b" in text
    assert text.count("stroke-dasharray") == 2  # the line and its place in the key
