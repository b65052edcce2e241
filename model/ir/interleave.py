"""Sequences of different lengths in the slots of interleaved hardware.

A frame is one step. With S slots, frame n belongs to slot ``n mod S``, so the frames come in rounds
of S. A slot takes the steps of one sequence after another; where none is left it is idle for the
rest of the last rounds, and a frame of zeros stands for it. Each frame has two marks: ``begin`` (it
is the first step of a sequence, and the state before it is 0) and ``idle`` (it stands for nothing,
changes no state, and leaves as zeros).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from model.ir.errors import BadInput
from model.ir.spec import check_int

if TYPE_CHECKING:
    from model.ir.mapping import Mapping
    from model.ir.network import Network

LENGTH_MAX = 1 << 24
"""Most steps of a sequence: more would not fit the counters of a simulation."""


def check_lengths(lengths: Sequence[int], steps: int) -> None:
    """Raise BadInput unless there is a sequence, and each has from 1 to ``steps`` steps."""
    most = min(steps, LENGTH_MAX)
    wrong = [n for n, length in enumerate(lengths) if not 1 <= length <= most]
    if wrong or not len(lengths):
        found = f"sequence {wrong[0]} of {lengths[wrong[0]]} steps" if wrong else "no sequence"
        raise BadInput(
            "lengths", found, f"sequences of 1 to {most} steps", "drop or split the sequence"
        )


def interleave(lengths: Sequence[int], slots: int) -> np.ndarray:
    """Which sequence and which of its steps each frame is: int64 [frames, 2], -1 if idle.

    Each sequence in order goes to the slot that is free first, the lowest of several. The last
    round has no frame behind the last step.

    Parameters
    ----------
    lengths : sequence of int
        Steps of each sequence, at least 1.
    slots : int
        Sequences that are interleaved, S.
    """
    check_int("slots", slots, 1)
    check_lengths(lengths, LENGTH_MAX)
    ends = np.zeros(slots, dtype=np.int64)  # rounds that each slot has been given
    frames = np.full((int(np.sum(lengths)), slots, 2), -1)
    for sequence, length in enumerate(lengths):
        slot = int(ends.argmin())
        rounds = slice(ends[slot], ends[slot] + length)
        frames[rounds, slot, 0], frames[rounds, slot, 1] = sequence, np.arange(length)
        ends[slot] += length
    flat = frames[: ends.max()].reshape(-1, 2)
    return flat[: np.flatnonzero(flat[:, 0] >= 0)[-1] + 1]


def frame_marks(frames: np.ndarray) -> np.ndarray:
    """The marks of each frame of :func:`interleave`: int64 [frames], ``begin + 2 · idle``."""
    return (frames[:, 1] == 0) + 2 * (frames[:, 0] < 0)


def slots_of(mapping: "Mapping", network: "Network") -> int:
    """Sequences that a recurrent network's stages interleave, all of them as many.

    Raises BadInput if they differ: frames of two slots would meet in one sequence.
    """
    engines = {stage.node: stage.engine for stage in mapping.stages}
    names = [node.name for node in network.nodes if node.spec.recurrent]
    found = {name: mapping.engine(engines[name]).sequences for name in names}
    if len(set(found.values())) > 1:
        raise BadInput(
            "mapping: sequences",
            ", ".join(f"{count} in {name}" for name, count in found.items()),
            "the same number in all recurrent layers",
            "plan again",
        )
    return next(iter(found.values()))
