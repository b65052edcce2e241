"""What the layers with a weight matrix share: accumulators, then requantization."""

import numpy as np

from model.ir.arithmetic import Arithmetic
from model.ir.layer import LayerSpec
from model.ir.numerics import Format, IntRange
from model.ir.requantize import RequantizeSpec
from model.ir.storage import Storage


class MatrixSpec(LayerSpec):
    """Base of the layers that multiply a weight matrix by one or more vectors.

    A subclass is a frozen dataclass with the fields below and states the size of its matrix. Its
    tensors are those of the storage, the arithmetic and the requantization. The accumulator's range
    is the worst case under the layer's arithmetic, so neither overflow nor a change of weights can
    break it: under exact arithmetic, as many worst-case products as the storage lets a row have.
    """

    in_format: Format
    weight_format: Format
    requantize: RequantizeSpec
    arithmetic: Arithmetic
    storage: Storage

    @property
    def matrix_rows(self) -> int:
        """Rows of the weight matrix: the output channels."""
        raise NotImplementedError

    @property
    def matrix_columns(self) -> int:
        """Columns of the weight matrix: the most terms that an accumulator can have."""
        raise NotImplementedError

    @property
    def vectors(self) -> int:
        """Vectors per frame that the matrix is multiplied by."""
        return 1

    @property
    def out_format(self) -> Format:
        return self.requantize.out_format

    def in_formats(self) -> tuple[Format, ...]:
        return (self.in_format,)

    def product(self) -> IntRange:
        """Range of one product of a weight value and an activation value."""
        return self.weight_format.values * self.in_format.values

    def accumulator(self) -> IntRange:
        """Range of an accumulator, whatever the weights."""
        return self.arithmetic.accumulator(self)

    def macs(self) -> int:
        """Multiply-accumulates per frame, those of absent weights included."""
        return self.matrix_rows * self.matrix_columns * self.vectors

    def values(self, tensors: dict[str, np.ndarray]) -> np.ndarray:
        """The weight matrix: integer values, int64 [matrix_rows, matrix_columns]."""
        return self.storage.expand(
            tensors, self.matrix_rows, self.matrix_columns, self.weight_format
        )

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = self.storage.tensor_shapes(self.matrix_rows, self.matrix_columns)
        shapes |= self.arithmetic.tensor_shapes(self)
        return shapes | self.requantize.tensor_shapes(self.matrix_rows)

    def check(self, tensors: dict[str, np.ndarray], thing: str) -> None:
        size = (self.matrix_rows, self.matrix_columns)
        self.storage.check(tensors, *size, self.weight_format, thing)
        self.arithmetic.check(self, tensors, thing)
        self.requantize.check(tensors, self.accumulator(), thing)

    def weights(self) -> int:
        return self.storage.weights(self.matrix_rows, self.matrix_columns)

    def stored_bits(self) -> int:
        size = (self.matrix_rows, self.matrix_columns)
        weights = self.storage.stored_bits(*size, self.weight_format)
        table = self.weight_format.table_bits()
        return weights + table + self.requantize.stored_bits(self.matrix_rows)

    def chip_bits(self) -> int:
        return self.arithmetic.chip_bits(self)
