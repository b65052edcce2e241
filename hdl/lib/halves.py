"""A memory of two halves: one is filled while the other is read."""

from amaranth.hdl import Module, Signal


def mark_halves(
    m: Module, full: Signal, filled: tuple[Signal, Signal], emptied: tuple[Signal, Signal]
) -> None:
    """Keep note of which halves are ``full``, a bit each.

    ``filled`` and ``emptied`` are an event and the half that it is about. Both may come in one
    cycle, for different halves: a full half is not filled.
    """
    (fill, fill_half), (empty, empty_half) = filled, emptied
    for side in range(2):
        with m.If(fill & (fill_half == side)):
            m.d.sync += full[side].eq(1)
        with m.Elif(empty & (empty_half == side)):
            m.d.sync += full[side].eq(0)
