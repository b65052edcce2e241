"""Memories initialised from .hex files: weights are data, not logic."""

from pathlib import Path

from amaranth.hdl import ClockSignal, Instance, Module, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

SOURCE = Path(__file__).with_name("gyre_rom.v")


def address_bits(depth: int) -> int:
    """Width of an address into ``depth`` words (at least 1)."""
    return max(1, (depth - 1).bit_length())


class Rom(wiring.Component):
    """A memory of ``depth`` words of ``width`` bits, read from a .hex file.

    Latency: 1 cycle (registered output, which holds while ``en`` is low).

    Parameters
    ----------
    width, depth : int
        Bits per word and number of words.
    file : str
        Name of the .hex file, relative to the folder in which the tool runs.

    Members
    -------
    en : In(1)
        Read in this cycle.
    addr : In(address_bits(depth))
        Word to read.
    data : Out(width)
        The word read last.
    """

    def __init__(self, width: int, depth: int, file: str) -> None:
        self.width, self.depth, self.file = width, depth, file
        super().__init__(
            {
                "en": In(1),
                "addr": In(unsigned(address_bits(depth))),
                "data": Out(unsigned(width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        platform.include(SOURCE)
        m.submodules.rom = Instance(
            "gyre_rom",
            p_WIDTH=self.width,
            p_DEPTH=self.depth,
            p_ADDR=address_bits(self.depth),
            p_FILE=self.file,
            i_clk=ClockSignal(),
            i_en=self.en,
            i_addr=self.addr,
            o_data=self.data,
        )
        return m
