"""Weights of three values."""

from model.compress.constraints.base import constraint
from model.compress.constraints.levels import LevelSet
from model.ir.numerics import UniformFormat


@constraint("ternary")
class Ternary(LevelSet):
    """Weights are -scale, 0 or +scale.

    Source: F. Li and B. Liu, Ternary Weight Networks, arXiv 1605.04711, which approximates the
    threshold; here it is exact.

    Parameters
    ----------
    per : str
        ``"tensor"``: one scale; ``"channel"``: one a row.

    Raises BadInput if ``per`` is another.
    """

    magnitudes = (0, 1)
    format = UniformFormat(2, True)

    def __repr__(self) -> str:
        return f"Ternary({self.per!r})"
