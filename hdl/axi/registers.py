"""The registers of the shell behind an AXI4-Lite port, as ``model.ir.axi`` states them."""

from collections.abc import Sequence

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.axi.fields import word_of
from hdl.axi.program import ProgramPort
from hdl.lib.rom import Rom
from hdl.pim.program import program_stream
from model.ir.axi import (
    ADDRESS_BITS,
    COUNTER_BITS,
    IDENTITY,
    OKAY,
    PROGRAM,
    REGISTERS,
    SLVERR,
    WIDE,
    register,
)
from model.ir.programming import CellRows

LITE = {
    "awaddr": In(ADDRESS_BITS),
    "awprot": In(3),
    "awvalid": In(1),
    "awready": Out(1),
    "wdata": In(32),
    "wstrb": In(4),
    "wvalid": In(1),
    "wready": Out(1),
    "bresp": Out(2),
    "bvalid": Out(1),
    "bready": In(1),
    "araddr": In(ADDRESS_BITS),
    "arprot": In(3),
    "arvalid": In(1),
    "arready": Out(1),
    "rdata": Out(32),
    "rresp": Out(2),
    "rvalid": Out(1),
    "rready": In(1),
}
"""Signals of an AXI4-Lite port, seen by the one who answers."""

HASH_FILE = "axi_network_hash.hex"
"""The network's hash is data, as its weights are: other weights, the same Verilog."""


