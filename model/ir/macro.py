"""The SOT-MRAM macro: cells of integer levels, counted along their columns and converted.

A macro has ``rows`` word lines and ``cols`` bit lines. An evaluation puts a bit on each word line;
each column gives the sum of the levels of its cells on driven lines::

    count[c]  = sum over rows r of x[r] * level[r, c]
    net[n]    = count[n] - count[reference]                with a reference column
              = count[2 n] - count[2 n + 1]                in pairs
              = count[n]                                   else
    result[n] = net[n]                                     exact
              = clamp((net[n] + step // 2) // step, low, high)     a converter of adc_bits

``//`` rounds down. Codes are signed if ``net`` can be negative by design (pairs), else 0 to
``2^adc_bits - 1``. Levels are the integers that the cells reach: fraction bits of the grid,
conductance spread and a finite on/off ratio are in them, and so in what is counted.
"""

from dataclasses import dataclass

import numpy as np

from model.ir.errors import BadInput
from model.ir.numerics import IntRange
from model.ir.spec import Spec, check_int

WORD = 64
"""Bits of a word in which the cells of as many columns are counted at once."""

LANES = (8, 16, 32)
"""Widths in which counts and results stand side by side."""

ROWS_MAX = 1024
COLS_MAX = 1024
LEVEL_BITS_MAX = 15
ADC_BITS_MAX = 16


