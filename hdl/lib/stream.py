"""Streams of beats: ``lanes`` codes with frame marks, on valid/ready.

``valid`` never waits for ``ready``, and a payload holds while it is stalled. ``first`` and ``last``
mark the first and the last beat of a frame. Lanes beyond the frame's length mean nothing.
"""

from amaranth.hdl import Module, Shape, ShapeLike
from amaranth.lib import data, stream, wiring


def beat_layout(shape: ShapeLike, lanes: int) -> data.StructLayout:
    """Payload of a stream: ``codes`` (``lanes`` of ``shape``), ``first`` and ``last``."""
    return data.StructLayout({"codes": data.ArrayLayout(shape, lanes), "first": 1, "last": 1})


def beat_stream(shape: ShapeLike, lanes: int) -> stream.Signature:
    """Signature of a stream of beats."""
    return stream.Signature(beat_layout(shape, lanes))


def beat_shape(layout: data.StructLayout) -> tuple[int, Shape]:
    """Lanes of a beat's layout, and the shape of its codes."""
    codes = layout.members["codes"]
    return codes.length, Shape.cast(codes.elem_shape)


def connect(m: Module, source: stream.Interface, sink: stream.Interface) -> None:
    """Connect two streams whose beats have the same lanes and the same shape of codes.

    Amaranth's own ``connect`` compares widths only, and so do its layouts inside a layout: signed
    to unsigned, or 3 codes of 4 bits to 4 of 3 bits, would pass silently.
    """
    beats = [beat_shape(side.payload.shape()) for side in (source, sink)]
    if beats[0] != beats[1]:
        lanes = [f"{lanes} lanes of {shape!r}" for lanes, shape in beats]
        raise ValueError(f"beats must have the same shape, not {lanes[0]} and {lanes[1]}")
    wiring.connect(m, source, sink)


def transfer(side: stream.Interface):
    """A beat moves in this cycle."""
    return side.valid & side.ready
