"""Functions of Liberty: the same truth table in Verilog, whichever way it is written."""

from itertools import product

import pytest

from sim.gates.function import to_verilog
from tests.tools import refused

PINS = ("A", "B", "C")


def table(function: str) -> list[int]:
    text = to_verilog(function, lambda pin: pin).replace("1'b", "")
    return [
        eval(text, {}, dict(zip(PINS, bits, strict=True))) & 1 for bits in product((0, 1), repeat=3)
    ]


@pytest.mark.parametrize(
    ("function", "meaning"),
    [
        ("!A", lambda a, b, c: 1 - a),
        ("A'", lambda a, b, c: 1 - a),
        ("(A B)'", lambda a, b, c: 1 - (a & b)),
        ("A*B+C", lambda a, b, c: (a & b) | c),
        ("A | B & C", lambda a, b, c: a | (b & c)),
        ("A B ^ C", lambda a, b, c: a & (b ^ c)),
        ("!((A & B) | !C)", lambda a, b, c: 1 - ((a & b) | (1 - c))),
        ("(A&!B&!C) | (!A&B)", lambda a, b, c: (a & (1 - b) & (1 - c)) | ((1 - a) & b)),
        ("1", lambda a, b, c: 1),
        ("!0 A", lambda a, b, c: a),
    ],
)
def test_a_function_keeps_its_truth_table(function, meaning) -> None:
    assert table(function) == [meaning(*bits) for bits in product((0, 1), repeat=3)]


@pytest.mark.parametrize("function", ["", "A &", "(A", "A)", "A ? B", "|"])
def test_refuses_what_is_no_function(function) -> None:
    assert "Boolean function" in str(refused(lambda: to_verilog(function, str)))
