"""Timing of a netlist with OpenSTA; memories are macros of the times that a technology states."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from model.ir.errors import BadInput
from sim.build import BuildError, build_root
from sim.gates.liberty import Library
from sim.gates.synthesis import Instance, Netlist, liberty_text
from sim.technology import MemoryTechnology

CLOCK = "clk"

_SCRIPT = """\
read_liberty cells.lib
read_liberty memories.lib
read_verilog netlist.v
link_design {top}
create_clock -name {clock} -period {period} [get_ports {clock}]
set_input_delay 0 -clock {clock} [all_inputs]
set_output_delay 0 -clock {clock} [all_outputs]
report_checks -path_delay max -digits 4
exit
"""


@dataclass(frozen=True)
class Timing:
    """What OpenSTA says of a clock: ``period`` and ``slack`` in ns, and the critical path.

    ``path`` is its report; ``ends`` are the pins that it begins and ends at.
    """

    period: float
    slack: float
    ends: tuple[str, str]
    path: str

    @property
    def met(self) -> bool:
        """Whether the design keeps the clock."""
        return self.slack >= 0

    @property
    def least(self) -> float:
        """The shortest period that it would keep."""
        return self.period - self.slack


def find_sta() -> str:
    """The program ``sta``; raises BadInput if there is none."""
    found = shutil.which("sta")
    if found is None:
        raise BadInput(
            "tool sta",
            "none on the PATH",
            "OpenSTA 2 or newer",
            "install it (on Debian and Ubuntu: apt install opensta)",
        )
    return found


def check_period(period: float) -> float:
    """The period of a clock in ns; raises BadInput unless it is above 0 and at most 1,000."""
    if not 0 < period <= 1000:
        raise BadInput("--clock", period, "a period in ns, above 0 and at most 1000", "correct it")
    return period


def analyse(netlist: Netlist, library: Library, memory: MemoryTechnology, period: float) -> Timing:
    """The slack under a clock of ``period`` ns and the critical path.

    Wires are those of the library's statistical wire load, if it has a default one.
    """
    unit = library.time
    script = _SCRIPT.format(top=netlist.top, clock=CLOCK, period=period * 1e-9 / unit)
    text = run_sta(script, netlist, library, memory, structural(netlist))
    slack = re.search(r"^\s*(-?[\d.]+)\s+slack", text, re.M)
    if slack is None:
        raise BuildError(f"sta found no path:\n{text.strip()[-2000:]}")
    ends = [re.search(rf"^{word}: (\S+)", text, re.M) for word in ("Startpoint", "Endpoint")]
    path = text[text.find("Startpoint") : slack.end()].strip()
    return Timing(
        period=period,
        slack=float(slack[1]) * unit / 1e-9,
        ends=(ends[0][1] if ends[0] else "", ends[1][1] if ends[1] else ""),
        path=path,
    )


def run_sta(
    script: str,
    netlist: Netlist,
    library: Library,
    memory: MemoryTechnology,
    verilog: str,
    *,
    wires: bool = True,
) -> str:
    """What OpenSTA says to a script, beside cells.lib, memories.lib and netlist.v.

    Without ``wires`` the library has no statistical wire loads.

    Raises BadInput if there is no OpenSTA, BuildError if it fails.
    """
    sta = find_sta()
    root = build_root() / "gates"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        folder = Path(scratch)
        cells = liberty_text(library)
        if not wires:
            cells = re.sub(r"default_wire_load(_selection)?\s*:[^;]*;", "", cells)
        (folder / "cells.lib").write_text(cells)
        (folder / "memories.lib").write_text(memory_library(netlist, library, memory))
        (folder / "netlist.v").write_text(verilog)
        (folder / "script.tcl").write_text(script)
        command = [sta, "-no_splash", "-no_init", "-exit", "script.tcl"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    if done.returncode or "Error" in text:
        raise BuildError(f"sta failed with status {done.returncode}:\n{text.strip()[-2000:]}")
    return text


def structural(netlist: Netlist) -> str:
    """The netlist as Verilog of instances; a memory is a macro of its own, with a pin a bit."""

    def net(bit: int | str) -> str:
        return f"n{bit}" if isinstance(bit, int) else f"1'b{bit if bit in '01' else 0}"

    ports, lines = [], []
    for name, (direction, bits) in netlist.ports.items():
        ports.append(name)
        width = "" if len(bits) == 1 else f"[{len(bits) - 1}:0] "
        lines.append(f"  {direction} {width}{name};")
    for bit in netlist.nets:
        lines.append(f"  wire n{bit};")
    for name, (direction, bits) in netlist.ports.items():
        for n, bit in enumerate(bits):
            port = name if len(bits) == 1 else f"{name}[{n}]"
            if direction == "output":
                lines.append(f"  assign {port} = {net(bit)};")
            elif isinstance(bit, int):
                lines.append(f"  assign {net(bit)} = {port};")
    for n, cell in enumerate(netlist.cells):
        pins = ", ".join(f".{pin}({net(bits[0])})" for pin, bits in cell.pins.items() if bits)
        lines.append(f"  {cell.kind} {cell_name(cell, n)} ({pins});")
    for n, memory in enumerate(netlist.memories):
        pins = ", ".join(
            f".{pin}({net(bit)})" for pin, bit in _pins(memory) if isinstance(bit, int)
        )
        lines.append(f"  gyre_memory_{n} {cell_name(memory, n)} ({pins});")
    header = f"module {netlist.top}({', '.join(ports)});"
    return "\n".join([header, *lines, "endmodule\n"])


def cell_name(cell: Instance, number: int) -> str:
    """A name for an instance that says where it lies."""
    return "_".join((*cell.path, cell.kind, str(number)))


def _pins(memory: Instance) -> list[tuple[str, int | str]]:
    return [
        (name if name == "clk" else f"{name}_{n}", bit)
        for name, bits in memory.pins.items()
        for n, bit in enumerate(bits)
    ]


def memory_library(netlist: Netlist, library: Library, memory: MemoryTechnology) -> str:
    """A Liberty file of the memories: access and setup times at typical, no energies."""
    time, farad = library.time, library.capacitance
    access = memory.access_time.range.typical / time
    setup = memory.setup_time.range.typical / time
    load = f"capacitance : {memory.input_pin.range.typical / farad:g};"
    number = 1.0
    lines = [
        "library (gyre_memories) {",
        f'  time_unit : "{time / 1e-9:g}ns"; voltage_unit : "1V"; current_unit : "1mA";',
        f"  capacitive_load_unit ({number:g},{'ff' if farad < 1e-13 else 'pf'});",
        '  pulling_resistance_unit : "1kohm"; leakage_power_unit : "1nW";',
        "  input_threshold_pct_rise : 50; input_threshold_pct_fall : 50;",
        "  output_threshold_pct_rise : 50; output_threshold_pct_fall : 50;",
        "  slew_lower_threshold_pct_rise : 30; slew_upper_threshold_pct_rise : 70;",
        "  slew_lower_threshold_pct_fall : 30; slew_upper_threshold_pct_fall : 70;",
        f"  nom_voltage : {library.voltage:g}; delay_model : table_lookup;",
    ]
    slew = access / 20
    for n, instance in enumerate(netlist.memories):
        lines.append(f"  cell (gyre_memory_{n}) {{ is_macro_cell : true; area : 0;")
        for name, _ in _pins(instance):
            if name == "clk":
                lines.append(f"    pin (clk) {{ direction : input; clock : true; {load} }}")
            elif name.startswith(("data_", "rd_")):
                arcs = " ".join(
                    f'{kind} (scalar) {{ values ("{value:g}"); }}'
                    for kind, value in (
                        ("cell_rise", access),
                        ("cell_fall", access),
                        ("rise_transition", slew),
                        ("fall_transition", slew),
                    )
                )
                lines.append(
                    f'    pin ({name}) {{ direction : output; timing () {{ related_pin : "clk";'
                    f" timing_type : rising_edge; {arcs} }} }}"
                )
            else:
                arcs = " ".join(
                    f'{kind}_constraint (scalar) {{ values ("{setup:g}"); }}'
                    for kind in ("rise", "fall")
                )
                lines.append(
                    f"    pin ({name}) {{ direction : input; {load} timing () {{"
                    f' related_pin : "clk"; timing_type : setup_rising; {arcs} }} }}'
                )
        lines.append("  }")
    return "\n".join([*lines, "}\n"])
