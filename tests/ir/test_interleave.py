"""Interleaved sequences: every step once and in order, whatever the lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.ir.errors import BadInput
from model.ir.interleave import LENGTH_MAX, check_lengths, frame_marks, interleave

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@given(LENGTHS, st.integers(1, 6))
def test_every_step_comes_once_in_order_and_in_one_slot(lengths: list[int], slots: int) -> None:
    frames = interleave(lengths, slots)
    for sequence, length in enumerate(lengths):
        at = np.flatnonzero(frames[:, 0] == sequence)
        assert frames[at, 1].tolist() == list(range(length))
        assert set(np.diff(at)) <= {slots}
    idle = frames[:, 0] < 0
    assert (~idle).sum() == sum(lengths)
    assert not idle[-1]


@given(LENGTHS, st.integers(1, 6))
def test_a_slot_is_idle_only_when_no_sequence_is_left(lengths: list[int], slots: int) -> None:
    frames = interleave(lengths, slots)
    begun = np.flatnonzero(frames[:, 1] == 0)
    idle = np.flatnonzero(frames[:, 0] < 0)
    assert not len(idle) or begun.max() < idle.min() or len(lengths) < slots
    marks = frame_marks(frames)
    assert (np.flatnonzero(marks & 1) == begun).all()
    assert (np.flatnonzero(marks >> 1) == idle).all()


def test_one_slot_takes_the_sequences_one_after_another() -> None:
    assert interleave([2, 1], 1).tolist() == [[0, 0], [0, 1], [1, 0]]
    assert frame_marks(interleave([2, 1], 1)).tolist() == [1, 0, 1]


def test_a_free_slot_takes_the_next_sequence() -> None:
    found = interleave([3, 1, 2], 2)[:, 0].tolist()
    assert found == [0, 1, 0, 2, 0, 2]
    assert interleave([1, 3], 2)[:, 0].tolist() == [0, 1, -1, 1, -1, 1]


@pytest.mark.parametrize("lengths", [[], [3, 0], [-1], [LENGTH_MAX + 1]])
def test_refuses_sequences_without_steps_or_beyond_the_counters(lengths: list[int]) -> None:
    with pytest.raises(BadInput, match="lengths"):
        interleave(lengths, 2)


def test_refuses_a_sequence_longer_than_its_steps() -> None:
    with pytest.raises(BadInput, match="sequence 1 of 5 steps"):
        check_lengths([4, 5], 4)
