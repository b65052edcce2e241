"""LSTM layers at full size: the plans fit, and a small one runs as planned."""

from dataclasses import replace

import pytest

from gyre.lstm_bench import (
    CASES,
    ECP5,
    GOOGLE,
    KU060,
    Case,
    Shape,
    largest,
    mapped,
    measure,
    network,
    of_18_bits,
    planned,
)
from model.ir.errors import BadInput
from model.ir.planner import Budget
from tests.tools import require_tools

SMALL = Shape(10, 32, 16, True, 8, directions=2)


@pytest.mark.parametrize(("name", "cycles"), [("google_k8", 270), ("google_k16", 140)])
def test_the_google_layer_is_planned_within_its_goal(name: str, cycles: int) -> None:
    design = planned(CASES[name])
    assert design.cost.cycles <= cycles
    assert of_18_bits(design.cost) <= KU060.multipliers == 2676
    weights = {8: 409_600, 16: 204_800}[design.shape.k]
    assert design.network.nodes[0].spec.weights() == weights


def test_the_largest_layer_fits_the_small_device_and_the_next_one_does_not() -> None:
    shape = largest(GOOGLE, ECP5, 3)
    mapping = mapped(network(shape), ECP5, 3)
    ((_, cost),) = mapping.costs(network(shape))
    assert of_18_bits(cost) <= 156
    assert cost.memory_bits <= 3_700_000
    above = replace(shape, cells=shape.cells + 16, projection=shape.projection + 8)
    with pytest.raises(BadInput, match="budget"):
        mapped(network(above), ECP5, 3)
    with pytest.raises(BadInput, match=r"at least \d+ multipliers"):
        largest(GOOGLE, Budget(20), 3)


def test_wide_operands_count_as_what_they_are_made_of() -> None:
    cost = planned(Case(SMALL, Budget(80), 2)).cost
    parts = replace(cost, multipliers=((3, 16, 16), (2, 18, 18), (5, 33, 16), (1, 36, 19)))
    assert of_18_bits(parts) == 3 + 2 + 10 + 3 * 2


@pytest.mark.rtl
@pytest.mark.timeout(600)
def test_a_layer_runs_as_it_is_planned_in_both_directions() -> None:
    require_tools("g++")
    design = planned(Case(SMALL, Budget(80), 5))  # enough to hide the way around
    found = measure(design, 5, 25)
    assert found.mismatches == 0
    assert found.codes == 2 * 25 * 16
    assert found.saturated == 0  # of the scale of a trained layer
    for result in found.results:
        assert result.cycles_per_frame == design.cost.cycles
        assert result.latency_cycles == design.cost.latency


@pytest.mark.rtl
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CASES)
def test_every_layer_runs_as_it_is_planned(name: str) -> None:
    require_tools("g++")
    case = CASES[name]
    design = planned(case)
    found = measure(design, case.sequences)
    assert found.mismatches == 0
    assert found.saturated == 0
    for result in found.results:
        assert result.cycles_per_frame == design.cost.cycles
