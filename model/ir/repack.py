"""Costs of changing the number of lanes of a stream, with or without dropping codes."""

from fractions import Fraction

from model.ir.cost import StageCost

COMPACT_LEVELS = 3
"""Levels of counting or moving between two registers of the compaction."""


def compact_latency(lanes: int) -> int:
    """Register stages of the compaction: the beat, its mask, then counting and moving."""
    return 2 + 2 * -(-(lanes - 1).bit_length() // COMPACT_LEVELS)


def repack_latency(in_lanes: int, masked: bool) -> int:
    """Cycles from a beat's arrival to its first appearance: the compaction, and the buffer."""
    return 1 + (compact_latency(in_lanes) if masked else 0)


def repack_cost(in_length: int, length: int, in_lanes: int, lanes: int, masked: bool) -> StageCost:
    """Cost of repacking frames of ``in_length`` codes, of which ``length`` stay.

    One beat enters and one leaves in a cycle, so the cycles are the beats of the busier side; where
    the codes that stay cluster, it can be up to the beats of both sides. The latency is that of the
    worst mask, whose codes stay at the end of the frame; without a mask it is exact.
    """
    in_beats, beats = -(-in_length // in_lanes), -(-length // lanes)
    dropped = in_length - length

    def end(beat: int) -> int:
        """Cycles until the last output beat has left, if nothing but this beat were late."""
        arrival = (dropped + min((beat + 1) * lanes, length) - 1) // in_lanes
        return arrival + repack_latency(in_lanes, masked) + beats - beat

    return StageCost(
        cycles=max(in_beats, beats),
        ideal_cycles=Fraction(0),
        input_beats=in_beats,
        output_beats=beats,
        # The wait of a beat grows or falls all along the frame, but for its last beat.
        latency=max(end(beat) for beat in {0, max(beats - 2, 0), beats - 1}),
        parameter_bits=in_beats * in_lanes if masked else 0,
    )
