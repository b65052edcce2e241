"""Exact primitives: decoding, and the matrix product on both of its paths."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.golden.numerics import FLOAT_EXACT_BITS, decode, matmul
from model.ir.numerics import Format, IntRange
from tests import reference
from tests.examples import codes_of
from tests.strategies import formats


@given(formats)
def test_decode_agrees_with_the_definition(format: Format) -> None:
    codes = torch.arange(format.codes.low, format.codes.high + 1)[:512]
    codes = torch.stack([codes, codes.flip(0)])
    values = decode(format, codes)
    assert values.dtype == torch.int64
    expected = [[reference.value(format, int(code)) for code in row] for row in codes]
    assert values.tolist() == expected


def exact_product(x: np.ndarray, weights: np.ndarray) -> list[list[int]]:
    """The product in Python integers, which have no width."""
    return (x.astype(object) @ weights.T.astype(object)).tolist()


@given(st.integers(0, 2**32 - 1), st.integers(1, 15), st.integers(1, 15), st.integers(1, 40))
def test_matmul_is_exact_for_every_width(seed: int, x_bits: int, w_bits: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    x_span, w_span = IntRange.of_bits(x_bits, False), IntRange.of_bits(w_bits, True)
    x, weights = codes_of(x_span, rng, 3, n), codes_of(w_span, rng, 4, n)
    acc = (x_span * w_span).sum_of(n)
    product = matmul(torch.from_numpy(x), torch.from_numpy(weights), acc)
    assert product.tolist() == exact_product(x, weights)


# Values of 26 and 25 bits make sums that need 51 + log2(n) bits: 53 at n = 4, 54 at n = 8.
X = IntRange(-(2**25), 2**25 - 1)
W = IntRange(-(2**24), 2**24 - 1)


@pytest.mark.parametrize(("n", "bits"), [(4, 53), (8, 54), (64, 57)])
@pytest.mark.parametrize("seed", range(5))
def test_both_paths_are_exact_on_both_sides_of_53_bits(n: int, bits: int, seed: int) -> None:
    acc = (X * W).sum_of(n)
    assert acc.bits == bits
    assert (acc.bits <= FLOAT_EXACT_BITS) == (n == 4)
    rng = np.random.default_rng(seed)
    x, weights = codes_of(X, rng, 5, n), codes_of(W, rng, 6, n)
    x[0], weights[0] = X.low, W.low  # the largest accumulator there is
    product = matmul(torch.from_numpy(x), torch.from_numpy(weights), acc)
    assert product.dtype == torch.int64
    assert product.tolist() == exact_product(x, weights)
    assert (product == torch.from_numpy(x) @ torch.from_numpy(weights).T).all()


def test_beyond_53_bits_float64_would_have_been_wrong() -> None:
    # the odd sum 2^53 + 1 has no float64; the range of the accumulator must send it to integers
    x = torch.tensor([[2**26, 1]])
    weights = torch.tensor([[2**27, 1]])
    acc = (IntRange(0, 2**26) * IntRange(0, 2**27)).sum_of(2)
    assert acc.bits > FLOAT_EXACT_BITS
    assert matmul(x, weights, acc).item() == 2**53 + 1
    assert (x.double() @ weights.double().T).long().item() != 2**53 + 1
