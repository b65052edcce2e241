"""Exact comparison: equal or not, and where first."""

import pytest
import torch

from sim import first_difference
from sim.compare import Difference


def test_equal_codes_have_no_difference() -> None:
    codes = torch.arange(24).reshape(4, 2, 3)
    assert first_difference("fc", codes, codes.clone()) is None


def test_the_first_difference_is_located_by_frame_layer_and_element() -> None:
    expected = torch.zeros(5, 2, 3, dtype=torch.int64)
    found = expected.clone()
    found[3, 1, 0] = 7
    found[3, 1, 2] = 1
    found[4, 0, 0] = -1
    difference = first_difference("fc1", expected, found)
    assert difference == Difference("fc1", frame=3, element=3, expected=0, found=7, mismatches=3)
    assert str(difference) == (
        "first difference in frame 3, layer fc1, element 3: expected 0, found 7 (3 codes differ)"
    )


def test_codes_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes must agree, not \(2, 3\) and \(2, 4\)"):
        first_difference("fc", torch.zeros(2, 3), torch.zeros(2, 4))
