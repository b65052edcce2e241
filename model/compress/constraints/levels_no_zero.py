"""Evenly spaced levels without a zero."""

from model.compress.constraints.base import constraint
from model.compress.constraints.levels import LevelSet, check_bits


@constraint("levels_no_zero")
class OddLevels(LevelSet):
    """All odd integers from ``1 - 2^bits`` to ``2^bits - 1``: evenly spaced, no zero.

    A pruned weight is absent. Levels without zero are those of the memristor framework,
    arXiv 1908.11691.

    Parameters
    ----------
    bits : int
        Bits of a code, 1 to 8.
    per : str
        ``"tensor"``: one scale; ``"channel"``: one a row.

    Raises BadInput if ``bits`` or ``per`` is another.
    """

    def __init__(self, bits: int, per: str = "tensor") -> None:
        check_bits(bits, 1, 8)
        super().__init__(per)
        self.magnitudes = tuple(range(1, 1 << bits, 2))

    def __repr__(self) -> str:
        return f"OddLevels({self.bits}, {self.per!r})"
