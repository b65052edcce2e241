"""Stages that work on each channel by itself: pooling and the depthwise convolution.

A stage is ``[regroup] -> window -> reduce -> slice -> [requantize]``. The window gives a kernel
column of ``lanes`` channels a beat, so a position takes ``kernel_columns · G`` beats for its
``G = ceil(channels / lanes)`` groups of channels, one a cycle; the reduction takes whatever comes.
"""

from fractions import Fraction
from typing import Any

from model.ir.beats import Beats
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.numerics import IntRange
from model.ir.pe_array import SLICE_LATENCY, requantize_latency
from model.ir.repack import repack_cost, repacks
from model.ir.requantize import RequantizeSpec
from model.ir.window import Windowed
from model.ir.window_buffer import WindowBuffer
from model.ir.window_feed import window_cycles


def lane_window(layer: Windowed, lanes: int) -> WindowBuffer:
    """The window of such a stage: all kernel rows at once, one group of channels after another."""
    return WindowBuffer(layer, lanes, layer.kernel_rows, "channel")


def check_lanes(thing: str, lanes: int, channels: int) -> None:
    """Raise BadInput unless a stage that looks at pixels can have so many lanes."""
    if lanes > channels:
        raise BadInput(
            f"mapping: lanes of {thing}", lanes, f"at most its {channels} channels", "plan again"
        )


def lanewise_cost(
    layer: Windowed,
    ins: tuple[Beats, ...],
    lanes: int,
    *,
    bits: int,
    acc: IntRange,
    depth: int,
    window: WindowBuffer | None,
    **more: Any,
) -> StageCost:
    """Cost of such a stage; where the input is regrouped the latency is a bound.

    Parameters
    ----------
    layer, ins, lanes
        As in ``LayerSpec.stage_cost``.
    bits : int
        Bits of a code that enters.
    acc : IntRange
        Range of the reduction's results.
    depth : int
        Register stages of the reduction: from the last beat of a group to its results.
    window : WindowBuffer, optional
        None: the reduction keeps a result for each channel while the frame passes.
    more
        What else the stage costs; its multipliers and parameters are added to.
    """
    (source,) = ins
    requantize: RequantizeSpec | None = getattr(layer, "requantize", None)
    pixels = Beats((layer.rows, layer.columns, layer.channels), lanes)
    groups = pixels.per_group
    cycles, latency = pixels.count, pixels.count
    buffer_bits = groups * lanes * acc.bits if groups > 1 else 0
    work = Fraction(layer.rows * layer.columns * layer.channels, lanes)
    if window is not None:
        cycles, latency = window_cycles(window, source), window.latency
        buffer_bits = window.buffer_bits(bits)
        work = Fraction(layer.positions * layer.kernel_columns * layer.channels, lanes)
    if repacks(source, pixels):
        regroup = repack_cost(source, pixels, masked=False)
        cycles = max(cycles, regroup.cycles)
        latency += regroup.latency - pixels.count  # as late as its latest beat is, at most
    latency += depth + SLICE_LATENCY
    multipliers, parameter_bits = more.pop("multipliers", ()), 0
    if requantize is not None:
        latency += requantize_latency(layer)
        parameter_bits = groups * lanes * requantize.channel_bits() + requantize.layer_bits()
        if requantize.multiplies:
            multipliers += ((lanes, acc.bits, requantize.m_bits),)
    return StageCost(
        cycles=cycles,
        ideal_cycles=work,
        input_beats=source.count,
        output_beats=layer.positions * groups,
        latency=latency,
        multipliers=multipliers,
        parameter_bits=parameter_bits,
        buffer_bits=buffer_bits,
        **more,
    )