@dataclass(frozen=True)
class MacroSpec(Spec, kind="sot_mram_macro"):
    """A macro and how its rows are written.

    Parameters
    ----------
    rows, cols : int
        Word lines and bit lines, 1 to 1024 each; the reference column is one more.
    level_bits : int
        Bits of a cell's level, fraction bits of the grid included, 1 to 15.
    reference : bool
        A further column of cells whose count is taken from that of every other column.
    pairs : bool
        A result is the difference of two neighbouring columns; ``cols`` is even.
    share : int
        Results that one converter gives, one a cycle, 1 to 64.
    adc_bits : int or None
        Bits of a converter, which saturates, 1 to 16; None counts exactly.
    step : int
        Levels that a converter's code stands for; 1 if it is exact.
    write_cycles : int
        Cycles of a write pulse, 1 to 65535.
    attempts : int
        Most pulses for a row, 1 to 255.
    failures : int
        Of 65,536 pulses, those in which some cells do not switch (in the mean), 0 to 65,536.
    endurance : int
        Pulses that a row bears, 1 to ``2^32 - 1``; 0 for any number.

    ===================  ======================================================================
    results              ``cols``, or ``cols / 2`` in pairs
    converters           ``ceil(results / share)``
    interval             ``share`` cycles from an evaluation to the next
    latency              cycles from ``start`` to the first results, both counted: 3, and 1 more
                         with a reference column, pairs, a converter or ``share > 1``
    cell bits            ``rows · (cols + reference) · level_bits``
    row write            ``1 + a · (write_cycles + 2)`` cycles for a row that takes ``a`` pulses
    ===================  ======================================================================
    """

    rows: int
    cols: int
    level_bits: int = 1
    reference: bool = False
    pairs: bool = False
    share: int = 1
    adc_bits: int | None = None
    step: int = 1
    write_cycles: int = 1
    attempts: int = 1
    failures: int = 0
    endurance: int = 0

    def __post_init__(self) -> None:
        check_int("rows", self.rows, 1, ROWS_MAX)
        check_int("cols", self.cols, 1, COLS_MAX)
        check_int("level_bits", self.level_bits, 1, LEVEL_BITS_MAX)
        check_int("share", self.share, 1, min(64, self.results))
        if self.pairs and (self.cols % 2 or self.reference):
            raise ValueError(
                "pairs must be of an even number of columns without a reference, "
                f"not of {self.cols}" + " with one" * self.reference
            )
        if self.adc_bits is not None:
            check_int("adc_bits", self.adc_bits, 1, ADC_BITS_MAX)
        check_int("step", self.step, 1, 1 if self.adc_bits is None else self.count_top + 1)
        check_int("write_cycles", self.write_cycles, 1, 65535)
        check_int("attempts", self.attempts, 1, 255)
        check_int("failures", self.failures, 0, 65536)
        check_int("endurance", self.endurance, 0, 2**32 - 1)

    # -- shapes and widths

    @property
    def columns(self) -> int:
        """Columns of cells: ``cols`` and the reference column."""
        return self.cols + self.reference

    @property
    def results(self) -> int:
        """Results of an evaluation."""
        return self.cols // 2 if self.pairs else self.cols

    @property
    def converters(self) -> int:
        """Converters, or exact counters."""
        return -(-self.results // self.share)

    @property
    def count_top(self) -> int:
        """The highest count of a column."""
        return self.rows * ((1 << self.level_bits) - 1)

    @property
    def net(self) -> IntRange:
        """Range of what is converted."""
        return IntRange(-self.count_top if self.reference or self.pairs else 0, self.count_top)

    @property
    def result(self) -> IntRange:
        """Range of a result."""
        if self.adc_bits is None:
            return self.net
        return IntRange.of_bits(self.adc_bits, self.pairs)

    @property
    def count_lane(self) -> int:
        """Bits in which a count stands: 8, 16 or 32."""
        return next(lane for lane in LANES if self.count_top < 1 << lane)

    @property
    def result_lane(self) -> int:
        """Bits in which a result stands at the port, sign-extended: 8, 16 or 32."""
        return next(lane for lane in LANES if self.result.bits <= lane)

    # -- costs

    @property
    def interval(self) -> int:
        """Cycles from an evaluation to the next."""
        return self.share

    @property
    def direct(self) -> bool:
        """Whether counts leave as they are, without the stage of the converters."""
        plain = not self.reference and not self.pairs and self.adc_bits is None
        return plain and self.share == 1

    @property
    def latency(self) -> int:
        """Cycles from ``start`` to the first results, both counted."""
        return 3 if self.direct else 4

    @property
    def cell_bits(self) -> int:
        """Bits in cells."""
        return self.rows * self.columns * self.level_bits

    def row_write_cycles(self, pulses: int) -> int:
        """Cycles from a row's transfer to the next one's, if it takes so many pulses."""
        return 1 + pulses * (self.write_cycles + 2)

    # -- arithmetic of the converter in gates

    @property
    def offset(self) -> int:
        """Codes that are added before a division and taken away after it."""
        return -(self.net.low // self.step)

    @property
    def reciprocal(self) -> tuple[int, int]:
        """``(m, s)``: ``v // step == v * m >> s`` for every ``v`` that is divided.

        ``s = bits of v + ceil(log2 step)`` and ``m = ceil(2^s / step)`` (Granlund and Montgomery,
        Division by invariant integers, 1994).
        """
        top = self.count_top + self.step // 2 + self.offset * self.step
        shift = top.bit_length() + (self.step - 1).bit_length()
        return -(-(1 << shift) // self.step), shift

    # -- contents

    def check_levels(self, levels: np.ndarray, thing: str) -> None:
        """Raise BadInput unless levels are [rows, columns] and fit the cells."""
        self._check_shape(levels, thing)
        top = (1 << self.level_bits) - 1
        wrong = levels[(levels < 0) | (levels > top)]
        if wrong.size:
            raise BadInput(
                thing,
                f"level {wrong[0]}",
                f"levels from 0 to {top}",
                "quantize to the levels of the cells, or give the cells more bits",
            )

    def check_stuck(self, stuck: np.ndarray, thing: str) -> None:
        """Raise BadInput unless a map of stuck cells is [rows, columns] of 0 and 1."""
        self._check_shape(stuck, thing)
        if not np.isin(stuck, (0, 1)).all():
            raise BadInput(thing, "other values", "0 or 1 for each cell", "mark stuck cells with 1")

    def check_status(
        self,
        thing: str,
        *,
        failures: int = 0,
        failed_macro: int = 0,
        failed_row: int = 0,
        unprogrammed: int = 0,
        worn: int = 0,
        clash: int = 0,
    ) -> None:
        """Raise BadInput if a macro or its programmer shows an error at the port of that name."""
        if worn:
            raise BadInput(
                thing,
                "a write to a row past its endurance",
                f"at most {self.endurance} pulses for a row",
                "write each row less often, or give `endurance` the pulses that a row bears",
            )
        if failures:
            raise BadInput(
                thing,
                f"{failures} rows that failed, the last of them row {failed_row} of macro "
                f"{failed_macro}",
                f"the wanted levels after at most {self.attempts} pulses",
                "allow more `attempts`, or place the weights around the stuck cells",
            )
        if unprogrammed:
            raise BadInput(
                thing,
                "an evaluation of a row that was never programmed",
                "contents in every row that is driven",
                "write the rows first, or start with contents from a file",
            )
        if clash:
            raise BadInput(
                thing,
                "an evaluation during another's turn at the converters, or during a write",
                f"evaluations at least {self.interval} cycles apart, and none during a write",
                "have the controller wait",
            )

    def _check_shape(self, found: np.ndarray, thing: str) -> None:
        if found.shape != (self.rows, self.columns):
            raise BadInput(
                thing,
                f"shape {list(found.shape)}",
                f"shape {[self.rows, self.columns]}, rows and columns of the macro",
                "make it for this macro" + ", its reference column included" * self.reference,
            )

    def evaluate(self, levels: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Results int64 [evaluations, results] of levels [rows, columns] and bits x [..., rows]."""
        count = x.astype(np.int64) @ levels.astype(np.int64)
        if self.reference:
            count = count[..., :-1] - count[..., -1:]
        if self.pairs:
            count = count[..., 0::2] - count[..., 1::2]
        if self.adc_bits is None:
            return count
        code = (count + self.step // 2) // self.step
        return code.clip(self.result.low, self.result.high)

    def words(self, levels: np.ndarray) -> np.ndarray:
        """Words of the memory of the cells, bit matrix uint8 [words, 64].

        Rows are filled up to a multiple of 8 and columns to one of 64. Word
        ``(row * level_bits + bit) * chunks + chunk`` holds a bit of 64 columns; column i of them is
        bit ``(i % per) * lane + i // per``, with ``per = 64 / lane``, so that planes of bits become
        lanes of counts in the right order.
        """
        rows, chunks = -(-self.rows // 8) * 8, -(-self.columns // WORD)
        whole = np.zeros((rows, chunks * WORD), dtype=np.int64)
        whole[: self.rows, : self.columns] = levels
        planes = whole[:, None] >> np.arange(self.level_bits)[:, None] & 1
        i, per = np.arange(WORD), WORD // self.count_lane
        placed = np.empty((rows, self.level_bits, chunks, WORD), dtype=np.uint8)
        placed[..., (i % per) * self.count_lane + i // per] = planes.reshape(placed.shape)
        return placed.reshape(-1, WORD)

    def stuck_words(self, stuck: np.ndarray) -> np.ndarray:
        """Words of the map of stuck cells: those of :meth:`words` for levels of one bit."""
        rows, chunks = -(-self.rows // 8) * 8, -(-self.columns // WORD)
        whole = np.zeros((rows, chunks, WORD), dtype=np.uint8)
        whole.reshape(rows, -1)[: self.rows, : self.columns] = stuck
        i, per = np.arange(WORD), WORD // self.count_lane
        placed = np.empty_like(whole)
        placed[..., (i % per) * self.count_lane + i // per] = whole
        return placed.reshape(-1, WORD)
