"""Rows of cells that are written from outside, and how a row lies in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from model.ir.errors import BadInput

WORD = 32
"""Bits of a word."""


@dataclass(frozen=True)
class CellRows:
    """The rows of a layer's macros, as they are written from outside.

    A row is a number of ``bits`` bits: the level of column c in bits ``c · level_bits`` and up, the
    reference column, where there is one, behind the others. It goes in ``words`` words of 32 bits,
    the lowest first; bits beyond the row are ignored. The same number is a line of the file
    ``<node>_cells.hex``, line ``macro · rows + row``.

    Parameters
    ----------
    node : str
    macros, rows, columns : int
        Macros of a copy of the layer; rows and columns of a macro, the reference column included.
    level_bits : int
        Bits of a cell's level.
    copies : int
        Copies of the layer, which get the same row one after another.
    """

    node: str
    macros: int
    rows: int
    columns: int
    level_bits: int
    copies: int = 1

    @property
    def bits(self) -> int:
        """Bits of a row."""
        return self.columns * self.level_bits

    @property
    def words(self) -> int:
        """Words of a row."""
        return -(-self.bits // WORD)

    def row_words(self, levels: Sequence[int]) -> list[int]:
        """The words of a row of levels [columns]; raises BadInput if they do not fit the cells."""
        thing, top = f"row of {self.node}", (1 << self.level_bits) - 1
        if len(levels) != self.columns:
            raise BadInput(
                thing,
                f"{len(levels)} levels",
                f"{self.columns}, one for each column",
                "give the reference column too, where there is one",
            )
        row = 0
        for column, level in enumerate(map(int, levels)):
            if not 0 <= level <= top:
                raise BadInput(
                    f"{thing}: column {column}",
                    f"level {level}",
                    f"0 to {top}",
                    "quantize to the levels of the cells",
                )
            row |= level << column * self.level_bits
        return [row >> WORD * n & 0xFFFFFFFF for n in range(self.words)]

    def to_json(self) -> dict[str, int | str]:
        """What a driver needs to know, as plain data."""
        return {
            "node": self.node,
            "macros": self.macros,
            "rows": self.rows,
            "columns": self.columns,
            "level_bits": self.level_bits,
            "words": self.words,
            "copies": self.copies,
        }
