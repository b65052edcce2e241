"""Weights on a few levels: what all sets of levels share, and evenly spaced levels with a zero."""

import itertools
from functools import cached_property

import numpy as np
import torch

from model.compress.constraints.base import (
    Composable,
    check_choice,
    check_finite,
    constraint,
)
from model.compress.constraints.frozen import Free
from model.compress.constraints.scale_search import best_scales
from model.ir.errors import BadInput
from model.ir.numerics import CodebookFormat, Format, UniformFormat

BITS_MIN, BITS_MAX = 2, 16
EXACT_BITS = 8


class LevelSet(Composable):
    """Weights are ``scale * value`` with values from a set of integers, symmetric about zero.

    The projection is exact in both: of all scales and values it takes those of the least squared
    error (``scale_search``). A set without a zero level cannot hold a zero, so a weight that is
    exactly zero is *absent*: it stays zero and has no part in the scale. That is what a mask makes
    of a weight, and the mask, not the value, is what storage keeps of it.

    Parameters
    ----------
    per : str
        ``"tensor"``: one scale; ``"channel"``: one for each index of the weight's first axis.

    A subclass gives ``magnitudes``. Weights may have any number of axes, two at least.
    Raises BadInput if ``per`` is another, and for weights with NaN or infinity.
    """

    magnitudes: tuple[int, ...]  # ascending, from 0 on; the values are these and their negatives

    def __init__(self, per: str = "tensor") -> None:
        check_choice("per", per, ("tensor", "channel"))
        self.per = per

    @property
    def top(self) -> int:
        """The largest value."""
        return self.magnitudes[-1]

    @property
    def has_zero(self) -> bool:
        """Whether zero is a level."""
        return self.magnitudes[0] == 0

    @cached_property
    def format(self) -> Format:
        """The format whose codes stand for the values: a codebook, if nothing shorter is given.

        Its indices count zero first, then the positive values, then the negative ones, both
        ascending. Sets of more levels than a codebook has take a uniform format.
        """
        positive = [m for m in self.magnitudes if m]
        levels = [0] * self.has_zero + positive + [-m for m in reversed(positive)]
        try:
            return CodebookFormat(tuple(levels))
        except ValueError:
            return UniformFormat(self.top.bit_length() + 1, True)

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return self.format.bits

    @cached_property
    def _spacing(self) -> int:
        """The distance of neighbouring magnitudes if all are alike, else 0."""
        steps = {b - a for a, b in itertools.pairwise(self.magnitudes)}
        return 1 if not steps else steps.pop() if len(steps) == 1 else 0

    def fit(self, weight: torch.Tensor) -> torch.Tensor:
        """The best scales (float64 [1], or [weight.shape[0]]); 1 where all weights are zero."""
        return best_scales(self._groups(weight), self._magnitudes(weight))

    def nearest(self, ratio: torch.Tensor) -> torch.Tensor:
        """The values nearest to ``weight / scale``, of its shape and type; ties go up.

        Zero goes to the lowest positive value if it is no level: absent weights are the mask's.
        Evenly spaced magnitudes are rounded to; others are looked up, which is slower.
        """
        if self._spacing:
            least, step = self.magnitudes[0], self._spacing
            offset = torch.where(ratio < 0, -least, least).to(ratio.dtype)
            found = ((ratio - offset) / step + 0.5).floor() * step + offset
            if least:  # nothing lies between -least and least
                found = torch.where(ratio < 0, found.clamp(max=-least), found.clamp(min=least))
            return found.clamp(-self.top, self.top)
        magnitudes = self._magnitudes(ratio).to(ratio.dtype)
        values = torch.cat([-magnitudes.flip(0), magnitudes[int(self.has_zero) :]])
        return values[torch.bucketize(ratio, (values[1:] + values[:-1]) / 2, right=True)]

    def values(self, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """The nearest values (float64, of the weight's shape) on given scales; 0 where absent."""
        weight = weight.double()
        found = self.nearest(weight / _spread(scale, weight))
        return found if self.has_zero else torch.where(weight == 0, 0.0, found)

    def codes_of(self, values: torch.Tensor) -> torch.Tensor:
        """Values (int64) to codes of ``format`` (int64, of the same shape).

        Raises BadInput for a value that is no level.
        """
        if isinstance(self.format, UniformFormat):
            levels = torch.tensor(self.magnitudes, device=values.device)
            wrong = values[~torch.isin(values.abs(), levels)]
            codes = values
        else:
            levels = self.format.decode(np.arange(self.format.codes.high + 1))
            ordered, order = torch.from_numpy(levels).to(values.device).sort()
            index = torch.searchsorted(ordered, values.contiguous()).clamp_max(len(levels) - 1)
            wrong = values[ordered[index] != values]
            codes = order[index]
        if len(wrong):
            raise BadInput(
                "weight values",
                str(int(wrong[0])),
                f"the levels of {self!r}",
                "mask what is absent before the codes are taken",
            )
        return codes

    def codes(self, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Codes (int64, of the weight's shape) of the nearest values on given scales.

        Raises BadInput if a weight is absent.
        """
        return self.codes_of(self.values(weight, scale).long())

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        scale = self.fit(weight)
        return (self.values(weight, scale) * _spread(scale, weight)).to(weight.dtype)

    def freeze(self, weight: torch.Tensor) -> Free:
        """Any scale and any values are reachable from here: nothing is fixed."""
        return Free()

    def _groups(self, weight: torch.Tensor) -> torch.Tensor:
        """Magnitudes, float64 [scales, weights]."""
        if weight.ndim < 2:
            raise BadInput(
                "weight of a constrained layer",
                f"shape {tuple(weight.shape)}",
                "two axes at least",
                "constrain weights, not biases",
            )
        check_finite(weight)
        rows = len(weight) if self.per == "channel" else 1
        return weight.detach().double().abs().reshape(rows, -1)

    def _magnitudes(self, like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(self.magnitudes, dtype=torch.float64, device=like.device)


def _spread(scale: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Scales [1] or [rows] that broadcast with a weight."""
    return scale.reshape(-1, *[1] * (weight.ndim - 1))


@constraint("levels")
class Levels(LevelSet):
    """Evenly spaced levels with zero: all integers from -Q to Q, ``Q = 2^(bits-1) - 1``.

    The projection is exact up to 8 bits. With more, the scale is that of the full range, max|w|/Q,
    and the values alone are exact: no weight moves by more than max|w|/2Q, 0.2 % of the largest at
    9 bits. Levels as a constraint of
    ADMM are those of arXiv 1912.05416 and 1908.11691.

    Parameters
    ----------
    bits : int
        Bits of a code, 2 to 16.
    per : str
        ``"tensor"``: one scale; ``"channel"``: one a row.

    Raises BadInput if ``bits`` or ``per`` is another.
    """

    def __init__(self, bits: int, per: str = "tensor") -> None:
        check_bits(bits, BITS_MIN, BITS_MAX)
        super().__init__(per)
        self._bits = bits

    @property
    def bits(self) -> int:
        return self._bits

    @property
    def top(self) -> int:
        """The largest code, Q."""
        return (1 << (self._bits - 1)) - 1

    @property
    def has_zero(self) -> bool:
        return True

    @cached_property
    def magnitudes(self) -> tuple[int, ...]:
        return tuple(range(self.top + 1))

    @cached_property
    def format(self) -> UniformFormat:
        return UniformFormat(self._bits, True)

    def fit(self, weight: torch.Tensor) -> torch.Tensor:
        if self._bits <= EXACT_BITS:
            return super().fit(weight)
        peak = self._groups(weight).amax(1)
        return torch.where(peak > 0, peak / self.top, torch.ones_like(peak))

    def nearest(self, ratio: torch.Tensor) -> torch.Tensor:
        return (ratio + 0.5).floor().clamp(-self.top, self.top)

    def __repr__(self) -> str:
        return f"Levels({self._bits}, {self.per!r})"


def check_bits(bits: int, least: int, most: int) -> None:
    """Raise BadInput unless ``bits`` is an integer in a range."""
    if type(bits) is not int or not least <= bits <= most:
        raise BadInput("bits", repr(bits), f"an integer from {least} to {most}", "correct it")
