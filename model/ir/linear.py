"""The fully connected layer: a matrix-vector product, then requantization."""

from dataclasses import dataclass

import numpy as np

from model.ir.arithmetic import Arithmetic, ExactArithmetic
from model.ir.layer import LayerSpec
from model.ir.numerics import Format, IntRange
from model.ir.requantize import RequantizeSpec
from model.ir.spec import check_int


@dataclass(frozen=True)
class LinearSpec(LayerSpec, kind="linear"):
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

    Tensors: ``weight`` int64 codes [out_features, in_features], and those of the requantization.
    The accumulator is exact: its range is that of ``in_features`` worst-case products, so neither
    overflow nor a change of weights can break it.
    """

    in_features: int
    out_features: int
    in_format: Format
    weight_format: Format
    requantize: RequantizeSpec
    arithmetic: Arithmetic = ExactArithmetic()

    def __post_init__(self) -> None:
        check_int("in_features", self.in_features, 1)
        check_int("out_features", self.out_features, 1)

    @property
    def out_format(self) -> Format:
        return self.requantize.out_format

    def in_formats(self) -> tuple[Format, ...]:
        return (self.in_format,)

    def out_shape(self, *in_shapes: tuple[int, ...]) -> tuple[int, ...]:
        (shape,) = in_shapes
        if int(np.prod(shape)) != self.in_features:
            raise ValueError(f"{self.in_features} input features, not a frame of shape {shape}")
        return (self.out_features,)

    def product(self) -> IntRange:
        """Range of one product of a weight value and an activation value."""
        return self.weight_format.values * self.in_format.values

    def accumulator(self) -> IntRange:
        """Range of an accumulator, whatever the weights."""
        return self.product().sum_of(self.in_features)

    def macs(self) -> int:
        """Multiply-accumulates per frame."""
        return self.in_features * self.out_features

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = {"weight": (self.out_features, self.in_features)}
        return shapes | self.requantize.tensor_shapes(self.out_features)

    def check(self, tensors: dict[str, np.ndarray], thing: str) -> None:
        self.weight_format.check(tensors["weight"], f"{thing}.weight")
        self.requantize.check(tensors, self.accumulator(), thing)

    def weights(self) -> int:
        return self.in_features * self.out_features

    def stored_bits(self) -> int:
        parameters = self.requantize.channel_bits() * self.out_features
        return self.weights() * self.weight_format.bits + parameters + self.requantize.layer_bits()
