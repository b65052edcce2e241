"""Verilog to standard cells with Yosys: memories stay black boxes, enables become clock gates."""

import gzip
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from model.ir.errors import BadInput
from sim.build import BuildError, build_root
from sim.gates.buffers import FAN_OUT, add_buffers
from sim.gates.liberty import Library

HERE = Path(__file__).parent
ROM, RAM = "gyre_rom", "gyre_ram"
GATE_WIDTH = 4
"""Registers of fewer bits keep a multiplexer in place of a gated clock."""

_GATES = """\
module {kind} (CLK, EN, {reset}D, Q);
  parameter WIDTH = 1;
  parameter CLK_POLARITY = 1;
  parameter EN_POLARITY = 1;
  {parameters}
  input CLK, EN{inputs};
  input [WIDTH-1:0] D;
  output [WIDTH-1:0] Q;
  wire _TECHMAP_FAIL_ = WIDTH < {least} || !CLK_POLARITY;
  wire gated;
  {cell} gate (.{clock}(CLK), .{enable}({condition}), .{out}(gated));
  {ff} #(.WIDTH(WIDTH), .CLK_POLARITY(1'b1){values}) _TECHMAP_REPLACE_ (
    .CLK(gated), {connect}.D(D), .Q(Q));
endmodule
"""

_ABC = "-script +strash;dc2;map,-B,0.9;topo;buffer,-c,-N,{fan_out};upsize,-D,{ps};dnsize,-D,{ps}"
"""Quick, on arrays of multipliers too, where the script of plain ``abc`` does not end; buffers for
nets of logic that drive many pins (other nets: :mod:`sim.gates.buffers`), sizes for the clock that
is asked for."""

_SCRIPT = """\
read_verilog {boxes} {source}
synth -top {top} -run begin:fine
techmap -map {memories}
opt_clean
{gating}synth -top {top} -run fine:check
dfflibmap -liberty {library}
opt
abc {abc} -liberty {library}
opt_clean -purge
write_json netlist.json
"""


@dataclass(frozen=True)
class Instance:
    """A cell of the netlist: its hierarchical path, its kind, and the nets of its pins.

    A net is a number; "0" and "1" are constants.
    """

    path: tuple[str, ...]
    kind: str
    pins: dict[str, list[int | str]]
    parameters: dict[str, str]


@dataclass(frozen=True)
class Unit:
    """A module of the netlist as Yosys wrote it: its ports, cells, memories and placed modules.

    Nets are numbers of the module alone; ``paths`` of the instances are their own names.
    """

    name: str
    ports: dict[str, tuple[str, list[int | str]]]
    cells: list[Instance]
    memories: list[Instance]
    placed: list[Instance]


@dataclass(frozen=True)
class Netlist:
    """A design of standard cells and memories.

    Parameters
    ----------
    top : str
    ports : dict of str to (direction, nets)
    cells : list of Instance
        Standard cells.
    memories : list of Instance
        The black boxes.
    units : dict of str to Unit
        The modules that it is made of, the top among them.
    local : dict of int to list of (path, net)
        Where a net lies in the modules: the instance and its net there.
    """

    top: str
    ports: dict[str, tuple[str, list[int | str]]]
    cells: list[Instance]
    memories: list[Instance]
    units: dict[str, Unit]
    local: dict[int, list[tuple[tuple[str, ...], int]]]

    @cached_property
    def nets(self) -> list[int]:
        """All nets, ascending."""
        found: set[int] = set()
        for cell in (*self.cells, *self.memories):
            for bits in cell.pins.values():
                found.update(bit for bit in bits if isinstance(bit, int))
        for _, bits in self.ports.values():
            found.update(bit for bit in bits if isinstance(bit, int))
        return sorted(found)


def find_yosys() -> str:
    """The program ``yosys``; raises BadInput if there is none."""
    found = shutil.which("yosys")
    if found is None:
        raise BadInput(
            "tool yosys",
            "none on the PATH",
            "Yosys 0.23 or newer",
            "install it (on Debian and Ubuntu: apt install yosys)",
        )
    return found


