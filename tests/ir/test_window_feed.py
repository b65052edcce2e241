"""When vectors reach an engine behind a window, by examples worked out by hand.

The stages in ``tests/hdl/test_conv.py`` hold the same figures against the simulator.
"""

import pytest

from model.ir.beats import Beats
from model.ir.conv import ConvSpec
from model.ir.numerics import UniformFormat
from model.ir.pool import MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from model.ir.window_buffer import WindowBuffer
from model.ir.window_feed import Sending, frame_cycles, vector_ends, window_cycles

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
    ("size", "stride", "pixels", "steps", "cycles"),
    [
        (2, 1, 1, 3, 12),  # the engine is the limit
        (2, 2, 1, 3, 4),  # one vector, but four pixels enter
        (2, 2, 1, 6, 6),
        (4, 2, 1, 5, 20),  # pixels that the stride skips enter while the engine computes
        (3, 1, 2, 4, 20),  # the last of five groups is one vector
    ],
)
def test_cycles_behind_a_pointwise_kernel(size, stride, pixels, steps, cycles) -> None:
    source = Beats((size, size, 1), 1)
    assert frame_cycles(pointwise(size, 1, stride, 1), source, pixels, steps) == cycles


def test_a_result_memory_sends_vector_after_vector() -> None:
    """Nine vectors of two beats, whatever the steps of their five groups, if these are fewer."""
    source, sending = Beats((3, 3, 1), 1), Sending(1, 2, 2, 1, 4)
    assert frame_cycles(pointwise(3, 1, 1, 1), source, 2, 1, sending) == 18
    assert frame_cycles(pointwise(3, 1, 1, 1), source, 2, 5, sending) == 25


def window(size: int, channels: int, padding: int) -> WindowBuffer:
    """A 3 × 3 kernel over a frame of ``size × size`` pixels, each a word."""
    rule = RequantizeSpec(U4, 0, "one", 0, 4)
    layer = ConvSpec(size, size, channels, 2, 3, 3, 1, padding, 1, U4, U4, rule)
    return WindowBuffer(layer, channels, 3)


def test_an_engine_behind_a_line_buffer_keeps_its_pace() -> None:
    source = Beats((4, 4, 1), 1)
    assert frame_cycles(window(4, 1, 1), source, 1, 9) == 16 * 9
    assert frame_cycles(window(4, 1, 1), source, 4, 39) == 4 * 39


def test_a_narrow_source_is_made_to_wait_and_cannot_catch_up() -> None:
    """Three channels on one lane: 108 beats a frame, beside 96 cycles of the engine.

    The ring has no room for the next frame's rows while the last rows are read; the repacker keeps
    a word, so then the source waits, and the cycles it loses are lost. ``tests/hdl/test_conv.py``
    holds the same stage against the simulator.
    """
    assert frame_cycles(window(6, 3, 0), Beats((6, 6, 3), 3), 1, 6) == 98
    assert frame_cycles(window(6, 3, 0), Beats((6, 6, 3), 1), 1, 6) == 117
    assert frame_cycles(window(6, 3, 0), Beats((6, 6, 3), 1), 1, 3) == 108
    assert frame_cycles(window(6, 3, 1), Beats((6, 6, 3), 1), 1, 3) == 108


def test_a_pooling_takes_its_input_one_beat_after_another() -> None:
    pool = WindowBuffer(MaxPoolSpec(6, 6, 2, 2, 2, 2, U4), 2, 2, "channel")
    assert window_cycles(pool, Beats((6, 6, 2), 2)) == 36
    assert window_cycles(pool, Beats((6, 6, 2), 1)) == 72
