"""What every node of a network states about itself."""

from typing import ClassVar

import numpy as np

from model.ir.beats import Beats
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.numerics import Format, IntRange
from model.ir.spec import Spec


class LayerSpec(Spec):
    """Base of the specifications that a node can carry.

    A layer takes one or more streams of codes, channels last, and gives one stream of codes.
    """

    arity: ClassVar[int] = 1
    recurrent: ClassVar[bool] = False
    """Whether a step's output depends on the steps before it: then a frame is one step."""

    out_format: Format
    """Format of the codes that leave the layer: a field of the subclass, or a property."""

    def in_formats(self) -> tuple[Format | None, ...]:
        """Formats that the inputs must have; None accepts any."""
        raise NotImplementedError

    def out_shape(self, *in_shapes: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the output frame; raises ValueError if the input shapes do not fit."""
        raise NotImplementedError

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the integer tensors that the node holds."""
        return {}

    def check(self, tensors: dict[str, np.ndarray], thing: str) -> None:
        """Raise BadInput unless the tensors fit the formats (shapes are checked already)."""

    def stored_bits(self) -> int:
        """Bits of the compressed form on disk: codes, indices and requantization parameters."""
        return 0

    def weights(self) -> int:
        """Weights that are kept."""
        return 0

    def chip_bits(self) -> int:
        """Bits of weight memory on the chip."""
        return 0

    def needs(
        self, ins: tuple[Beats, ...], lanes: int, together: int = 1
    ) -> tuple[np.ndarray, ...]:
        """What the stage's output depends on: for each input, int64 [output beats].

        Element k is the beat of the frame that must have entered before output beat k can leave.
        By default all of them. ``together`` is the number of output positions that a stage computes
        at once.
        """
        output = Beats(self.out_shape(*(source.shape for source in ins)), lanes)
        return tuple(np.full(output.count, source.count - 1) for source in ins)

    def check_stage(self, thing: str, lanes: int) -> None:
        """Raise BadInput unless a stage without an engine can compute the node."""
        raise BadInput(
            f"mapping: engine of {thing}",
            "none",
            f"an engine for {self.kind!r} layers",
            "plan again",
        )

    def stage_cost(self, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        """Cost of the stage, for layers that need no engine; ``ins`` are its input streams."""
        raise NotImplementedError


def check_span(thing: str, codes: np.ndarray, span: IntRange, remedy: str) -> None:
    """Raise BadInput unless every element lies in ``span``."""
    if codes.size and (codes.min() < span.low or codes.max() > span.high):
        raise BadInput(
            thing,
            f"values from {codes.min()} to {codes.max()}",
            f"values from {span.low} to {span.high}",
            remedy,
        )
