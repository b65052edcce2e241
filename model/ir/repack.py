"""Costs of laying the codes of a stream onto other lanes, with or without dropping codes."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

from model.ir.beats import Beats
from model.ir.cost import StageCost

COMPACT_LEVELS = 3
"""Levels of counting or moving between two registers of the compaction."""


def compact_latency(lanes: int) -> int:
    """Register stages of the compaction: the beat, its mask, then counting and moving."""
    return 2 + 2 * -(-(lanes - 1).bit_length() // COMPACT_LEVELS)


def repack_latency(in_lanes: int, masked: bool) -> int:
    """Cycles from a beat's arrival to its first appearance: the compaction, and the buffer."""
    return 1 + (compact_latency(in_lanes) if masked else 0)


def repacks(i: Beats, o: Beats) -> bool:
    """Whether frames have to be laid out anew between two streams that keep every code."""
    return i.lanes != o.lanes or (i.groups != o.groups and not (i.contiguous and o.contiguous))


def check_repack(i: Beats, o: Beats, masked: bool) -> None:
    """Raise ValueError unless frames on ``i`` can be repacked to ``o``."""
    if not masked and i.length != o.length:
        raise ValueError(f"length must be {i.length} without a mask, not {o.length}")
    if (masked or i.groups != o.groups) and not o.contiguous:
        raise ValueError(
            f"lanes of new pixels must divide their {o.channels} channels, not {o.lanes}"
        )


def repack_needs(i: Beats, o: Beats) -> np.ndarray:
    """Input beat, int64 [o.count], that brings the last code of each output beat.

    If codes are dropped it is the latest that any mask allows: those that stay stand at the end.
    """
    return i.beat_of(o.ends() + i.length - o.length)


@dataclass(frozen=True)
class RepackBuffer:
    """The buffer of a repacker, in codes.

    Parameters
    ----------
    unit : int
        What its fill level counts in: without a mask only multiples occur.
    most : int
        The most that one beat adds; a frame's last beat is filled up to whole output beats.
    capacity : int
        ``most`` more than can be in it while the output never pauses.
    tail, padding : int
        Codes in the last beat of a run of the input, and lanes to fill up after a run or a frame.
    pixels : bool
        Runs of the input are runs of the output too, and filled up each.
    """

    unit: int
    most: int
    capacity: int
    tail: int
    padding: int
    pixels: bool

    @classmethod
    def of(cls, i: Beats, o: Beats, masked: bool) -> "RepackBuffer":
        """The buffer between two streams."""
        pixels = not masked and i.groups == o.groups
        tail = i.length // i.groups - (i.per_group - 1) * i.lanes
        padding = o.count * o.lanes - o.length
        if pixels:
            padding //= o.groups
        joins = not masked and not pixels and tail < i.lanes  # runs end within a beat
        unit = 1 if masked else math.gcd(i.lanes, o.lanes, tail if joins else 0)
        most = i.lanes + padding if masked else max(i.lanes, tail + padding)
        capacity = o.lanes - unit + 2 * most + (o.lanes if joins else 0)
        return cls(unit, most, capacity, tail, padding, pixels)

    @property
    def room(self) -> int:
        """The highest fill level, in units, with which a beat can enter."""
        return (self.capacity - self.most) // self.unit


def repack_room(i: Beats, o: Beats) -> np.ndarray:
    """Output beats that must have left before each input beat enters, int64 [i.count].

    Without a mask. They count from the frame's first one; where the number is not positive, beats
    of the frame before have to.
    """
    buffer = RepackBuffer.of(i, o, masked=False)
    adds = np.full(i.count, i.lanes)
    adds[i.per_group - 1 :: i.per_group] = buffer.tail + (buffer.padding if buffer.pixels else 0)
    if not buffer.pixels:
        adds[-1] += buffer.padding
    before = np.cumsum(adds) - adds
    return -((buffer.room * buffer.unit - before) // o.lanes)


@cache
def repack_cost(i: Beats, o: Beats, masked: bool) -> StageCost:
    """Cost of repacking frames from beats ``i`` to beats ``o``.

    One beat enters and one leaves in a cycle, so the cycles are the beats of the busier side; where
    the codes that stay cluster, it can be up to the beats of both sides. The latency is that of the
    worst mask, whose codes stay at the end of the frame; without a mask it is exact.

    Raises
    ------
    ValueError
        If the frames cannot be laid out so: see :func:`check_repack`.
    """
    check_repack(i, o, masked)
    # When the last output beat would have left if nothing but one beat were late, for each of them.
    ends = repack_needs(i, o) + repack_latency(i.lanes, masked) + o.count - np.arange(o.count)
    return StageCost(
        cycles=max(i.count, o.count),
        ideal_cycles=Fraction(0),
        input_beats=i.count,
        output_beats=o.count,
        latency=int(ends.max()),
        parameter_bits=i.count * i.lanes if masked else 0,
    )
