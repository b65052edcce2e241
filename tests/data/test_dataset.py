import numpy as np
import pytest

from model import data
from model.data import Dataset, Split
from model.ir.errors import BadInput


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(BadInput) as caught:
        data.load("mnits")
    assert "'mnits'" in str(caught.value)
    assert "digits, mnist" in str(caught.value)


def test_labels_must_match_samples() -> None:
    with pytest.raises(BadInput, match="3 samples and 2 labels"):
        Split(np.zeros((3, 1)), np.zeros(2, dtype=np.int64), 1.0)


def test_test_split_is_read_when_asked_for_and_once() -> None:
    split = Split(np.zeros((1, 1)), np.zeros(1, dtype=np.int64), 1.0)
    reads = []

    def read() -> Split:
        reads.append(1)
        return split

    dataset = Dataset("d", split, split, read, 1, "0")
    assert not reads
    assert dataset.test is split
    assert dataset.test is split
    assert len(reads) == 1
