"""Storages: how the codes of a weight matrix are kept, in the file and on the chip.

A matrix layer asks its storage for tensors, checks, bits, and the matrix that they stand for. Each
kind is one file; ``dense`` stands here.
"""

from dataclasses import dataclass

import numpy as np

from model.ir.numerics import Format
from model.ir.spec import Spec


class Storage(Spec):
    """Base of the storages of a weight matrix [rows = outputs, columns = inputs]."""

    def describe(self) -> str:
        """The storage in a few words."""
        return self.kind.replace("_", "-")

    def check_size(self, rows: int, columns: int) -> None:
        """Raise ValueError unless this storage can hold a matrix of that size."""

    def tensor_shapes(self, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the integer tensors; the codes of the weights are ``weight``."""
        raise NotImplementedError

    def expand(
        self, tensors: dict[str, np.ndarray], rows: int, columns: int, format: Format
    ) -> np.ndarray:
        """The integer values, int64 [rows, columns]; a weight that is not kept is 0."""
        raise NotImplementedError

    def check(
        self, tensors: dict[str, np.ndarray], rows: int, columns: int, format: Format, thing: str
    ) -> None:
        """Raise BadInput unless the tensors fit this storage and the format."""
        format.check(tensors["weight"], f"{thing}.weight")

    def terms(self, columns: int) -> int:
        """The most weights of a row that are not 0, whatever the tensors are."""
        return columns

    def weights(self, rows: int, columns: int) -> int:
        """Numbers that are kept, those that pad a block included."""
        raise NotImplementedError

    def stored_bits(self, rows: int, columns: int, format: Format) -> int:
        """Bits of the compressed form in the file: codes and indices."""
        return self.weights(rows, columns) * format.bits

    def chip_bits(self, rows: int, columns: int, format: Format) -> int:
        """Bits of weight memory on the chip: those of the stored form, unless it says otherwise."""
        return self.stored_bits(rows, columns, format)


@dataclass(frozen=True)
class DenseStorage(Storage, kind="dense"):
    """Every weight is kept. Tensors: ``weight`` int64 codes [rows, columns]."""

    def tensor_shapes(self, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
        return {"weight": (rows, columns)}

    def expand(
        self, tensors: dict[str, np.ndarray], rows: int, columns: int, format: Format
    ) -> np.ndarray:
        return format.decode(tensors["weight"])

    def weights(self, rows: int, columns: int) -> int:
        return rows * columns
