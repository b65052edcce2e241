"""What a requantization states of itself: widths, tensors, and what it refuses."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.ir.errors import BadInput
from model.ir.numerics import BipolarFormat, CodebookFormat, IntRange, UniformFormat
from model.ir.requantize import RequantizeSpec
from tests.strategies import plain_formats, ranges, requantize_specs

OUT = UniformFormat(8, True)


@given(requantize_specs(plain_formats), ranges(reach=2**20))
def test_total_is_reached_at_its_ends_and_nowhere_exceeded(
    spec: RequantizeSpec, acc: IntRange
) -> None:
    m = IntRange.of_bits(spec.m_bits, True) if spec.multiplies else IntRange(1, 1)
    b = IntRange.of_bits(spec.b_bits, True)
    totals = [
        x * y + z + spec.rounding
        for x, y, z in itertools.product((acc.low, acc.high), (m.low, m.high), (b.low, b.high))
    ]  # multilinear, so its extremes lie at corners
    assert spec.total(acc) == IntRange(min(totals), max(totals))


@given(st.integers(1, 47))
def test_rounding_constant_is_half_of_the_last_kept_place(shift: int) -> None:
    assert RequantizeSpec(OUT, shift, "one", 0, 8).rounding * 2 == 1 << shift


def test_no_shift_rounds_nothing() -> None:
    assert RequantizeSpec(OUT, 0, "one", 0, 8).rounding == 0


@pytest.mark.parametrize(
    ("per", "m_bits", "shapes", "channel_bits", "layer_bits"),
    [
        ("one", 0, {"b": (5,)}, 20, 0),
        ("layer", 7, {"b": (5,), "m": (1,)}, 20, 7),
        ("channel", 7, {"b": (5,), "m": (5,)}, 27, 0),
    ],
)
def test_parameters_are_counted_where_they_are_stored(
    per: str, m_bits: int, shapes: dict, channel_bits: int, layer_bits: int
) -> None:
    spec = RequantizeSpec(OUT, 3, per, m_bits, 20)
    assert spec.tensor_shapes(5) == shapes
    assert (spec.channel_bits(), spec.layer_bits()) == (channel_bits, layer_bits)


@pytest.mark.parametrize("name", ["m", "b"])
@pytest.mark.parametrize("value", [-9, 8])
def test_names_a_parameter_that_does_not_fit_its_bits(name: str, value: int) -> None:
    spec = RequantizeSpec(OUT, 3, "channel", 4, 4)
    tensors = {"m": np.array([-8, 7]), "b": np.array([-8, 7])}
    spec.check(tensors, IntRange(0, 100), "fc1")
    tensors[name] = np.array([0, value])
    with pytest.raises(BadInput) as caught:
        spec.check(tensors, IntRange(0, 100), "fc1")
    low, high = min(0, value), max(0, value)
    assert str(caught.value) == (
        f"fc1.{name}: found values from {low} to {high}; expected values from -8 to 7 "
        "(4-bit signed); export again with more bits."
    )


def test_refuses_an_intermediate_beyond_63_bits() -> None:
    spec = RequantizeSpec(OUT, 3, "channel", 16, 8)
    tensors = {"m": np.array([1]), "b": np.array([0])}
    # acc * m reaches down to -2^62, which is 63 bits; b takes it beyond
    spec.check(tensors, IntRange(0, 2**47 - 1), "fc1")
    with pytest.raises(BadInput, match=r"fc1: acc \* m \+ b: found 64 bits; expected at most 63"):
        spec.check(tensors, IntRange(0, 2**47), "fc1")


def test_refuses_a_product_beyond_63_bits_though_the_rounding_brings_it_back() -> None:
    spec = RequantizeSpec(OUT, 47, "channel", 16, 1)
    acc = IntRange(0, 2**47 + 2)
    assert spec.product(acc).bits == 64
    assert spec.total(acc).bits == 63
    with pytest.raises(BadInput, match=r"fc1: acc \* m: found 64 bits"):
        spec.check({"m": np.array([1]), "b": np.array([0])}, acc, "fc1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((BipolarFormat(), 3, "one", 0, 8), "must be uniform or fixed-point, not 1-bit bipolar"),
        ((CodebookFormat((0, 3, 2, 1)), 3, "one", 0, 8), "not codebook of 4 levels"),
        ((OUT, 48, "one", 0, 8), "shift must be from 0 to 47, not 48"),
        ((OUT, -1, "one", 0, 8), "shift must be from 0 to 47, not -1"),
        ((OUT, 3, "row", 0, 8), "per must be 'one', 'layer' or 'channel', not 'row'"),
        ((OUT, 3, "one", 4, 8), "m_bits without a multiplier must be from 0 to 0, not 4"),
        ((OUT, 3, "layer", 0, 8), "m_bits must be from 1 to 16, not 0"),
        ((OUT, 3, "channel", 17, 8), "m_bits must be from 1 to 16, not 17"),
        ((OUT, 3, "one", 0, 49), "b_bits must be from 1 to 48, not 49"),
    ],
)
def test_refuses_impossible_specifications(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RequantizeSpec(*arguments)
