"""The AXI shell around an accelerator: what an FPGA project instantiates.

::

    s_axis ─> frame gate ─> accelerator ─> register slice ─> m_axis
                  │             frames, stalls │
    s_axi  <─────>└───── registers ────────────┘─> irq
"""

from amaranth.hdl import Cat, ClockDomain, ClockSignal, Module, ResetSignal, Shape, unsigned
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out

from hdl.accelerator import Accelerator
from hdl.axi.frames import FrameGate
from hdl.axi.registers import HASH_FILE, LITE, Registers
from hdl.lib.hexfile import hex_text, to_bits
from hdl.lib.numerics import code_shape
from hdl.lib.slice import RegisterSlice
from hdl.lib.stream import connect, transfer
from hdl.target import VerilogTarget, place
from model.ir.axi import container_bits, hash_words

MODULE = "accelerator"
MARK_BITS = 2
MARKS_WAITING = 4


class AxiShell(wiring.Component):
    """An accelerator with AXI4-Stream in and out and AXI4-Lite registers.

    A transfer of a stream is a beat of the accelerator; each code is in a container of whole bytes
    (``model.ir.axi.container_bits``), lane 0 in the lowest. TLAST ends a frame. Frames of the wrong
    length are flagged, dropped whole and counted.

    Throughput: a beat a cycle, so that of the accelerator. Memory beside it: two input frames.

    Parameters
    ----------
    accelerator : Accelerator

    Members
    -------
    aclk, aresetn : In(1)
        Clock, and synchronous reset, active low.
    s_axis_tdata, s_axis_tlast, s_axis_tvalid : In and s_axis_tready : Out(1)
        Input frames.
    s_axis_tuser : In(2)
        Marks of the frame (bit 0 ``begin``, bit 1 ``idle``), taken with its last transfer; only for
        a recurrent network.
    m_axis_tdata, m_axis_tlast, m_axis_tvalid : Out and m_axis_tready : In(1)
        Output frames.
    s_axi_<signal> : the signals of AXI4-Lite
    irq : Out(1)
        A broken frame is flagged, and ``control.interrupt`` is set.
    """

    # A shell is also asked for its ports, of which no hardware need be made: no warning for that.
    _MustUse__silence = True

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        network, mapping = accelerator.network, accelerator.mapping
        edge = network.output.name
        self.i_bits = container_bits(network.input.format)
        self.o_bits = container_bits(network.format(edge))
        self.i_lanes, self.o_lanes = mapping.input_lanes, mapping.lanes(network, edge)
        members = {"aclk": In(1), "aresetn": In(1)}
        for prefix, out, width in (
            ("s_axis", False, self.i_bits * self.i_lanes),
            ("m_axis", True, self.o_bits * self.o_lanes),
        ):
            here, there = (Out, In) if out else (In, Out)
            members |= {
                f"{prefix}_tdata": here(unsigned(width)),
                f"{prefix}_tlast": here(1),
                f"{prefix}_tvalid": here(1),
                f"{prefix}_tready": there(1),
            }
        if network.recurrent:
            members["s_axis_tuser"] = In(MARK_BITS)
        members |= {f"s_axi_{name}": member for name, member in LITE.items()}
        super().__init__(members | {"irq": Out(1)})

    def files(self) -> dict[str, str]:
        """Contents of the shell's own .hex file, by file name."""
        words = [[word] for word in hash_words(self.accelerator.network.hash())]
        return {HASH_FILE: hex_text(to_bits(words, 32))}

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        m.d.comb += [ClockSignal().eq(self.aclk), ResetSignal().eq(~self.aresetn)]
        accelerator = self.accelerator
        network, mapping = accelerator.network, accelerator.mapping
        edge = network.output.name
        placed = place(m, platform, "accelerator", MODULE, Accelerator, network, mapping, False)
        beats = mapping.beats(network, network.input.name).count
        m.submodules.registers = registers = Registers(
            input_beats=beats,
            output_beats=mapping.beats(network, edge).count,
            expected_cycles=max(cost.cycles for _, cost in mapping.costs(network)),
            marks=network.recurrent,
            program=accelerator.cells,
        )
        if accelerator.cells:
            wiring.connect(m, registers.program, placed.program)
            m.d.comb += [
                registers.program_failed.eq(placed.program_failed),
                registers.program_pulse.eq(placed.program_pulse),
            ]
        for name, member in LITE.items():
            outer, inner = getattr(self, f"s_axi_{name}"), getattr(registers, name)
            m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)

        # Input: codes out of their containers, whole frames on.
        i_shape: Shape = code_shape(network.input.format)
        width = self.i_lanes * i_shape.width
        m.submodules.gate = gate = FrameGate(width, beats)
        codes = [
            self.s_axis_tdata[lane * self.i_bits :][: i_shape.width] for lane in range(self.i_lanes)
        ]
        room = 1
        if network.recurrent:
            m.submodules.marks = marks = fifo.SyncFIFOBuffered(width=MARK_BITS, depth=MARKS_WAITING)
            room = marks.w_rdy
            m.d.comb += [
                marks.w_data.eq(self.s_axis_tuser),
                marks.w_en.eq(gate.taken),
                placed.marks.p.as_value().eq(marks.r_data),
                placed.marks.valid.eq(marks.r_rdy),
                marks.r_en.eq(placed.marks.ready),
            ]
        m.d.comb += [
            gate.enable.eq(registers.enable),
            gate.i_data.eq(Cat(*codes)),
            gate.i_last.eq(self.s_axis_tlast),
            gate.i_valid.eq(self.s_axis_tvalid & room),
            self.s_axis_tready.eq(gate.i_ready & room),
            placed.i.p.codes.as_value().eq(gate.o_data),
            placed.i.p.first.eq(gate.o_first),
            placed.i.p.last.eq(gate.o_last),
            placed.i.valid.eq(gate.o_valid),
            gate.o_ready.eq(placed.i.ready),
        ]

        # Output: codes into their containers.
        o_shape = code_shape(network.format(edge))
        m.submodules.slice = end = RegisterSlice(o_shape, self.o_lanes)
        connect(m, placed.o, end.i)
        for lane in range(self.o_lanes):
            container = self.m_axis_tdata[lane * self.o_bits :][: self.o_bits]
            m.d.comb += container.eq(end.o.p.codes[lane])
        m.d.comb += [
            self.m_axis_tlast.eq(end.o.p.last),
            self.m_axis_tvalid.eq(end.o.valid),
            end.o.ready.eq(self.m_axis_tready),
            registers.taken.eq(gate.taken),
            registers.given.eq(transfer(end.o) & end.o.p.last),
            registers.short.eq(gate.short),
            registers.long.eq(gate.long),
            registers.receiving.eq(gate.receiving),
            registers.stall_i.eq(self.s_axis_tvalid & ~self.s_axis_tready),
            registers.stall_o.eq(self.m_axis_tvalid & ~self.m_axis_tready),
            self.irq.eq(registers.irq),
        ]
        return m


def generate_shell(accelerator: Accelerator, verilog: str, top: str) -> tuple[str, dict[str, str]]:
    """Verilog of the shell alone, around the generated text of its accelerator, and its files."""
    target = VerilogTarget()
    target.provide(MODULE, verilog)
    shell = AxiShell(accelerator)
    target.convert(shell, top)
    del target.modules[MODULE]
    return target.text(), shell.files()
