"""The circulant engine at the size of C-LSTM's gate matrix."""

import pytest

from gyre.circulant_bench import measure
from tests.tools import require_tools

pytestmark = [pytest.mark.rtl, pytest.mark.slow]


def test_171_lanes_are_exact_and_never_idle() -> None:
    require_tools("g++")
    found = measure(20)
    assert found.mismatches == 0
    assert found.result.cycles_per_frame == found.cost.cycles == found.ideal == 252
    assert found.result.latency_cycles == found.cost.latency
    lanes = 171 * 11
    units = 2 + 3 * 2  # one forward, three inverse, of 2 multipliers each
    assert found.cost.multiplier_count == lanes + units
