"""Exact cyclic convolution of k points in few integer products.

``x^k - 1 = (x - 1)(x + 1)(x^2 + 1) ... (x^(k/2) + 1)`` over the integers, so a cyclic convolution
is one product of polynomials modulo each factor, put together by the Chinese remainder theorem:
with u modulo ``x^n - 1`` and v modulo ``x^n + 1``, the lower half is ``(u + v) / 2`` and the upper
one ``(u - v) / 2``, both exact. Products modulo ``x^n + 1`` are Karatsuba's. In matrices::

    y = (C ((A w) * (A x))) >> log2 k          A: 0, 1 and -1 alone; no rounding anywhere

Products: 2, 5, 14, 41 and 122 for k = 2, 4, 8, 16 and 32, which is ``(3^L + 1) / 2`` with
L = log2 k. The sum over blocks may be taken before C, and ``A w`` may be stored. For k = 2 and 4
this is the real FFT with complex products of three.

Sources: S. Winograd, "Arithmetic Complexity of Computations", SIAM, 1980; A. Karatsuba and
Y. Ofman, "Multiplication of many-digital numbers by automatic computers", 1962.
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from model.ir.complex_product import Multipliers
from model.ir.numerics import Format, IntRange
from model.ir.real_fft import check_size, signed_bits


@dataclass(frozen=True)
class CyclicAlgorithm:
    """The matrices of one k.

    Parameters
    ----------
    k : int
        Points.
    evaluate : int64 [products, k]
        A, the same for both factors.
    combine : int64 [k, products]
        C.
    """

    k: int
    evaluate: np.ndarray = field(repr=False)
    combine: np.ndarray = field(repr=False)

    @property
    def products(self) -> int:
        """Real multipliers of a lane that takes a block a cycle."""
        return len(self.evaluate)

    @property
    def shift(self) -> int:
        """Right shift after C: log2 k. It drops zeros alone."""
        return self.k.bit_length() - 1

    def ranges(self, format: Format) -> list[IntRange]:
        """Range of each factor that A makes of k values of a format."""
        span, found = format.values, []
        for row in self.evaluate.tolist():
            total = IntRange(0, 0)
            for factor in row:
                total += span * IntRange(factor, factor)
            found.append(total)
        return found

    def multipliers(self, in_format: Format, weight_format: Format) -> Multipliers:
        """Multipliers of a lane, signed."""
        pairs = zip(self.ranges(in_format), self.ranges(weight_format), strict=True)
        return tuple((1, signed_bits(x), signed_bits(w)) for x, w in pairs)

    def weight_bits(self, weight_format: Format) -> int:
        """Bits of a block whose factors are stored, each in its own width."""
        return sum(signed_bits(span) for span in self.ranges(weight_format))


@cache
def cyclic(k: int) -> CyclicAlgorithm:
    """The algorithm for k points; raises ValueError unless k is 2, 4, 8, 16 or 32."""
    check_size("k of a cyclic convolution", k)
    return CyclicAlgorithm(k, *_cyclic(k))


def _cyclic(k: int) -> tuple[np.ndarray, np.ndarray]:
    """A, and C for results times k."""
    one = np.ones((1, 1), dtype=np.int64)
    if k == 1:
        return one, one
    n, unit = k // 2, np.eye(k // 2, dtype=np.int64)
    (minus_a, minus_c), (plus_a, product) = _cyclic(n), _karatsuba(n)
    plus_c = product[:n].copy()
    plus_c[: n - 1] -= product[n:]
    a = np.concatenate([minus_a @ np.hstack([unit, unit]), plus_a @ np.hstack([unit, -unit])])
    return a, np.block([[minus_c, n * plus_c], [minus_c, -n * plus_c]])


def _karatsuba(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors [products, n] and the 2n - 1 coefficients of a product of polynomials."""
    one = np.ones((1, 1), dtype=np.int64)
    if n == 1:
        return one, one
    h = n // 2
    a, c = _karatsuba(h)
    zero = np.zeros_like(a)
    factors = np.block([[a, zero], [zero, a], [a, a]])
    out = np.zeros((2 * n - 1, 3 * len(a)), dtype=np.int64)
    low, high, both = (slice(i * len(a), (i + 1) * len(a)) for i in range(3))
    out[: n - 1, low] += c
    out[n:, high] += c
    for part, sign in ((both, 1), (low, -1), (high, -1)):
        out[h : h + n - 1, part] += sign * c
    return factors, out