def synthesize(
    verilog: str,
    top: str,
    library: Library,
    *,
    period: float = 2.0,
    gating: bool = True,
    log: Path | None = None,
) -> Netlist:
    """A design of standard cells.

    Parameters
    ----------
    verilog : str
        The whole design; modules ``gyre_rom`` and inferred memories become black boxes.
    top : str
    library : Library
    period : float
        Of the clock, in ns.
    gating : bool
        Registers with an enable get a gated clock, shared by all that have the same enable in a
        module, where the library has a cell for it.
    log : Path, optional
        Where the words of Yosys go.

    Raises BadInput for a library without flip-flops, and if there is no Yosys.
    """
    flip_flop = library.flip_flop
    assert flip_flop.name in library.cells
    yosys = find_yosys()
    root = build_root() / "gates"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        folder = Path(scratch)
        source = re.sub(rf"^module {ROM}\b.*?^endmodule", "", verilog, flags=re.S | re.M)
        (folder / "design.v").write_text(source)
        (folder / "cells.lib").write_text(liberty_text(library))
        gate = library.clock_gate if gating else None
        if gate is not None:
            (folder / "gating.v").write_text(gating_map(library))
            (folder / "gate.v").write_text(gate_box(library))
        script = _SCRIPT.format(
            abc=_ABC.format(ps=round(1000 * period), fan_out=FAN_OUT),
            boxes=HERE / "boxes.v",
            source="design.v" if gate is None else "gate.v design.v",
            top=top,
            memories=HERE / "memory_map.v",
            gating="" if gate is None else "techmap -map gating.v\nopt_merge -share_all\n",
            library="cells.lib",
        )
        command = [yosys, "-q", "-l", "yosys.log", "-s", "script.ys"]
        (folder / "script.ys").write_text(script)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if log is not None and (folder / "yosys.log").exists():
            shutil.copy(folder / "yosys.log", log)
        if done.returncode:
            words = (done.stdout + done.stderr).strip().splitlines()[-20:]
            raise BuildError(f"yosys failed with status {done.returncode}:\n" + "\n".join(words))
        made = json.loads((folder / "netlist.json").read_text())
        add_buffers(made["modules"], top, library)
        netlist = read_netlist(made, top)
    _check(netlist, library)
    return netlist


def liberty_text(library: Library) -> str:
    """The library's file as text."""
    raw = library.path.read_bytes()
    return (gzip.decompress(raw) if library.path.suffix == ".gz" else raw).decode("latin-1")


def gating_map(library: Library) -> str:
    """Map of registers with an enable to registers on a gated clock."""
    gate = library.clock_gate
    assert gate is not None
    clock, enable, out = gate_pins(library)
    common = {
        "least": GATE_WIDTH,
        "cell": gate.name,
        "clock": clock,
        "enable": enable,
        "out": out,
    }
    plain = _GATES.format(
        kind="\\$dffe",
        reset="",
        parameters="",
        inputs="",
        condition="EN_POLARITY ? EN : !EN",
        ff="\\$dff",
        values="",
        connect="",
        **common,
    )
    reset = {
        "reset": "SRST, ",
        "parameters": "parameter SRST_POLARITY = 1; parameter SRST_VALUE = 0;",
        "inputs": ", SRST",
        "ff": "\\$sdff",
        "values": ", .SRST_POLARITY(SRST_POLARITY), .SRST_VALUE(SRST_VALUE)",
        "connect": ".SRST(SRST), ",
    }
    over = _GATES.format(
        kind="\\$sdffe",
        condition="(EN_POLARITY ? EN : !EN) | (SRST_POLARITY ? SRST : !SRST)",
        **reset,
        **common,
    )
    under = _GATES.format(kind="\\$sdffce", condition="EN_POLARITY ? EN : !EN", **reset, **common)
    return plain + over + under


def gate_box(library: Library) -> str:
    """The cell that gates a clock, as synthesis sees it."""
    clock, enable, out = gate_pins(library)
    return (
        f"(* blackbox *) module {library.clock_gate.name}"
        f"(input {clock}, input {enable}, output {out});\nendmodule\n"
    )


def gate_pins(library: Library) -> tuple[str, str, str]:
    """Pins of the cell that gates a clock: clock, enable, gated clock."""
    gate = library.clock_gate
    assert gate is not None
    (out,) = gate.outputs
    (clock,) = gate.clocks
    (enable,) = (name for name in gate.inputs if name != clock)
    return clock, enable, out


