"""Sigmoid and tanh as straight pieces: integer tables, and how they are made.

Both functions are symmetric about x = 0, so only their right half is kept: sigmoid(-x) is
1 - sigmoid(x), and tanh(-x) is -tanh(x). Source of the idea and of the number of pieces: C-LSTM,
arXiv 1803.06305 (22 segments, error below 1 %).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from model.ir.numerics import FixedPointFormat, IntRange, check_intermediate
from model.ir.requantize import SHIFT_MAX, rounding
from model.ir.spec import Spec, check_int

SLOPE_BITS = 16
SEGMENTS = 22
REACHES = np.arange(0.5, 10.25, 0.25)
"""Ends of the bent part that are tried; beyond the best one the function is constant."""


@dataclass(frozen=True)
class PiecewiseSpec(Spec, kind="piecewise"):
    """A function of straight pieces, by its right half.

    Parameters
    ----------
    in_format, out_format : FixedPointFormat
        Of the codes; both signed, and 1 must be a code of ``out_format``.
    odd : bool
        Whether f(-x) = -f(x) (tanh); otherwise f(-x) = 1 - f(x) (sigmoid).
    ends : tuple of int
        Ascending: piece n reaches from ``ends[n - 1]`` (0 for the first) up to, not including,
        ``ends[n]``, in magnitudes of input codes.
    slopes, intercepts : tuple of int
        One a piece, at least 0; a slope has at most 15 bits.
    shift : int
        Right shift of a piece's sum.
    top : int
        Output code of every magnitude from the last end on.

    ``f(|x|) = min((slope * |x| + intercept + r) >> shift, top)`` with r = 2^(shift-1) (0 if shift
    = 0): the sum is rounded half up, then mirrored for a negative x. Where a piece is used |x| has
    at most 15 bits, so a 16-bit signed multiplier does.
    """

    in_format: FixedPointFormat
    out_format: FixedPointFormat
    odd: bool
    ends: tuple[int, ...]
    slopes: tuple[int, ...]
    intercepts: tuple[int, ...]
    shift: int
    top: int

    def __post_init__(self) -> None:
        if not self.in_format.signed or not self.out_format.signed:
            raise ValueError("in_format and out_format must be signed")
        if self.one > self.out_format.codes.high:
            raise ValueError(f"out_format must hold 1, unlike {self.out_format.describe()}")
        check_int("pieces", len(self.ends), 1)
        if not len(self.ends) == len(self.slopes) == len(self.intercepts):
            raise ValueError("ends, slopes and intercepts must be as many")
        low = 0
        for end in self.ends:
            check_int("end", end, low + 1, -self.in_format.codes.low)
            low = end
        check_int("shift", self.shift, 0, SHIFT_MAX)
        check_int("top", self.top, 0, self.one)
        for slope, intercept in zip(self.slopes, self.intercepts, strict=True):
            check_int("slope", slope, 0, (1 << (SLOPE_BITS - 1)) - 1)
            check_int("intercept", intercept, 0)
        check_intermediate("piecewise: sum", self.sum())

    @property
    def one(self) -> int:
        """The output code of 1."""
        if self.out_format.frac_bits < 0:
            raise ValueError(f"out_format must hold 1, unlike {self.out_format.describe()}")
        return 1 << self.out_format.frac_bits

    @property
    def rounding(self) -> int:
        """r, added before the shift."""
        return rounding(self.shift)

    @property
    def outputs(self) -> IntRange:
        """Range of the output codes."""
        table = self.table()
        return IntRange(int(table.min()), int(table.max()))

    def sum(self) -> IntRange:
        """Range of ``slope * |x| + intercept + r``."""
        pieces = zip(self.slopes, self.ends, self.intercepts, strict=True)
        return IntRange(0, max(s * (e - 1) + i for s, e, i in pieces) + self.rounding)

    def evaluate(self, codes: np.ndarray) -> np.ndarray:
        """Output codes, int64, of input codes, int64 of any shape."""
        size = np.abs(codes)
        piece = np.searchsorted(np.asarray(self.ends), size, side="right")
        slopes, intercepts = np.asarray((*self.slopes, 0)), np.asarray((*self.intercepts, 0))
        total = slopes[piece] * size + intercepts[piece] + self.rounding
        right = np.where(piece == len(self.ends), self.top, total >> self.shift)
        right = np.minimum(right, self.top)
        return np.where(codes >= 0, right, (0 if self.odd else self.one) - right)

    def table(self) -> np.ndarray:
        """Output codes, int64 [2^bits], of every input code from the least on."""
        return _table(self)

    def error(self) -> float:
        """Largest distance from the function, in real numbers, over every input code."""
        span = self.in_format.codes
        x = np.arange(span.low, span.high + 1) * 2.0**-self.in_format.frac_bits
        exact = np.tanh(x) if self.odd else _sigmoid(x)
        return float(np.abs(self.table() * 2.0**-self.out_format.frac_bits - exact).max())

    def stored_bits(self) -> int:
        """Bits of the tables: ends, slopes and intercepts."""
        intercept = IntRange(0, max(self.intercepts)).bits
        return len(self.ends) * (self.in_format.bits + SLOPE_BITS - 1 + intercept)


@lru_cache(maxsize=32)
def _table(spec: PiecewiseSpec) -> np.ndarray:
    span = spec.in_format.codes
    table = spec.evaluate(np.arange(span.low, span.high + 1))
    table.setflags(write=False)
    return table


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(x / 2)) / 2


@lru_cache(maxsize=32)
def piecewise(
    function: str,
    in_format: FixedPointFormat,
    out_format: FixedPointFormat,
    segments: int = SEGMENTS,
) -> PiecewiseSpec:
    """The pieces of ``"sigmoid"`` or ``"tanh"``.

    Parameters
    ----------
    function : str
        ``"sigmoid"`` or ``"tanh"``.
    in_format, out_format : FixedPointFormat
        Of the codes.
    segments : int
        Pieces of the bent part, both halves together. The two next to x = 0 lie on one line,
        because f(0) is exact; an odd number counts them as one. A format with fewer codes than
        pieces gets as many pieces as it has codes.

    The pieces are continuous up to the rounding of their numbers. Their ends are as dense as the
    square root of the curvature, which makes the errors of short pieces equal; each end is lifted
    by half the error of its neighbours, which halves the largest error; and of several reaches of
    the bent part the one with the least error over all input codes is taken.
    """
    if function not in ("sigmoid", "tanh"):
        raise ValueError(f"function must be 'sigmoid' or 'tanh', not {function!r}")
    check_int("segments", segments, 1)
    whole = -in_format.codes.low * 2.0**-in_format.frac_bits
    reaches = [*REACHES[whole > REACHES], whole if whole <= REACHES[-1] else REACHES[-1]]
    tried = [_pieces(function, in_format, out_format, (segments + 1) // 2, r) for r in reaches]
    return min((spec for spec in tried if spec is not None), key=PiecewiseSpec.error)


def _pieces(
    function: str,
    in_format: FixedPointFormat,
    out_format: FixedPointFormat,
    count: int,
    reach: float,
) -> PiecewiseSpec | None:
    """``count`` pieces up to ``reach``; None if the input format has no code in there."""
    f = np.tanh if function == "tanh" else _sigmoid
    x = np.linspace(0, reach, 1025)
    y = f(x)
    bend = y * (1 - y**2) if function == "tanh" else y * (1 - y) * np.abs(1 - 2 * y)
    dense = np.concatenate([[0], np.cumsum(np.sqrt(bend[1:]) + np.sqrt(bend[:-1]))])
    places = np.interp(np.arange(1, count + 1) / count, dense / dense[-1], x)
    ends = np.unique(np.floor(places * 2.0**in_format.frac_bits + 0.5).astype(np.int64))
    ends = np.unique(np.clip(ends, 1, -in_format.codes.low))
    knots = np.concatenate([[0], ends]) * 2.0**-in_format.frac_bits
    exact = f(knots)
    chord = np.interp(x, knots, exact)
    piece = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(ends) - 1)
    gap = np.zeros(len(ends))
    np.maximum.at(gap, piece, y - chord)
    lift = np.concatenate([[0], gap + np.concatenate([gap[1:], gap[-1:]])]) / 4
    values = np.minimum(exact + lift, 1)
    gain = np.diff(values) / np.diff(knots) * 2.0 ** (out_format.frac_bits - in_format.frac_bits)
    top = (1 << (SLOPE_BITS - 1)) - 1
    shift = next((s for s in range(31, -1, -1) if np.floor(gain.max() * 2**s + 0.5) <= top), None)
    if shift is None:
        return None
    slopes = np.floor(gain * 2.0**shift + 0.5).astype(np.int64)
    middle = (knots[:-1] + knots[1:]) / 2
    through = (values[:-1] + values[1:]) / 2 * 2.0 ** (out_format.frac_bits + shift)
    intercepts = np.floor(through - slopes * middle * 2.0**in_format.frac_bits + 0.5)
    intercepts = np.maximum(intercepts, 0).astype(np.int64)
    intercepts[0] = int(exact[0] * 2.0 ** (out_format.frac_bits + shift))
    truncated = ends[-1] == -in_format.codes.low
    last = exact[-1] if truncated else 1.0
    return PiecewiseSpec(
        in_format,
        out_format,
        function == "tanh",
        tuple(map(int, ends)),
        tuple(map(int, slopes)),
        tuple(map(int, intercepts)),
        shift,
        int(np.floor(last * 2.0**out_format.frac_bits + 0.5)),
    )
