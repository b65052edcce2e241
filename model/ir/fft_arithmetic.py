"""The arithmetic of block-circulant weights in the Fourier domain.

With blocks of k, x in q blocks and y in p::

    X[q]    = forward FFT of block q of x                      rounded, packed
    S[p]    = sum over q of W[p, q] X[q], bin by bin           exact
    y[p]    = inverse FFT of (S[p] + r) >> acc_shift           rounded: the accumulators

The inverse is moved out of the sum, so it is computed p times and not p q times. Where the bins are
complex so is the product; it needs no conjugate, since a block is kept as its first column. The
accumulators stand for ``2^exponent`` times those of exact arithmetic.

The spectra W are not stored: they follow from the codes of the weights, by one integer rule::

    W[word] = (sum over t of w[t] C[word, t] + r) >> (36 - spectrum_exponent)

where C holds the DFT's cosines and sines as the nearest integers of 36 fraction bits, so that each
machine derives the same.

For k = 2 and 4 all twiddle factors are trivial. With no right shift before the inverse, each of
whose stages halves what is even, this arithmetic then gives the exact accumulators.

Source: the circulant engine of C-LSTM, arXiv 1803.06305.
"""

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from model.ir.arithmetic import Arithmetic
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.complex_product import Multipliers, multipliers_of
from model.ir.matrix import MatrixSpec
from model.ir.numerics import IntRange, check_intermediate
from model.ir.real_fft import (
    TWIDDLE_BITS_MAX,
    RealFFTSpec,
    check_size,
    cosine,
    packed_bins,
    signed_bits,
    sine,
    union,
)
from model.ir.requantize import SHIFT_MAX, rounding
from model.ir.spec import check_int

SPECTRUM_BITS_MAX = 18
"""Bits of a number of a spectrum of the weights, at the most: a multiplier of common FPGAs."""

BASIS_BITS = 36
"""Fraction bits of the cosines and sines that make the spectra of weights."""

_MINUS = IntRange(-1, -1)


@cache
def _basis(k: int) -> np.ndarray:
    """The DFT to packed words with ``BASIS_BITS`` fraction bits, int64 [k, k]: rows are words."""
    rows = []
    for bin, imaginary in packed_bins(k):
        part = [(sine if imaginary else cosine)(bin * t % k, k, BASIS_BITS) for t in range(k)]
        rows.append([-x if imaginary else x for x in part])
    return np.array(rows, dtype=np.int64)


