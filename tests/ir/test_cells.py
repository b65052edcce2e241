"""Cells drawn by integer rules."""

import numpy as np
import pytest

from model.ir.cells import fault_map, normal_numbers, random_words, spread_levels


def test_words_are_those_of_splitmix64() -> None:
    """Written anew with Python's integers."""
    mask = (1 << 64) - 1

    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
        return z ^ (z >> 31)

    start = mix((5 + mix(3)) & mask)
    expected = [mix((start + n * 0x9E3779B97F4A7C15) & mask) for n in range(1, 6)]
    assert random_words(5, 3, 5).tolist() == expected
    # the generator's published first output of seed 0: start and one golden step, mixed
    assert mix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


def test_streams_and_seeds_differ_and_repeat() -> None:
    words = [random_words(seed, stream, 50).tolist() for seed in range(3) for stream in range(3)]
    assert len({word for own in words for word in own}) == 450
    assert random_words(1, 2, 50).tolist() == words[5]


def test_normal_numbers_have_mean_0_and_deviation_1() -> None:
    z = normal_numbers(1, 0, 100_000) / 65536
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01
    assert abs((np.abs(z) < 1).mean() - 0.683) < 0.01


def test_levels_spread_relative_to_the_nominal_one() -> None:
    nominal = np.repeat([0, 400, 2000], 20_000).reshape(3, -1)
    levels = spread_levels(nominal, 0.1, 4095, 7, 1)
    assert levels.dtype == np.int64
    assert (levels[0] == 0).all()
    assert abs(levels[1].std() - 40) < 2
    assert abs(levels[2].std() - 200) < 8
    assert (spread_levels(nominal, 0.0, 4095, 7, 1) == nominal).all()
    assert spread_levels(nominal, 1.0, 2500, 7, 1).max() == 2500
    assert spread_levels(nominal, 1.0, 2500, 7, 1).min() == 0


def test_shares_of_stuck_cells() -> None:
    faults = fault_map((10, 100, 100), 0.02, 0.05, (3, 15), 4, 0)
    assert set(np.unique(faults)) == {-1, 3, 15}
    assert abs((faults == 3).mean() - 0.02) < 0.003
    assert abs((faults == 15).mean() - 0.05) < 0.004
    assert (fault_map((2, 3), 1.0, 0.0, (3, 15), 4, 0) == 3).all()
    assert (fault_map((2, 3), 0.0, 0.0, (3, 15), 4, 0) == -1).all()


def test_refuses_shares_and_deviations_out_of_range() -> None:
    with pytest.raises(ValueError, match="low \\+ high"):
        fault_map((2,), 0.6, 0.6, (0, 1), 0, 0)
    with pytest.raises(ValueError, match="sigma"):
        spread_levels(np.zeros(1, dtype=np.int64), 1.5, 1, 0, 0)
    with pytest.raises(ValueError, match="seed"):
        random_words(-1, 0, 1)
