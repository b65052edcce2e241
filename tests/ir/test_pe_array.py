"""Costs of the PE array, by examples worked out by hand."""

from fractions import Fraction

import pytest

from model.ir.linear import LinearSpec
from model.ir.numerics import BipolarFormat, CodebookFormat, UniformFormat
from model.ir.pe_array import PeArraySpec
from model.ir.requantize import RequantizeSpec
from model.ir.select import SelectSpec
from tests.examples import vector

UNSIGNED, SIGNED = UniformFormat(4, False), UniformFormat(3, True)


def layer(out: int, features: int, per: str = "layer") -> LinearSpec:
    m_bits = 0 if per == "one" else 6
    requantize = RequantizeSpec(UNSIGNED, 4, per, m_bits, 12)
    return LinearSpec(features, out, UNSIGNED, SIGNED, requantize)


@pytest.mark.parametrize(
    ("out", "features", "rows", "cols", "lanes", "cycles"),
    [
        (6, 8, 6, 8, 6, 1),  # all at once
        (6, 8, 3, 4, 3, 4),  # 2 row folds of 2 steps
        (6, 8, 3, 4, 1, 6),  # the same, but each fold takes 3 cycles to drain
        (6, 8, 3, 2, 1, 8),  # 2 row folds of 4 steps, which hide the drain
        (5, 7, 2, 3, 1, 9),  # 3 row folds of 3 steps, the last half empty
        (7, 2, 4, 2, 1, 7),  # one step a fold: 4 cycles drain the first fold, 3 the second
        (7, 2, 4, 2, 2, 4),  # 2 and 2 cycles
        (6, 2, 6, 2, 2, 3),  # one step, 3 cycles to drain
        (1, 9, 1, 2, 1, 5),  # 9 columns in pairs
        (10, 40, 1, 8, 1, 50),  # the last layer of the MNIST network
    ],
)
def test_cycles(out: int, features: int, rows: int, cols: int, lanes: int, cycles: int) -> None:
    cost = PeArraySpec(rows, cols).cost(layer(out, features), vector(features, cols), lanes)
    assert cost.cycles == cycles


@pytest.mark.parametrize(("in_lanes", "cycles"), [(8, 4), (2, 4), (1, 8)])
def test_a_narrow_input_stream_holds_the_array_up(in_lanes: int, cycles: int) -> None:
    """6x8 on 3x4 takes 4 cycles; 8 inputs one at a time take 8."""
    cost = PeArraySpec(3, 4).cost(layer(6, 8), vector(8, in_lanes), 3)
    assert cost.cycles == cycles


def test_work_that_divides_evenly() -> None:
    cost = PeArraySpec(3, 4).cost(layer(6, 8), vector(8, 4), 3)
    assert cost.macs == 48
    assert cost.ideal_cycles == 4
    assert cost.bound_cycles == 4
    assert cost.steps == 4
    assert cost.weight_words == 48  # 4 words of 12 codes: each weight once
    assert cost.activation_words == 16  # 4 words of 4 codes: each of 8 activations twice
    assert (cost.input_beats, cost.output_beats) == (2, 2)


def test_work_that_does_not_divide() -> None:
    """5x7 on 2x3: 3 folds of 3 steps are 9 words of 6 codes, of which 35 count."""
    cost = PeArraySpec(2, 3).cost(layer(5, 7), vector(7, 2), 1)
    assert cost.macs == 35
    assert cost.ideal_cycles == Fraction(35, 6)
    assert cost.bound_cycles == 6
    assert cost.steps == 9
    assert cost.weight_words == 54
    assert cost.activation_words == 27
    assert (cost.input_beats, cost.output_beats) == (4, 5)


def test_memory_bits() -> None:
    """6x8 on 3x4: 48 weights of 3 bits; two vectors of 8 codes of 4 bits."""
    cost = PeArraySpec(3, 4).cost(layer(6, 8), vector(8, 4), 3)
    assert cost.weight_bits == 144
    assert cost.buffer_bits == 64
    assert cost.parameter_bits == 6 * 12 + 6  # a bias for each of 6 rows, one m
    assert cost.memory_bits == 144 + 64 + 78


@pytest.mark.parametrize(("per", "bits"), [("one", 72), ("layer", 78), ("channel", 108)])
def test_requantization_parameters(per: str, bits: int) -> None:
    assert PeArraySpec(3, 4).cost(layer(6, 8, per), vector(8, 4), 3).parameter_bits == bits


def test_padded_weights_take_memory() -> None:
    """5x7 on 2x3 is stored as 6x9."""
    cost = PeArraySpec(2, 3).cost(layer(5, 7), vector(7, 3), 1)
    assert cost.weight_bits == 54 * 3
    assert cost.buffer_bits == 2 * 9 * 4


def test_multipliers() -> None:
    """A product is -60..45 and a sum of 8 of them -480..360: 10 bits, times 6 bits of m."""
    array = (12, 4, 3)
    cost = PeArraySpec(3, 4).cost(layer(6, 8), vector(8, 4), 3)
    assert cost.multipliers == (array, (3, 10, 6))
    assert cost.multiplier_count == 15
    assert cost.multiplier_bits == 12 * 12 + 3 * 60
    assert PeArraySpec(3, 4).cost(layer(6, 8, "one"), vector(8, 4), 3).multipliers == (array,)


@pytest.mark.parametrize(
    ("out", "features", "rows", "cols", "lanes"),
    [(6, 8, 6, 8, 6), (6, 8, 6, 4, 3), (6, 8, 6, 2, 2), (6, 8, 6, 1, 1), (5, 9, 5, 3, 5)],
)
def test_fewest_lanes_that_hide_the_drain(
    out: int, features: int, rows: int, cols: int, lanes: int
) -> None:
    assert PeArraySpec(rows, cols).drain_lanes(layer(out, features)) == lanes


@pytest.mark.parametrize(
    ("cols", "stages"), [(1, 0), (2, 0), (3, 1), (4, 1), (8, 1), (9, 2), (32, 2), (33, 3)]
)
def test_register_stages_of_the_adder_tree(cols: int, stages: int) -> None:
    """A stage sums four terms; the accumulator adds the last two."""
    assert PeArraySpec(1, cols).tree_stages() == stages


@pytest.mark.parametrize(
    ("in_format", "weight", "cols", "fits"),
    [
        (BipolarFormat(), BipolarFormat(), 4, True),
        (BipolarFormat(), BipolarFormat(), 5, False),
        (BipolarFormat(), CodebookFormat((1, 0, -1)), 5, False),
        (BipolarFormat(), CodebookFormat((0, 1, -1)), 5, True),
        (UNSIGNED, BipolarFormat(), 5, True),
        (BipolarFormat(), SIGNED, 5, True),
    ],
)
def test_padding_needs_a_zero(in_format, weight, cols: int, fits: bool) -> None:
    requantize = RequantizeSpec(UNSIGNED, 0, "one", 0, 12)
    assert PeArraySpec(2, cols).fits(LinearSpec(8, 2, in_format, weight, requantize)) is fits


def test_selection_costs_its_beats_and_a_padded_mask() -> None:
    """12 codes, 5 at once, are 3 beats; the 9 that stay leave in 5 pairs; the mask is 3x5."""
    cost = SelectSpec(12, 9, UNSIGNED).stage_cost(vector(12, 5), 2)
    assert (cost.input_beats, cost.output_beats, cost.cycles) == (3, 5, 5)
    assert cost.parameter_bits == cost.memory_bits == 15
    assert cost.multiplier_count == cost.macs == 0
