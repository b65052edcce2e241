"""What a data set is, and the table of readers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from model.ir.errors import BadInput
from model.options import Options, checked

Reader = Callable[[Any], "Dataset"]
_READERS: dict[str, tuple[Reader, type[Options]]] = {}


class NoOptions(Options):
    """Of a data set that has no options."""


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and their labels.

    Parameters
    ----------
    samples : array [frames, ..., channels], uint8, int16 or float
        Raw samples, channels last. Sequences are [frames, steps, features], padded with zeros.
    labels : int64 array [frames]
        Class of each sample, counted from 0.
    scale : float
        Real number that one raw unit stands for.
    lengths : int64 array [frames], optional
        Steps of each sequence, at least 1; None if the samples are no sequences.
    """

    samples: np.ndarray
    labels: np.ndarray
    scale: float
    lengths: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.samples) != len(self.labels):
            raise BadInput(
                "data split",
                f"{len(self.samples)} samples and {len(self.labels)} labels",
                "as many labels as samples",
                "read the data set again",
            )
        if self.lengths is not None:
            self._check_lengths(self.lengths)

    def _check_lengths(self, lengths: np.ndarray) -> None:
        steps = self.samples.shape[1]
        if lengths.shape != self.labels.shape or lengths.dtype != np.int64:
            found = f"lengths of shape {lengths.shape}, {lengths.dtype}"
        elif lengths.size and not (lengths.min() >= 1 and lengths.max() <= steps):
            found = f"lengths from {lengths.min()} to {lengths.max()}"
        else:
            return
        raise BadInput(
            "data split",
            found,
            f"{len(self.labels)} of int64, from 1 to the {steps} steps of the samples",
            "read the data set again",
        )

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, index: slice | np.ndarray) -> "Split":
        """Some of the samples, with their labels and lengths."""
        lengths = None if self.lengths is None else self.lengths[index]
        return Split(self.samples[index], self.labels[index], self.scale, lengths)

    def real(self) -> np.ndarray:
        """The samples as real numbers, float64 [frames, ..., channels]: what a network takes."""
        return self.samples.astype(np.float64) * self.scale


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in three splits; the test split is read when it is first asked for.

    Parameters
    ----------
    name : str
        Name under which it is loaded.
    train, validation : Split
        What trains, and what chooses everything that is chosen.
    read_test : callable
        Reads the test split; use :attr:`test`.
    classes : int
        Number of classes.
    hash : str
        SHA-256 over all that decides the content of the splits, in hexadecimal.
    """

    name: str
    train: Split
    validation: Split
    read_test: Callable[[], Split] = field(repr=False)
    classes: int
    hash: str

    @cached_property
    def test(self) -> Split:
        """The test split: to be read by a report, and by nothing that chooses."""
        return self.read_test()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, channels last."""
        return self.train.samples.shape[1:]


def reader(name: str, options: type[Options] = NoOptions) -> Callable[[Reader], Reader]:
    """Make a function of the class ``options`` the reader of the data set ``name``."""

    def register(function: Reader) -> Reader:
        if name in _READERS:
            raise TypeError(f"The name of a data set must be unique, not {name!r} again")
        _READERS[name] = (function, options)
        return function

    return register


def known() -> list[str]:
    """Names of the data sets, sorted."""
    return sorted(_READERS)


def options(name: str, values: Mapping[str, Any], where: str) -> Options:
    """The options of the data set ``name``, checked; ``where`` leads the names of keys in messages.

    Raises BadInput if the name or an option is unknown, or if an option has a wrong value.
    """
    if name not in _READERS:
        raise BadInput(
            "data set", repr(name), f"one of {', '.join(known())}", "choose a known data set"
        )
    return checked(_READERS[name][1], values, where)


def load(name: str, values: Mapping[str, Any] | None = None) -> Dataset:
    """Read a data set by name.

    Parameters
    ----------
    name : str
        One of :func:`known`.
    values : mapping, optional
        The data set's own options.

    Raises BadInput as :func:`options` does, or if the data set's files are missing, cut short or
    damaged.
    """
    form = options(name, values or {}, f"options of data set {name}")
    return _READERS[name][0](form)
