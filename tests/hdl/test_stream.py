"""The strict connection of streams, and the layout of a beat."""

import pytest
from amaranth.hdl import Module, signed, unsigned

from hdl.lib.stream import beat_layout, beat_stream, connect


def join(source, sink) -> None:
    """Connect a source of one signature to a sink of another."""
    connect(Module(), source.create(), sink.flip().create())


def test_equal_payloads_connect() -> None:
    join(beat_stream(signed(4), 3), beat_stream(signed(4), 3))


@pytest.mark.parametrize(
    ("source", "sink"),
    [
        (beat_stream(signed(4), 3), beat_stream(unsigned(4), 3)),
        (beat_stream(unsigned(4), 3), beat_stream(unsigned(3), 4)),
        (beat_stream(unsigned(1), 4), beat_stream(unsigned(4), 1)),
        (beat_stream(unsigned(4), 3), beat_stream(unsigned(4), 2)),
    ],
    ids=["sign", "bits", "lanes", "width"],
)
def test_payloads_of_another_shape_are_refused_even_at_the_same_width(source, sink) -> None:
    with pytest.raises(
        ValueError, match=r"beats must have the same shape, not \d lanes of .* and \d lanes"
    ):
        join(source, sink)


def test_lane_0_is_lowest_and_the_marks_are_on_top() -> None:
    layout = beat_layout(signed(4), 2)
    word = layout.const({"codes": [-1, 3], "first": 1, "last": 0}).as_value().value
    assert word == 0b01_0011_1111
