"""Streams of beats: ``lanes`` codes with frame marks, on valid/ready.

``valid`` never waits for ``ready``, and a payload holds while it is stalled. ``first`` and ``last``
mark the first and the last beat of a frame. Lanes beyond the frame's length mean nothing.
"""

from amaranth.hdl import Module, ShapeLike
from amaranth.lib import data, stream, wiring


def beat_layout(shape: ShapeLike, lanes: int) -> data.StructLayout:
    """Payload of a stream: ``codes`` (``lanes`` of ``shape``), ``first`` and ``last``."""
    return data.StructLayout({"codes": data.ArrayLayout(shape, lanes), "first": 1, "last": 1})


def beat_stream(shape: ShapeLike, lanes: int) -> stream.Signature:
    """Signature of a stream of beats."""
    return stream.Signature(beat_layout(shape, lanes))


def connect(m: Module, source: stream.Interface, sink: stream.Interface) -> None:
    """Connect two streams whose payloads have the same shape.

    Amaranth's own ``connect`` compares widths only, so signed to unsigned would pass silently.
    """
    shapes = [side.payload.shape() for side in (source, sink)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"payloads must have the same shape, not {shapes[0]!r} and {shapes[1]!r}")
    wiring.connect(m, source, sink)


def transfer(side: stream.Interface):
    """A beat moves in this cycle."""
    return side.valid & side.ready
