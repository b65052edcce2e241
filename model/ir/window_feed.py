"""An engine behind a window: when the vectors of a frame come, and how long a frame takes."""

import numpy as np

from model.ir.beats import Beats
from model.ir.repack import repack_latency, repack_needs, repacks
from model.ir.window_buffer import MOST_FRAMES, READ_LATENCY, SETTLED, WindowBuffer


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


def frame_cycles(window: WindowBuffer, pixels: int, group_cycles: int, last_cycles: int) -> int:
    """Cycles per frame of an engine that takes ``group_cycles`` for each ``pixels`` vectors.

    The last vectors of a frame, at most as many, take ``last_cycles``.

    The engine loads one group while it computes another. Behind a line buffer the vectors come as
    if they were taken one by one at the engine's pace; a 1 × 1 kernel has none, and the engine
    waits while the stride skips pixels.
    """
    if window.slots:
        return window.cycles(group_cycles // pixels)
    layer, groups = window.layer, window.groups
    row, column = np.divmod(np.arange(layer.rows * layer.columns), layer.columns)
    kept = np.flatnonzero((row % layer.stride == 0) & (column % layer.stride == 0))
    skipped = (np.diff(kept, prepend=-1) - 1) * groups  # beats before each vector
    tail = (layer.rows * layer.columns - 1 - int(kept[-1])) * groups
    now, ends = 0, []
    done, before = 0, 0  # when the last group is computed, and the one before it
    for _ in range(MOST_FRAMES):
        for vector, beats in enumerate(skipped.tolist()):
            now += beats
            if vector % pixels == 0:
                now = max(now, before)
            now += groups
            if vector == len(kept) - 1:
                before, done = done, max(done, now) + last_cycles
            elif vector % pixels == pixels - 1:
                before, done = done, max(done, now) + group_cycles
        now += tail
        ends.append(done)
        gaps = np.diff(ends[-SETTLED - 1 :])
        if len(gaps) == SETTLED and len(set(gaps)) == 1:
            return int(gaps[0])
    half = len(ends) // 2
    return -(-(ends[-1] - ends[half - 1]) // (len(ends) - half))
