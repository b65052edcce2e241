"""Selection of the inputs that pruning has kept: the rest of the frame is dropped."""

import math
from dataclasses import dataclass

import numpy as np

from model.ir.beats import Beats
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.layer import LayerSpec, check_span
from model.ir.numerics import Format, IntRange
from model.ir.repack import repack_cost, repack_needs
from model.ir.spec import check_int


@dataclass(frozen=True)
class SelectSpec(LayerSpec, kind="select"):
    """``y[n] = x[indices[n]]`` with strictly ascending indices into the flattened frame.

    Parameters
    ----------
    in_features, out_features : int
        Codes per frame that enter and that stay.
    format : Format
        Format of the codes, which pass unchanged.

    Tensors: ``indices`` int64 [out_features]. Stored as a bit map of ``in_features`` bits.
    """

    in_features: int
    out_features: int
    format: Format

    def __post_init__(self) -> None:
        check_int("in_features", self.in_features, 1)
        check_int("out_features", self.out_features, 1, self.in_features)

    @property
    def out_format(self) -> Format:
        return self.format

    def in_formats(self) -> tuple[Format, ...]:
        return (self.format,)

    def out_shape(self, *in_shapes: tuple[int, ...]) -> tuple[int, ...]:
        (shape,) = in_shapes
        if math.prod(shape) != self.in_features:
            raise ValueError(f"{self.in_features} input features, not a frame of shape {shape}")
        return (self.out_features,)

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"indices": (self.out_features,)}

    def check(self, tensors: dict[str, np.ndarray], thing: str) -> None:
        indices = tensors["indices"]
        check_span(
            f"{thing}.indices",
            indices,
            IntRange(0, self.in_features - 1),
            "export the network again",
        )
        if np.any(np.diff(indices) <= 0):
            raise BadInput(
                f"{thing}.indices",
                "indices out of order",
                "strictly ascending indices",
                "export the network again",
            )

    def stored_bits(self) -> int:
        return self.in_features

    def needs(
        self, ins: tuple[Beats, ...], lanes: int, together: int = 1
    ) -> tuple[np.ndarray, ...]:
        (source,) = ins
        return (repack_needs(source, Beats((self.out_features,), lanes)),)

    def check_stage(self, thing: str, lanes: int) -> None:
        """Any number of lanes will do."""

    def stage_cost(self, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        (source,) = ins
        return repack_cost(source, Beats((self.out_features,), lanes), masked=True)
