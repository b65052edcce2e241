"""Memories initialised from .hex files: weights are data, not logic."""

from collections.abc import Sequence
from pathlib import Path

from amaranth.hdl import Array, ClockSignal, Instance, Module, Signal, unsigned
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


class BankedRom(wiring.Component):
    """A :class:`Rom` in banks of ``words`` words, of which a read touches one.

    A small memory takes less energy a bit than a large one. Latency: 1 cycle, as of a Rom; behind
    its banks stands a multiplexer.

    Parameters
    ----------
    width, depth : int
        Bits per word and number of words.
    words : int
        Words of a bank, a power of two; the last one holds those that are left.
    files : sequence of str
        The .hex file of each bank.

    Members: as of :class:`Rom`.
    """

    def __init__(self, width: int, depth: int, words: int, files: Sequence[str]) -> None:
        if words < 1 or words & (words - 1) or len(files) != -(-depth // words):
            raise ValueError(f"{len(files)} files for {depth} words in banks of {words}")
        self.width, self.depth, self.words, self.files = width, depth, words, tuple(files)
        super().__init__(
            {
                "en": In(1),
                "addr": In(unsigned(address_bits(depth))),
                "data": Out(unsigned(width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        low = (self.words - 1).bit_length()
        bank = self.addr[low:]
        chosen = Signal(address_bits(len(self.files)), reset_less=True)
        with m.If(self.en):
            m.d.sync += chosen.eq(bank)
        read = []
        for n, file in enumerate(self.files):
            depth = min(self.words, self.depth - n * self.words)
            m.submodules[f"bank_{n}"] = rom = Rom(self.width, depth, file)
            m.d.comb += [rom.en.eq(self.en & (bank == n)), rom.addr.eq(self.addr[:low])]
            read.append(rom.data)
        m.d.comb += self.data.eq(Array(read)[chosen])
        return m
