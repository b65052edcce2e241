"""The harness: an accelerator between a frame source and a frame sink, with counters."""

import re
from dataclasses import dataclass

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.accelerator import Accelerator, count_ports, fill_port
from hdl.lib.frames import Capture, FrameSink, FrameSource
from hdl.lib.numerics import code_shape
from hdl.lib.stream import connect, transfer
from hdl.target import VerilogTarget, place
from hdl.verilog import Design

TOP = "gyre_top"
MODULE = "accelerator"
INPUT_FILE = "input.hex"
MARKS_FILE = "marks.hex"
OUTPUT_FILE = "output.hex"
SOURCE_WORDS = 1 << 20
SINK_WORDS = 1 << 18
TAP_FRAMES = 64

CONTROLS = {"words": 32, "expected": 32, "settle": 32, "stall_i": 1, "stall_o": 1, "seed": 16}
COUNTERS = ("left", "count", "first_in", "first_out", "last_out", "cycle")


def tap_file(node: str) -> str:
    """Name of the file with the beats of a node's output."""
    return f"tap_{node}.hex"


@dataclass(frozen=True)
class Capacity:
    """What the harness memories hold: beats of a run, and frames that its taps show."""

    source: int = SOURCE_WORDS
    sink: int = SINK_WORDS
    taps: int = TAP_FRAMES


class Harness(wiring.Component):
    """Runs whole frames without outside help.

    After reset the source sends ``words`` beats; once the sink has taken ``expected`` beats and
    ``settle`` further cycles have passed (in which a surplus beat would show), the memories are
    written to files and ``done`` rises.

    Members
    -------
    words, expected, settle : In(32)
        Beats to send, beats to wait for, cycles to wait after them.
    marks : In(32)
        Marks to send, one a frame; only for a recurrent network.
    stall_i, stall_o : In(1)
        Random pauses of the sources and of the sink.
    seed : In(16)
        Pattern of the pauses.
    done : Out(1)
    left, count : Out(32)
        Input beats not taken, output beats given.
    first_in, first_out, last_out : Out(32)
        Cycle of the first input beat, of the end of the first output frame, and of the last.
    cycle : Out(32)
        Cycles from reset to ``done``.
    steps_<node> : Out(32)
        Steps that the node's engine has performed.
    span_<node> : Out(32)
        Cycles from its first step to its last one, both counted: it was busy in ``steps`` of them.
    fill_<node>_<input> : Out(32)
        The most beats that were ever in the FIFO before an input of the node.
    <count>_<node> : Out(32)
        What the node's engine counts besides.
    """

    def __init__(self, accelerator: Accelerator, capacity: Capacity = Capacity()) -> None:
        self.accelerator, self.capacity = accelerator, capacity
        self.engines = [s.node for s in accelerator.mapping.stages if s.engine is not None]
        self.fills = [fill_port(fifo) for fifo in accelerator.mapping.fifos]
        self.counts = [port for port, _, _ in count_ports(accelerator.mapping)]
        ports = {name: In(width) for name, width in CONTROLS.items()}
        if accelerator.slots is not None:
            ports["marks"] = In(32)
        ports |= {name: Out(32) for name in self.counters} | {"done": Out(1)}
        super().__init__(ports)

    @property
    def counters(self) -> tuple[str, ...]:
        """Names of the counter ports."""
        work = (f"{name}_{node}" for node in self.engines for name in ("steps", "span"))
        return (*COUNTERS, *work, *self.fills, *self.counts)

    @property
    def peaks(self) -> tuple[str, ...]:
        """Those that do not grow with the frames: of several runs the greatest counts."""
        return (*self.fills, *self.counts)

    def elaborate(self, platform):
        m = Module()
        accelerator = self.accelerator
        network, mapping = accelerator.network, accelerator.mapping
        edge_i, edge_o = network.input.name, network.output.name
        placed = place(
            m, platform, "accelerator", MODULE, Accelerator, network, mapping, accelerator.taps
        )
        m.submodules.source = source = FrameSource(
            code_shape(network.input.format),
            lanes=mapping.input_lanes,
            beats=mapping.beats(network, edge_i).count,
            depth=self.capacity.source,
            file=INPUT_FILE,
        )
        m.submodules.sink = sink = FrameSink(
            code_shape(network.format(edge_o)),
            lanes=mapping.lanes(network, edge_o),
            depth=self.capacity.sink,
            file=OUTPUT_FILE,
        )
        connect(m, source.o, placed.i)
        connect(m, placed.o, sink.i)
        if accelerator.slots is not None:
            m.submodules.marks = marks = FrameSource(
                unsigned(2), lanes=1, beats=1, depth=self.capacity.source, file=MARKS_FILE
            )
            m.d.comb += [
                marks.words.eq(self.marks),
                marks.stall.eq(self.stall_i),
                marks.seed.eq(self.seed ^ 0x5A5A),
                placed.marks.p.as_value().eq(marks.o.p.codes[0]),
                placed.marks.valid.eq(marks.o.valid),
                marks.o.ready.eq(placed.marks.ready),
            ]
        dump, quiet = Signal(), Signal(32)
        m.d.comb += [
            source.words.eq(self.words),
            source.stall.eq(self.stall_i),
            source.seed.eq(self.seed),
            sink.stall.eq(self.stall_o),
            sink.seed.eq(~self.seed),
            sink.dump.eq(dump),
            dump.eq((quiet == self.settle) & ~self.done),
        ]
        with m.If(~self.done):  # what is read after the end is what was so at the end
            m.d.sync += [
                self.cycle.eq(self.cycle + 1),
                self.left.eq(source.left),
                self.count.eq(sink.count),
            ]
        with m.If(sink.count >= self.expected):
            m.d.sync += quiet.eq(quiet + (quiet != self.settle))
        with m.If(dump):
            m.d.sync += self.done.eq(1)
        with m.If(transfer(source.o) & (source.left == self.words)):
            m.d.sync += self.first_in.eq(self.cycle)
        beats = mapping.beats(network, edge_o).count
        with m.If(transfer(sink.i)):
            m.d.sync += self.last_out.eq(self.cycle)
            with m.If(sink.count == beats - 1):
                m.d.sync += self.first_out.eq(self.cycle)
        for node in self.engines:
            count, span = getattr(self, f"steps_{node}"), getattr(self, f"span_{node}")
            step, elapsed = getattr(placed, f"step_{node}"), Signal(32, name=f"elapsed_{node}")
            m.d.sync += count.eq(count + step)
            with m.If(elapsed != 0):
                m.d.sync += elapsed.eq(elapsed + 1)
            with m.If(step != 0):
                m.d.sync += [span.eq(elapsed + 1), elapsed.eq(elapsed + 1)]
        for name in self.counts:
            with m.If(~self.done):
                m.d.sync += getattr(self, name).eq(getattr(placed, name))
        for name in self.fills:
            most, fill = getattr(self, name), getattr(placed, name)
            with m.If(fill > most):
                m.d.sync += most.eq(fill)
        if accelerator.taps:
            for stage in mapping.stages:
                beat = getattr(placed, f"tap_{stage.node}").as_value()
                depth = self.capacity.taps * mapping.beats(network, stage.node).count
                m.submodules[f"tap_{stage.node}"] = tap = Capture(
                    len(beat), depth, tap_file(stage.node)
                )
                m.d.comb += [
                    tap.we.eq(getattr(placed, f"moves_{stage.node}")),
                    tap.data.eq(beat),
                    tap.dump.eq(dump),
                ]
        return m


