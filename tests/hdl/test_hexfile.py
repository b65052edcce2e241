"""Memory contents as text: packing and its inverse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdl.lib.hexfile import from_bits, hex_text, read_hex, to_bits
from model.ir.numerics import IntRange
from tests.examples import codes_of

sizes = st.tuples(st.integers(1, 12), st.integers(1, 9))


@given(sizes, st.integers(1, 60), st.booleans(), st.integers(0, 2**32 - 1))
def test_codes_survive_the_way_through_text(shape, bits, signed, seed) -> None:
    codes = codes_of(IntRange.of_bits(bits, signed), np.random.default_rng(seed), *shape)
    matrix = to_bits(codes, bits)
    assert matrix.shape == (shape[0], shape[1] * bits)
    read = read_hex(hex_text(matrix), matrix.shape[1])
    assert np.array_equal(read, matrix)
    assert np.array_equal(from_bits(read, bits, signed), codes)


@given(sizes, st.integers(1, 16), st.integers(0, 2**32 - 1))
def test_a_word_is_the_number_whose_low_bits_hold_the_first_code(shape, bits, seed) -> None:
    codes = codes_of(IntRange.of_bits(bits, False), np.random.default_rng(seed), *shape)
    words = [int(line, 16) for line in hex_text(to_bits(codes, bits)).splitlines()]
    assert words == [sum(int(c) << n * bits for n, c in enumerate(row)) for row in codes]


def test_every_word_has_a_line_with_leading_zeros() -> None:
    assert hex_text(to_bits(np.array([[1], [0], [511]]), 9)) == "001\n000\n1ff\n"


def test_a_negative_code_is_its_two_s_complement() -> None:
    assert hex_text(to_bits(np.array([[-1, -8]]), 4)) == "8f\n"


def test_comments_and_addresses_of_a_simulator_are_left_out() -> None:
    text = "// memory\n@0\n3\n@1\n1\n"
    assert read_hex(text, 2).tolist() == [[1, 1], [1, 0]]


def test_a_word_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="words must have 2 hexadecimal digits"):
        read_hex("00\n0\n", 8)
