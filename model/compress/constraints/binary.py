"""Weights of two values."""

from model.compress.constraints.base import constraint
from model.compress.constraints.levels import LevelSet
from model.ir.numerics import BipolarFormat


@constraint("binary")
class Binary(LevelSet):
    """Weights are -scale or +scale; the best scale is the mean of |w|.

    Source: M. Rastegari et al., XNOR-Net, arXiv 1603.05279.

    Parameters
    ----------
    per : str
        ``"tensor"``: one scale; ``"channel"``: one a row.

    Raises BadInput if ``per`` is another.
    """

    magnitudes = (1,)
    format = BipolarFormat()

    def __repr__(self) -> str:
        return f"Binary({self.per!r})"
