"""Weight codes as a whole matrix with its blocks, and the storage that suits them."""

from collections.abc import Callable, Sequence
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

    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Sizes of the block rows and of the block columns."""
        row, column = (np.unique(axis, return_counts=True)[1] for axis in (self.row, self.column))
        return row, column

    def storage(self) -> BlockSparseStorage:
        """The storage of a matrix of these blocks."""
        return BlockSparseStorage.of(self.mask(), *self.sizes())

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
            return BlockSparseStorage.pack(self.codes, self.blocks.mask(), *self.blocks.sizes())
        return DenseStorage(), {"weight": self.codes}

    def settled(self) -> Self:
        """The matrix without its grid if dense storage is smaller, or nothing is absent."""
        if self.circulant is not None or self.blocks is None:
            return self
        if not self.blocks.mask().all():
            if not self.format.has_zero:
                return self
            if self._bits(DenseStorage()) >= self._bits(self.blocks.storage()):
                return self
        return replace(self, blocks=None)

    def spare_rows(self, keep: np.ndarray) -> np.ndarray:
        """The rows to keep, bool [rows], if no more than these are needed, so that the storage
        does not suffer: see :meth:`spare_channels`. Under equal counts whole block rows go."""
        if self.blocks is None:
            return keep
        whole = _whole(keep, self.blocks.row)
        free = self.blocks.storage().per_row is None
        tried = (keep, whole) if free else (whole,)
        return self._first(tried, self.rows)

    def spare_channels(self, keep: np.ndarray) -> np.ndarray:
        """The input channels to keep, bool [channels], if no more than ``keep`` are needed.

        More are kept where the storage would take more bits without the others, or where block rows
        would lose their equal counts or the groups their regular sizes: then whole column groups
        go, or only those which all block rows have or none has, or nothing.
        """
        if self.blocks is None:
            return keep
        every = len(self.blocks.column) // len(keep)
        mask = self.blocks.mask()
        uneven = (mask.any(axis=0) & ~mask.all(axis=0))[_ranks(self.blocks.column)]
        tried = [
            keep,
            _whole_channels(keep, self.blocks.column),
            _whole_channels(keep | uneven.reshape(every, -1).any(axis=0), self.blocks.column),
        ]
        return self._first(tried, lambda one: self.columns(np.tile(one, every)))

    def _first(
        self, tried: Sequence[np.ndarray], without: Callable[[np.ndarray], Self]
    ) -> np.ndarray:
        """The first choice of what to keep under which the storage does not suffer."""
        storage, bits = self.blocks.storage(), self._settled_bits()
        for keep in tried:
            if not keep.any():
                continue
            left = without(keep)
            if left._settled_bits() <= bits and left.blocks.storage().as_even_as(storage):
                return keep
        return np.ones_like(tried[0])

    def _settled_bits(self) -> int:
        settled = self.settled()
        storage = DenseStorage() if settled.blocks is None else settled.blocks.storage()
        return self._bits(storage)

    def _bits(self, storage: Storage) -> int:
        return storage.stored_bits(*self.codes.shape, self.format)

    def rows(self, keep: np.ndarray) -> Self:
        """Without some rows."""
        blocks = None if self.blocks is None else self.blocks.rows(keep)
        return replace(self, codes=self.codes[keep], blocks=blocks)

    def columns(self, keep: np.ndarray) -> Self:
        """Without some columns."""
        blocks = None if self.blocks is None else self.blocks.columns(keep)
        return replace(self, codes=self.codes[:, keep], blocks=blocks)


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
        size = spec.matrix_rows, spec.matrix_columns
        codes = storage.expand(node.tensors, *size, AS_CODES)
        return Matrix(codes, format, circulant=(storage, weight))
    return Matrix(node.tensors["weight"], format)


def _sizes(node: Node) -> tuple[np.ndarray, np.ndarray]:
    return node.tensors["row_sizes"], node.tensors["column_sizes"]


def _ranks(labels: np.ndarray) -> np.ndarray:
    """Ascending labels as 0, 1, 2, ..."""
    return np.unique(labels, return_inverse=True)[1]


def _whole(keep: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What is kept, and all that shares a label with some of it."""
    group = _ranks(labels)
    return np.bincount(group, keep)[group] > 0


def _whole_channels(keep: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The channels that are kept, and all that share a column group with them at any position."""
    every = len(labels) // len(keep)
    while True:
        more = _whole(np.tile(keep, every), labels).reshape(every, -1).any(axis=0)
        if np.array_equal(more, keep):
            return keep
        keep = more


def _starts(labels: np.ndarray) -> np.ndarray:
    """Where each run of equal labels begins."""
    return np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]])
