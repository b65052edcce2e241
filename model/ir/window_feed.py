"""An engine behind a window: when the vectors of a frame come, and how long a frame takes.

The engine loads a group of vectors while it computes the group before it, so a group's first beat
can enter once the group two before it is computed, and two beats of the window are read ahead. The
window takes words as its ring gives them free, and the repacker before it, if there is one, takes
beats as it gives words. All these are maxima of earlier cycles and constants, so one pass over the
beats gives every cycle of every frame, from which the cycles per frame follow.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np

from model.ir.beats import Beats
from model.ir.repack import repack_latency, repack_needs, repack_room, repacks
from model.ir.window_buffer import (
    MOST_FRAMES,
    READ_LATENCY,
    SETTLED,
    Feed,
    Paced,
    WindowBuffer,
    Words,
    sliding,
)


def vector_ends(window: WindowBuffer, source: Beats) -> np.ndarray:
    """Cycle of the last beat of each vector of the first frame, int64 [positions].

    The first beat of the source comes in cycle 0, and nothing waits for the engine. If the source
    is repacked, a vector comes no earlier than its window's last pixel allows.
    """
    entered, left = next(window.schedule())
    ends = left.reshape(window.layer.positions, -1)[:, -1] - entered[0]
    pixels = Beats(source.shape, window.lanes)
    if not repacks(source, pixels):
        return ends
    order = np.arange(pixels.count)
    come = repack_needs(source, pixels) + repack_latency(source.lanes, masked=False)
    come = order + np.maximum.accumulate(come - order)
    beat, rest = _last_looks(window)
    passed = 0 if window.slots == 0 else 1 + READ_LATENCY
    pace = np.arange(len(ends)) * window.position_beats
    ends = np.maximum(ends + come[0], come[beat] + passed + rest)
    return pace + np.maximum.accumulate(ends - pace)


def _last_looks(window: WindowBuffer) -> tuple[np.ndarray, np.ndarray]:
    """The last beat of the frame that each position looks at, and its beats after that look."""
    layer, groups = window.layer, window.groups
    row = np.arange(layer.out_rows)[:, None] * layer.stride - layer.padding + layer.kernel_rows - 1
    column = np.arange(layer.out_columns) * layer.stride - layer.padding + layer.kernel_columns - 1
    below = np.maximum(row - layer.rows + 1, 0)
    right = np.maximum(column - layer.columns + 1, 0)
    rest = right + (below * layer.kernel_columns if window.banks == 1 else below * 0)
    beat = ((row - below) * layer.columns + column - right) * groups + groups - 1
    return beat.ravel(), (rest * groups).ravel()


class Repacked:
    """A feed of words that a repacker lays out anew, without a mask.

    Parameters
    ----------
    source, words : Beats
        How frames enter and leave.
    come : int64 array [source.count]
        Cycle from which each beat of the first frame is there.
    period : int
        So many cycles later it is in each frame after it.
    """

    def __init__(self, source: Beats, words: Beats, come: np.ndarray, period: int) -> None:
        self.needs = repack_needs(source, words).tolist()
        self.room = repack_room(source, words).tolist()
        self.come, self.period = come.tolist(), period
        self.left: list[int] = []  # cycles in which the words left
        self.beats: list[int] = []  # cycles in which the beats entered
        self.given = 0

    def row(self, count: int, free: np.ndarray) -> np.ndarray:
        left, beats, begin, bound = self.left, self.beats, len(self.left), free.tolist()
        for n in range(count):
            frame, word = divmod(begin + n, len(self.needs))
            need = frame * len(self.come) + self.needs[word]
            while len(beats) <= need:
                of, number = divmod(len(beats), len(self.come))
                enter = self.come[number] + of * self.period
                before = of * len(self.needs) + self.room[number]
                if before > 0:
                    enter = max(enter, left[before - 1] + 1)
                beats.append(max(enter, beats[-1] + 1) if beats else enter)
            cycle = beats[need] + repack_latency(0, masked=False)
            cycle = max(cycle, left[-1] + 1) if left else cycle
            left.append(max(cycle, bound[n]) if n < len(bound) else cycle)
        return np.array(left[begin:])

    def entered(self) -> np.ndarray:
        self.given += len(self.come)
        return np.array(self.beats[self.given - len(self.come) : self.given])


@dataclass(frozen=True)
class Sending:
    """How a result memory of two halves lets the sums of a group leave.

    Parameters
    ----------
    words, beats, last : int
        Words of a vector, beats of a word, and of a vector's last word.
    fold, delay : int
        Steps of the first fold of a group, and cycles from the last step of a fold to its sums.
    """

    words: int
    beats: int
    last: int
    fold: int
    delay: int

    @property
    def vector(self) -> int:
        """Beats of a vector."""
        return (self.words - 1) * self.beats + self.last


class Loading:
    """A reader that loads the vectors of a frame into an engine of two buffers, in groups.

    Parameters
    ----------
    beats : int
        Beats of a vector.
    vectors, pixels : int
        Vectors of a frame and of a group; the last group of a frame has those that are left.
    steps : int
        Cycles to compute a group.
    sending : Sending or None
        How its sums leave; None: as fast as they are computed.
    """

    def __init__(
        self, beats: int, vectors: int, pixels: int, steps: int, sending: Sending | None = None
    ) -> None:
        self.beats, self.frame, self.size = beats, beats * vectors, beats * pixels
        self.steps, self.sending = steps, sending
        self.place = 0  # of the next beat in its frame
        self.read = -1  # the cycle in which the last beat was read
        # A group's first beat waits from one cycle until another before the engine, and what is
        # read after it waits as well; so may that of the group before.
        self.holds = (-1, -1), (-1, -1)
        self.free = 0, 0  # when the next group's buffer is free, and the other one
        self.ready = 0  # when the engine is
        self.vacant = 0, 0  # when the halves of the result memory are
        self.taken, self.leaves = -1, 0  # when the last word leaves it, and in how many beats
        self.done: list[int] = []  # the last cycle of each group's steps
        self.sent: list[int] = []  # the cycle in which the last sums of each group leave

    def row(self, wait: np.ndarray) -> np.ndarray:
        count, order = len(wait), np.arange(len(wait))
        marks = list(range(-self.place % self.size, count, self.size))
        if not marks or marks[0]:
            marks.insert(0, 0)
        latest = np.maximum.reduceat(wait - order, marks).tolist()
        bounds, values = [], []
        for begin, end, late in zip(marks, [*marks[1:], count], latest, strict=True):
            entering = (self.place + begin) % self.size == 0
            read = self._held(max(self.read + 1, int(wait[begin])))
            bounds.append(begin)
            values.append(read)
            if entering:
                self._enter(read)
                if end > begin + 1:
                    at = begin + 1
                    read = self._held(max(read + 1, int(wait[at])))
                    bounds.append(at)
                    values.append(read)
            at, until = bounds[-1], self.holds[1][1]
            if end > at + 1:
                bounds.append(at + 1)
                values.append(until)
                read = max(read + end - 1 - at, late + end - 1, until + end - 2 - at)
            self.read = read
            final = self.place + end == self.frame
            if final or (self.place + end) % self.size == 0:
                alone = entering and end == begin + 1
                loaded = until if alone else max(read + READ_LATENCY, until + 1)
                vectors = (self.place + end - 1) % self.size // self.beats + 1
                self.compute(loaded, vectors)
        self.place = (self.place + count) % self.frame
        least = wait - order
        places = np.array(bounds)
        least[places] = np.maximum(least[places], np.array(values) - places)
        return order + np.maximum.accumulate(least)

    def _held(self, read: int) -> int:
        """The cycle in which a beat is read that could be in this one."""
        for begin, until in self.holds:
            if begin <= read < until:
                read = until
        return read

    def _enter(self, read: int) -> None:
        """The first beat of a group is read, and enters the engine when a buffer is free."""
        out = max(read + READ_LATENCY, self.holds[1][1] + 1)
        self.holds = self.holds[1], (out, max(out, self.free[0]))

    def frame_done(self) -> np.ndarray:
        """The last cycle of each group's steps in the frame that was read last; once."""
        done, self.done = self.done, []
        return np.array(done)

    def frame_sent(self) -> np.ndarray:
        """The cycle in which the last sums of each of these groups leave; once."""
        sent, self.sent = self.sent, []
        return np.array(sent)

    def compute(self, loaded: int, vectors: int) -> None:
        """A group of so many vectors is computed, whose last beat entered in a cycle."""
        start, sending = max(loaded + 1, self.ready), self.sending
        if sending is not None:
            start = max(start, self.vacant[0] - sending.delay - sending.fold + 1)
        self.ready = start + self.steps
        self.free = self.free[1], self.ready
        self.done.append(self.ready - 1)
        if sending is None:
            return
        fetch = max(self.ready + sending.delay, self.taken)
        self.taken = max(fetch + 1, self.taken + self.leaves) + vectors * sending.vector
        self.taken, self.leaves = self.taken - sending.last, sending.last
        if vectors * sending.words > 1:  # the last word is fetched when the one before it leaves
            fetch = self.taken - (sending.last if sending.words == 1 else sending.beats)
        self.vacant = self.vacant[1], fetch + 1
        self.sent.append(self.taken + sending.last)


