"""The integer FFT against numpy's in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.golden.real_fft import transform
from model.ir.real_fft import SIZES, RealFFTSpec
from tests.examples import codes_of

FULL = (1 << 15) - 1


def packed(bins: np.ndarray) -> np.ndarray:
    """numpy's bins [..., k/2 + 1] as packed words [..., k]."""
    half = bins.shape[-1] - 1
    words = np.empty((*bins.shape[:-1], 2 * half))
    words[..., 0], words[..., 1] = bins[..., 0].real, bins[..., half].real
    words[..., 2::2], words[..., 3::2] = bins[..., 1:half].real, bins[..., 1:half].imag
    return words


def bins_of(words: np.ndarray) -> np.ndarray:
    """Packed words as numpy's bins."""
    ends = words[..., :1], words[..., 1:2]
    return np.concatenate([ends[0], words[..., 2::2] + 1j * words[..., 3::2], ends[1]], -1)


def energy(words: np.ndarray) -> float:
    """Energy of the whole spectrum: each bin between DC and k/2 stands for two."""
    weight = np.where(np.arange(words.shape[-1]) < 2, 1.0, 2.0)
    return float((weight * words**2).sum())


def decibels(signal: float, noise: float) -> float:
    return 10 * math.log10(signal / noise)


def derived_snr(k: int) -> float:
    """The bound on the SNR of a 16-bit forward transform with a shift of 1 in each stage.

    A stage makes sqrt(2) times a unitary map, and halves. Each word's rounding error has a mean
    square of at most 1/8 (two fractions, 0 and 1/2, as likely; finer ones have less). In a stage of
    n, each of the k / n spectra has two real bins and n - 2 complex ones, so its error adds at most
    sqrt(k (1 - 1/n) / 4) to the norm (in the mean square), which each later stage reduces by
    sqrt(2). Adding the norms, no matter how they are correlated, bounds the noise. A twiddle factor
    errs by at most 2^-15.5 in its two parts of 2^-16, and half of a spectrum's energy is multiplied
    by one. The signal: full-scale uniform points have a norm of sqrt(k / 3) 2^15, and the transform
    divides it by sqrt(k).
    """
    signal = 2.0**15 / math.sqrt(3)
    sizes = [2 << level for level in range(k.bit_length() - 1)]
    noise = sum(
        math.sqrt(k * (1 - 1 / n) / 4) / math.sqrt(2) ** level
        for level, n in enumerate(reversed(sizes))
    )
    twiddles = signal * 2**-15.5 / math.sqrt(2) * sum(n > 4 for n in sizes)
    return 20 * math.log10(signal / (noise + twiddles))


@pytest.mark.parametrize("k", SIZES)
def test_snr_at_16_bits_is_above_the_derived_bound_and_70_decibels(k: int) -> None:
    levels = k.bit_length() - 1
    forward = RealFFTSpec(k, False, -FULL, FULL, 0, (1,) * levels)
    inverse = RealFFTSpec(k, True, -FULL, FULL, 0, (0,) * levels)
    x = np.random.default_rng(k).integers(-FULL, FULL, (20000, k), endpoint=True)
    words = transform(forward, torch.from_numpy(x))
    assert forward.outputs.bits == 16
    expected = packed(np.fft.rfft(x)) / k
    snr = decibels(energy(expected), energy(words.numpy() - expected))
    assert snr >= derived_snr(k) - 0.05  # a sample of its mean squares; at k = 2 they are equal
    assert snr >= 70
    back = transform(inverse, words).numpy()
    assert decibels(float((x * x).sum()), float(((back - x) ** 2).sum())) >= 70


def test_the_derived_bound_is_above_70_decibels_up_to_16_points() -> None:
    assert all(derived_snr(k) >= 70 for k in SIZES if k <= 16)


@st.composite
def transforms(draw: st.DrawFn) -> RealFFTSpec:
    k = draw(st.sampled_from(SIZES[:4]))
    levels = k.bit_length() - 1
    ends = sorted(draw(st.tuples(*[st.integers(-40000, 40000)] * 2)))
    shifts = tuple(draw(st.integers(0, 2)) for _ in range(levels))
    twiddle_bits = draw(st.integers(8, 18))
    return RealFFTSpec(k, draw(st.booleans()), *ends, draw(st.integers(0, 4)), shifts, twiddle_bits)


@settings(max_examples=60)
@given(transforms(), st.integers(0, 2**32 - 1))
def test_stays_within_the_bound_of_its_error_and_in_the_ranges(
    spec: RealFFTSpec, seed: int
) -> None:
    """Each word is ``2^exponent`` times the real transform's but for the roundings of the stages,
    each at most 1/2 and then multiplied as the coefficients say, and the twiddles' own errors."""
    words = codes_of(spec.inputs, np.random.default_rng(seed), 200, spec.k)
    found = transform(spec, torch.from_numpy(words)).numpy()
    if spec.inverse:
        expected = np.fft.irfft(bins_of(words.astype(float)), spec.k) * spec.k
    else:
        expected = packed(np.fft.rfft(words))
    error = np.abs(found - expected * 2.0**spec.exponent).max(0)
    assert (error <= np.array(spec.error_bound()) * (1 + 1e-9) + 1e-6).all()
    for n, span in enumerate(spec.out_ranges()):
        assert span.low <= found[:, n].min()
        assert found[:, n].max() <= span.high


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("inverse", [False, True])
def test_every_stage_stays_in_its_range_at_the_worst_words(k: int, inverse: bool) -> None:
    """Signs of each bin's own coefficients drive every word to its ends."""
    levels = k.bit_length() - 1
    spec = RealFFTSpec(k, inverse, -100, 127, 1, (1, 0) * (levels // 2) + (1,) * (levels % 2))
    unit = np.eye(k) * 1000
    unit = np.fft.irfft(bins_of(unit), k) if inverse else packed(np.fft.rfft(unit))
    sign = np.sign(np.round(unit, 6)).T
    worst = np.concatenate([np.where(sign > 0, 127, -100), np.where(sign < 0, 127, -100)])
    random = codes_of(spec.inputs, np.random.default_rng(0), 500, k)
    words = list(torch.from_numpy(np.concatenate([worst, random])).unbind(-1))
    totals: list[tuple[int, int]] = []

    def rounded(total: torch.Tensor, shift: int) -> torch.Tensor:
        total = total + (1 << shift >> 1)
        totals.append((int(total.min()), int(total.max())))
        return total >> shift

    walk = spec.walk(words, rounded)
    next(walk)
    for stage in spec.stages():
        totals.clear()
        found = torch.stack(next(walk))
        assert stage.outputs.low <= int(found.min())
        assert int(found.max()) <= stage.outputs.high
        assert stage.totals.low <= min(low for low, _ in totals)
        assert max(high for _, high in totals) <= stage.totals.high
    assert abs(int(found.max()) - stage.outputs.high) <= 4  # the range is no wider than it need be
    assert abs(int(found.min()) - stage.outputs.low) <= 4


@pytest.mark.parametrize("k", [2, 4])
def test_without_twiddles_forward_and_back_is_exact(k: int) -> None:
    levels = k.bit_length() - 1
    forward = RealFFTSpec(k, False, -128, 255, 0, (0,) * levels)
    span = forward.outputs
    inverse = RealFFTSpec(k, True, span.low, span.high, 0, (1,) * levels)
    x = torch.randint(-128, 256, (500, k), generator=torch.Generator().manual_seed(0))
    assert torch.equal(transform(inverse, transform(forward, x)), x)
    assert torch.equal(transform(inverse, transform(forward, x), dim=1), x)