class Registers(wiring.Component):
    """Answers AXI4-Lite: one write and one read at a time, each of its own.

    A read takes 3 cycles from address to data, a write 1 from the later of address and data to the
    response. What is no register is answered with SLVERR, and so is a write to one that can only be
    read.

    Parameters
    ----------
    input_beats, output_beats, expected_cycles : int
        Values of the registers of these names.
    marks : bool
        Value of ``features.marks``.
    program : sequence of CellRows
        Layers whose cells the programming port writes; without any there is no such port.

    Members
    -------
    <signal> : the signals of ``LITE``
    taken, given, short, long : In(1)
        A frame entered whole, left whole, was dropped.
    receiving : In(1)
        A frame has begun to enter.
    stall_i, stall_o : In(1)
        Input waits, output waits.
    enable, irq : Out(1)
        ``control.enable``; the interrupt.
    program : Out(program_stream), program_failed, program_pulse : In(1)
        Rows of cells: see ProgramPort.
    """

    def __init__(
        self,
        *,
        input_beats: int,
        output_beats: int,
        expected_cycles: int,
        marks: bool,
        program: Sequence[CellRows] = (),
    ) -> None:
        self.fixed = {
            "input_beats": input_beats,
            "output_beats": output_beats,
            "expected_cycles": expected_cycles,
        }
        self.marks, self.cells = marks, tuple(program)
        events = ("taken", "given", "short", "long", "receiving", "stall_i", "stall_o")
        members = LITE | {name: In(1) for name in events} | {"enable": Out(1), "irq": Out(1)}
        if self.cells:
            members["program"] = Out(program_stream(self.cells))
            members |= {"program_failed": In(1), "program_pulse": In(1)}
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.hash = rom = Rom(32, 8, HASH_FILE)
        control, status = register("control"), register("status")
        kept = {
            (one.name, field.name): Signal(field.bits, init=field.reset, name=field.name)
            for one in (control, status)
            for field in one.fields
            if field.access in ("rw", "w1c")
        }
        clear = Signal()

        # Frames that are inside: those taken and not yet given.
        inside, busy = Signal(16), Signal()
        m.d.sync += inside.eq(inside + self.taken - self.given)
        m.d.comb += busy.eq(inside != 0)

        # Counters.
        counters: dict[str, Value] = {}
        events = {
            "frames_in": self.taken,
            "frames_out": self.given,
            "short_frames": self.short,
            "long_frames": self.long,
            "cycles": busy,
            "stalls_in": self.stall_i,
            "stalls_out": self.stall_o,
        }
        for name, event in events.items():
            counters[name] = count = Signal(COUNTER_BITS if name in WIDE else 32, name=name)
            m.d.sync += count.eq(Mux(clear, 0, count) + event)

        port = self._port(m, busy | self.taken, clear) if self.cells else None
        self._write(m, kept, clear, port)
        with m.If(self.short):
            m.d.sync += kept["status", "short"].eq(1)
        with m.If(self.long):
            m.d.sync += kept["status", "long"].eq(1)
        m.d.comb += [
            self.enable.eq(kept["control", "enable"]),
            self.irq.eq(
                kept["control", "interrupt"] & (kept["status", "short"] | kept["status", "long"])
            ),
        ]

        held = Signal(COUNTER_BITS - 32)
        values: dict[str, Value] = {name: Const(v, 32) for name, v in self.fixed.items()}
        for name, count in counters.items():
            values[name] = count[:32]
            if name in WIDE:
                values[f"{name}_high"] = held
        signals = {("status", "busy"): busy, ("status", "receiving"): self.receiving}
        signals |= {("features", "marks"): Const(int(self.marks))} | kept
        if port is not None:
            signals["features", "program"] = Const(1)
        for one in REGISTERS:
            if one.fields:
                values[one.name] = word_of(one, signals)
        values["identity"] = Const(IDENTITY, 32)
        self._read(m, rom, values, counters, held, port)
        return m

    def _port(self, m: Module, inside: Value, clear: Signal) -> ProgramPort:
        """The programming port and its ways to the cells."""
        m.submodules.port = port = ProgramPort(self.cells)
        wiring.connect(m, port.o, wiring.flipped(self.program))
        m.d.comb += [
            port.inside.eq(inside),
            port.clear.eq(clear),
            port.failed.eq(self.program_failed),
            port.pulse.eq(self.program_pulse),
        ]
        return port

    def _write(self, m: Module, kept, clear: Signal, port: ProgramPort | None) -> None:
        """The way of a write: address and data come in any order, then the response."""
        address, data, strobe = Signal(ADDRESS_BITS - 2), Signal(32), Signal(4)
        addressed, given, act = Signal(), Signal(), Signal()
        m.d.comb += [
            self.awready.eq(~addressed),
            self.wready.eq(~given),
            act.eq(addressed & given & ~self.bvalid),
        ]
        with m.If(self.awvalid & self.awready):
            m.d.sync += [address.eq(self.awaddr[2:]), addressed.eq(1)]
        with m.If(self.wvalid & self.wready):
            m.d.sync += [data.eq(self.wdata), strobe.eq(self.wstrb), given.eq(1)]
        with m.If(self.bvalid & self.bready):
            m.d.sync += self.bvalid.eq(0)
        with m.If(act):
            m.d.sync += [addressed.eq(0), given.eq(0), self.bvalid.eq(1), self.bresp.eq(SLVERR)]
            for one in REGISTERS:
                if not one.writable:
                    continue
                with m.If(address == one.offset // 4):
                    m.d.sync += self.bresp.eq(OKAY)
                    for field in one.fields:
                        self._field(m, one, field, data, strobe, kept, clear)
            if port is not None:
                with m.If(_programs(address) & port.writable):
                    m.d.sync += self.bresp.eq(OKAY)
        if port is not None:
            m.d.comb += [
                port.write.eq(act & _programs(address)),
                port.write_place.eq(address),
                port.data.eq(data),
                port.strobe.eq(strobe),
            ]

    def _field(self, m: Module, one, field, data, strobe, kept, clear) -> None:
        """What a write does to a field; each lies within a byte."""
        bits = data[field.low : field.low + field.bits]
        with m.If(strobe[field.low // 8]):
            if field.access == "rw":
                m.d.sync += kept[one.name, field.name].eq(bits)
            elif field.access == "w1c":
                target = kept[one.name, field.name]
                m.d.sync += target.eq(target & ~bits)
            elif field.access == "pulse":
                m.d.comb += clear.eq(bits)

    def _read(self, m: Module, rom: Rom, values, counters, held: Signal, port) -> None:
        """The way of a read: the hash's memory has its turn, then one word of all is chosen."""
        address = Signal(ADDRESS_BITS - 2)
        digest = register("network_hash")
        m.d.comb += rom.addr.eq(address[:3])
        with m.FSM():
            with m.State("address"):
                m.d.comb += self.arready.eq(1)
                with m.If(self.arvalid):
                    m.d.sync += address.eq(self.araddr[2:])
                    m.next = "fetch"
            with m.State("fetch"):
                m.d.comb += rom.en.eq(1)
                m.next = "choose"
            with m.State("choose"):
                m.d.sync += [self.rdata.eq(0), self.rresp.eq(OKAY)]
                with m.Switch(address):
                    for one in REGISTERS:
                        with m.Case(*range(one.offset // 4, one.offset // 4 + one.words)):
                            value = rom.data if one is digest else values[one.name]
                            m.d.sync += self.rdata.eq(value)
                            if one.name in WIDE:
                                m.d.sync += held.eq(counters[one.name][32:])
                    with m.Default():
                        m.d.sync += self.rresp.eq(SLVERR)
                if port is not None:
                    m.d.comb += port.read_place.eq(address)
                    with m.If(_programs(address)):
                        answer = Mux(port.readable, OKAY, SLVERR)
                        m.d.sync += [self.rdata.eq(port.word), self.rresp.eq(answer)]
                m.next = "answer"
            with m.State("answer"):
                m.d.comb += self.rvalid.eq(1)
                with m.If(self.rready):
                    m.next = "address"


def _programs(address: Signal) -> Value:
    """Whether the address of a word is one of the programming port, which has the upper half."""
    assert PROGRAM[0] * 2 == PROGRAM[-1] + 1 == 1 << ADDRESS_BITS
    return address[-1]
