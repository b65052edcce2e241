"""The residual addition of two branches, each by a factor of its own."""

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from model.ir.beats import Beats
from model.ir.cost import StageCost
from model.ir.layer import LayerSpec, check_span
from model.ir.numerics import Format, IntRange, check_intermediate, check_plain
from model.ir.pe_array import SLICE_LATENCY
from model.ir.repack import repack_needs
from model.ir.requantize import MULTIPLIER_BITS_MAX, SHIFT_MAX, rounding
from model.ir.spec import check_int

ADD_STAGES = 2
"""Register stages of an adder: products, result."""


@dataclass(frozen=True)
class AddSpec(LayerSpec, kind="add"):
    """``z = clamp((x * mx + y * my + r) >> s)``, arithmetic shift, r as in requantization.

    Parameters
    ----------
    shape : tuple of int
        Shape of both inputs and of the output.
    x_format, y_format : Format
        Formats of the two inputs.
    out_format : Format
        Format of the result; its code range is the clamp (uniform or fixed-point), so a lower bound
        of 0 is ReLU.
    shift : int
        Right shift ``s``, 0 to 47.
    m_bits : int
        Bits of ``mx`` and ``my`` (signed), 1 to 16.

    Tensors: ``mx`` and ``my``, int64 [1].

    In hardware a stage of ``lanes`` codes takes a beat of each input a cycle and has ``lanes``
    multipliers for each of them, code × ``m_bits``; it stores the two factors.
    """

    arity: ClassVar[int] = 2

    shape: tuple[int, ...]
    x_format: Format
    y_format: Format
    out_format: Format
    shift: int
    m_bits: int

    def __post_init__(self) -> None:
        if not self.shape:
            raise ValueError("shape must have at least one axis, not ()")
        for size in self.shape:
            check_int("size", size, 1)
        check_plain("out_format", self.out_format)
        check_int("shift", self.shift, 0, SHIFT_MAX)
        check_int("m_bits", self.m_bits, 1, MULTIPLIER_BITS_MAX)

    @property
    def rounding(self) -> int:
        """The rounding constant ``r``."""
        return rounding(self.shift)

    def in_formats(self) -> tuple[Format, ...]:
        return (self.x_format, self.y_format)

    def out_shape(self, *in_shapes: tuple[int, ...]) -> tuple[int, ...]:
        for shape in in_shapes:
            if shape != self.shape:
                raise ValueError(f"two frames of shape {self.shape}, not {shape}")
        return self.shape

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"mx": (1,), "my": (1,)}

    def total(self) -> IntRange:
        """Range of ``x * mx + y * my + r``."""
        m = IntRange.of_bits(self.m_bits, True)
        total = self.x_format.values * m + self.y_format.values * m
        return total + IntRange(self.rounding, self.rounding)

    def check(self, tensors: dict[str, np.ndarray], thing: str) -> None:
        m = IntRange.of_bits(self.m_bits, True)
        for name in self.tensor_shapes():
            check_span(f"{thing}.{name}", tensors[name], m, "export again with more bits")
        check_intermediate(f"{thing}: x * mx + y * my + r", self.total())

    def needs(
        self, ins: tuple[Beats, ...], lanes: int, together: int = 1
    ) -> tuple[np.ndarray, ...]:
        """Beat by beat, from both inputs."""
        return tuple(repack_needs(source, Beats(self.shape, lanes)) for source in ins)

    def stored_bits(self) -> int:
        return 2 * self.m_bits

    def check_stage(self, thing: str, lanes: int) -> None:
        """Any number of lanes will do."""

    def stage_cost(self, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        beats = Beats(self.shape, lanes)
        return StageCost(
            cycles=max(beats.count, *(source.count for source in ins)),
            ideal_cycles=Fraction(beats.length, lanes),
            input_beats=max(source.count for source in ins),
            output_beats=beats.count,
            latency=beats.count + SLICE_LATENCY + ADD_STAGES,
            multipliers=tuple(
                (lanes, format.bits, self.m_bits) for format in (self.x_format, self.y_format)
            ),
            parameter_bits=2 * self.m_bits,
        )
