"""Pooling: the largest code of each window, or its sum, then requantization."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from model.ir.beats import Beats
from model.ir.cost import StageCost
from model.ir.lanewise import check_lanes, lane_window, lanewise_cost
from model.ir.layer import LayerSpec
from model.ir.numerics import Format, IntRange, check_plain
from model.ir.requantize import RequantizeSpec
from model.ir.tree import tree_stages
from model.ir.window import Windowed


class PoolSpec(Windowed, LayerSpec):
    """Base of the poolings: each channel by itself, without padding.

    A kernel as large as the frame pools globally.

    In hardware a stage of ``lanes`` channels, with ``G = ceil(channels / lanes)``:

    ==================  =======================================================================
    cycles per frame    those of the window, ``kernel_columns · G`` beats a position (see
                        WindowBuffer); a global pool takes its input beats, ``rows · columns · G``
    memory              the window's; a global pool keeps ``G · lanes`` results, in registers if G
                        is 1; an average's requantization parameters, ``G · lanes`` channels
    multipliers         ``lanes`` of sum × m bits, if an average's requantization multiplies
    ==================  =======================================================================
    """

    padding: ClassVar[int] = 0

    @property
    def covers(self) -> bool:
        """Whether the kernel covers the frame."""
        return (self.kernel_rows, self.kernel_columns) == (self.rows, self.columns)

    def accumulator(self) -> IntRange:
        """Range of a window's largest code or sum."""
        raise NotImplementedError

    def depth(self) -> int:
        """Register stages from the last beat of a group to its results.

        A global pool: operands, results; else operands, the tree over the kernel rows, results.
        """
        return 2 + (0 if self.covers else tree_stages(self.kernel_rows))

    def needs(
        self, ins: tuple[Beats, ...], lanes: int, together: int = 1
    ) -> tuple[np.ndarray, ...]:
        if not self.covers:
            return super().needs(ins, lanes, together)
        (source,) = ins
        ends = Beats((self.channels,), lanes).ends()
        return (source.beat_of((self.area - 1) * self.channels + ends),)

    def check_stage(self, thing: str, lanes: int) -> None:
        check_lanes(thing, lanes, self.channels)

    def stage_cost(self, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        (format,) = self.in_formats()
        return lanewise_cost(
            self,
            ins,
            lanes,
            bits=format.bits,
            acc=self.accumulator(),
            depth=self.depth(),
            window=None if self.covers else lane_window(self, lanes),
        )

    def out_shape(self, *in_shapes: tuple[int, ...]) -> tuple[int, ...]:
        self.check_frame(*in_shapes)
        return (self.out_rows, self.out_columns, self.channels)


@dataclass(frozen=True)
class MaxPoolSpec(PoolSpec, kind="max_pool"):
    """The largest code of each window.

    Parameters
    ----------
    rows, columns, channels : int
        The frame that enters.
    kernel_rows, kernel_columns, stride : int
        The windows.
    format : Format
        Format of the codes, which pass unchanged; uniform or fixed-point, so that the largest code
        is the largest value.
    """

    rows: int
    columns: int
    channels: int
    kernel_rows: int
    kernel_columns: int
    stride: int
    format: Format

    def __post_init__(self) -> None:
        check_plain("format", self.format)
        self.check_window(self.format)

    @property
    def out_format(self) -> Format:
        return self.format

    def in_formats(self) -> tuple[Format, ...]:
        return (self.format,)

    def accumulator(self) -> IntRange:
        return self.format.values


@dataclass(frozen=True)
class AveragePoolSpec(PoolSpec, kind="average_pool"):
    """The sum of each window, then requantization; dividing is part of its factor.

    Parameters
    ----------
    rows, columns, channels : int
        The frame that enters.
    kernel_rows, kernel_columns, stride : int
        The windows.
    in_format : Format
        Format of the activations that enter.
    requantize : RequantizeSpec
        How a sum becomes an output code.

    Tensors: those of the requantization, for ``channels`` channels.
    """

    rows: int
    columns: int
    channels: int
    kernel_rows: int
    kernel_columns: int
    stride: int
    in_format: Format
    requantize: RequantizeSpec

    def __post_init__(self) -> None:
        self.check_window(self.in_format)

    @property
    def out_format(self) -> Format:
        return self.requantize.out_format

    def in_formats(self) -> tuple[Format, ...]:
        return (self.in_format,)

    def accumulator(self) -> IntRange:
        return self.in_format.values.sum_of(self.area)

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        return self.requantize.tensor_shapes(self.channels)

    def check(self, tensors: dict[str, np.ndarray], thing: str) -> None:
        self.requantize.check(tensors, self.accumulator(), thing)

    def stored_bits(self) -> int:
        return self.requantize.stored_bits(self.channels)
