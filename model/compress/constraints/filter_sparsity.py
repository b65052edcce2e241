"""Whole rows (filters, outputs) of a weight are zero."""

import torch

from model.compress.constraints.base import (
    Composable,
    as_matrix,
    check_keep,
    constraint,
    from_matrix,
    kept,
    largest,
)
from model.compress.constraints.frozen import FixedMask


@constraint("filter_sparsity")
class FilterSparsity(Composable):
    """At most ``keep`` rows differ from zero.

    The projection zeroes the rows of the smallest L2 norm; ties keep the lowest index. A removed
    row removes the matching inputs of the next layer. Source: filter pruning as in the SOT-MRAM
    engine for highly compressed networks, arXiv 1912.05416.

    Parameters
    ----------
    keep : int or float
        Rows that stay: a count (int), or a fraction of the rows (float, 0 to 1, rounded half up).

    Raises BadInput if ``keep`` is out of range, leaves nothing, or is more than there are.
    """

    def __init__(self, keep: int | float) -> None:
        check_keep(keep)
        self.keep = keep

    def freeze(self, weight: torch.Tensor) -> FixedMask:
        matrix = as_matrix(weight)
        rows = largest(matrix.square().sum(1), kept(self.keep, len(matrix)))
        return FixedMask(from_matrix(rows[:, None].expand_as(matrix), weight))

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        return self.freeze(weight).project(weight)

    def __repr__(self) -> str:
        return f"FilterSparsity({self.keep})"
