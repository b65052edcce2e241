"""Costs of changing the number of lanes of a stream, with or without dropping codes."""

from fractions import Fraction

from model.ir.mapping import StageCost


def repack_latency(masked: bool) -> int:
    """Cycles from a beat's arrival to its first appearance: the buffer, and the compaction."""
    return 3 if masked else 1


def repack_cost(in_length: int, length: int, in_lanes: int, lanes: int, masked: bool) -> StageCost:
    """Cost of repacking frames of ``in_length`` codes, of which ``length`` stay.

    One beat enters and one leaves in a cycle, so the rate is that of the busier side; the latency
    is that of a frame whose last code is kept, with as many output beats as are still to come once
    the last input beat has arrived.
    """
    in_beats, beats = -(-in_length // in_lanes), -(-length // lanes)
    return StageCost(
        cycles=max(in_beats, beats),
        ideal_cycles=Fraction(0),
        input_beats=in_beats,
        output_beats=beats,
        latency=max(in_beats, beats) + repack_latency(masked),
        parameter_bits=in_beats * in_lanes if masked else 0,
    )
