"""The FFT of k real points in integers: k words in, k words out, every stage's rounding stated.

Radix-2 decimation in time with the symmetry of real input, so that each stage holds k words (H. V.
Sorensen et al., "Real-valued fast Fourier transform algorithms", IEEE Trans. ASSP, 1987). A
spectrum of n real points is **packed** in n words::

    word 0: bin 0      word 1: bin n/2      words 2m, 2m + 1: real, imaginary part of bin m < n/2

With ``W = e^(-2 pi j / n)``, a forward stage makes one spectrum X of n out of two of n/2, E (of the
even points) and O (of the odd ones)::

    X[0], X[n/2] = E[0] + O[0], E[0] - O[0]
    X[n/4]       = E[n/4] - j O[n/4]                       both are real: no multiplication
    X[m]         = E[m] + W^m O[m],  X[n/2 - m] = conj(E[m] - W^m O[m])       0 < m < n/4

and a stage of the inverse takes it apart again, twice as large::

    E[0], O[0]     = X[0] + X[n/2], X[0] - X[n/2]
    E[n/4], O[n/4] = 2 re X[n/4], -2 im X[n/4]
    E[m], O[m]     = X[m] + conj X[n/2 - m],  W^-m (X[m] - conj X[n/2 - m])

The forward transform has n = 2, 4, ... k, the inverse n = k, ... 4, 2. Between the stages lie
spectra of n words, one after the other; the even points' stands before that of the odd ones. So the
forward transform reads its points in bit-reversed order and the inverse writes them so; outside of
both stands the natural order.

Rounding: each word that leaves a stage is rounded once, ``(total + r) >> s`` with r = 2^(s-1), or 0
if s = 0 (a half rounds up). ``s`` is the stage's shift for totals without a twiddle factor. With
one, the total is ``(E << f) ± (c a ± s b)``, exact, of f more fraction bits, and ``s + f`` is its
shift. The twiddles 1 and -j multiply nothing and round nothing.

The first stage reads ``word << up``. As a whole the transform gives, but for the roundings,
``2^(up - sum of the shifts)`` times the DFT, or k times the inverse DFT.

Range analysis: each word of each stage is a linear form of the k input words, with exact rational
coefficients, plus the bounded sum of roundings. Its largest value over all inputs is known, so that
the widths follow and nothing can overflow.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np

from model.ir.complex_product import (
    Multipliers,
    complex_product,
    eighth_multipliers,
    multipliers_of,
)
from model.ir.numerics import IntRange, check_intermediate
from model.ir.requantize import SHIFT_MAX, rounding
from model.ir.spec import Spec, check_int

SIZES = (2, 4, 8, 16, 32)
TWIDDLE_BITS_MAX = 24

_TURN = 32
_PRECISION = 128

Rounded = Callable[[Any, int], Any]
Product = Callable[[Any, Any, int, int], tuple[Any, Any]]


@cache
def _cosine(j: int) -> int:
    """floor(cos(2 pi j / 32) * 2^128) for 0 <= j <= 8, by halving angles in integers."""
    if j in (0, _TURN // 4):
        return 0 if j else 1 << _PRECISION
    doubled = 2 * j
    twice = _cosine(doubled) if doubled <= _TURN // 4 else -_cosine(_TURN // 2 - doubled)
    return math.isqrt(((1 << _PRECISION) + twice) << (_PRECISION - 1))


def cosine(j: int, k: int, frac_bits: int) -> int:
    """cos(2 pi j / k) with ``frac_bits`` fraction bits, to the nearest; k divides 32.

    Integer arithmetic throughout: the same on every machine.
    """
    j = j * (_TURN // k) % _TURN
    j = min(j, _TURN - j)
    negative = j > _TURN // 4
    magnitude = _cosine(_TURN // 2 - j if negative else j)
    nearest = (magnitude + (1 << (_PRECISION - frac_bits - 1))) >> (_PRECISION - frac_bits)
    return -nearest if negative else nearest


def sine(j: int, k: int, frac_bits: int) -> int:
    """sin(2 pi j / k) likewise."""
    return cosine(j * (_TURN // k) - _TURN // 4, _TURN, frac_bits)


def packed_bins(k: int) -> list[tuple[int, bool]]:
    """Bin of each packed word, and whether the word is its imaginary part."""
    return [(0, False), (k // 2, False)] + [
        (m, im) for m in range(1, k // 2) for im in (False, True)
    ]


def check_size(name: str, k: int) -> None:
    """Raise ValueError unless there is a transform of k points."""
    if type(k) is not int or k not in SIZES:
        raise ValueError(f"{name} must be one of {', '.join(map(str, SIZES))}, not {k}")


@dataclass(frozen=True)
class FFTStage:
    """One stage as the range analysis finds it.

    Parameters
    ----------
    n : int
        Points of the spectra that it makes (forward) or takes apart (inverse).
    shift : int
        Right shift of the totals without a twiddle factor.
    inputs, outputs : IntRange
        Every word that enters and leaves. The first stage's are shifted left already.
    totals : IntRange
        Every total before its shift, the rounding constant included.
    operands : IntRange
        Every word that enters a complex product (0 if there is none).
    products, eighths : int
        Complex products of a whole transform, in this stage: those by a general twiddle factor, and
        those by an eighth of a turn.
    """

    n: int
    shift: int
    inputs: IntRange
    totals: IntRange
    operands: IntRange
    outputs: IntRange
    products: int
    eighths: int


@dataclass(frozen=True)
class RealFFTSpec(Spec, kind="real_fft"):
    """The transform of k real points, or its inverse.

    Parameters
    ----------
    k : int
        Points: 2, 4, 8, 16 or 32.
    inverse : bool
        Whether packed bins enter and points leave.
    low, high : int
        Range of each word that enters.
    up : int
        Left shift of the words that enter.
    shifts : tuple of int
        Right shift of each stage, in the order in which they are computed: log2 k of them.
    twiddle_bits : int
        Bits of a twiddle factor, signed, one less of them behind the point.

    Real multipliers of a whole transform: with ``g`` general products and ``h`` of an eighth of a
    turn, ``3 g + 2 h`` or ``4 g + 2 h``, where ``h = k/8 + ... + 1 = k/4 - 1`` and
    ``g + h = (k/4)(log2 k - 1) - (k/2 - 1)`` for k >= 4:

    ====  ======  ======  ===  ===
    k     g       h       3    4
    ====  ======  ======  ===  ===
    2, 4  0       0       0    0
    8     0       1       2    2
    16    2       3       12   14
    32    10      7       44   54
    ====  ======  ======  ===  ===
    """

    k: int
    inverse: bool
    low: int
    high: int
    up: int
    shifts: tuple[int, ...]
    twiddle_bits: int = 16

    def __post_init__(self) -> None:
        check_size("k", self.k)
        check_int("low", self.low, -(1 << 62))
        check_int("high", self.high, self.low, 1 << 62)
        check_int("up", self.up, 0, SHIFT_MAX)
        if len(self.shifts) != self.levels:
            raise ValueError(
                f"shifts must be {self.levels}, one for each stage of k = {self.k}, "
                f"not {len(self.shifts)}"
            )
        for shift in self.shifts:
            check_int("shift of a stage", shift, 0, SHIFT_MAX)
        check_int("twiddle_bits", self.twiddle_bits, 6, TWIDDLE_BITS_MAX)
        for stage in self.stages():
            check_intermediate(f"real FFT of {self.k}, stage n = {stage.n}", stage.totals)

    @property
    def levels(self) -> int:
        """Stages: log2 k."""
        return self.k.bit_length() - 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """``n`` of each stage, in the order in which they are computed."""
        sizes = tuple(2 << level for level in range(self.levels))
        return sizes[::-1] if self.inverse else sizes

    @property
    def frac_bits(self) -> int:
        """Fraction bits ``f`` of a twiddle factor."""
        return self.twiddle_bits - 1

    @property
    def exponent(self) -> int:
        """The transform gives 2^exponent times the DFT, or times the sums of the inverse DFT."""
        return self.up - sum(self.shifts)

    @property
    def inputs(self) -> IntRange:
        """Range of each word that enters."""
        return IntRange(self.low, self.high)

    @property
    def order(self) -> tuple[int, ...]:
        """Bit-reversed order: place in the first stage (last one, if inverse) of each point."""
        return tuple(int(f"{i:0{self.levels}b}"[::-1], 2) for i in range(self.k))

    def twiddle(self, m: int, n: int) -> tuple[int, int]:
        """Codes of cos and sin of 2 pi m / n, which is not a multiple of a quarter turn."""
        return cosine(m, n, self.frac_bits), sine(m, n, self.frac_bits)

    def transform(self, words: Sequence[Any], rounded: Rounded) -> list[Any]:
        """The transform of k words of any kind that has ``+``, ``-`` and ``*`` with integers.

        ``rounded(total, shift)`` gives ``(total + r) >> shift`` in that kind. Points stand in
        natural order, spectra in the packed one.
        """
        *_, last = self.walk(words, rounded)
        return self.arranged(last)

    def arranged(self, last: list[Any]) -> list[Any]:
        """The words that leave the last stage in the order in which they leave the transform."""
        return [last[i] for i in self.order] if self.inverse else last

    def walk(
        self, words: Sequence[Any], rounded: Rounded, product: Product = complex_product
    ) -> Iterator[list[Any]]:
        """The words that enter the first stage, then those that leave each stage.

        ``product(a, b, c, s)`` gives the real and the imaginary part of ``(a + jb)(c + js)``, for
        the integers c and s of a twiddle factor. All other factors are 1, -1, -2 and powers of two.
        """
        if len(words) != self.k:
            raise ValueError(f"{self.k} words, not {len(words)}")
        now = [word * (1 << self.up) for word in words]
        if not self.inverse:
            now = [now[i] for i in self.order]
        yield now
        stage = self._apart if self.inverse else self._together
        for n, shift in zip(self.sizes, self.shifts, strict=True):
            parts = [now[at : at + n] for at in range(0, self.k, n)]
            now = [word for part in parts for word in stage(part, n, shift, rounded, product)]
            yield now

    def _together(
        self, words: list[Any], n: int, shift: int, rounded: Rounded, product: Product
    ) -> list[Any]:
        """Packed spectra of the even and of the odd points to that of all n."""
        even, odd = words[: n // 2], words[n // 2 :]
        out: list[Any] = [None] * n
        out[0], out[1] = rounded(even[0] + odd[0], shift), rounded(even[0] - odd[0], shift)
        if n > 2:
            out[n // 2], out[n // 2 + 1] = rounded(even[1], shift), rounded(-odd[1], shift)
        full, one = shift + self.frac_bits, 1 << self.frac_bits
        for m in range(1, n // 4):
            c, s = self.twiddle(m, n)
            (x, y), (a, b) = even[2 * m : 2 * m + 2], odd[2 * m : 2 * m + 2]
            x, y = x * one, y * one
            p, q = product(a, b, c, -s)
            out[2 * m], out[2 * m + 1] = rounded(x + p, full), rounded(y + q, full)
            out[n - 2 * m], out[n - 2 * m + 1] = rounded(x - p, full), rounded(q - y, full)
        return out

    def _apart(
        self, words: list[Any], n: int, shift: int, rounded: Rounded, product: Product
    ) -> list[Any]:
        """A packed spectrum of n points to those of the even and of the odd ones."""
        even: list[Any] = [None] * (n // 2)
        odd: list[Any] = [None] * (n // 2)
        even[0], odd[0] = rounded(words[0] + words[1], shift), rounded(words[0] - words[1], shift)
        if n > 2:
            even[1] = rounded(words[n // 2] * 2, shift)
            odd[1] = rounded(words[n // 2 + 1] * -2, shift)
        for m in range(1, n // 4):
            c, s = self.twiddle(m, n)
            (a, b), (x, y) = _differences(words, n, m), _sums(words, n, m)
            even[2 * m], even[2 * m + 1] = rounded(x, shift), rounded(y, shift)
            p, q = product(a, b, c, s)
            odd[2 * m] = rounded(p, shift + self.frac_bits)
            odd[2 * m + 1] = rounded(q, shift + self.frac_bits)
        return even + odd

    def forms(self) -> list["_Form"]:
        """The words that enter, as linear forms: a walk over them gives every word's ``range``."""
        unit = np.array([[Fraction(int(i == j)) for j in range(self.k)] for i in range(self.k)])
        return [_Form(row, Fraction(0), self.inputs, self.inputs) for row in unit]

    def stages(self) -> tuple[FFTStage, ...]:
        """Ranges and products of each stage."""
        return _analysis(self)[0]

    def out_ranges(self) -> tuple[IntRange, ...]:
        """Range of each word that leaves."""
        return tuple(form.range for form in _analysis(self)[1])

    @property
    def outputs(self) -> IntRange:
        """Range of all words that leave."""
        return union(self.out_ranges())

    def error_bound(self, inputs: Sequence[float] | None = None) -> list[float]:
        """Most that each word can differ from ``2^exponent`` times that of the real transform.

        ``inputs`` bounds how much each word that enters differs from what it stands for (none by
        default). Roundings and twiddle factors are counted at their worst.
        """
        largest = max(abs(self.low), abs(self.high))
        gain = 2.0**self.exponent
        bounds = []
        for form, true in zip(_analysis(self)[1], self._matrix(), strict=True):
            off = sum(
                abs(float(c) - gain * t) for c, t in zip(form.coefficients, true, strict=True)
            )
            bound = float(form.error) + off * largest
            if inputs is not None:
                bound += sum(
                    abs(float(c)) * e for c, e in zip(form.coefficients, inputs, strict=True)
                )
            bounds.append(bound)
        return bounds

    def _matrix(self) -> list[list[float]]:
        """The real transform, rows = words that leave: the DFT, or k times its inverse."""
        rows = []
        for bin, imaginary in packed_bins(self.k):
            angles = [2 * math.pi * bin * t / self.k for t in range(self.k)]
            row = [-math.sin(a) if imaginary else math.cos(a) for a in angles]
            twice = 2 if self.inverse and bin not in (0, self.k // 2) else 1
            rows.append([twice * x for x in row])
        return [list(column) for column in zip(*rows, strict=True)] if self.inverse else rows

    def multipliers(self, form: int) -> Multipliers:
        """Real multipliers of a fully pipelined body whose complex products take ``form`` of them.

        An eighth of a turn takes two in either form.
        """
        found: Multipliers = ()
        for stage in self.stages():
            a, c = stage.operands.bits, self.twiddle_bits
            found += multipliers_of(stage.products, form, a, c)
            found += eighth_multipliers(stage.eighths, a, c)
        return found

    def multiplier_count(self, form: int) -> int:
        """Real multipliers of a fully pipelined body."""
        return sum(count for count, _, _ in self.multipliers(form))


def _differences(words: Sequence[Any], n: int, m: int) -> tuple[Any, Any]:
    """``X[m] - conj X[n/2 - m]``."""
    return words[2 * m] - words[n - 2 * m], words[2 * m + 1] + words[n - 2 * m + 1]


def _sums(words: Sequence[Any], n: int, m: int) -> tuple[Any, Any]:
    """``X[m] + conj X[n/2 - m]``."""
    return words[2 * m] + words[n - 2 * m], words[2 * m + 1] - words[n - 2 * m + 1]


def signed_bits(span: IntRange) -> int:
    """Bits of a two's complement word that holds a range."""
    return span.bits if span.signed else span.bits + 1


def union(ranges: Sequence[IntRange]) -> IntRange:
    """The smallest range that holds all of them."""
    return IntRange(min(r.low for r in ranges), max(r.high for r in ranges))


class _Form:
    """A linear form of the k words that enter, and the most that roundings add to it.

    ``steps`` is the range that follows from those of the operands alone, step by step; the true
    one lies in both.
    """

    def __init__(
        self, coefficients: np.ndarray, error: Fraction, steps: IntRange, inputs: IntRange
    ) -> None:
        self.coefficients, self.error, self.steps, self.inputs = coefficients, error, steps, inputs

    def __add__(self, other: "_Form") -> "_Form":
        total, steps = self.coefficients + other.coefficients, self.range + other.range
        return _Form(total, self.error + other.error, steps, self.inputs)

    def __sub__(self, other: "_Form") -> "_Form":
        return self + -other

    def __neg__(self) -> "_Form":
        return self * -1

    def __mul__(self, factor: int) -> "_Form":
        steps = self.range * IntRange(factor, factor)
        return _Form(self.coefficients * factor, self.error * abs(factor), steps, self.inputs)

    def rounded(self, shift: int) -> "_Form":
        """After ``(total + r) >> shift``."""
        constant = rounding(shift)
        steps = IntRange(
            (self.range.low + constant) >> shift, (self.range.high + constant) >> shift
        )
        error = self.error / (1 << shift) + Fraction(min(shift, 1), 2)
        return _Form(self.coefficients * Fraction(1, 1 << shift), error, steps, self.inputs)

    @cached_property
    def range(self) -> IntRange:
        positive = sum(c for c in self.coefficients if c > 0)
        negative = sum(c for c in self.coefficients if c < 0)
        low, high = self.inputs.low, self.inputs.high
        least = math.ceil(positive * low + negative * high - self.error)
        most = math.floor(positive * high + negative * low + self.error)
        return IntRange(max(least, self.steps.low), min(most, self.steps.high))


@lru_cache(maxsize=256)
def _analysis(spec: RealFFTSpec) -> tuple[tuple[FFTStage, ...], list[_Form]]:
    """Every stage, and the linear forms of the words that leave, in their order."""
    totals: list[IntRange] = []

    def rounded(total: _Form, shift: int) -> _Form:
        totals.append(total.range + IntRange(rounding(shift), rounding(shift)))
        return total.rounded(shift)

    walk = spec.walk(spec.forms(), rounded)
    before, stages = next(walk), []
    for n, shift in zip(spec.sizes, spec.shifts, strict=True):
        operands = [_operands(spec, before, n, at, m) for at in range(0, spec.k, n)
                    for m in range(1, n // 4)]  # fmt: skip
        totals.clear()
        after = next(walk)
        eighths = spec.k // n if n >= 8 else 0
        stages.append(
            FFTStage(
                n,
                shift,
                union([word.range for word in before]),
                union(totals),
                union([word.range for pair in operands for word in pair] or [IntRange(0, 0)]),
                union([word.range for word in after]),
                len(operands) - eighths,
                eighths,
            )
        )
        before = after
    return tuple(stages), spec.arranged(before)


def _operands(spec: RealFFTSpec, words: Sequence[Any], n: int, at: int, m: int) -> tuple[Any, Any]:
    """Real and imaginary part that a stage multiplies by its twiddle factor m."""
    part = words[at : at + n]
    if spec.inverse:
        return _differences(part, n, m)
    return part[n // 2 + 2 * m], part[n // 2 + 2 * m + 1]
