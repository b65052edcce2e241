"""What a data set is, and the table of readers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from model.ir.errors import BadInput

_READERS: dict[str, Callable[[], "Dataset"]] = {}


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and their labels.

    Parameters
    ----------
    samples : array [frames, ..., channels], uint8 or float
        Raw samples, channels last.
    labels : int64 array [frames]
        Class of each sample, counted from 0.
    scale : float
        Real number that one raw unit stands for.
    """

    samples: np.ndarray
    labels: np.ndarray
    scale: float

    def __post_init__(self) -> None:
        if len(self.samples) != len(self.labels):
            raise BadInput(
                "data split",
                f"{len(self.samples)} samples and {len(self.labels)} labels",
                "as many labels as samples",
                "read the data set again",
            )

    def __len__(self) -> int:
        return len(self.labels)

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
        SHA-256 over the content of all splits, in hexadecimal.
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


def reader(name: str) -> Callable[[Callable[[], Dataset]], Callable[[], Dataset]]:
    """Make a function without arguments the reader of the data set ``name``."""

    def register(function: Callable[[], Dataset]) -> Callable[[], Dataset]:
        if name in _READERS:
            raise TypeError(f"The name of a data set must be unique, not {name!r} again")
        _READERS[name] = function
        return function

    return register


def known() -> list[str]:
    """Names of the data sets, sorted."""
    return sorted(_READERS)


def load(name: str) -> Dataset:
    """Read a data set by name.

    Raises BadInput if the name is unknown, or if its files are missing, cut short or damaged.
    """
    if name not in _READERS:
        raise BadInput(
            "data set", repr(name), f"one of {', '.join(known())}", "choose a known data set"
        )
    return _READERS[name]()
