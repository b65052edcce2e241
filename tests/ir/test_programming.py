"""A row of cells in words: level after level, as a line of the .hex file has them."""

import numpy as np
import pytest

from hdl.lib.hexfile import hex_text, to_bits
from model.ir.programming import CellRows
from tests.tools import refused


@pytest.mark.parametrize(("columns", "level_bits"), [(1, 1), (32, 1), (33, 1), (17, 3), (9, 15)])
def test_words_are_a_line_of_the_file(columns: int, level_bits: int) -> None:
    cells = CellRows("a", 2, 8, columns, level_bits)
    levels = np.random.default_rng(columns).integers(0, 1 << level_bits, columns)
    words = cells.row_words(levels.tolist())
    assert len(words) == cells.words == -(-cells.bits // 32)
    line = hex_text(to_bits(levels[None], level_bits))
    assert sum(word << 32 * n for n, word in enumerate(words)) == int(line, 16)


def test_a_row_of_other_levels_is_refused() -> None:
    cells = CellRows("fc", 1, 4, 3, 2)
    error = refused(lambda: cells.row_words([1, 2]))
    assert (error.thing, error.found) == ("row of fc", "2 levels")
    for level in (-1, 4):
        error = refused(lambda level=level: cells.row_words([0, level, 0]))
        assert error.thing == "row of fc: column 1"
        assert error.expected == "0 to 3"


def test_plain_form_says_what_a_driver_needs() -> None:
    data = CellRows("fc", 5, 8, 17, 3, 2).to_json()
    assert data == {
        "node": "fc",
        "macros": 5,
        "rows": 8,
        "columns": 17,
        "level_bits": 3,
        "words": 2,
        "copies": 2,
    }
