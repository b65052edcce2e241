"""Stuck cells of a layer's macros: how they are drawn, and whether the weights move around them.

A fault map changes codes where a cell that holds a part of a weight is stuck at another level, so
the network has the actual levels of its cells. Where on the macros the stuck cells are, and which
rows and columns were moved, changes none: it belongs to the mapping, which says here from which
seed the map is drawn. So hardware and network have the same faults, and no file holds a map.
"""

from dataclasses import dataclass, replace

import numpy as np

from model.ir.cells import fault_map
from model.ir.matrix import MatrixSpec
from model.ir.placement import Placement
from model.ir.spec import Spec, check_int


@dataclass(frozen=True)
class Faults(Spec, kind="faults"):
    """Stuck cells, drawn.

    Parameters
    ----------
    low, high : float
        Shares of the macros' cells that are stuck at the level of the lowest and of the highest
        state.
    seed, stream : int
        What they are drawn from: see :func:`model.ir.cells.random_words`.
    repair : bool
        Whether rows and columns are moved around them (:func:`model.ir.placement.repair`).
    """

    low: float
    high: float
    seed: int = 0
    stream: int = 0
    repair: bool = False

    def __post_init__(self) -> None:
        if not (self.low >= 0 and self.high >= 0 and self.low + self.high <= 1):
            raise ValueError(
                f"low and high must be shares of at most 1 together, not {self.low}, {self.high}"
            )
        check_int("seed", self.seed, 0)
        check_int("stream", self.stream, 0)

    def of_node(self, number: int) -> "Faults":
        """Those of the network's node of that number, which has stream ``2 · number + 1``."""
        return replace(self, stream=2 * number + 1)

    def drawn(self, layer: MatrixSpec, placed: Placement) -> np.ndarray:
        """The map int64 [macros, R, C]: the level at which a cell is stuck, or -1."""
        ends = layer.arithmetic.ends
        size = placed.weight.shape
        return fault_map(size, self.low, self.high, ends, self.seed, self.stream)
