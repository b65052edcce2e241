"""Weights on a few evenly spaced levels."""

import torch

from model.compress.constraints.base import (
    Composable,
    FixedMask,
    as_matrix,
    constraint,
    from_matrix,
)
from model.ir.errors import BadInput

BITS_MIN, BITS_MAX = 2, 8


@constraint("levels")
class Levels(Composable):
    """Weights are ``scale * code`` with integer codes from -Q to Q, ``Q = 2^(bits-1) - 1``.

    The projection is exact in both: of all scales and codes it takes those of the least squared
    error. For given codes q the best scale is <w,q>/<q,q>, which leaves the error
    |w|^2 - <w,q>^2/<q,q>; and as the scale falls from infinity the codes of the nearest levels
    change one step at a time, at the scales |w_i|/(k - 1/2). So one sort of these n*Q events and
    two running sums visit every candidate; time and memory grow with n*Q. Levels as a constraint of
    ADMM are those of arXiv 1912.05416 and 1908.11691.

    Parameters
    ----------
    bits : int
        Bits of a code, 2 to 8.
    per : str
        ``"tensor"``: one scale; ``"channel"``: one a row.

    Raises BadInput if ``bits`` or ``per`` is another.
    """

    def __init__(self, bits: int, per: str = "tensor") -> None:
        if type(bits) is not int or not BITS_MIN <= bits <= BITS_MAX:
            raise BadInput(
                "bits", repr(bits), f"an integer from {BITS_MIN} to {BITS_MAX}", "correct it"
            )
        if per not in ("tensor", "channel"):
            raise BadInput("per", repr(per), "'tensor' or 'channel'", "correct it")
        self.bits = bits
        self.per = per

    @property
    def top(self) -> int:
        """The largest code, Q."""
        return (1 << (self.bits - 1)) - 1

    def fit(self, weight: torch.Tensor) -> torch.Tensor:
        """The best scales, [1] or [rows], of a weight; 1 where all weights are zero."""
        matrix = as_matrix(weight).double()
        groups = matrix.abs() if self.per == "channel" else matrix.abs().reshape(1, -1)
        steps = torch.arange(1, self.top + 1, device=groups.device, dtype=torch.float64)
        events = (groups[:, :, None] / (steps - 0.5)).flatten(1)
        order = events.argsort(dim=1, descending=True)
        rise = groups[:, :, None].expand(-1, -1, self.top).flatten(1).gather(1, order)
        square = (2 * steps - 1).expand(*groups.shape, -1).flatten(1).gather(1, order)
        dot, norm = rise.cumsum(1), square.cumsum(1)
        best = (dot.square() / norm).argmax(1, keepdim=True)
        scale = (dot.gather(1, best) / norm.gather(1, best)).squeeze(1)
        return torch.where(scale > 0, scale, torch.ones_like(scale))

    def codes(self, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Nearest codes (float64, of the weight's shape); halves round up."""
        matrix = as_matrix(weight).double() / scale.double()[:, None]
        return from_matrix((matrix + 0.5).floor().clamp(-self.top, self.top), weight)

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        scale = self.fit(weight)
        matrix = as_matrix(self.codes(weight, scale)) * scale[:, None]
        return from_matrix(matrix, weight).to(weight.dtype)

    def freeze(self, weight: torch.Tensor) -> FixedMask:
        """Any scaling and any codes are reachable from here: nothing is fixed."""
        return FixedMask(torch.ones_like(weight, dtype=torch.bool))

    def __repr__(self) -> str:
        return f"Levels({self.bits}, {self.per!r})"
