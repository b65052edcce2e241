"""The window's order, memory and rate, by formula."""

from itertools import islice

import numpy as np
import pytest

from model.ir.conv import ConvSpec
from model.ir.numerics import UniformFormat
from model.ir.pool import MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from model.ir.window_buffer import WindowBuffer

CODE = UniformFormat(4, True)


def conv(rows, columns, channels, kernel, stride=1, padding=0) -> ConvSpec:
    requantize = RequantizeSpec(CODE, 4, "one", 0, 8)
    kernels = (kernel, kernel, stride, padding)
    return ConvSpec(rows, columns, channels, 8, *kernels, 1, CODE, CODE, requantize)


def pool(size, channels, kernel, stride) -> MaxPoolSpec:
    return MaxPoolSpec(size, size, channels, kernel, kernel, stride, CODE)


def loss(window: WindowBuffer, pace: int = 1) -> float:
    """Cycles beyond those of the busier side, as a share of them."""
    positions = window.layer.positions * max(pace, window.position_beats)
    bound = max(window.input_beats, positions)
    return window.cycles(pace) / bound - 1


@pytest.mark.parametrize(
    ("banks", "order", "beats"),
    [
        (1, "vector", [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1)]),
        (1, "channel", [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (0, 0, 1), (0, 1, 1)]),
        (2, "vector", [(1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)]),
        (2, "channel", [(1, 0, 0), (1, 1, 0), (1, 0, 1), (1, 1, 1)]),
    ],
)
def test_a_position_is_so_many_beats_in_this_order(banks, order, beats) -> None:
    window = WindowBuffer(conv(4, 4, 3, 2), 2, banks, order)
    assert window.position_beats == len(window.beats) == 4 * 2 // banks
    assert list(map(tuple, window.beats.tolist()))[: len(beats)] == beats
    assert window.out_lanes == 2 * banks


def test_the_buffer_holds_the_rows_of_the_kernel_and_those_ahead() -> None:
    layer = conv(9, 10, 6, 3, 2)  # the last column and no row is beyond the windows
    assert WindowBuffer(layer, 4, 3).words == 3 * 9 * 2
    assert WindowBuffer(layer, 4, 1, ahead=2).buffer_bits(4) == 5 * 9 * 2 * 4 * 4


def test_a_kernel_of_one_pixel_has_no_buffer() -> None:
    window = WindowBuffer(conv(8, 8, 6, 1, 2), 2, 1)
    assert window.words == window.seamless == 0
    assert window.cycles() == window.input_beats
    assert window.output_beats == 4 * 4 * 3


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("lanes", [1, 4, 8])
@pytest.mark.parametrize("order", ["vector", "channel"])
def test_pooling_runs_at_the_beats_that_enter(size, lanes, order) -> None:
    for kernel, stride in ((2, 2), (3, 3), (3, 2)):
        window = WindowBuffer(pool(size, 8, kernel, stride), lanes, kernel, order)
        assert window.cycles() == window.input_beats, kernel


@pytest.mark.parametrize("banked", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_a_padded_convolution_loses_nothing(kernel, stride, banked) -> None:
    layer = conv(16, 16, 8, kernel, stride, kernel // 2)
    for lanes in (2, 8):
        window = WindowBuffer(layer, lanes, kernel if banked else 1)
        for times in (1, 2, 5):
            assert loss(window, times * window.position_beats) == 0, (lanes, times)


@pytest.mark.parametrize(("size", "channels", "kernel"), [(28, 1, 5), (12, 20, 5), (16, 8, 3)])
def test_an_unpadded_convolution_loses_nothing_with_rows_ahead(size, channels, kernel) -> None:
    layer = conv(size, size, channels, kernel)
    for banks in (1, kernel):
        tight = WindowBuffer(layer, 1, banks)
        wide = WindowBuffer(layer, 1, banks, ahead=tight.seamless)
        assert tight.seamless == kernel - 1
        assert loss(tight) > 0
        for times in (1, 3):
            assert loss(wide, times * wide.position_beats) == 0


def test_a_wide_stride_needs_rows_ahead() -> None:
    layer = conv(18, 18, 4, 3, 3)
    window = WindowBuffer(layer, 4, 1)
    assert loss(window) > 0.2
    assert loss(WindowBuffer(layer, 4, 1, ahead=window.seamless)) == 0


def test_the_schedule_repeats_with_the_stated_cycles() -> None:
    for layer in (conv(7, 6, 3, 3, 2, 1), conv(5, 5, 2, 5), conv(1, 2, 3, 3, 1, 2)):
        window = WindowBuffer(layer, 2, 1)
        ends = [left[-1] for _, left in islice(window.schedule(), 12)]
        assert set(np.diff(ends)[4:]) == {window.cycles()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 5}, "lanes must be at most 4, not 5|lanes .* not 5"),
        ({"lanes": 0}, "lanes .* not 0"),
        ({"banks": 2}, "banks must be 1 or kernel_rows 3, not 2"),
        ({"order": "row"}, "order must be one of vector, channel, not row"),
        ({"ahead": -1}, "ahead .* not -1"),
    ],
)
def test_what_does_not_fit_is_refused(change, message) -> None:
    good = {"lanes": 2, "banks": 3, "order": "vector", "ahead": 0}
    with pytest.raises(ValueError, match=message):
        WindowBuffer(conv(6, 6, 4, 3), **(good | change))


@pytest.mark.parametrize(
    ("size", "kernel", "cycles"),
    [
        (28, 5, [2966, 2938, 2910, 2882, 2880]),
        (12, 5, [358, 346, 334, 322, 320]),
        (16, 3, [606, 590, 588, 588, 588]),
    ],
)
def test_the_cycles_in_the_documentation_are_these(size, kernel, cycles) -> None:
    layer = conv(size, size, 1, kernel)
    found = [WindowBuffer(layer, 1, kernel, ahead=ahead).cycles() for ahead in range(5)]
    assert found == cycles
