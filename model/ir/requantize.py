"""Requantization: the one rule that turns an exact accumulator into a code.

``y = clamp((acc * m + b + r) >> s)``, arithmetic shift, ``r = 2^(s-1)`` (0 if s = 0): round half
up. ``m`` is a signed integer of at most 16 bits, one per channel or one per layer, or the constant
1, which costs no multiplier; ``b`` is one signed integer per channel; ``s`` is one shift per layer.
The clamp is to the range of the output format, so a lower bound of 0 is ReLU.
"""

from dataclasses import dataclass

import numpy as np

from model.ir.errors import BadInput
from model.ir.numerics import Format, IntRange, check_intermediate, check_plain
from model.ir.spec import Spec, check_int

MULTIPLIER_BITS_MAX = 16
BIAS_BITS_MAX = 48
SHIFT_MAX = 47


def rounding(shift: int) -> int:
    """The rounding constant ``r`` of a shift."""
    return 1 << (shift - 1) if shift else 0


@dataclass(frozen=True)
class RequantizeSpec(Spec, kind="requantize"):
    """Formats of one requantization.

    Parameters
    ----------
    out_format : Format
        Format of the result; its code range is the clamp (uniform or fixed-point).
    shift : int
        Right shift ``s``, 0 to 47.
    per : str
        ``"one"`` (m is the constant 1), ``"layer"`` (one m) or ``"channel"`` (an m per channel).
    m_bits : int
        Bits of ``m`` (signed), 1 to 16; 0 if and only if ``per`` is ``"one"``.
    b_bits : int
        Bits of ``b`` (signed), 1 to 48.

    Tensors of the node: ``m`` int64 [channels] (per channel), [1] (per layer) or absent;
    ``b`` int64 [channels].
    """

    out_format: Format
    shift: int
    per: str
    m_bits: int
    b_bits: int

    def __post_init__(self) -> None:
        check_plain("out_format", self.out_format)
        check_int("shift", self.shift, 0, SHIFT_MAX)
        if self.per not in ("one", "layer", "channel"):
            raise ValueError(f"per must be 'one', 'layer' or 'channel', not {self.per!r}")
        if self.per == "one":
            check_int("m_bits without a multiplier", self.m_bits, 0, 0)
        else:
            check_int("m_bits", self.m_bits, 1, MULTIPLIER_BITS_MAX)
        check_int("b_bits", self.b_bits, 1, BIAS_BITS_MAX)

    @property
    def rounding(self) -> int:
        """The rounding constant ``r``."""
        return rounding(self.shift)

    @property
    def multiplies(self) -> bool:
        """Whether a multiplier is needed."""
        return self.per != "one"

    def channel_bits(self) -> int:
        """Bits of the parameters that are stored per channel."""
        return self.b_bits + (self.m_bits if self.per == "channel" else 0)

    def layer_bits(self) -> int:
        """Bits of the parameters that are stored once."""
        return self.m_bits if self.per == "layer" else 0

    def stored_bits(self, channels: int) -> int:
        """Bits of all parameters."""
        return self.channel_bits() * channels + self.layer_bits()

    def product(self, acc: IntRange) -> IntRange:
        """Range of ``acc * m``."""
        return acc * IntRange.of_bits(self.m_bits, True) if self.multiplies else acc

    def total(self, acc: IntRange) -> IntRange:
        """Range of ``acc * m + b + r``."""
        total = self.product(acc) + IntRange.of_bits(self.b_bits, True)
        return total + IntRange(self.rounding, self.rounding)

    def tensor_shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors that a node with this requantization holds."""
        shapes = {"b": (channels,)}
        if self.per == "channel":
            shapes["m"] = (channels,)
        elif self.per == "layer":
            shapes["m"] = (1,)
        return shapes

    def check(self, tensors: dict[str, np.ndarray], acc: IntRange, thing: str) -> None:
        """Raise BadInput unless ``m`` and ``b`` fit their bits and every intermediate 63 bits."""
        for name, bits in (("m", self.m_bits), ("b", self.b_bits)):
            if name not in tensors:
                continue
            span = IntRange.of_bits(bits, True)
            low, high = int(tensors[name].min()), int(tensors[name].max())
            if low < span.low or high > span.high:
                raise BadInput(
                    f"{thing}.{name}",
                    f"values from {low} to {high}",
                    f"values from {span.low} to {span.high} ({bits}-bit signed)",
                    "export again with more bits",
                )
        check_intermediate(f"{thing}: acc * m", self.product(acc))
        check_intermediate(f"{thing}: acc * m + b", self.total(acc))
