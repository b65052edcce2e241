"""Number formats and exact integer ranges.

A tensor of the network holds integer **codes**. Its format says what bits hold a code and which
integer **value** enters the arithmetic; a scale (a float beside the format) turns a value into the
real number it stands for. Padding is code 0 of a uniform format, which is value 0 and real 0.

============  ==============================================  =========================
format        code                                            value
============  ==============================================  =========================
uniform       signed (two's complement) or unsigned, 1..16 b  the code
fixed_point   the same, scale 2^-frac_bits                    the code
bipolar       1 bit                                           2 * code - 1
codebook      an index                                        ``levels[code]``
============  ==============================================  =========================
"""

from dataclasses import dataclass

import numpy as np

from model.ir.errors import BadInput
from model.ir.spec import Spec, check_int

MAX_BITS = 16
MAX_INTERMEDIATE_BITS = 63


@dataclass(frozen=True)
class IntRange:
    """A closed range of integers, ``low <= x <= high``: the exact reach of an intermediate."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low must be at most high, not {self.low} over {self.high}")

    @property
    def signed(self) -> bool:
        """Whether a two's complement representation is needed."""
        return self.low < 0

    @property
    def bits(self) -> int:
        """Fewest bits that hold every integer of the range (at least 1)."""
        if not self.signed:
            return max(1, self.high.bit_length())
        return max((-self.low - 1).bit_length(), max(self.high, 0).bit_length()) + 1

    def __add__(self, other: "IntRange") -> "IntRange":
        return IntRange(self.low + other.low, self.high + other.high)

    def __mul__(self, other: "IntRange") -> "IntRange":
        corners = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return IntRange(min(corners), max(corners))

    def sum_of(self, terms: int) -> "IntRange":
        """The range of a sum of ``terms`` numbers, some of which may be absent (zero)."""
        return IntRange(min(0, self.low) * terms, max(0, self.high) * terms)

    @classmethod
    def of_bits(cls, bits: int, signed: bool) -> "IntRange":
        """The whole range of a two's complement or unsigned word."""
        return cls(-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else cls(0, (1 << bits) - 1)


class Format(Spec):
    """What the bits of a code mean. Members: ``bits``, ``signed`` (of the code) and the ranges."""

    bits: int
    signed: bool

    @property
    def codes(self) -> IntRange:
        """The range of the stored codes."""
        return IntRange.of_bits(self.bits, self.signed)

    @property
    def values(self) -> IntRange:
        """The range of the integers that enter the arithmetic."""
        return self.codes

    @property
    def has_zero(self) -> bool:
        """Whether code 0 is value 0, so that padding with code 0 is exact."""
        return True

    def table_bits(self) -> int:
        """Bits of the table that codes are looked up in; 0 if there is none."""
        return 0

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes (int64, any shape) to values (int64, the same shape)."""
        return codes

    def check(self, codes: np.ndarray, thing: str) -> None:
        """Raise BadInput unless every code fits the format."""
        span = self.codes
        if codes.size and (codes.min() < span.low or codes.max() > span.high):
            raise BadInput(
                thing,
                f"codes from {codes.min()} to {codes.max()}",
                f"codes from {span.low} to {span.high} ({self.describe()})",
                "widen the format or quantize again",
            )

    def describe(self) -> str:
        """The format in a few words."""
        return f"{'signed' if self.signed else 'unsigned'} {self.bits}-bit"


@dataclass(frozen=True)
class UniformFormat(Format, kind="uniform"):
    """Evenly spaced levels: the value is the code. 1 to 16 bits."""

    bits: int
    signed: bool

    def __post_init__(self) -> None:
        check_int("bits", self.bits, 1, MAX_BITS)


@dataclass(frozen=True)
class FixedPointFormat(Format, kind="fixed_point"):
    """A uniform format whose scale is 2^-frac_bits."""

    bits: int
    signed: bool
    frac_bits: int

    def __post_init__(self) -> None:
        check_int("bits", self.bits, 1, MAX_BITS)
        check_int("frac_bits", self.frac_bits, -MAX_BITS, 2 * MAX_BITS)

    def describe(self) -> str:
        return f"{super().describe()} fixed-point with {self.frac_bits} fraction bits"


@dataclass(frozen=True)
class BipolarFormat(Format, kind="bipolar"):
    """One bit: code 0 is value -1 and code 1 is value +1. It has no zero."""

    @property
    def bits(self) -> int:
        return 1

    @property
    def signed(self) -> bool:
        return False

    @property
    def values(self) -> IntRange:
        return IntRange(-1, 1)

    @property
    def has_zero(self) -> bool:
        return False

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return 2 * codes - 1

    def describe(self) -> str:
        return "1-bit bipolar"


@dataclass(frozen=True)
class CodebookFormat(Format, kind="codebook"):
    """A table of integer levels; the code is an index into it.

    ``levels`` holds 2 to 256 different integers of at most 16 bits; padding uses index 0, so
    ``has_zero`` is true only if ``levels[0]`` is 0.
    """

    levels: tuple[int, ...]

    def __post_init__(self) -> None:
        check_int("the number of levels", len(self.levels), 2, 256)
        if len(set(self.levels)) != len(self.levels):
            raise ValueError(f"levels must differ, not {self.levels}")
        if self.values.bits > MAX_BITS:
            raise ValueError(f"levels must fit {MAX_BITS} bits, not {self.levels}")

    @property
    def bits(self) -> int:
        return (len(self.levels) - 1).bit_length()

    @property
    def signed(self) -> bool:
        return False

    @property
    def codes(self) -> IntRange:
        return IntRange(0, len(self.levels) - 1)

    @property
    def values(self) -> IntRange:
        return IntRange(min(self.levels), max(self.levels))

    @property
    def has_zero(self) -> bool:
        return self.levels[0] == 0

    def table_bits(self) -> int:
        return len(self.levels) * self.values.bits

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return np.asarray(self.levels, dtype=np.int64)[codes]

    def describe(self) -> str:
        return f"codebook of {len(self.levels)} levels"


def check_plain(name: str, format: Format) -> None:
    """Raise ValueError unless a format is uniform or fixed-point, so that codes are values."""
    if not isinstance(format, UniformFormat | FixedPointFormat):
        raise ValueError(f"{name} must be uniform or fixed-point, not {format.describe()}")


def check_scale(thing: str, format: Format, scale: float) -> None:
    """Raise BadInput if a format states a scale and ``scale`` is another one."""
    if isinstance(format, FixedPointFormat) and scale != 2.0**-format.frac_bits:
        raise BadInput(
            f"{thing}.scale",
            repr(scale),
            f"2^{-format.frac_bits} ({format.describe()})",
            "use that scale, or a uniform format",
        )


def check_intermediate(thing: str, span: IntRange) -> None:
    """Raise BadInput if an intermediate needs more than 63 bits."""
    if span.bits > MAX_INTERMEDIATE_BITS:
        raise BadInput(
            thing,
            f"{span.bits} bits",
            f"at most {MAX_INTERMEDIATE_BITS} bits",
            "use narrower formats or fewer multiplier bits",
        )
