"""The arithmetic of a matrix-vector node: what its accumulators are, exactly.

The arithmetic belongs to the network, because it changes codes; which engine computes it belongs to
the mapping. ``exact`` is the plain integer product. Arithmetics that round or saturate are further
kinds, one file each.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.ir.numerics import IntRange
from model.ir.spec import Spec

if TYPE_CHECKING:
    from model.ir.matrix import MatrixSpec


class Arithmetic(Spec):
    """Base of the arithmetics. What each states, it states of a layer."""

    def check_layer(self, layer: "MatrixSpec") -> None:
        """Raise ValueError (or BadInput) unless the arithmetic can compute the layer."""

    def accumulator(self, layer: "MatrixSpec") -> IntRange:
        """Range of an accumulator, whatever the weights."""
        raise NotImplementedError

    def chip_bits(self, layer: "MatrixSpec") -> int:
        """Bits of weight memory on the chip."""
        raise NotImplementedError

    def tensor_shapes(self, layer: "MatrixSpec") -> dict[str, tuple[int, ...]]:
        """Shapes of the integer tensors that the arithmetic adds to a layer's."""
        return {}

    def check(self, layer: "MatrixSpec", tensors: dict[str, np.ndarray], thing: str) -> None:
        """Raise BadInput unless the tensors fit the arithmetic."""


@dataclass(frozen=True)
class ExactArithmetic(Arithmetic, kind="exact"):
    """``acc[o] = sum over i of w[o, i] * x[i]``, in integers, with no rounding and no overflow."""

    def accumulator(self, layer: "MatrixSpec") -> IntRange:
        return layer.product().sum_of(layer.storage.terms(layer.matrix_columns))

    def chip_bits(self, layer: "MatrixSpec") -> int:
        """Those of the storage."""
        size = layer.matrix_rows, layer.matrix_columns
        return layer.storage.chip_bits(*size, layer.weight_format)
