"""Straight pieces: error over every code, symmetry, saturation."""

import dataclasses
import itertools

import numpy as np
import pytest

from model.ir.numerics import FixedPointFormat
from model.ir.piecewise import PiecewiseSpec, piecewise

OUT = FixedPointFormat(16, True, 14)


def spec_of(function: str, frac_bits: int, segments: int = 22, bits: int = 16) -> PiecewiseSpec:
    return piecewise(function, FixedPointFormat(bits, True, frac_bits), OUT, segments)


@pytest.mark.parametrize("frac_bits", [8, 11, 12, 13, 15])
@pytest.mark.parametrize(("function", "bound"), [("sigmoid", 0.0013), ("tanh", 0.0025)])
def test_22_segments_err_by_less_than_one_percent_at_every_code(
    function: str, bound: float, frac_bits: int
) -> None:
    spec = spec_of(function, frac_bits)
    codes = np.arange(-(2**15), 2**15)
    x = codes / 2**frac_bits
    exact = np.tanh(x) if function == "tanh" else 1 / (1 + np.exp(-np.clip(x, -700, None)))
    error = np.abs(spec.evaluate(codes) / 2**14 - exact).max()
    assert spec.error() == pytest.approx(error, abs=1e-12)
    assert error < bound < 0.01


@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
def test_more_segments_err_less(function: str) -> None:
    errors = [spec_of(function, 11, segments).error() for segments in (6, 12, 22, 44, 88)]
    assert all(fine < 0.5 * coarse for coarse, fine in itertools.pairwise(errors))


@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
@pytest.mark.parametrize("segments", [1, 3, 22, 100])
def test_is_symmetric_monotonic_and_ends_at_one(function: str, segments: int) -> None:
    spec = spec_of(function, 11, segments)
    right, left = spec.table()[2**15 + 1 :], spec.table()[1 : 2**15][::-1]
    one = 2**14
    assert ((right + left) == (0 if function == "tanh" else one)).all()
    assert spec.table()[2**15] == (0 if function == "tanh" else one // 2)
    assert spec.table()[-1] == one
    assert (np.diff(spec.table()) >= -1).all()
    assert spec.outputs.low == spec.table().min()
    assert spec.outputs.high == spec.table().max()


@pytest.mark.parametrize("segments", [1, 2, 9, 22])
def test_has_half_of_the_segments_as_pieces(segments: int) -> None:
    assert len(spec_of("tanh", 11, segments).ends) == (segments + 1) // 2


@pytest.mark.parametrize(("bits", "frac_bits"), [(2, 0), (4, 1), (8, 7), (16, 20), (16, -3)])
@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
def test_fits_any_input_format(function: str, bits: int, frac_bits: int) -> None:
    spec = spec_of(function, frac_bits, bits=bits)
    assert spec.error() < 0.04
    assert spec.sum().bits <= 48


def test_the_stated_sum_is_reached() -> None:
    spec = spec_of("tanh", 11)
    sums = [
        slope * (end - 1) + intercept + spec.rounding
        for end, slope, intercept in zip(spec.ends, spec.slopes, spec.intercepts, strict=True)
    ]
    assert max(sums) == spec.sum().high


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out_format": FixedPointFormat(16, True, 15)}, "must hold 1"),
        ({"out_format": FixedPointFormat(16, True, -1)}, "must hold 1"),
        ({"in_format": FixedPointFormat(16, False, 11)}, "must be signed"),
        ({"ends": (5, 5, *range(10, 19))}, "end must be"),
        ({"slopes": (1,)}, "as many"),
        ({"top": 2**14 + 1}, "top must be"),
        ({"shift": 48}, "shift must be"),
    ],
)
def test_refuses_what_does_not_fit(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(spec_of("tanh", 11), **change)


def test_refuses_other_functions() -> None:
    with pytest.raises(ValueError, match="'sigmoid' or 'tanh'"):
        spec_of("relu", 11)


@pytest.mark.parametrize(("odd", "outputs"), [(True, (-8192, 10)), (False, (4, 2**14 - 6))])
def test_the_stated_outputs_are_those_of_the_table(odd: bool, outputs: tuple[int, int]) -> None:
    """2 |x| + 4 up to 3, and ``top`` at -4 alone; mirrored, that is more than ``top``, or less."""
    spec = PiecewiseSpec(FixedPointFormat(3, True, 0), OUT, odd, (4,), (2,), (4,), 0, 8192)
    assert (spec.outputs.low, spec.outputs.high) == outputs
    assert (spec.table().min(), spec.table().max()) == outputs