def read_netlist(made: dict[str, Any], top: str) -> Netlist:
    """The netlist that Yosys wrote as JSON, and the same without its modules."""
    modules = made["modules"]
    units = {name: _unit(name, module, modules) for name, module in modules.items()}
    union = _Union()
    cells: list[Instance] = []
    memories: list[Instance] = []
    seen: list[tuple[tuple[str, ...], int]] = []

    def enter(path: tuple[str, ...], unit: Unit) -> None:
        bits = {bit for _, nets in unit.ports.values() for bit in nets}
        for instance in (*unit.cells, *unit.memories):
            bits.update(bit for nets in instance.pins.values() for bit in nets)
        seen.extend((path, bit) for bit in bits if isinstance(bit, int))
        for found, into in ((unit.cells, cells), (unit.memories, memories)):
            for instance in found:
                pins = {
                    pin: [(path, bit) if isinstance(bit, int) else bit for bit in nets]
                    for pin, nets in instance.pins.items()
                }
                own = path if found is unit.cells else (*path, *instance.path)
                into.append(Instance(own, instance.kind, pins, instance.parameters))
        for instance in unit.placed:
            inner = units[instance.kind]
            below = (*path, *instance.path)
            for port, (_, nets) in inner.ports.items():
                outside = instance.pins.get(port, [])
                for bit, other in zip(nets, outside, strict=False):
                    here = (path, other) if isinstance(other, int) else other
                    union.join((below, bit) if isinstance(bit, int) else bit, here)
            enter(below, inner)

    enter((), units[top])
    numbers: dict[Any, int | str] = {}
    local: dict[int, list[tuple[tuple[str, ...], int]]] = {}

    def number(bit: Any) -> int | str:
        root = union.root(bit)
        if isinstance(root, str):
            return root
        return numbers.setdefault(root, len(numbers) + 2)

    for place in seen:
        net = number(place)
        if isinstance(net, int):
            local.setdefault(net, []).append(place)
    for group in (cells, memories):
        for n, instance in enumerate(group):
            pins = {pin: [number(bit) for bit in bits] for pin, bits in instance.pins.items()}
            group[n] = Instance(instance.path, instance.kind, pins, instance.parameters)
    ports = {
        name: (direction, [number(((), bit)) if isinstance(bit, int) else bit for bit in bits])
        for name, (direction, bits) in units[top].ports.items()
    }
    used = _used(units, top)
    return Netlist(top, ports, cells, memories, {n: units[n] for n in used}, local)


class _Union:
    """Nets that are one; a constant stands for all that it is joined with."""

    def __init__(self) -> None:
        self.above: dict[Any, Any] = {}

    def root(self, item: Any) -> Any:
        while item in self.above:
            item = self.above[item]
        return item

    def join(self, first: Any, second: Any) -> None:
        a, b = self.root(first), self.root(second)
        if a == b:
            return
        if isinstance(a, str):
            a, b = b, a
        if not isinstance(a, str):
            self.above[a] = b


def _unit(name: str, module: dict[str, Any], modules: dict[str, Any]) -> Unit:
    ports = {port: (form["direction"], form["bits"]) for port, form in module["ports"].items()}
    cells, memories, placed = [], [], []
    for own, cell in module["cells"].items():
        instance = Instance((own,), cell["type"], cell["connections"], cell.get("parameters", {}))
        if cell["type"] in (ROM, RAM):
            memories.append(instance)
        elif cell["type"] in modules and not _black(modules[cell["type"]]):
            placed.append(instance)
        else:
            cells.append(instance)
    return Unit(name, ports, cells, memories, placed)


def _black(module: dict[str, Any]) -> bool:
    return "blackbox" in module.get("attributes", {})


def _used(units: dict[str, Unit], top: str) -> list[str]:
    """The modules below a top, itself first."""
    found, stack = [], [top]
    while stack:
        name = stack.pop()
        if name not in found:
            found.append(name)
            stack += [instance.kind for instance in units[name].placed]
    return found


def parameter(instance: Instance, name: str) -> int:
    """A number among the parameters of a memory."""
    return int(instance.parameters[name], 2)


def _check(netlist: Netlist, library: Library) -> None:
    unknown = sorted({c.kind for c in netlist.cells if c.kind not in library.cells})
    if unknown:
        raise BadInput(
            str(library.path),
            f"no cell for {', '.join(unknown)}",
            "a library that covers logic, flip-flops and constants",
            "give the library of the standard cells",
        )
