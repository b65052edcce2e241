"""The bench for blocks finds every broken rule of the handshake."""

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.rom import Rom
from hdl.lib.stream import beat_stream, transfer
from sim.bench import SimulationError
from sim.block import Block, Pattern, check_values, run_blocks
from tests.tools import require_tools

pytestmark = pytest.mark.rtl

CODES = np.random.default_rng(1).integers(0, 16, (6, 5))
SINK = Pattern(sink=True, seed=2)
BOTH = Pattern(True, True, 3)


FAULTS = [
    "none",
    "valid falls",
    "payload moves",
    "valid waits for ready",
    "a beat is lost",
    "a beat is made up",
    "a mark is wrong",
    "padding is not 0",
    "a code is wrong",
    "a word is read as it is written",
]


class Register(wiring.Component):
    """A register between two streams; a memory says which of the FAULTS it has."""

    i: In(beat_stream(unsigned(4), 2))
    o: Out(beat_stream(unsigned(4), 2))

    def elaborate(self, platform):
        m = Module()
        m.submodules.rom = rom = Rom(4, 1, "fault.hex")
        m.d.comb += rom.en.eq(1)
        m.submodules.zeros = zeros = memory.Memory(shape=unsigned(1), depth=2, init=[])
        write, read = zeros.write_port(), zeros.read_port()
        full, count, spent = Signal(), Signal(8), Signal()
        m.d.comb += [write.en.eq(self.i.valid), read.en.eq(1)]
        m.d.comb += [self.i.ready.eq(~full | self.o.ready), self.o.valid.eq(full)]
        m.d.sync += count.eq(count + 1)
        with m.If(self.i.ready):
            m.d.sync += [full.eq(self.i.valid), self.o.payload.eq(self.i.payload)]
        enters = transfer(self.i)
        with m.Switch(rom.data):
            with m.Case(FAULTS.index("valid falls")):
                m.d.comb += self.o.valid.eq(full & ~count[1])
                m.d.comb += self.i.ready.eq(~full | (self.o.ready & ~count[1]))
            with m.Case(FAULTS.index("payload moves")), m.If(full & ~self.o.ready):
                m.d.sync += self.o.p.codes[1].eq(self.o.p.codes[1] + 1)
            with m.Case(FAULTS.index("valid waits for ready")):
                m.d.comb += self.o.valid.eq(full & self.o.ready)
            with m.Case(FAULTS.index("a beat is lost")), m.If(enters & self.i.p.last & count[4]):
                m.d.sync += full.eq(0)
            with m.Case(FAULTS.index("a beat is made up")), m.If(count == 90), m.If(~full & ~spent):
                m.d.sync += [full.eq(1), spent.eq(1)]
            with m.Case(FAULTS.index("a mark is wrong")), m.If(enters):
                m.d.sync += self.o.p.first.eq(self.i.p.last)
            with m.Case(FAULTS.index("padding is not 0")), m.If(enters & self.i.p.last):
                m.d.sync += self.o.p.codes[1].eq(3)
            with m.Case(FAULTS.index("a code is wrong")), m.If(enters & self.i.p.first):
                m.d.sync += self.o.p.codes[1].eq(self.i.p.codes[1] ^ count[2])
            with (
                m.Case(FAULTS.index("a word is read as it is written")),
                m.If(enters & self.i.p.first),
            ):
                m.d.sync += self.o.p.codes[1].eq(self.i.p.codes[1] ^ read.data)
        return m


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_tools("g++")


def run(fault: str) -> None:
    """The register on the bench, its values compared."""
    files = {"fault.hex": f"{FAULTS.index(fault):x}\n"}
    block = Block("register", Register(), CODES, CODES.shape[1], files)
    check_values(run_blocks([block], [Pattern(), SINK, BOTH]), block, CODES)


def test_a_sound_block_passes() -> None:
    run("none")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("valid falls", r"register: valid fell before the beat moved, cycle \d+"),
        ("payload moves", r"register: payload not held, cycle \d+"),
        ("valid waits for ready", r"register: valid fell|register: hung at cycle \d+"),
        ("a beat is lost", r"register: hung at cycle \d+: 18 of 18 beats in, \d+ of 18 out"),
        ("a beat is made up", "register under .*: 19 beats, not 18"),
        ("a mark is wrong", "register under .*: frame marks of frame 0 are wrong"),
        ("padding is not 0", "register under .*: the padding of frame 0 is not code 0"),
        ("a code is wrong", r"register under .*: frame \d, element 1: expected \d+, found \d+"),
        (
            "a word is read as it is written",
            r"register under .*: frame \d, element 1: expected \d+, found \d+",
        ),
    ],
)
def test_a_broken_rule_is_found(fault: str, words: str) -> None:
    with pytest.raises(SimulationError, match=words):
        run(fault)