def feed_of(window: WindowBuffer, source: Beats, come: np.ndarray, period: int) -> Feed:
    """The feed of a window from a source whose beats come at these cycles in the first frame."""
    words = Beats(source.shape, window.lanes)
    return Repacked(source, words, come, period) if repacks(source, words) else Words(come, period)


def loads(
    window: WindowBuffer, feed: Feed, loading: Loading
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The schedule of an engine behind a window, frame after frame.

    Gives the cycles in which the frame's beats entered the feed, and the last cycle of each group's
    steps, int64 [groups].
    """
    if window.slots:
        for entered, _ in sliding(window, feed, loading):
            yield entered, loading.frame_done()
    layer, groups = window.layer, window.groups
    kept = np.flatnonzero(window.kept)
    pixels = loading.size // groups
    firsts, lasts = kept[::pixels], np.append(kept[pixels - 1 :: pixels], kept[-1])[: len(kept)]
    passed = np.append(lasts[: len(firsts) - 1], kept[-1]) + 1  # pixels until each group is loaded
    begins = np.append(0, passed[:-1])
    members = np.diff(np.append(np.arange(0, len(kept), pixels), len(kept)))
    rest = (layer.rows * layer.columns - int(passed[-1])) * groups
    none = np.zeros(0, np.int64)
    while True:
        for begin, first, end, vectors in zip(
            begins.tolist(), firsts.tolist(), passed.tolist(), members.tolist(), strict=True
        ):
            bound = np.zeros((first - begin) * groups + 1, np.int64)
            bound[-1] = loading.free[0]
            cycle = feed.row((end - begin) * groups, bound)
            loading.compute(int(cycle[-1]), vectors)
        if rest:
            feed.row(rest, none)
        yield feed.entered(), loading.frame_done()


@lru_cache(maxsize=4096)
def frame_cycles(
    window: WindowBuffer, source: Beats, pixels: int, steps: int, sending: Sending | None = None
) -> int:
    """Cycles per frame of an engine that computes ``pixels`` vectors in so many steps.

    The source's beats are always there, and nothing waits behind the engine.
    """
    always = feed_of(window, source, np.zeros(source.count, np.int64), 0)
    vectors = window.layer.positions
    loading = Loading(window.position_beats, vectors, pixels, steps, sending)
    return steady(int(done[-1]) for _, done in loads(window, always, loading))


@lru_cache(maxsize=4096)
def window_cycles(window: WindowBuffer, source: Beats) -> int:
    """Cycles per frame of a window whose beats are taken at once, from such a source."""
    if not window.slots:
        return max(source.count, window.input_beats)
    always = feed_of(window, source, np.zeros(source.count, np.int64), 0)
    return steady(int(left[-1]) for _, left in sliding(window, always, Paced(window)))


def steady(ends: Iterator[int]) -> int:
    """Cycles between frames that end in these cycles, once they repeat.

    If that takes too long, the mean over the latter half, rounded up.
    """
    seen: list[int] = []
    for end in islice(ends, MOST_FRAMES):
        seen.append(end)
        gaps = np.diff(seen[-SETTLED - 1 :])
        if len(gaps) == SETTLED and len(set(gaps)) == 1:
            return int(gaps[0])
    half = len(seen) // 2
    return -(-(seen[-1] - seen[half - 1]) // (len(seen) - half))
