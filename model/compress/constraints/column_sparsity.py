"""Whole columns (inputs) of a weight are zero."""

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


@constraint("column_sparsity")
class ColumnSparsity(Composable):
    """At most ``keep`` columns differ from zero.

    The projection zeroes the columns of the smallest L2 norm; ties keep the lowest index. A column
    is an input of a linear layer, or one (kernel row, kernel column, channel) of a convolution.
    Source: column pruning as in the SOT-MRAM engine for highly compressed networks,
    arXiv 1912.05416.

    Parameters
    ----------
    keep : int or float
        Columns that stay: a count (int), or a fraction of the columns (float, 0 to 1, rounded
        half up).

    Raises BadInput if ``keep`` is out of range, leaves nothing, or is more than there are.
    """

    def __init__(self, keep: int | float) -> None:
        check_keep(keep)
        self.keep = keep

    def freeze(self, weight: torch.Tensor) -> FixedMask:
        matrix = as_matrix(weight)
        columns = largest(matrix.square().sum(0), kept(self.keep, matrix.shape[1]))
        return FixedMask(from_matrix(columns[None, :].expand_as(matrix), weight))

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        return self.freeze(weight).project(weight)

    def __repr__(self) -> str:
        return f"ColumnSparsity({self.keep})"