_TOP_TEXT = """\
`timescale 1ns / 1ns
// The main program of the simulator drives the clock.
module {top} (input wire clk, input wire rst, {ports});
  {name} {name} (.clk(clk), .rst(rst), {connections});
endmodule
"""


def generate_harness(harness: Harness, verilog: str | None = None) -> Design:
    """Verilog of a harness under a top with the clock, and its accelerator's .hex files.

    With ``verilog``, the text of a generated accelerator, that very text is what runs. Without it
    the accelerator is generated anew, without initial values.
    """
    text = with_clock(
        harness, "harness", TOP, provided=None if verilog is None else (MODULE, verilog)
    )
    return Design(TOP, text, harness.accelerator.files())


def with_clock(
    component: wiring.Component, name: str, top: str, provided: tuple[str, str] | None = None
) -> str:
    """Verilog of a component of plain ports, as the module ``name`` under a top with a clock.

    The initial values of all registers are left out: they begin at random, and a state that reset
    forgets shows. With a module that is ``provided`` (its name and its text), that text stays as it
    is, and so do the initial values.
    """
    target = VerilogTarget()
    if provided is not None:
        target.provide(*provided)
    target.convert(component, name)
    members = component.signature.members
    ports = [
        f"{'input' if member.flow == wiring.In else 'output'} wire [{member.shape - 1}:0] {port}"
        for port, member in members.items()
    ]
    text = _TOP_TEXT.format(
        top=top,
        name=name,
        ports=", ".join(ports),
        connections=", ".join(f".{port}({port})" for port in members),
    )
    return text + (_without_initial(target.text()) if provided is None else target.text())


def _without_initial(verilog: str) -> str:
    """The design without initial values: registers then begin at random, and only reset counts."""
    return re.sub(r"^(\s*reg [^=;]*) = \d+'[a-z]+[0-9a-f]+;", r"\1;", verilog, flags=re.M)


_MEMORY = re.compile(r"^  reg (?:\[\d+:0\] )?(\\\S+|\w+) ?\[\d+:0\];$", re.M)


def with_collisions(verilog: str) -> str:
    """The design with memories that give the wrong bits of a word that is written as it is read.

    What a block of an FPGA gives then is not defined, so nothing may depend on it.
    """
    return "endmodule\n".join(_colliding(part) for part in verilog.split("endmodule\n"))


def _colliding(module: str) -> str:
    for name in _MEMORY.findall(module):
        memory = re.escape(name) + r" ?\[(.+?)\] ?"
        writes = re.findall(rf"if \((.+)\)\n +{memory}(?:\[\d+(?::\d+)?\] )?<= ", module)
        meets = [f"(|({enable}) && ({address}) == (@))" for enable, address in writes]
        if not meets:
            continue
        collision = " || ".join(meets)
        module = re.sub(
            rf"<= ({memory});",
            lambda read, meets=collision: (
                f"<= ({meets.replace('@', read[2])}) ? ~{read[1]} : {read[1]};"
            ),
            module,
        )
    return module


def port_names(verilog: str, top: str = TOP) -> list[str]:
    """Names of the top's ports but the clock, which are all that a test bench sees."""
    header = re.search(rf"module {top} \((.*?)\);", verilog, re.S)
    assert header is not None
    return [name for name in re.findall(r"(\w+)(?:,|$)", header.group(1)) if name != "clk"]
