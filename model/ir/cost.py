"""What a stage costs: cycles, multipliers, memory bits. The formulas stand in the engines."""

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class StageCost:
    """What one stage costs, by formula. Cycles are clock cycles per frame in steady state.

    Parameters
    ----------
    cycles : int
        Cycles between two frames when the stage is neither starved nor stalled.
    ideal_cycles : Fraction
        Cycles of an engine that never idles: useful multiply-accumulates over those per cycle.
    input_beats, output_beats : int
        Beats per frame on the streams.
    latency : int
        Cycles from a frame's first input beat to its last output beat, both counted, through an
        idle stage that is neither starved nor stalled.
    macs : int
        Multiply-accumulates per frame, those of absent weights included.
    kept_macs : int
        Those of the weights that are kept.
    steps : int
        Engine steps per frame, each of which reads one weight word and one activation word.
    weight_words, activation_words : int
        Weight codes and activation codes read from memory per frame.
    multipliers : tuple of (count, bits, bits)
        Multipliers with the widths of their operands, those of the requantizers included.
    weight_bits, parameter_bits, buffer_bits : int
        Bits in memories for weights, for requantization parameters and indices, for activations;
        registers are not counted.
    macros : int
        Macros whose cells hold the weights.
    """

    cycles: int
    ideal_cycles: Fraction
    input_beats: int
    output_beats: int
    latency: int
    macs: int = 0
    kept_macs: int = 0
    steps: int = 0
    weight_words: int = 0
    activation_words: int = 0
    multipliers: tuple[tuple[int, int, int], ...] = ()
    weight_bits: int = 0
    parameter_bits: int = 0
    buffer_bits: int = 0
    macros: int = 0

    @property
    def bound_cycles(self) -> int:
        """Fewest cycles per frame that any schedule of this stage can reach."""
        return max(-(-self.ideal_cycles // 1), self.input_beats, self.output_beats)

    @property
    def multiplier_count(self) -> int:
        """Multipliers of any width."""
        return sum(count for count, _, _ in self.multipliers)

    @property
    def multiplier_bits(self) -> int:
        """Sum over the multipliers of the product of their operand widths."""
        return sum(count * a * b for count, a, b in self.multipliers)

    @property
    def memory_bits(self) -> int:
        """All memory bits of the stage."""
        return self.weight_bits + self.parameter_bits + self.buffer_bits
