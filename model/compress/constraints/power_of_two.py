"""Weights that are powers of two: a shift instead of a product."""

from model.compress.constraints.base import constraint
from model.compress.constraints.levels import LevelSet, check_bits


@constraint("power_of_two")
class PowerOfTwo(LevelSet):
    """Zero and ``±2^n`` for n from 0 to ``2^(bits-1) - 2``.

    Source: A. Zhou et al., Incremental Network Quantization, arXiv 1702.03044.

    Parameters
    ----------
    bits : int
        Bits of a code, 2 to 5; the values of 5 bits fill 16.
    per : str
        ``"tensor"``: one scale; ``"channel"``: one a row.

    Raises BadInput if ``bits`` or ``per`` is another.
    """

    def __init__(self, bits: int, per: str = "tensor") -> None:
        check_bits(bits, 2, 5)
        super().__init__(per)
        self.magnitudes = (0, *(1 << n for n in range((1 << (bits - 1)) - 1)))

    def __repr__(self) -> str:
        return f"PowerOfTwo({self.bits}, {self.per!r})"