@dataclass(frozen=True)
class FFTArithmetic(Arithmetic, kind="fft"):
    """Spectral products of block-circulant weights, with integer FFTs.

    Parameters
    ----------
    up : int
        Left shift of the activations before the forward transform.
    shifts : tuple of int
        Right shift of each stage of the forward transform: log2 k of them, so they state k.
    spectrum_exponent : int
        W stands for 2^spectrum_exponent times the spectrum of the weights' values.
    acc_shift : int
        Right shift of the exact spectral accumulators before the inverse transform, half up.
    inverse_shifts : tuple of int
        Right shift of each stage of the inverse transform, whose first stage has n = k.
    twiddle_bits : int
        Bits of the twiddle factors of both transforms.

    Every width is the worst case of what stands before it: the formats of the layer decide, not its
    weights. The weights' spectra must fit 18 bits, every accumulator and total 63.
    """

    up: int
    shifts: tuple[int, ...]
    spectrum_exponent: int
    acc_shift: int
    inverse_shifts: tuple[int, ...]
    twiddle_bits: int = 16

    def __post_init__(self) -> None:
        check_size("k of the arithmetic, 2^(number of shifts),", self.k)
        if len(self.inverse_shifts) != len(self.shifts):
            raise ValueError(
                f"inverse_shifts must be {len(self.shifts)}, as the shifts are, "
                f"not {len(self.inverse_shifts)}"
            )
        check_int("up", self.up, 0, SHIFT_MAX)
        for shift in (*self.shifts, *self.inverse_shifts):
            check_int("shift of a stage", shift, 0, SHIFT_MAX)
        check_int("spectrum_exponent", self.spectrum_exponent, -20, 16)
        check_int("acc_shift", self.acc_shift, 0, SHIFT_MAX)
        check_int("twiddle_bits", self.twiddle_bits, 6, TWIDDLE_BITS_MAX)

    @property
    def k(self) -> int:
        """Points of the transforms."""
        return 1 << len(self.shifts)

    @property
    def exponent(self) -> int:
        """An accumulator stands for 2^exponent times that of exact arithmetic."""
        before = self.up - sum(self.shifts) + self.spectrum_exponent - self.acc_shift
        return before + len(self.shifts) - sum(self.inverse_shifts)

    def check_layer(self, layer: MatrixSpec) -> None:
        storage = layer.storage
        if not isinstance(storage, BlockCirculantStorage):
            raise ValueError(
                f"fft arithmetic needs block-circulant weights, not {storage.describe()} ones"
            )
        check_size("k of the blocks under fft arithmetic", storage.k)
        if storage.k != self.k:
            raise ValueError(
                f"the blocks have k = {storage.k}, and the spectra of the arithmetic k = {self.k}: "
                "both must be one size"
            )
        channels = layer.matrix_columns // storage.positions
        for name, size in (("rows", layer.matrix_rows), ("channels", channels)):
            if size < self.k:
                raise ValueError(
                    f"{size} {name} of weights are fewer than the k = {self.k} of a block: "
                    "use smaller blocks or exact arithmetic"
                )
        if self.spectrum_bits(layer) > SPECTRUM_BITS_MAX:
            raise ValueError(
                f"spectra of the weights need {self.spectrum_bits(layer)} bits, "
                f"more than {SPECTRUM_BITS_MAX}: lower spectrum_exponent"
            )
        for span in self.sums(layer):
            check_intermediate("spectral accumulators", span + _half(self.acc_shift))
        self.inverse(layer)

    def grid(self, layer: MatrixSpec) -> tuple[int, int]:
        """Blocks ``(p, q)`` of a layer."""
        return layer.storage.grid(layer.matrix_rows, layer.matrix_columns)

    def forward(self, layer: MatrixSpec) -> RealFFTSpec:
        """The transform of a block of activations; 0 pads one."""
        return _forward(self, layer.in_format.values)

    def inverse(self, layer: MatrixSpec) -> RealFFTSpec:
        """The transform of a block of shifted spectral accumulators."""
        span = union(self.sums(layer)) + _half(self.acc_shift)
        low, high = span.low >> self.acc_shift, span.high >> self.acc_shift
        return RealFFTSpec(self.k, True, low, high, 0, self.inverse_shifts, self.twiddle_bits)

    def spectra(self, layer: MatrixSpec, weight: np.ndarray) -> np.ndarray:
        """Packed spectra int64 [p, q, k] of weight codes [p, q, k]."""
        sums = layer.weight_format.decode(weight) @ _basis(self.k).T
        return (sums + rounding(self._basis_shift)) >> self._basis_shift

    def spectrum_ranges(self, layer: MatrixSpec) -> tuple[IntRange, ...]:
        """Range of each word of a weight spectrum."""
        return _spectrum_ranges(self.k, self._basis_shift, layer.weight_format.values)

    def spectrum_bits(self, layer: MatrixSpec) -> int:
        """Bits of each word of a weight spectrum, signed."""
        return signed_bits(union(self.spectrum_ranges(layer)))

    def word_bits(self, layer: MatrixSpec) -> int:
        """Bits of each word of an activation spectrum, signed."""
        return signed_bits(self.forward(layer).outputs)

    def sums(self, layer: MatrixSpec) -> tuple[IntRange, ...]:
        """Range of each word of the spectral accumulators, any partial sum included."""
        return _sums(self.forward(layer), self.spectrum_ranges(layer), self.grid(layer)[1])

    def accumulator(self, layer: MatrixSpec) -> IntRange:
        return self.inverse(layer).outputs

    def chip_bits(self, layer: MatrixSpec) -> int:
        """Those of the spectra: k numbers a block."""
        p, q = self.grid(layer)
        return p * q * self.k * self.spectrum_bits(layer)

    def lane_multipliers(self, layer: MatrixSpec, form: int) -> Multipliers:
        """Real multipliers of a lane, which takes one block a cycle.

        Two bins are real and k/2 - 1 complex: ``2 + 3 (k/2 - 1)`` multipliers with products of 3
        (11 at k = 8, 23 at k = 16), ``2 + 4 (k/2 - 1)`` with products of 4. In products of 3 the
        weight stands first, so that the sums of the other factor's parts are common to all lanes.
        """
        x, w = self.word_bits(layer), self.spectrum_bits(layer)
        return ((2, x, w), *multipliers_of(self.k // 2 - 1, form, w, x))

    def error_bound(self, layer: MatrixSpec) -> float:
        """Most that an accumulator can differ from 2^exponent times the exact one."""
        x_error = self.forward(layer).error_bound()
        x = [_reach(span) for span in self.forward(layer).out_ranges()]
        w = [_reach(span) for span in self.spectrum_ranges(layer)]
        w_error = 0.0 if self.k <= 4 and self.spectrum_exponent >= 0 else 0.5 + 2.0**-10

        def product(a: int, b: int) -> float:
            return x_error[a] * w[b] + (x[a] + x_error[a]) * w_error

        q = self.grid(layer)[1]
        errors = [q * product(0, 0), q * product(1, 1)]
        for re in range(2, self.k, 2):
            im = re + 1
            errors.append(q * (product(re, re) + product(im, im)))
            errors.append(q * (product(re, im) + product(im, re)))
        last = 0.5 if self.acc_shift else 0.0
        return max(
            self.inverse(layer).error_bound([e * 2.0**-self.acc_shift + last for e in errors])
        )

    @property
    def _basis_shift(self) -> int:
        return BASIS_BITS - self.spectrum_exponent


@lru_cache(maxsize=256)
def _forward(arithmetic: FFTArithmetic, values: IntRange) -> RealFFTSpec:
    """The transform of a block of activations of that range."""
    span, bits = union([values, IntRange(0, 0)]), arithmetic.twiddle_bits
    return RealFFTSpec(
        arithmetic.k, False, span.low, span.high, arithmetic.up, arithmetic.shifts, bits
    )


@lru_cache(maxsize=256)
def _spectrum_ranges(k: int, shift: int, values: IntRange) -> tuple[IntRange, ...]:
    """Range of each word of the spectrum of weights of that range, its rounding included."""
    found = []
    for row in _basis(k).tolist():
        sums = IntRange(0, 0)
        for factor in row:
            sums += values * IntRange(factor, factor)
        sums += _half(shift)
        found.append(IntRange(sums.low >> shift, sums.high >> shift))
    return tuple(found)


@lru_cache(maxsize=256)
def _sums(forward: RealFFTSpec, w: tuple[IntRange, ...], count: int) -> tuple[IntRange, ...]:
    """Range of each word of the sum of ``count`` products of two spectra."""
    x = forward.out_ranges()
    found = [x[0] * w[0], x[1] * w[1]]
    for re in range(2, len(w), 2):
        im = re + 1
        found.append(x[re] * w[re] + x[im] * w[im] * _MINUS)
        found.append(x[re] * w[im] + x[im] * w[re])
    return tuple(span.sum_of(count) for span in found)


def _half(shift: int) -> IntRange:
    return IntRange(rounding(shift), rounding(shift))


def _reach(span: IntRange) -> float:
    return float(max(abs(span.low), abs(span.high)))
