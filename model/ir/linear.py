"""The fully connected layer: a matrix-vector product, then requantization."""

import math
from dataclasses import dataclass

from model.ir.arithmetic import Arithmetic, ExactArithmetic
from model.ir.matrix import MatrixSpec
from model.ir.numerics import Format
from model.ir.requantize import RequantizeSpec
from model.ir.spec import check_int
from model.ir.storage import DenseStorage, Storage


@dataclass(frozen=True)
class LinearSpec(MatrixSpec, kind="linear"):
    """``y = requantize(W x)``.

    Parameters
    ----------
    in_features, out_features : int
        Columns and rows of the weight matrix.
    in_format : Format
        Format of the activations that enter.
    weight_format : Format
        Format of the weight codes.
    requantize : RequantizeSpec
        How an accumulator becomes an output code.
    arithmetic : Arithmetic
        How an accumulator comes about.
    storage : Storage
        How the codes of the weights are kept.
    """

    in_features: int
    out_features: int
    in_format: Format
    weight_format: Format
    requantize: RequantizeSpec
    arithmetic: Arithmetic = ExactArithmetic()
    storage: Storage = DenseStorage()

    def __post_init__(self) -> None:
        check_int("in_features", self.in_features, 1)
        check_int("out_features", self.out_features, 1)
        self.storage.check_size(self.out_features, self.in_features)
        self.arithmetic.check_layer(self)

    @property
    def matrix_rows(self) -> int:
        return self.out_features

    @property
    def matrix_columns(self) -> int:
        return self.in_features

    def out_shape(self, *in_shapes: tuple[int, ...]) -> tuple[int, ...]:
        (shape,) = in_shapes
        if math.prod(shape) != self.in_features:
            raise ValueError(f"{self.in_features} input features, not a frame of shape {shape}")
        return (self.out_features,)
