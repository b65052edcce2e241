"""When vectors reach an engine behind a window, by examples worked out by hand.

The stages in ``tests/hdl/test_conv.py`` hold the same figures against the simulator.
"""

import pytest

from model.ir.beats import Beats
from model.ir.conv import ConvSpec
from model.ir.numerics import UniformFormat
from model.ir.requantize import RequantizeSpec
from model.ir.window_buffer import WindowBuffer
from model.ir.window_feed import frame_cycles, vector_ends

U4 = UniformFormat(4, False)


def pointwise(size: int, channels: int, stride: int, lanes: int) -> WindowBuffer:
    """A 1 × 1 kernel over a frame of ``size × size`` pixels."""
    rule = RequantizeSpec(U4, 0, "one", 0, 4)
    layer = ConvSpec(size, size, channels, 2, 1, 1, stride, 0, 1, U4, U4, rule)
    return WindowBuffer(layer, lanes, 1)


def test_vectors_of_a_pointwise_kernel_come_as_their_pixels_do() -> None:
    assert vector_ends(pointwise(2, 3, 1, 3), Beats((2, 2, 3), 3)).tolist() == [0, 1, 2, 3]
    assert vector_ends(pointwise(2, 3, 1, 2), Beats((2, 2, 3), 2)).tolist() == [1, 3, 5, 7]


def test_a_narrow_source_brings_them_later() -> None:
    """Three beats a pixel, and a cycle in the repacker."""
    assert vector_ends(pointwise(2, 3, 1, 3), Beats((2, 2, 3), 1)).tolist() == [3, 6, 9, 12]


@pytest.mark.parametrize(
    ("size", "stride", "pixels", "group", "last", "cycles"),
    [
        (2, 1, 1, 3, 3, 12),  # the engine is the limit
        (2, 2, 1, 3, 3, 4),  # one vector, but four pixels enter
        (2, 2, 1, 6, 6, 6),
        (4, 2, 1, 5, 5, 20),  # pixels that the stride skips enter while the engine computes
        (3, 1, 2, 4, 3, 19),  # the last of five groups is one vector
    ],
)
def test_cycles_behind_a_pointwise_kernel(size, stride, pixels, group, last, cycles) -> None:
    assert frame_cycles(pointwise(size, 1, stride, 1), pixels, group, last) == cycles


def test_a_line_buffer_takes_at_least_the_pace_of_the_engine() -> None:
    rule = RequantizeSpec(U4, 0, "one", 0, 4)
    layer = ConvSpec(4, 4, 1, 2, 3, 3, 1, 1, 1, U4, U4, rule)
    window = WindowBuffer(layer, 1, 3)
    assert frame_cycles(window, 1, 9, 9) == window.cycles(9)
    assert frame_cycles(window, 4, 39, 39) == window.cycles(9)
