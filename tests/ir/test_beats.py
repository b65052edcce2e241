"""How frames travel: against a plain description, pixel by pixel."""

import numpy as np
import pytest

from model.ir.beats import Beats


def described(shape: tuple[int, ...], lanes: int) -> list[list[int]]:
    """Beats of a frame whose codes are numbered, put down one after another."""
    codes = np.arange(np.prod(shape))
    image = len(shape) == 3 and lanes <= shape[2]
    beats = []
    for run in codes.reshape(-1, shape[2]) if image else [codes]:
        for start in range(0, len(run), lanes):
            beat = run[start : start + lanes].tolist()
            beats.append(beat + [-1] * (lanes - len(beat)))
    return beats


SHAPES = [((5,), 2), ((5,), 8), ((3, 2, 4), 4), ((3, 2, 4), 3), ((3, 2, 4), 1), ((3, 2, 4), 5)]
SHAPES += [((4, 4, 1), 1), ((4, 4, 1), 6), ((2, 3), 4), ((1, 1, 7), 3)]


@pytest.mark.parametrize(("shape", "lanes"), SHAPES)
def test_codes_lie_where_the_description_puts_them(shape: tuple[int, ...], lanes: int) -> None:
    beats = Beats(shape, lanes)
    assert beats.indices().tolist() == described(shape, lanes)
    assert beats.count == len(described(shape, lanes))
    assert beats.groups * beats.per_group == beats.count


@pytest.mark.parametrize(("shape", "lanes"), SHAPES)
def test_ends_and_beats_of_codes_are_those_of_the_indices(
    shape: tuple[int, ...], lanes: int
) -> None:
    beats, places = Beats(shape, lanes), Beats(shape, lanes).indices()
    assert beats.ends().tolist() == places.max(axis=1).tolist()
    for beat, codes in enumerate(places):
        assert set(beats.beat_of(codes[codes >= 0]).tolist()) == {beat}
    kept = places.ravel()[: places.max() + 1]
    assert beats.contiguous == (kept.tolist() == list(range(len(kept))))


@pytest.mark.parametrize(("lanes", "aligned"), [(1, True), (4, True), (5, False), (24, False)])
def test_pixels_begin_new_beats_up_to_their_channels(lanes: int, aligned: bool) -> None:
    assert Beats((3, 2, 4), lanes).aligned is aligned
    assert Beats((24,), lanes).aligned
