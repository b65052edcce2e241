"""Block-sparse storage: a grid of blocks over the matrix, of which some are kept."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from model.ir.errors import BadInput
from model.ir.layer import check_span
from model.ir.numerics import Format, IntRange
from model.ir.spec import check_int
from model.ir.storage import Storage

_AGAIN = "export the network again"


@dataclass(frozen=True)
class BlockSparseStorage(Storage, kind="block_sparse"):
    """Kept blocks of a grid of row groups and column groups; every other weight is 0.

    Parameters
    ----------
    row_groups, column_groups : int
        Groups that the rows and the columns are cut into.
    kept : int
        Weights that are kept, over all blocks.
    per_row : int or None
        Blocks that every block row keeps; None if the rows may differ.
    row_size, column_size : int or None
        The size of every group but the last, which may be smaller; None if sizes are free.

    Tensors: ``row_sizes`` [row_groups] and ``column_sizes`` [column_groups] (they sum to the rows
    and the columns), ``mask`` [row_groups, column_groups] of 0 and 1, ``weight`` [kept] codes: the
    kept blocks in row-major order, each block row-major.

    Stored bits: the codes; the mask, one bit a block, or with ``per_row`` the column group's number
    of each kept block if that is less; and for each size of an axis whose sizes are free, the bits
    of the largest one possible, ``length - groups + 1``.
    """

    row_groups: int
    column_groups: int
    kept: int
    per_row: int | None = None
    row_size: int | None = None
    column_size: int | None = None

    def __post_init__(self) -> None:
        check_int("row_groups", self.row_groups, 1)
        check_int("column_groups", self.column_groups, 1)
        check_int("kept", self.kept, 0)
        if self.per_row is not None:
            check_int("per_row", self.per_row, 1, self.column_groups)
        for name in ("row_size", "column_size"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), 1)

    @classmethod
    def of(cls, mask: np.ndarray, row_sizes: np.ndarray, column_sizes: np.ndarray) -> Self:
        """The storage of a matrix of such blocks; the arguments are as of :meth:`pack`."""
        mask = np.asarray(mask, dtype=np.int64)
        counts = mask.sum(axis=1)
        return cls(
            row_groups=len(row_sizes),
            column_groups=len(column_sizes),
            kept=int(np.asarray(row_sizes) @ mask @ np.asarray(column_sizes)),
            per_row=int(counts[0]) if counts[0] and (counts == counts[0]).all() else None,
            row_size=_regular(row_sizes),
            column_size=_regular(column_sizes),
        )

    @classmethod
    def pack(
        cls, codes: np.ndarray, mask: np.ndarray, row_sizes: np.ndarray, column_sizes: np.ndarray
    ) -> tuple[Self, dict[str, np.ndarray]]:
        """The storage and the tensors of a matrix of codes.

        Parameters
        ----------
        codes : int64 [rows, columns]
        mask : bool or 0/1 [row groups, column groups]
            Which blocks are kept; the codes of the others are dropped.
        row_sizes, column_sizes : int [row groups], [column groups]
        """
        mask = np.asarray(mask).astype(bool)
        sizes = [np.asarray(given, dtype=np.int64) for given in (row_sizes, column_sizes)]
        where = np.flatnonzero(_element_order(mask, *sizes))
        order = _element_order(mask, *sizes).ravel()[where]
        weight = np.empty(len(where), dtype=np.int64)
        weight[order - 1] = np.asarray(codes).ravel()[where]
        tensors = {
            "row_sizes": sizes[0],
            "column_sizes": sizes[1],
            "mask": mask.astype(np.int64),
            "weight": weight,
        }
        return cls.of(mask, *sizes), tensors

    def as_even_as(self, other: Self) -> bool:
        """Whether block rows keep equal counts in groups of regular sizes, if ``other`` does."""
        return other.per_row is None or all(
            getattr(self, name) is not None
            for name in ("per_row", "row_size", "column_size")
            if getattr(other, name) is not None
        )

    def check_size(self, rows: int, columns: int) -> None:
        sides = (
            ("row", rows, self.row_groups, self.row_size),
            ("column", columns, self.column_groups, self.column_size),
        )
        for name, length, groups, size in sides:
            if groups > length:
                raise ValueError(f"{name}_groups must be at most the {length} {name}s")
            if size is not None and not (groups - 1) * size < length <= groups * size:
                raise ValueError(
                    f"{name}_size must cut {length} {name}s into {groups} groups, not {size}"
                )
        if self.kept > rows * columns:
            raise ValueError(f"kept must be at most {rows * columns}, not {self.kept}")

    def tensor_shapes(self, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
        return {
            "row_sizes": (self.row_groups,),
            "column_sizes": (self.column_groups,),
            "mask": (self.row_groups, self.column_groups),
            "weight": (self.kept,),
        }

    def expand(
        self, tensors: dict[str, np.ndarray], rows: int, columns: int, format: Format
    ) -> np.ndarray:
        order = _element_order(tensors["mask"], tensors["row_sizes"], tensors["column_sizes"])
        return np.concatenate([[0], format.decode(tensors["weight"])]).astype(np.int64)[order]

    def check(
        self, tensors: dict[str, np.ndarray], rows: int, columns: int, format: Format, thing: str
    ) -> None:
        super().check(tensors, rows, columns, format, thing)
        mask = tensors["mask"]
        check_span(f"{thing}.mask", mask, IntRange(0, 1), _AGAIN)
        sides = (
            ("row_sizes", rows, self.row_size),
            ("column_sizes", columns, self.column_size),
        )
        for name, length, size in sides:
            sizes = tensors[name]
            check_span(f"{thing}.{name}", sizes, IntRange(1, length), _AGAIN)
            if sizes.sum() != length:
                raise BadInput(
                    f"{thing}.{name}", f"a sum of {sizes.sum()}", f"a sum of {length}", _AGAIN
                )
            if size is not None and (sizes[:-1] != size).any():
                raise BadInput(
                    f"{thing}.{name}", sizes.tolist(), f"{size} for all but the last", _AGAIN
                )
        counts = mask.sum(axis=1)
        if self.per_row is not None and (counts != self.per_row).any():
            raise BadInput(
                f"{thing}.mask",
                f"block rows with {counts.min()} to {counts.max()} blocks",
                f"{self.per_row} blocks in every block row",
                _AGAIN,
            )
        kept = int(tensors["row_sizes"] @ mask @ tensors["column_sizes"])
        if kept != self.kept:
            raise BadInput(
                f"{thing}.mask", f"blocks of {kept} weights", f"blocks of {self.kept}", _AGAIN
            )

    def terms(self, columns: int) -> int:
        if self.per_row is None or self.column_size is None:
            return columns
        return min(columns, self.per_row * self.column_size)

    def weights(self, rows: int, columns: int) -> int:
        return self.kept

    def stored_bits(self, rows: int, columns: int, format: Format) -> int:
        places = self.row_groups * self.column_groups
        if self.per_row is not None:
            index = (self.column_groups - 1).bit_length()
            places = min(places, self.row_groups * self.per_row * index)
        sizes = 0 if self.row_size is not None else _size_bits(rows, self.row_groups)
        sizes += 0 if self.column_size is not None else _size_bits(columns, self.column_groups)
        return super().stored_bits(rows, columns, format) + places + sizes


def _element_order(mask: np.ndarray, row_sizes: np.ndarray, column_sizes: np.ndarray) -> np.ndarray:
    """Place of each element among the kept weights, counted from 1; 0 where none is kept.

    int64 [rows, columns].
    """
    areas = np.asarray(mask, dtype=np.int64) * np.outer(row_sizes, column_sizes)
    starts = (np.cumsum(areas) - areas.ravel()).reshape(areas.shape)
    row, row_in = _places(row_sizes)
    column, column_in = _places(column_sizes)
    block = np.ix_(row, column)
    widths = np.asarray(column_sizes)[column]
    order = starts[block] + row_in[:, None] * widths + column_in + 1
    return np.where(areas[block] > 0, order, 0)


def _places(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each index along an axis: its group, and its place in that group."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    return group, np.arange(len(group)) - (np.cumsum(sizes) - sizes)[group]


def _size_bits(length: int, groups: int) -> int:
    """Bits of the free sizes of an axis: each may be as large as the others leave room for."""
    return groups * (length - groups + 1).bit_length()


def _regular(sizes: np.ndarray) -> int | None:
    """The size of all groups but a last smaller one, or None if there is no such size."""
    size = int(sizes[0])
    return size if (sizes[:-1] == size).all() and sizes[-1] <= size else None
