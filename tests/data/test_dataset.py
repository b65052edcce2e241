import numpy as np
import pytest

from model import data
from model.data import Dataset, Split
from model.ir.errors import BadInput


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(BadInput) as caught:
        data.load("mnits")
    assert "'mnits'" in str(caught.value)
    assert "cifar10, digits, fsdd, japanese_vowels, mnist" in str(caught.value)


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


@pytest.mark.parametrize(
    ("lengths", "found"),
    [
        ([1], r"shape \(1,\), int64"),
        ([1.0, 2.0], "float64"),
        ([0, 2], "lengths from 0 to 2"),
        ([1, 4], "lengths from 1 to 4"),
    ],
)
def test_lengths_must_fit_the_samples(lengths: list, found: str) -> None:
    with pytest.raises(BadInput, match=found + ".*from 1 to the 3 steps"):
        Split(np.zeros((2, 3, 5)), np.zeros(2, dtype=np.int64), 1.0, np.array(lengths))


def test_option_that_a_data_set_does_not_have_is_named() -> None:
    with pytest.raises(BadInput) as caught:
        data.load("digits", {"fold": 1})
    assert caught.value.thing == "options of data set digits.fold"
    assert caught.value.found == "the unknown key 'fold'"


def test_options_are_checked_at_the_door() -> None:
    assert data.options("fsdd", {"fold": 3}, "data.options").plain() == {"fold": 3}
    with pytest.raises(BadInput, match=r"data\.options\.fold.*found 10"):
        data.options("fsdd", {"fold": 10}, "data.options")
