"""Formats decode as documented; ranges are exact and their bits minimal."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.ir.errors import BadInput
from model.ir.numerics import (
    BipolarFormat,
    CodebookFormat,
    FixedPointFormat,
    Format,
    IntRange,
    UniformFormat,
    check_intermediate,
)
from tests.strategies import formats, plain_formats, ranges


def holds(bits: int, signed: bool, value: int) -> bool:
    """Whether a word of ``bits`` bits holds the value, by writing it and reading it back."""
    word = value & ((1 << bits) - 1)
    if signed and word >> (bits - 1):
        word -= 1 << bits
    return word == value


@given(ranges(reach=2**70))
def test_bits_hold_both_ends_of_a_range(span: IntRange) -> None:
    assert holds(span.bits, span.signed, span.low)
    assert holds(span.bits, span.signed, span.high)


@given(ranges(reach=2**70))
def test_bits_are_minimal(span: IntRange) -> None:
    fewer = span.bits - 1
    assert fewer == 0 or not (
        holds(fewer, span.signed, span.low) and holds(fewer, span.signed, span.high)
    )


@pytest.mark.parametrize(
    ("low", "high", "bits"),
    [
        *[(0, 0, 1), (0, 1, 1), (0, 255, 8), (0, 256, 9), (5, 6, 3)],
        *[(-1, 0, 1), (-1, 1, 2), (-2, 1, 2), (-128, 127, 8), (-129, 0, 9)],
        *[(-1, -1, 1), (-2, -2, 2), (-4, -3, 3), (-(2**62), 2**62 - 1, 63)],
    ],
)
def test_bits_of_known_ranges(low: int, high: int, bits: int) -> None:
    assert IntRange(low, high).bits == bits


@given(ranges(reach=12), ranges(reach=12))
def test_sum_and_product_reach_exactly_what_brute_force_finds(a: IntRange, b: IntRange) -> None:
    pairs = list(itertools.product(range(a.low, a.high + 1), range(b.low, b.high + 1)))
    sums = [x + y for x, y in pairs]
    products = [x * y for x, y in pairs]
    assert a + b == IntRange(min(sums), max(sums))
    assert a * b == IntRange(min(products), max(products))


@given(ranges(reach=5), st.integers(1, 4))
def test_sum_of_holds_every_partial_sum_and_no_more(span: IntRange, terms: int) -> None:
    numbers = range(span.low, span.high + 1)
    sums = [0] + [
        sum(chosen)
        for count in range(1, terms + 1)
        for chosen in itertools.combinations_with_replacement(numbers, count)
    ]
    assert span.sum_of(terms) == IntRange(min(sums), max(sums))


def test_refuses_a_range_upside_down() -> None:
    with pytest.raises(ValueError, match=r"low must be at most high, not 3 over 2"):
        IntRange(3, 2)


@given(plain_formats)
def test_plain_formats_use_every_word_and_decode_to_themselves(format: Format) -> None:
    span = format.codes
    assert span.high - span.low + 1 == 1 << format.bits
    assert (span.low < 0) == format.signed
    codes = np.arange(span.low, span.high + 1)
    assert np.array_equal(format.decode(codes), codes)
    assert format.has_zero


@given(formats)
def test_values_are_exactly_the_reach_of_the_codes(format: Format) -> None:
    values = format.decode(np.arange(format.codes.low, format.codes.high + 1))
    assert values.dtype == np.int64
    # bipolar has no 0, and a codebook may have gaps, but both ends are reached
    assert (values.min(), values.max()) == (format.values.low, format.values.high)


@given(formats)
def test_has_zero_says_whether_padding_with_code_0_is_exact(format: Format) -> None:
    assert format.has_zero == (int(format.decode(np.array([0]))[0]) == 0)


@given(formats)
def test_codes_fit_the_bits_of_the_format(format: Format) -> None:
    for code in (format.codes.low, format.codes.high):
        assert holds(format.bits, format.signed, code)


def test_bipolar_decodes_to_plus_and_minus_one() -> None:
    assert BipolarFormat().decode(np.array([[0, 1], [1, 0]])).tolist() == [[-1, 1], [1, -1]]


@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=2, max_size=256, unique=True))
def test_codebook_decodes_an_index_to_its_level(levels: list[int]) -> None:
    format = CodebookFormat(tuple(levels))
    assert format.decode(np.arange(len(levels))).tolist() == levels
    assert 1 << (format.bits - 1) < len(levels) <= 1 << format.bits


@pytest.mark.parametrize("format", [UniformFormat(3, True), CodebookFormat((0, 5, 9))])
@pytest.mark.parametrize("beyond", ["below", "above"])
def test_check_names_codes_outside_the_format(format: Format, beyond: str) -> None:
    span = format.codes
    code = span.low - 1 if beyond == "below" else span.high + 1
    format.check(np.array([span.low, span.high]), "fc1.weight")
    with pytest.raises(BadInput) as caught:
        format.check(np.array([span.low, code, span.high]), "fc1.weight")
    low, high = min(code, span.low), max(code, span.high)
    assert str(caught.value) == (
        f"fc1.weight: found codes from {low} to {high}; expected codes from {span.low} to "
        f"{span.high} ({format.describe()}); widen the format or quantize again."
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: UniformFormat(0, True), ValueError, "bits must be from 1 to 16, not 0"),
        (lambda: UniformFormat(17, True), ValueError, "bits must be from 1 to 16, not 17"),
        (lambda: UniformFormat(True, True), TypeError, "bits must be an integer, not True"),
        (lambda: FixedPointFormat(8, True, 33), ValueError, "frac_bits must be from -16 to 32"),
        (lambda: CodebookFormat((1,)), ValueError, "number of levels must be from 2 to 256"),
        (lambda: CodebookFormat((0, 1, 0)), ValueError, "levels must differ, not"),
        (lambda: CodebookFormat((0, 2**16)), ValueError, "levels must fit 16 bits, not"),
        (lambda: CodebookFormat((-1, 2**15)), ValueError, "levels must fit 16 bits, not"),
    ],
)
def test_refuses_impossible_formats(make, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_check_intermediate_allows_63_bits_and_no_more() -> None:
    check_intermediate("fc1", IntRange(-(2**62), 2**62 - 1))
    with pytest.raises(BadInput, match="fc1: found 64 bits; expected at most 63 bits"):
        check_intermediate("fc1", IntRange(-(2**62) - 1, 0))


def test_only_codebooks_cost_a_table() -> None:
    assert CodebookFormat((0, 1, -1, 2, -2, 4, -4)).table_bits() == 7 * 4
    assert BipolarFormat().table_bits() == UniformFormat(8, True).table_bits() == 0
