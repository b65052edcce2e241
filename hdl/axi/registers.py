"""The registers of the shell behind an AXI4-Lite port, as ``model.ir.axi`` states them."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.rom import Rom
from model.ir.axi import (
    ADDRESS_BITS,
    COUNTER_BITS,
    IDENTITY,
    OKAY,
    REGISTERS,
    SLVERR,
    WIDE,
    register,
)

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
    """

    def __init__(
        self, *, input_beats: int, output_beats: int, expected_cycles: int, marks: bool
    ) -> None:
        self.fixed = {
            "input_beats": input_beats,
            "output_beats": output_beats,
            "expected_cycles": expected_cycles,
        }
        self.marks = marks
        events = ("taken", "given", "short", "long", "receiving", "stall_i", "stall_o")
        super().__init__(
            LITE | {name: In(1) for name in events} | {"enable": Out(1), "irq": Out(1)}
        )

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

        self._write(m, kept, clear)
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
        for one in REGISTERS:
            if one.fields:
                values[one.name] = self._word(one, signals)
        values["identity"] = Const(IDENTITY, 32)
        self._read(m, rom, values, counters, held)
        return m

    def _word(self, one, signals) -> Value:
        """The word of a register that has fields."""
        parts, place = [], 0
        for field in sorted(one.fields, key=lambda field: field.low):
            if field.low > place:
                parts.append(Const(0, field.low - place))
            value = signals.get((one.name, field.name))
            parts.append(Const(field.reset, field.bits) if value is None else value)
            place = field.low + field.bits
        return Cat(*parts)

    def _write(self, m: Module, kept, clear: Signal) -> None:
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

    def _read(self, m: Module, rom: Rom, values, counters, held: Signal) -> None:
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
                m.next = "answer"
            with m.State("answer"):
                m.d.comb += self.rvalid.eq(1)
                with m.If(self.rready):
                    m.next = "address"
