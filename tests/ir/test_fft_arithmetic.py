"""Fft arithmetic's specification: spectra, widths, multipliers, refusals."""

import json
from typing import Any

import numpy as np
import pytest

from model.ir.arithmetic import Arithmetic, ExactArithmetic
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.errors import BadInput
from model.ir.network import Network
from model.ir.numerics import BipolarFormat, CodebookFormat, Format, UniformFormat
from model.ir.storage import DenseStorage
from tests.ffts import S8, fft_conv, fft_linear, fft_of, network_of


def packed(bins: np.ndarray) -> np.ndarray:
    half = bins.shape[-1] - 1
    words = np.empty((*bins.shape[:-1], 2 * half))
    words[..., 0], words[..., 1] = bins[..., 0].real, bins[..., half].real
    words[..., 2::2], words[..., 3::2] = bins[..., 1:half].real, bins[..., 1:half].imag
    return words


@pytest.mark.parametrize("k", [2, 4, 8, 16, 32])
@pytest.mark.parametrize(
    ("format", "exponent"),
    [(S8, 5), (UniformFormat(16, True), -4), (BipolarFormat(), 3), (CodebookFormat((0, 3, -5)), 4)],
)
def test_spectra_are_the_nearest_codes_of_the_dft(k: int, format: Format, exponent: int) -> None:
    spec = fft_linear(
        k, weight_format=format, arithmetic=fft_of(k, spectrum_exponent=exponent - 2, acc_shift=20)
    )
    weight = network_of(spec, 0)["layer"].tensors["weight"]
    found = spec.arithmetic.spectra(spec, weight)
    true = packed(np.fft.rfft(format.decode(weight))) * 2.0 ** (exponent - 2)
    assert found.shape == weight.shape
    assert np.abs(found - true).max() <= 0.5 + 1e-4
    for word, span in enumerate(spec.arithmetic.spectrum_ranges(spec)):
        assert span.low <= found[:, :, word].min()
        assert found[:, :, word].max() <= span.high


def test_spectra_of_a_known_block_are_these_on_every_machine() -> None:
    spec = fft_linear(8)
    weight = np.array([[[127, -128, 64, 3, -1, 0, 99, -77]]])
    found = spec.arithmetic.spectra(spec, weight)
    assert found.tolist() == [[[2784, 15712, -611, 2206, -1184, 1728, 8803, -34]]]


@pytest.mark.parametrize(("k", "three", "four"), [(2, 2, 2), (4, 5, 6), (8, 11, 14), (16, 23, 30)])
def test_multipliers_of_a_lane_equal_the_formula(k: int, three: int, four: int) -> None:
    spec = fft_linear(k)
    for form, count in ((3, three), (4, four)):
        found = spec.arithmetic.lane_multipliers(spec, form)
        assert sum(n for n, _, _ in found) == count == 2 + form * (k // 2 - 1)


def test_widths_follow_from_the_formats() -> None:
    spec = fft_linear(4, arithmetic=fft_of(4, up=0, spectrum_exponent=0, acc_shift=0))
    arithmetic = spec.arithmetic
    # 0 to 255 sum up to 1020; weights of -128 each to -512
    assert arithmetic.word_bits(spec) == 11
    assert arithmetic.spectrum_bits(spec) == 10
    assert arithmetic.sums(spec)[0].low == 5 * 1020 * -512
    assert arithmetic.exponent == 0
    assert fft_of(8).exponent == 4 + 5 - 9
    assert fft_of(8, inverse_shifts=(0, 1, 0)).exponent == 2


def test_chip_bits_depend_on_the_arithmetic() -> None:
    spec = fft_linear(8)
    assert spec.arithmetic.spectrum_bits(spec) == 16
    assert spec.chip_bits() == 3 * 5 * 8 * 16
    exact = fft_linear(8, arithmetic=ExactArithmetic())
    assert exact.chip_bits() == 3 * 5 * 8 * 8
    assert fft_conv(4).chip_bits() == 2 * 6 * 2 * 4 * fft_of(4).spectrum_bits(fft_conv(4))


def test_stored_bits_do_not_depend_on_the_arithmetic() -> None:
    assert fft_linear(8).stored_bits() == fft_linear(8, arithmetic=ExactArithmetic()).stored_bits()


def test_a_network_is_read_as_it_was_written(tmp_path: Any) -> None:
    network = network_of(fft_linear(16, arithmetic=fft_of(16, spectrum_exponent=4)), 0)
    network.save(tmp_path / "net")
    assert Network.load(tmp_path / "net") == network
    form = json.loads((tmp_path / "net" / "network.json").read_text())
    assert form["nodes"][0]["spec"]["arithmetic"]["kind"] == "fft"
    arithmetic = fft_of(8)
    assert Arithmetic.from_json(json.loads(json.dumps(arithmetic.to_json())), "x") == arithmetic


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"storage": DenseStorage()}, "fft arithmetic needs block-circulant weights, not dense"),
        ({"storage": BlockCirculantStorage(6)}, "k of the blocks .* one of 2, 4, 8, 16, 32, not 6"),
        ({"storage": BlockCirculantStorage(4)}, "blocks have k = 4, and the spectra .* k = 8"),
        ({"out_features": 7}, "7 rows of weights are fewer than the k = 8 of a block"),
        ({"in_features": 5}, "5 channels of weights are fewer than the k = 8 of a block"),
        (
            {"arithmetic": fft_of(8, spectrum_exponent=8)},
            "spectra of the weights need 19 bits, more than 18",
        ),
    ],
)
def test_refuses_layers_that_it_cannot_compute(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fft_linear(8, **changes)


def test_refuses_convolutions_with_fewer_channels_than_a_block_has() -> None:
    with pytest.raises(ValueError, match="3 channels of weights are fewer than the k = 4"):
        fft_conv(4, channels=3)
    with pytest.raises(ValueError, match="1 channels of weights are fewer than the k = 4"):
        fft_conv(4, groups=5, out_channels=5, channels=5)


def test_refuses_spectral_accumulators_beyond_63_bits() -> None:
    wide = UniformFormat(16, True)
    with pytest.raises(BadInput, match=r"spectral accumulators: found 6\d bits; expected at most"):
        fft_linear(4, in_format=wide, arithmetic=fft_of(4, up=34))


def test_refuses_an_inverse_beyond_63_bits() -> None:
    with pytest.raises(BadInput, match=r"real FFT of 8, stage n = 8: found 6\d bits"):
        fft_linear(8, arithmetic=fft_of(8, up=22, acc_shift=0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shifts": (), "inverse_shifts": ()}, "one of 2, 4, 8, 16, 32, not 1"),
        ({"shifts": (0,) * 6, "inverse_shifts": (0,) * 6}, "one of 2, 4, 8, 16, 32, not 64"),
        ({"inverse_shifts": (1, 1)}, "inverse_shifts must be 3, as the shifts are, not 2"),
        ({"up": 48}, "up must be from 0 to 47, not 48"),
        ({"shifts": (0, -1, 0)}, "shift of a stage must be from 0 to 47, not -1"),
        ({"spectrum_exponent": 17}, "spectrum_exponent must be from -20 to 16, not 17"),
        ({"acc_shift": -1}, "acc_shift must be from 0 to 47, not -1"),
        ({"twiddle_bits": 25}, "twiddle_bits must be from 6 to 24, not 25"),
    ],
)
def test_refuses_what_is_no_arithmetic(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fft_of(8, **changes)
