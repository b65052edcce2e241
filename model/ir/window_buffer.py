"""The sliding window in hardware: in which order a frame's patches leave, when, and what it costs.

A frame [rows, columns, channels] enters as ``G = ceil(channels / lanes)`` beats a pixel. The
patches leave one kernel column and one group of channels a beat, either with a single kernel row in
each beat (``banks`` = 1) or with all of them (``banks`` = ``kernel_rows``)::

    beats of a position  =  (kernel_rows if banks == 1 else 1) · kernel_columns · G

The buffer is a ring of ``kernel_rows + ahead`` rows. The pixel that enters takes the place of the
one a whole ring above it as soon as no later position looks at that one.

Pixels that no window covers, at the right and the bottom edge, are taken and dropped. A 1 × 1
kernel needs no buffer: its pixels pass, but for those that the stride skips.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np

from model.ir.spec import check_int
from model.ir.window import Windowed

ORDERS = ("vector", "channel")

READ_LATENCY = 2
"""Cycles from reading the memories to the beat: their output registers, then the beat's own."""

SETTLED = 2
"""Equal gaps between frames after which the schedule counts as periodic."""

MOST_FRAMES = 40
"""Frames after which the largest gap of the latter half is taken, if the gaps still differ."""


@dataclass(frozen=True)
class WindowBuffer:
    """The window of a layer, as built.

    Parameters
    ----------
    layer : Windowed
    lanes : int
        Channels per beat that enter, at most the layer's channels.
    banks : int
        Kernel rows per beat that leaves: 1 or ``kernel_rows``. A beat holds ``banks · lanes``
        codes, kernel row by kernel row.
    order : str
        Order of the beats of a position, fastest last: "vector" for (kernel row, kernel column,
        group), "channel" for (group, kernel row, kernel column). The kernel row is left out where
        a beat holds all of them.
    ahead : int
        Rows kept beyond ``kernel_rows``: so many more may enter before they are needed.

    Raises ValueError where these do not fit each other.

    A word is a beat that enters. With beats counted over all frames, nothing starved or stalled::

        write(m) = max(write(m - 1) + 1, read(the last read of the word that m replaces) + 1)
        read(n)  = max(read(n - 1) + 1, write(the last word that beat n looks at) + 1)

    and beat n leaves in cycle ``read(n) + READ_LATENCY``. ``cycles`` and ``latency`` evaluate this
    exactly. It is never faster than ``max(input_beats, output_beats)`` a frame.
    """

    layer: Windowed
    lanes: int
    banks: int
    order: str = "vector"
    ahead: int = 0

    def __post_init__(self) -> None:
        layer = self.layer
        check_int("lanes", self.lanes, 1, layer.channels)
        check_int("ahead", self.ahead, 0)
        if self.banks not in (1, layer.kernel_rows):
            raise ValueError(
                f"banks must be 1 or kernel_rows {layer.kernel_rows}, not {self.banks}"
            )
        if self.order not in ORDERS:
            raise ValueError(f"order must be one of {', '.join(ORDERS)}, not {self.order}")

    @property
    def groups(self) -> int:
        """Beats of a pixel, ``G``."""
        return -(-self.layer.channels // self.lanes)

    @property
    def input_beats(self) -> int:
        """Beats of a frame that enter."""
        return self.layer.rows * self.layer.columns * self.groups

    @property
    def position_beats(self) -> int:
        """Beats of a position."""
        return self.layer.area // self.banks * self.groups

    @property
    def output_beats(self) -> int:
        """Beats of a frame that leave."""
        return self.layer.positions * self.position_beats

    @property
    def out_lanes(self) -> int:
        """Codes of a beat that leaves."""
        return self.banks * self.lanes

    @property
    def top_row(self) -> int:
        """Row at which the windows of the last output row begin."""
        return (self.layer.out_rows - 1) * self.layer.stride - self.layer.padding

    @property
    def left_column(self) -> int:
        """Column at which the windows of the last output column begin."""
        return (self.layer.out_columns - 1) * self.layer.stride - self.layer.padding

    @property
    def used_rows(self) -> int:
        """Rows of the frame that a window covers; those below are dropped."""
        return min(self.layer.rows, self.top_row + self.layer.kernel_rows)

    @property
    def used_columns(self) -> int:
        """Columns of the frame that a window covers; those to the right are dropped."""
        return min(self.layer.columns, self.left_column + self.layer.kernel_columns)

    @property
    def line(self) -> int:
        """Words of a row in the buffer."""
        return self.used_columns * self.groups

    @property
    def slots(self) -> int:
        """Rows in the buffer; none for a 1 × 1 kernel."""
        return 0 if self.layer.area == 1 else self.layer.kernel_rows + self.ahead

    @property
    def words(self) -> int:
        """Words of ``lanes`` codes in the buffer, ``slots · line``."""
        return self.slots * self.line

    @property
    def seamless(self) -> int:
        """Rows ahead with which a slow reader finds its next row, and the next frame, loaded.

        A frame needs ``kernel_rows - padding`` rows at its beginning. One of them, and one for each
        row of padding below the frame before, can enter while that one's last windows leave. Within
        a frame the same holds of the ``stride`` rows that each row of windows adds: two of them can
        enter nearly without a pause, one in place of a row that is being read, and one behind it.
        """
        layer = self.layer
        if layer.area == 1:
            return 0
        below = max(0, self.top_row + layer.kernel_rows - layer.rows)
        between = layer.stride - 2 if layer.out_rows > 1 else 0
        return max(0, between, layer.kernel_rows - layer.padding - below - 1)

    def buffer_bits(self, code_bits: int) -> int:
        """Bits of the buffer for codes of a width."""
        return self.words * self.lanes * code_bits

    def drops(self, row: int) -> int:
        """Beats that are dropped after the last used one of a used row."""
        layer = self.layer
        beats = layer.columns * self.groups - self.line
        if row == self.used_rows - 1:
            beats += (layer.rows - self.used_rows) * layer.columns * self.groups
        return beats

    @cached_property
    def beats(self) -> np.ndarray:
        """What each beat of a position is: int64 [position_beats, 3] of (kernel row, kernel column,
        group); the kernel row is the last one where a beat holds all.
        """
        layer, rows = self.layer, self.layer.kernel_rows
        lines = np.arange(rows) if self.banks == 1 else np.array([rows - 1])
        columns, groups = np.arange(layer.kernel_columns), np.arange(self.groups)
        if self.order == "vector":
            line, column, group = np.meshgrid(lines, columns, groups, indexing="ij")
        else:
            group, line, column = np.meshgrid(groups, lines, columns, indexing="ij")
        return np.stack([line.ravel(), column.ravel(), group.ravel()], axis=1)

    @property
    def kept(self) -> np.ndarray:
        """Which pixels of a frame a 1 × 1 kernel looks at, bool [rows · columns]."""
        layer = self.layer
        row, column = np.divmod(np.arange(layer.rows * layer.columns), layer.columns)
        return (row % layer.stride == 0) & (column % layer.stride == 0)

    def cycles(self, pace: int = 1) -> int:
        """Cycles between two frames in steady state.

        Parameters
        ----------
        pace : int
            Cycles from position to position that what follows needs. Fewer than the beats of a
            position change nothing. With more this is a bound: what is in the window's registers
            has been read ahead.
        """
        return _figures(self, max(pace, self.position_beats))[0]

    @property
    def latency(self) -> int:
        """Cycles from a frame's first beat that enters to its last that leaves, both counted."""
        return _figures(self, self.position_beats)[1]

    def schedule(self, pace: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frame after frame, the cycle of every beat that enters (int64 [input_beats]) and of every
        beat that leaves (int64 [output_beats]), from cycle 0 on, if the source is always there.
        """
        pace = max(pace, self.position_beats)
        if self.layer.area == 1:
            return _skipping(self, pace)
        always = Words(np.zeros(self.input_beats, np.int64), 0)
        return sliding(self, always, Paced(self, pace))


@lru_cache(maxsize=4096)
def _figures(window: WindowBuffer, pace: int) -> tuple[int, int]:
    """Cycles between frames in steady state, and the latency."""
    ends: list[int] = []
    latency = 0
    for entered, left in window.schedule(pace):
        if not ends:
            latency = int(left[-1] - entered[0]) + 1
        ends.append(int(left[-1]))
        gaps = np.diff(ends[-SETTLED - 1 :])
        if len(gaps) == SETTLED and len(set(gaps)) == 1:
            return int(gaps[0]), latency
        if len(ends) == MOST_FRAMES:
            break
    return int(np.diff(ends)[MOST_FRAMES // 2 :].max()), latency


def _skipping(window: WindowBuffer, pace: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The schedule of a 1 × 1 kernel: a beat leaves in the cycle in which it enters, or not."""
    kept, groups = window.kept, window.groups
    beats = np.diff(np.flatnonzero(kept), append=len(kept)) * groups  # from position to position
    times = np.maximum(beats, pace)
    begin = np.cumsum(times) - times
    entered = np.repeat(begin - np.cumsum(beats) + beats, beats) + np.arange(window.input_beats)
    while True:
        yield entered, entered[np.repeat(kept, groups)]
        entered = entered + times.sum()


class Feed(Protocol):
    """What brings the words of a window, frame after frame, and when."""

    def row(self, count: int, free: np.ndarray) -> np.ndarray:
        """The cycles, int64 [count], in which the next words are taken.

        ``free`` are the cycles from which the first words can be; the others always can.
        """

    def entered(self) -> np.ndarray:
        """The cycles in which the next frame's beats entered, int64 [beats of the source]."""


class Reader(Protocol):
    """What takes the beats that a window reads."""

    def row(self, wait: np.ndarray) -> np.ndarray:
        """The cycles in which the next beats are read, from those in which they can be."""


class Words:
    """A feed of beats that are words themselves.

    Parameters
    ----------
    come : int64 array [input beats]
        Cycle from which each beat of the first frame is there.
    period : int
        So many cycles later it is in each frame after it.
    """

    def __init__(self, come: np.ndarray, period: int) -> None:
        self.come, self.period = come, period
        self.taken = self.next = 0
        self.cycles: list[np.ndarray] = []

    def row(self, count: int, free: np.ndarray) -> np.ndarray:
        frame, first = divmod(self.taken, len(self.come))
        there = self.come[first : first + count] + frame * self.period
        there[: len(free)] = np.maximum(there[: len(free)], free)
        order = np.arange(count)
        cycle = order + np.maximum.accumulate(np.maximum(there - order, self.next))
        self.taken, self.next = self.taken + count, int(cycle[-1]) + 1
        self.cycles.append(cycle)
        return cycle

    def entered(self) -> np.ndarray:
        return _frame_of(self.cycles, len(self.come))


def _frame_of(parts: list[np.ndarray], count: int) -> np.ndarray:
    """The first ``count`` numbers of arrays that end there; they are left out then."""
    frame: list[np.ndarray] = []
    while count:
        frame.append(parts.pop(0))
        count -= len(frame[-1])
    return np.concatenate(frame)


class Paced:
    """A reader that takes a beat a cycle, and a position every ``pace`` cycles at most."""

    def __init__(self, window: WindowBuffer, pace: int = 1) -> None:
        columns, beats = window.layer.out_columns, window.position_beats
        pace = max(pace, beats)
        self.least = (np.arange(columns)[:, None] * pace + np.arange(beats)).ravel()
        self.length, self.next = columns * pace, 0

    def row(self, wait: np.ndarray) -> np.ndarray:
        read = self.least + np.maximum.accumulate(np.maximum(wait - self.least, self.next))
        self.next = int(read[-1] - self.least[-1]) + self.length
        return read


def sliding(
    window: WindowBuffer, feed: Feed, reader: Reader
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The schedule of a window with a buffer, row by row.

    Gives frame after frame the cycles in which its beats entered the feed, and those in which its
    beats were read and ``READ_LATENCY`` passed.
    """
    layer, groups, used = window.layer, window.groups, window.used_rows
    stride, padding, slots = layer.stride, layer.padding, window.slots
    kernel_row, kernel_column, group = window.beats.T
    # What the beats of an output row look at: an address in a row, or beyond its ends (padding).
    start = np.arange(layer.out_columns)[:, None] * stride - padding
    column = (start + kernel_column).ravel()
    address = column * groups + np.tile(group, layer.out_columns)
    real = (column >= 0) & (column < window.used_columns)
    row_of = np.tile(kernel_row, layer.out_columns)
    final = (kernel_column < stride) | (start == start[-1])
    if window.order == "channel":
        final = final & (group == groups - 1)
    final = final.ravel() & real
    words = np.arange(window.line)

    writes: dict[int, np.ndarray] = {}  # ring row -> cycle of each word
    freed: dict[int, np.ndarray] = {}  # ring row -> cycle from which each word may be replaced
    none = np.zeros(0, np.int64)
    written, frame = 0, 0
    while True:
        left = []
        for out_row in range(layer.out_rows):
            top = out_row * stride - padding
            last = min(layer.kernel_rows, used - top) - 1  # last kernel row that is no padding
            while written <= frame * used + top + last:
                free = freed.pop(written - slots) if written >= slots else none
                cycle = feed.row(window.line + window.drops(written % used), free)
                writes[written] = cycle[: window.line]
                written += 1
            begin = int(writes[frame * used][0]) + 1 if out_row == 0 else 0  # padding waits too
            wait = np.full(len(address), begin)
            for offset in [last] if window.banks > 1 else range(max(0, -top), last + 1):
                line = real & (row_of == offset) if window.banks == 1 else real
                wait[line] = writes[frame * used + top + offset][address[line]] + 1
            read = reader.row(wait)
            left.append(read + READ_LATENCY)
            # Rows that no later output row looks at: the reads that give their words free.
            following = used if out_row == layer.out_rows - 1 else top + stride
            rows = range(max(0, top), max(0, following))
            if rows:
                ends = final & (row_of == rows[-1] - top) if window.banks == 1 else final
                free = read[ends][np.searchsorted(address[ends], words)] + 1
            for row in rows:
                freed[frame * used + row] = free
                del writes[frame * used + row]
        yield feed.entered(), np.concatenate(left)
        frame += 1


def passing(window: WindowBuffer, feed: Feed) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same of a 1 × 1 kernel, whose beats pass as they are taken, if nothing waits for them."""
    kept = np.repeat(window.kept, window.groups)
    while True:
        cycle = feed.row(window.input_beats, np.zeros(0, np.int64))
        yield feed.entered(), cycle[kept]
