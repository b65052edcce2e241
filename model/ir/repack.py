"""Costs of laying the codes of a stream onto other lanes, with or without dropping codes."""

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
