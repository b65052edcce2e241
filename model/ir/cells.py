"""Cells that differ from their nominal levels, drawn by integer rules from a seed.

Every machine draws the same: random words are those of SplitMix64 (Steele, Lea, Flood, OOPSLA
2014), counted from the seed and a stream's number, and all that follows is integer arithmetic.
"""

import numpy as np

from model.ir.spec import check_int

SIGMA_BITS = 16
"""Fraction bits of a standard deviation, and of a normal number."""

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def random_words(seed: int, stream: int, count: int) -> np.ndarray:
    """Words uint64 [count] of a stream: ``mix(start + (n + 1) · golden)``, modulo 2^64.

    ``start = mix(seed + mix(stream))``, so that streams of one seed have nothing in common.
    """
    check_int("seed", seed, 0, _MASK)
    check_int("stream", stream, 0, _MASK)
    inner = int(_mixed(np.array([stream], dtype=np.uint64))[0])
    start = int(_mixed(np.array([(seed + inner) & _MASK], dtype=np.uint64))[0])
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    return _mixed(steps + np.uint64(start))


def _mixed(words: np.ndarray) -> np.ndarray:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def normal_numbers(seed: int, stream: int, count: int) -> np.ndarray:
    """Normal numbers int64 [count] with 16 fraction bits: mean 0, deviation 1, within ±6.

    The sum of twelve uniform numbers of 16 bits, those of three words, less its mean 6 · 65535.
    """
    words = random_words(seed, stream, 3 * count)
    parts = [(words >> np.uint64(n)) & np.uint64(0xFFFF) for n in (0, 16, 32, 48)]
    total = np.stack(parts).astype(np.int64).sum(axis=0)
    return total.reshape(count, 3).sum(axis=1) - 6 * 0xFFFF


def spread_levels(
    nominal: np.ndarray, sigma: float, top: int, seed: int, stream: int
) -> np.ndarray:
    """Levels (int64, the shape of ``nominal``) with a relative standard deviation ``sigma``.

    ``clamp((nominal · 2^32 + nominal · round(sigma · 2^16) · z + 2^31) >> 32, 0, top)`` with a
    normal number z a cell, in the order of the array.
    """
    factor = round(sigma * (1 << SIGMA_BITS))
    check_int("sigma · 2^16", factor, 0, 1 << SIGMA_BITS)
    z = normal_numbers(seed, stream, nominal.size).reshape(nominal.shape)
    half = 1 << (2 * SIGMA_BITS - 1)
    return (nominal + ((nominal * factor * z + half) >> (2 * SIGMA_BITS))).clip(0, top)


def fault_map(
    shape: tuple[int, ...], low: float, high: float, levels: tuple[int, int], seed: int, stream: int
) -> np.ndarray:
    """Level at which each cell is stuck, int64 [shape]; -1 where it is not.

    Shares ``low`` and ``high`` of the cells are stuck at the two ``levels``: those whose random
    word's upper 32 bits lie below ``round(low · 2^32)``, and the next ``round(high · 2^32)``.
    """
    ends = round(low * (1 << 32)), round(high * (1 << 32))
    for name, end in zip(("low", "high"), ends, strict=True):
        check_int(f"{name} · 2^32", end, 0, 1 << 32)
    check_int("(low + high) · 2^32", sum(ends), 0, 1 << 32)
    count = int(np.prod(shape))
    lot = (random_words(seed, stream, count) >> np.uint64(32)).astype(np.int64).reshape(shape)
    return np.where(lot < ends[0], levels[0], np.where(lot < sum(ends), levels[1], -1))
