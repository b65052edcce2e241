"""The FFT's specification: twiddles, widths, multipliers, refusals."""

import json
import math
from typing import Any

import pytest

from model.ir.complex_product import multipliers_of
from model.ir.errors import BadInput
from model.ir.numerics import IntRange
from model.ir.real_fft import SIZES, RealFFTSpec, cosine, packed_bins, sine
from model.ir.spec import Spec


def fft(k: int = 8, **changes: Any) -> RealFFTSpec:
    fields: dict[str, Any] = {"inverse": False, "low": -128, "high": 127, "up": 0}
    fields |= {"shifts": (1,) * (k.bit_length() - 1)}
    return RealFFTSpec(k, **fields | changes)


@pytest.mark.parametrize("k", SIZES)
def test_twiddles_are_the_nearest_codes(k: int) -> None:
    for j in range(k):
        for found, true in [
            (cosine(j, k, 30), math.cos(2 * math.pi * j / k)),
            (sine(j, k, 30), math.sin(2 * math.pi * j / k)),
        ]:
            assert abs(found - true * 2**30) <= 0.5 + 1e-6


def test_an_eighth_of_a_turn_has_equal_parts() -> None:
    assert fft(8).twiddle(1, 8) == (23170, 23170)
    assert fft(16).twiddle(1, 16) == (30274, 12540)


@pytest.mark.parametrize(
    ("k", "three", "four"), [(2, 0, 0), (4, 0, 0), (8, 2, 2), (16, 12, 14), (32, 44, 54)]
)
@pytest.mark.parametrize("inverse", [False, True])
def test_multipliers_equal_the_formula(k: int, three: int, four: int, inverse: bool) -> None:
    spec = fft(k, inverse=inverse)
    assert (spec.multiplier_count(3), spec.multiplier_count(4)) == (three, four)
    eighths = max(0, k // 4 - 1)
    general = max(0, k // 4 * (k.bit_length() - 2) - (k // 2 - 1)) - eighths
    assert three == 3 * general + 2 * eighths
    assert four == 4 * general + 2 * eighths


def test_multipliers_state_the_widths_of_their_operands() -> None:
    # real and imaginary part of the odd half at n = 8: from -255 to 255 once halved twice
    assert fft(8).stages()[-1].operands.bits == 8
    assert fft(8).multipliers(3) == ((2, 9, 16),)
    assert multipliers_of(2, 3, 10, 16) == ((2, 11, 16), (4, 10, 17))
    assert multipliers_of(2, 4, 10, 16) == ((8, 10, 16),)


def test_widths_follow_from_the_worst_case() -> None:
    spec = RealFFTSpec(4, False, 0, 255, 0, (0, 0))
    ends = [(0, 1020), (-510, 510), (-255, 255), (-255, 255)]
    assert spec.out_ranges() == tuple(IntRange(*pair) for pair in ends)
    assert spec.outputs.bits == 11
    # the sum of 8 words with a twiddle: 2 (1 + sqrt(1/2)) of each half's 127 or 128, not 8
    wide = RealFFTSpec(8, False, -127, 127, 0, (0, 0, 0)).out_ranges()
    assert wide[2].high == math.floor(127 * (2 + 4 * 23170 / 32768) + 0.5)
    assert wide[0].high == 8 * 127


def test_words_of_a_spectrum_are_packed_in_order() -> None:
    assert packed_bins(2) == [(0, False), (1, False)]
    assert packed_bins(8)[:4] == [(0, False), (4, False), (1, False), (1, True)]
    assert fft(8).order == (0, 4, 2, 6, 1, 5, 3, 7)


def test_is_read_as_it_was_written() -> None:
    spec = fft(16, inverse=True)
    assert Spec.from_json(json.loads(json.dumps(spec.to_json())), "here") == spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 3, "shifts": (1,)}, "k must be one of 2, 4, 8, 16, 32, not 3"),
        ({"k": 64, "shifts": (1,) * 6}, "k must be one of 2, 4, 8, 16, 32, not 64"),
        ({"shifts": (1, 1)}, "shifts must be 3, one for each stage of k = 8, not 2"),
        ({"shifts": (1, 1, -1)}, "shift of a stage must be from 0 to 47, not -1"),
        ({"low": 5, "high": 4}, "high must be from 5"),
        ({"up": -1}, "up must be from 0 to 47, not -1"),
        ({"twiddle_bits": 5}, "twiddle_bits must be from 6 to 24, not 5"),
    ],
)
def test_refuses_what_is_no_transform(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fft(**{"k": 8} | changes)


def test_refuses_a_stage_beyond_63_bits() -> None:
    with pytest.raises(BadInput, match=r"real FFT of 8, stage n = 8: found 6\d bits"):
        fft(low=-(1 << 47), high=1 << 47)


def test_refuses_another_number_of_words_and_another_form() -> None:
    with pytest.raises(ValueError, match="8 words, not 4"):
        fft(8).transform([1, 2, 3, 4], lambda total, shift: total >> shift)
    with pytest.raises(ValueError, match="from 3 to 4, not 5"):
        fft(8).multipliers(5)
