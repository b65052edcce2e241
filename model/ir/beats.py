"""How a frame travels: the codes that each beat of a stream carries."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Beats:
    """Frames of a shape on a stream of ``lanes`` codes a beat.

    A frame [rows, columns, channels] has ``rows × columns`` pixels; any other shape is one pixel.

    - ``lanes <= channels``: each pixel begins a new beat and takes ``ceil(channels / lanes)``. The
      lanes beyond its channels mean nothing. Stages that look at pixels need this form.
    - ``lanes > channels``: the frame is a vector of codes, several pixels a beat, and only the
      lanes beyond the frame's end mean nothing.

    Parameters
    ----------
    shape : tuple of int
        The frame, channels last.
    lanes : int
        Codes per beat.
    """

    shape: tuple[int, ...]
    lanes: int

    @property
    def length(self) -> int:
        """Codes per frame."""
        return math.prod(self.shape)

    @property
    def pixels(self) -> int:
        """Pixels per frame."""
        return self.shape[0] * self.shape[1] if len(self.shape) == 3 else 1

    @property
    def channels(self) -> int:
        """Codes per pixel."""
        return self.length // self.pixels

    @property
    def aligned(self) -> bool:
        """Whether each pixel begins a new beat."""
        return self.lanes <= self.channels or self.pixels == 1

    @property
    def groups(self) -> int:
        """Runs of codes that begin a new beat: the pixels, or the frame as a whole."""
        return self.pixels if self.aligned else 1

    @property
    def per_group(self) -> int:
        """Beats of such a run."""
        return -(-self.length // self.groups // self.lanes)

    @property
    def count(self) -> int:
        """Beats per frame."""
        return self.groups * self.per_group

    @property
    def contiguous(self) -> bool:
        """Whether the codes follow each other without padding between them."""
        return self.groups == 1 or self.channels % self.lanes == 0

    def ends(self) -> np.ndarray:
        """Place in the flattened frame of the last code of each beat, int64 [count]."""
        size = self.length // self.groups
        group, beat = np.divmod(np.arange(self.count), self.per_group)
        return group * size + np.minimum((beat + 1) * self.lanes, size) - 1

    def beat_of(self, places: np.ndarray) -> np.ndarray:
        """Beat that carries the code at each place of the flattened frame; any shape."""
        group, place = np.divmod(places, self.length // self.groups)
        return group * self.per_group + place // self.lanes

    def indices(self) -> np.ndarray:
        """Place in the flattened frame of each lane of each beat, int64 [count, lanes]; or -1."""
        size = self.length // self.groups
        run = np.full(self.per_group * self.lanes, -1)
        run[:size] = np.arange(size)
        starts = np.arange(self.groups)[:, None] * size
        return np.where(run < 0, -1, run + starts).reshape(self.count, self.lanes)
