"""The real FFT in hardware: one signature, and as many multipliers as its interval leaves it.

A unit takes a block of k words every ``interval`` cycles. With an interval of 1 its body is
**pipelined**: every multiplication of the transform has a multiplier of its own, by a constant.
With a longer one it is **folded**: a multiplier does up to ``interval`` multiplications of a stage,
one a cycle, and each register of the pipeline holds its word for ``interval`` cycles.

With M real multiplications in a stage (``2 h + form · g`` for h eighths of a turn and g general
products, see RealFFTSpec) and an interval of I:

==================  ==================================================================
multipliers         ``N = ceil(M / I)``
slots               ``S = ceil(M / N)``: multiplications that a multiplier does
latency             1 if M = 0; 3 if S = 1 (operands, product, rounding); else S + 3
                    (one register more, behind the choice of the operands)
==================  ==================================================================

The latency of a unit is the sum over its stages, the initiation interval is I.
"""

from dataclasses import dataclass

from model.ir.complex_product import Multipliers, check_form
from model.ir.real_fft import FFTStage, RealFFTSpec
from model.ir.spec import Spec, check_int

INTERVAL_MAX = 64


@dataclass(frozen=True)
class FFTUnitSpec(Spec, kind="fft_unit"):
    """One real FFT unit.

    Parameters
    ----------
    transform : RealFFTSpec
        What it computes, forward or inverse.
    form : int
        Real multiplications of a complex product: 3 or 4.
    interval : int
        Cycles from a block to the next one that it can take, 1 to 64.
    """

    transform: RealFFTSpec
    form: int = 3
    interval: int = 1

    def __post_init__(self) -> None:
        check_form(self.form)
        check_int("interval", self.interval, 1, INTERVAL_MAX)

    @property
    def body(self) -> str:
        """``"pipelined"`` or ``"folded"``."""
        return "pipelined" if self.interval == 1 else "folded"

    def multiplications(self, stage: FFTStage) -> int:
        """Real multiplications of a stage, ``M``."""
        return 2 * stage.eighths + self.form * stage.products

    def slots(self, stage: FFTStage) -> int:
        """Multiplications that a multiplier of a stage does, ``S``; 0 if it has none."""
        found = self.multiplications(stage)
        return -(-found // -(-found // self.interval)) if found else 0

    def stage_latency(self, stage: FFTStage) -> int:
        """Cycles of ``en`` from the words that enter a stage to those that leave it."""
        slots = self.slots(stage)
        return (1, 3)[slots] if slots <= 1 else slots + 3

    @property
    def latency(self) -> int:
        """Cycles of ``en`` from the block that enters to the block that leaves."""
        return sum(self.stage_latency(stage) for stage in self.transform.stages())

    def multipliers(self) -> Multipliers:
        """(count, bits, bits) of the multipliers, with the widest operands that they meet."""
        if self.interval == 1:
            return self.transform.multipliers(self.form)
        found = []
        for stage in self.transform.stages():
            if stage.eighths:
                sums = self.form == 3 and stage.products > 0
                count = -(-self.multiplications(stage) // self.interval)
                widths = stage.operands.bits + 1, self.transform.twiddle_bits + sums
                found.append((count, *widths))
        return tuple(found)

    @property
    def multiplier_count(self) -> int:
        """Real multipliers."""
        return sum(count for count, _, _ in self.multipliers())
