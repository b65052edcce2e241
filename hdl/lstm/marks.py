"""The marks of the steps of sequences: one for each frame, on a stream of their own."""

from amaranth.hdl import Module
from amaranth.lib import data, fifo, stream

from hdl.lib.stream import transfer

DEPTH = 64
"""Marks that wait for a stage: frames that can be between two recurrent stages without a stall."""


def mark_stream() -> stream.Signature:
    """Signature of a stream of marks.

    ``begin``: the frame is the first step of a sequence, and the state before it is 0. ``idle``:
    the frame stands for nothing.
    """
    return stream.Signature(data.StructLayout({"begin": 1, "idle": 1}))


def spread(m: Module, source: stream.Interface, sinks: dict[str, stream.Interface]) -> None:
    """Give every mark to each of the stages, which take it when they come to its frame."""
    queues = []
    for name, sink in sinks.items():
        m.submodules[f"marks_{name}"] = queue = fifo.SyncFIFOBuffered(width=2, depth=DEPTH)
        m.d.comb += [
            queue.w_data.eq(source.p.as_value()),
            queue.w_en.eq(transfer(source)),
            sink.p.as_value().eq(queue.r_data),
            sink.valid.eq(queue.r_rdy),
            queue.r_en.eq(sink.ready),
        ]
        queues.append(queue)
    ready = queues[0].w_rdy
    for queue in queues[1:]:
        ready = ready & queue.w_rdy
    m.d.comb += source.ready.eq(ready)
