"""Block-circulant storage: one vector of k numbers stands for a block of k × k weights."""

from dataclasses import dataclass

import numpy as np

from model.ir.numerics import Format
from model.ir.spec import check_int
from model.ir.storage import Storage


@dataclass(frozen=True)
class BlockCirculantStorage(Storage, kind="block_circulant"):
    """A grid of ``p × q`` circulant blocks, each kept as its first column.

    Parameters
    ----------
    k : int
        Rows and columns of a block.
    positions : int
        Positions of a kernel. The columns are ``positions × channels``, channel fastest, and the
        channels of each position are padded to a multiple of ``k`` by themselves, so no block
        reaches over two positions.

    Tensors: ``weight`` int64 codes [p, q, k] with ``p = ceil(rows / k)`` and ``q = positions ×
    ceil(channels / k)``. In a block, ``C[i, j] = w[(i - j) mod k]``. Rows and channels that pad the
    last block are cut off.
    """

    k: int
    positions: int = 1

    def __post_init__(self) -> None:
        check_int("k", self.k, 1)
        check_int("positions", self.positions, 1)

    def check_size(self, rows: int, columns: int) -> None:
        if columns % self.positions:
            raise ValueError(
                f"columns must be a multiple of the {self.positions} positions, not {columns}"
            )

    def grid(self, rows: int, columns: int) -> tuple[int, int]:
        """Blocks ``(p, q)`` along the rows and the columns of a matrix."""
        channels = columns // self.positions
        return -(-rows // self.k), self.positions * -(-channels // self.k)

    def tensor_shapes(self, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
        return {"weight": (*self.grid(rows, columns), self.k)}

    def expand(
        self, tensors: dict[str, np.ndarray], rows: int, columns: int, format: Format
    ) -> np.ndarray:
        p, _ = self.grid(rows, columns)
        first = format.decode(tensors["weight"])
        steps = np.arange(self.k)
        blocks = first[:, :, (steps[:, None] - steps) % self.k]  # [p, q, i, j]
        padded = blocks.transpose(0, 2, 1, 3).reshape(p * self.k, self.positions, -1)
        return padded[:rows, :, : columns // self.positions].reshape(rows, columns)

    def weights(self, rows: int, columns: int) -> int:
        p, q = self.grid(rows, columns)
        return p * q * self.k
