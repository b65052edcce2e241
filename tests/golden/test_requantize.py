"""Requantization against exact fractions: ``clamp(floor((acc * m + b) / 2^s + 1/2))``."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.golden.requantize import requantize
from model.ir.numerics import IntRange, UniformFormat
from model.ir.requantize import RequantizeSpec
from tests import reference
from tests.examples import codes_of
from tests.strategies import plain_formats, requantize_specs, requantize_tensors


@given(requantize_specs(plain_formats), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_equals_exact_fractions(spec: RequantizeSpec, acc_bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels = 5
    acc = codes_of(IntRange.of_bits(acc_bits, True), rng, 7, channels)
    tensors = requantize_tensors(spec, channels, rng)
    codes = requantize(
        spec,
        torch.from_numpy(acc),
        {name: torch.from_numpy(tensor) for name, tensor in tensors.items()},
    )
    m = np.broadcast_to(tensors.get("m", np.array([1])), (channels,))
    expected = [
        [
            reference.requantize(spec, int(acc[row, n]), int(m[n]), int(tensors["b"][n]))
            for n in range(channels)
        ]
        for row in range(7)
    ]
    assert codes.dtype == torch.int64
    assert codes.tolist() == expected


def one(acc: int, shift: int, *, bits: int = 8, signed: bool = True, m: int = 1, b: int = 0) -> int:
    """One accumulator through a requantization."""
    spec = RequantizeSpec(UniformFormat(bits, signed), shift, "layer", 16, 48)
    tensors = {"m": torch.tensor([m]), "b": torch.tensor([b])}
    return int(requantize(spec, torch.tensor([[acc]]), tensors))


@pytest.mark.parametrize(
    ("acc", "shift", "code"),
    [
        *[(1, 1, 1), (-1, 1, 0), (3, 1, 2), (-3, 1, -1), (2, 2, 1), (-2, 2, 0), (-6, 2, -1)],
        *[(1, 2, 0), (-1, 2, 0), (-3, 2, -1), (5, 0, 5), (-5, 0, -5), (2**46, 47, 1)],
    ],
)
def test_a_half_rounds_up_also_below_zero(acc: int, shift: int, code: int) -> None:
    assert one(acc, shift) == code


@pytest.mark.parametrize(
    ("bits", "signed", "low", "high"),
    [(8, True, -128, 127), (8, False, 0, 255), (1, True, -1, 0), (1, False, 0, 1)],
)
def test_clamps_at_both_ends_of_the_format(bits: int, signed: bool, low: int, high: int) -> None:
    for acc in (low - 1, low, high, high + 1, -(2**40), 2**40):
        assert one(acc, 0, bits=bits, signed=signed) == min(max(acc, low), high)


def test_a_negative_multiplier_flips_before_rounding() -> None:
    # -1.5 rounds up to -1, where the flip of a rounded 1.5 would give -2
    assert one(3, 1, m=-1) == -1


def test_the_bias_is_added_before_the_shift() -> None:
    assert [one(0, 4, b=b) for b in (7, 8, -8, -9)] == [0, 1, 0, -1]


def test_holds_at_the_widest_intermediates() -> None:
    spec = RequantizeSpec(UniformFormat(16, True), 47, "layer", 16, 48)
    for acc, m, b in itertools.product(
        (-(2**46), 2**46 - 1), (-(2**15), 2**15 - 1), (-(2**47), 2**47 - 1)
    ):
        tensors = {"m": torch.tensor([m]), "b": torch.tensor([b])}
        assert int(requantize(spec, torch.tensor([[acc]]), tensors)) == reference.requantize(
            spec, acc, m, b
        )


def test_multipliers_and_biases_belong_to_their_channels() -> None:
    spec = RequantizeSpec(UniformFormat(16, True), 0, "channel", 8, 8)
    tensors = {"m": torch.tensor([1, -2, 3]), "b": torch.tensor([10, 20, 30])}
    acc = torch.tensor([[100, 100, 100], [1, 2, 3]])
    assert requantize(spec, acc, tensors).tolist() == [[110, -180, 330], [11, 16, 39]]
