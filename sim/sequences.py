"""Sequences of different lengths as the frames of a recurrent accelerator, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from model.ir.errors import BadInput
from model.ir.interleave import check_lengths, frame_marks, interleave


@dataclass(frozen=True)
class Frames:
    """What one run takes.

    Parameters
    ----------
    codes : int64 tensor [frames, *input shape]
    marks : int64 array [frames], or None
        The marks of the frames of a recurrent network.
    order : int64 array [frames, 2], or None
        Sequence and step of each of them; -1 for an idle frame.
    """

    codes: torch.Tensor
    marks: np.ndarray | None = None
    order: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.codes)


def lengths_of(codes: torch.Tensor, lengths: Sequence[int] | torch.Tensor | None) -> np.ndarray:
    """Steps of each of the sequences [sequences, steps, ...], int64; all of them by default."""
    steps = codes.shape[1]
    found = np.full(len(codes), steps) if lengths is None else np.asarray(lengths, dtype=np.int64)
    if found.shape != (len(codes),):
        raise BadInput(
            "lengths", f"{found.size} lengths", f"one for each of {len(codes)} sequences", "fix it"
        )
    check_lengths(found.tolist(), steps)
    return found


def frames_of(codes: torch.Tensor, lengths: np.ndarray, slots: int, first: int = 0) -> Frames:
    """Sequences [sequences, steps, *shape] as frames in turn; idle ones are code 0.

    ``first`` is the number of the first sequence in the order that is stated.
    """
    order = interleave(lengths.tolist(), slots)
    busy = torch.from_numpy(order[:, 0] >= 0)
    frames = torch.zeros(len(order), *codes.shape[2:], dtype=torch.int64)
    frames[busy] = codes[tuple(torch.from_numpy(order[order[:, 0] >= 0].T.copy()))]
    marks = frame_marks(order)
    order[order[:, 0] >= 0, 0] += first
    return Frames(frames, marks, order)


def parts_of(
    codes: torch.Tensor, lengths: np.ndarray, slots: int, shares: int, most: int
) -> list[list[tuple[int, Frames]]]:
    """Runs of at most ``most`` frames for each of the shares, whole sequences each.

    A run is the number of its first frame, and its frames. Raises BadInput for a sequence that is
    longer than a run can be.
    """
    runs, frame = [], 0
    bounds = [len(codes) * n // shares for n in range(shares + 1)]
    for start, end in pairwise(bounds):
        runs.append([])
        while start < end:
            # The frames of S slots are at most S times those of the longest slot.
            count = max(1, int((np.cumsum(lengths[start:end]) * slots <= most).sum()))
            some = slice(start, start + count)
            frames = frames_of(codes[some], lengths[some], slots, start)
            if len(frames) > most:
                raise BadInput(
                    "simulation",
                    f"sequence {start} of {lengths[start]} steps",
                    f"runs of at most {most} frames, idle ones included",
                    "split the sequence, interleave fewer, or give a larger capacity",
                )
            runs[-1].append((frame, frames))
            start, frame = start + count, frame + len(frames)
    return runs


def sequences_of(outputs: torch.Tensor, order: np.ndarray, count: int, steps: int) -> torch.Tensor:
    """Frames [frames, *shape] back as sequences [count, steps, *shape], 0 behind their ends."""
    found = torch.zeros(count, steps, *outputs.shape[1:], dtype=torch.int64)
    busy = order[:, 0] >= 0
    found[tuple(torch.from_numpy(order[busy].T.copy()))] = outputs[torch.from_numpy(busy)]
    return found


def backwards(codes: torch.Tensor, lengths: np.ndarray) -> torch.Tensor:
    """Sequences [sequences, steps, *shape] from their last step to their first; padding stays.

    Twice gives the same again. So a layer of both directions is two of one: y of the first, beside
    ``backwards`` of what the second gives for the sequences ``backwards``.
    """
    steps = torch.arange(codes.shape[1])[None, :]
    ends = torch.as_tensor(np.asarray(lengths))[:, None]
    order = torch.where(steps < ends, ends - 1 - steps, steps)
    return codes[torch.arange(len(codes))[:, None], order]
