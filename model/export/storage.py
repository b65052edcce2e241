"""Weight codes as a whole matrix with its blocks, and the storage that suits them."""

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from model.ir.block_circulant import BlockCirculantStorage
from model.ir.block_sparse import BlockSparseStorage
from model.ir.matrix import MatrixSpec
from model.ir.network import Node
from model.ir.numerics import Format, UniformFormat
from model.ir.storage import DenseStorage, Storage

AS_CODES = UniformFormat(16, False)
"""A format whose values are the codes: with it a storage expands to codes."""


@dataclass(frozen=True)
class Blocks:
    """Which weights of a matrix are present, and the grid of blocks over it.

    Parameters
    ----------
    present : bool [rows, columns]
        Whole blocks of the grid, unless the format has a zero.
    row, column : int [rows], [columns]
        The block row of each row and the block column of each column, ascending.
    """

    present: np.ndarray = field(repr=False)
    row: np.ndarray = field(repr=False)
    column: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, present: np.ndarray, grid: tuple[int, int]) -> Self:
        """Blocks of ``grid`` (rows, columns); the last ones may be smaller."""
        rows, columns = present.shape
        return cls(present, np.arange(rows) // grid[0], np.arange(columns) // grid[1])

    def mask(self) -> np.ndarray:
        """Whether a block has a weight that is present, bool [block rows, block columns]."""
        down = np.logical_or.reduceat(self.present, _starts(self.row), axis=0)
        return np.logical_or.reduceat(down, _starts(self.column), axis=1)

    def whole(self) -> bool:
        """Whether each block is present as a whole or not at all."""
        down = np.logical_and.reduceat(self.present, _starts(self.row), axis=0)
        both = np.logical_and.reduceat(down, _starts(self.column), axis=1)
        return bool((both == self.mask()).all())

    def rows(self, keep: np.ndarray) -> Self:
        """Without some rows."""
        return replace(self, present=self.present[keep], row=self.row[keep])

    def columns(self, keep: np.ndarray) -> Self:
        """Without some columns."""
        return replace(self, present=self.present[:, keep], column=self.column[keep])


@dataclass(frozen=True)
class Matrix:
    """Weight codes [rows = outputs, columns = inputs], channel fastest in the columns.

    Parameters
    ----------
    codes : int64 [rows, columns]
        Codes; 0 where a weight is absent.
    format : Format
        Their format.
    blocks : Blocks, optional
        Absent weights, if there can be any.
    circulant : tuple of BlockCirculantStorage and int64 [p, q, k], optional
        Storage and defining vectors of a matrix of circulant blocks.
    """

    codes: np.ndarray = field(repr=False)
    format: Format
    blocks: Blocks | None = None
    circulant: tuple[BlockCirculantStorage, np.ndarray] | None = field(default=None, repr=False)

    @property
    def structured(self) -> bool:
        """Whether the order of the columns is part of a structure."""
        return self.blocks is not None or self.circulant is not None

    def values(self) -> np.ndarray:
        """The integers that the codes stand for, int64 [rows, columns]; absent weights are 0."""
        values = self.format.decode(self.codes)
        return values if self.blocks is None else np.where(self.blocks.present, values, 0)

    def packed(self) -> tuple[Storage, dict[str, np.ndarray]]:
        """Storage and tensors, with the grid kept if there is one."""
        if self.circulant is not None:
            storage, weight = self.circulant
            return storage, {"weight": weight}
        if self.blocks is not None:
            sizes = [np.unique(axis, return_counts=True)[1] for axis in self._axes()]
            return BlockSparseStorage.pack(self.codes, self.blocks.mask(), *sizes)
        return DenseStorage(), {"weight": self.codes}

    def settled(self) -> Self:
        """The matrix without its grid if dense storage is smaller, or nothing is absent."""
        if self.circulant is not None or self.blocks is None:
            return self
        if not self.blocks.mask().all():
            if not self.format.has_zero:
                return self
            size = *self.codes.shape, self.format
            if DenseStorage().stored_bits(*size) >= self.packed()[0].stored_bits(*size):
                return self
        return replace(self, blocks=None)

    def rows(self, keep: np.ndarray) -> Self:
        """Without some rows."""
        blocks = None if self.blocks is None else self.blocks.rows(keep)
        return replace(self, codes=self.codes[keep], blocks=blocks)

    def columns(self, keep: np.ndarray) -> Self:
        """Without some columns."""
        blocks = None if self.blocks is None else self.blocks.columns(keep)
        return replace(self, codes=self.codes[:, keep], blocks=blocks)

    def _axes(self) -> tuple[np.ndarray, np.ndarray]:
        return self.blocks.row, self.blocks.column


def matrix_of(node: Node) -> Matrix:
    """The whole matrix of a node with weights."""
    spec = node.spec
    assert isinstance(spec, MatrixSpec)
    format, storage = spec.weight_format, spec.storage
    if isinstance(storage, BlockSparseStorage):
        size = [np.repeat(np.arange(len(n)), n) for n in _sizes(node)]
        present = node.tensors["mask"].astype(bool)[np.ix_(*size)]
        codes = storage.expand(node.tensors, *present.shape, AS_CODES)
        return Matrix(codes, format, Blocks(present, *size))
    if isinstance(storage, BlockCirculantStorage):
        weight = node.tensors["weight"]
        return Matrix(spec.values(node.tensors), format, circulant=(storage, weight))
    return Matrix(node.tensors["weight"], format)


def _sizes(node: Node) -> tuple[np.ndarray, np.ndarray]:
    return node.tensors["row_sizes"], node.tensors["column_sizes"]


def _starts(labels: np.ndarray) -> np.ndarray:
    """Where each run of equal labels begins."""
    return np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]])
