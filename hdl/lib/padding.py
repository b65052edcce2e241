"""Padding lanes hold code 0 on every stream, also where the arithmetic would not leave it so."""

from amaranth.hdl import Module, Mux, Signal, Value

from hdl.lib.rom import address_bits
from model.ir.beats import Beats


def without_padding(m: Module, moves: Value, beats: Beats, codes: list[Value]) -> list[Value]:
    """The codes of a beat, with 0 in the lanes that hold no code of the frame.

    Parameters
    ----------
    m : Module
        Gets the counter of the beats of a pixel.
    moves : Value
        The beat moves in this cycle.
    beats : Beats
        How the frames travel.
    codes : list of Value
        One for each lane.
    """
    tail = beats.indices()[beats.per_group - 1] >= 0
    if tail.all():
        return codes
    last, index = beats.per_group - 1, Signal(address_bits(beats.per_group), name="beat_of_pixel")
    with m.If(moves):
        m.d.sync += index.eq(Mux(index == last, 0, index + 1))
    return [
        code if used else Mux(index == last, 0, code)
        for code, used in zip(codes, tail, strict=True)
    ]
