"""The gate netlist in Verilator: its outputs, and how often every net toggles.

The netlist takes the place of the accelerator in the harness, under the same module name and ports.
Every cell is written as its function in the library; a gated clock becomes a condition on the one
clock, which is the same register for register. Delays are none: a net toggles at most once a cycle,
so hazards (glitches) are not counted.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hdl.accelerator import Accelerator
from hdl.lib.rom import SOURCE as ROM_SOURCE
from model.ir.errors import BadInput
from sim.gates.function import to_verilog
from sim.gates.liberty import Cell, Library
from sim.gates.synthesis import ROM, Instance, Netlist, Unit, gate_pins, parameter
from sim.run import Result, Simulator

HERE = Path(__file__).parent
TOGGLES_FILE = "toggles.txt"
CHUNK = 64
_IMPORTS = """\
import "DPI-C" function void gyre_count(
  input int index, input bit on, input bit level, input longint unsigned nets);
import "DPI-C" function void gyre_write();
"""


@dataclass(frozen=True)
class Activity:
    """What happened in the ``cycles`` between the ends of two frames, in steady state.

    Parameters
    ----------
    frames : int
        Frames of the window.
    cycles : int
        Cycles of the window.
    toggles : dict of int to int
        Cycles in which a net's value differs from that of the cycle before.
    high : dict of int to int
        Cycles in which a net is 1, of the nets that enable a gated clock or a memory.
    """

    frames: int
    cycles: int
    toggles: dict[int, int]
    high: dict[int | str, int]


class GateSimulator(Simulator):
    """An accelerator whose Verilog is a netlist with counters; see :class:`Simulator`."""

    def __init__(self, accelerator: Accelerator, netlist: Netlist, library: Library, frames: int):
        window = margin(accelerator), frames - margin(accelerator)
        if window[1] <= window[0]:
            raise BadInput(
                "frames of the gate netlist", frames, f"more than {2 * window[0]}", "give more"
            )
        self.counted = Counted(netlist, library, *window)
        super().__init__(
            accelerator, verilog=self.counted.text, quick=True, sources=[HERE / "toggles.cpp"]
        )

    def _read(self, path: Path, edge: str, frames: int) -> torch.Tensor:
        self.lines = (path.parent / TOGGLES_FILE).read_text().splitlines()
        return super()._read(path, edge, frames)

    def measure(self, codes: torch.Tensor) -> tuple[Result, Activity]:
        """Run the frames; returns the result, to be compared, and the activity."""
        result = self.run(codes, processes=1)
        return result, self.counted.activity(self.lines)


def margin(accelerator: Accelerator) -> int:
    """Frames before and after the window: as many as can be in flight.

    A stage holds two, and small frames stand in pipelines as well.
    """
    return 4 + 2 * len(accelerator.mapping.stages)


class Counted:
    """The text of a netlist with counters on all of its nets, module by module as synthesized.

    They count from the end of frame ``first`` to that of frame ``last``, counted from 1.
    """

    def __init__(self, netlist: Netlist, library: Library, first: int, last: int) -> None:
        self.netlist, self.liberty, self.first, self.last = netlist, library, first, last
        self.bases: dict[tuple[str, ...], int] = {}  # of each instance, where its counters begin
        self.plans = {name: _Plan(unit, library) for name, unit in netlist.units.items()}
        self.sizes: dict[str, int] = {}
        self.total = self._place((), netlist.top, 0)
        parts = [_IMPORTS]
        parts += [self._text(name) for name in netlist.units]
        parts += [ROM_SOURCE.read_text()]
        parts += [(HERE / "gyre_ram.v").read_text()]
        self.text = "\n".join(parts)

    def _place(self, path: tuple[str, ...], name: str, base: int) -> int:
        """Number the counters of an instance and all below it; returns the next free number."""
        self.bases[path] = base
        following = base + self.plans[name].chunks
        for instance in self.netlist.units[name].placed:
            following = self._place((*path, *instance.path), instance.kind, following)
        self.sizes[name] = following - base
        return following

    def _text(self, name: str) -> str:
        unit, plan, library = self.netlist.units[name], self.plans[name], self.liberty
        top = name == self.netlist.top
        extra = [] if top else ["gyre_on", "gyre_base"]
        names = [_escaped(port) for port in unit.ports]
        lines = [f"module {_escaped(name)}({', '.join([*names, *extra])});"]
        if not top:
            lines += [
                "  /*verilator no_inline_module*/",
                "  input gyre_on;",
                "  input [31:0] gyre_base;",
            ]
        body: list[str] = []
        for port, (direction, nets) in unit.ports.items():
            width = "" if len(nets) == 1 else f"[{len(nets) - 1}:0] "
            lines.append(f"  {direction} {width}{_escaped(port)};")
            if direction == "input":
                body += [
                    f"  assign n{net} = {_escaped(port)}{'' if len(nets) == 1 else f'[{n}]'};"
                    for n, net in enumerate(nets)
                    if isinstance(net, int)
                ]
            else:
                body.append(f"  assign {_escaped(port)} = {_bus(nets)};")
        for net in plan.nets:
            lines.append(f"  {'reg' if net in plan.states else 'wire'} n{net};")
        for cell in unit.cells:
            kind = library.cells[cell.kind]
            if not kind.clock_gate and kind.flip_flop is None:
                body += _logic(kind, cell)
        for clock, statements in plan.registers.items():
            root = plan.enables.get(clock)
            gate = "" if root is None else f"if ({_name(root[1])}) "
            body.append(f"  always @(posedge n{clock if root is None else root[0]}) {gate}begin")
            body += [f"    {statement}" for statement in statements]
            body.append("  end")
        body += [_memory(n, memory) for n, memory in enumerate(unit.memories)]
        on, base = ("on", "32'd0") if top else ("gyre_on", "gyre_base")
        offset = plan.chunks
        for n, instance in enumerate(unit.placed):
            pins = [f".{_escaped(pin)}({_bus(nets)})" for pin, nets in instance.pins.items()]
            pins += [f".gyre_on({on})", f".gyre_base({base} + 32'd{offset})"]
            body.append(f"  {_escaped(instance.kind)} placed_{n} ({', '.join(pins)});")
            offset += self.sizes[instance.kind]
        counts: list[str] = []
        for n, (level, nets) in enumerate(plan.chunked()):
            pad = f"{CHUNK - len(nets)}'d0, " if len(nets) < CHUNK else ""
            bus = "{" + pad + ", ".join(f"n{net}" for net in reversed(nets)) + "}"
            counts.append(f"    gyre_count({base} + 32'd{n}, {on}, 1'b{level}, {bus});")
        if counts:
            body += [f"  always @(posedge n{plan.clock}) begin", *counts, "  end"]
        if top:
            body += self._window(unit, plan.clock)
        return "\n".join([*lines, *body, "endmodule\n"])

    def _window(self, unit: Unit, clock: int) -> list[str]:
        width = len(unit.ports["o__payload"][1])
        return [
            "  reg [31:0] ends;",
            f"  wire on = ends >= {self.first} && ends < {self.last};",
            f"  always @(posedge n{clock}) if (rst) ends <= 0;",
            f"    else if (o__valid & o__ready & o__payload[{width - 1}]) ends <= ends + 1;",
            f"  always @(posedge n{clock}) gyre_count(32'd{self.total}, on, 1'b1, {CHUNK}'d1);",
            "  final gyre_write();",
        ]

    def activity(self, lines: list[str]) -> Activity:
        """What the counters wrote."""
        counts: dict[int, list[int]] = {}
        for line in lines:
            index, *planes = line.split()
            bits = np.array([[int(p, 16) >> n & 1 for n in range(CHUNK)] for p in planes])
            counts[int(index)] = (bits << np.arange(len(planes))[:, None]).sum(axis=0).tolist()
        cycles = counts[self.total][0]
        found: dict[tuple[int, tuple[tuple[str, ...], int]], int] = {}
        for path, base in self.bases.items():
            plan = self.plans[self._unit_at(path)]
            for n, (level, nets) in enumerate(plan.chunked()):
                for place, net in enumerate(nets):
                    found[level, (path, net)] = counts[base + n][place]
        toggles, high = {}, {"0": 0, "1": cycles, "x": 0}
        for net, places in self.netlist.local.items():
            for place in places:
                if (0, place) in found:
                    toggles[net] = found[0, place]
                if (1, place) in found:
                    high[net] = found[1, place]
        return Activity(self.last - self.first, cycles, toggles, high)

    def _unit_at(self, path: tuple[str, ...]) -> str:
        name = self.netlist.top
        for step in path:
            placed = self.netlist.units[name].placed
            name = next(instance.kind for instance in placed if instance.path == (step,))
        return name


class _Plan:
    """What of a module is counted, and how its registers are clocked."""

    def __init__(self, unit: Unit, library: Library) -> None:
        found: set[int] = set()
        for instance in (*unit.cells, *unit.memories, *unit.placed):
            for nets in instance.pins.values():
                found.update(net for net in nets if isinstance(net, int))
        for _, nets in unit.ports.values():
            found.update(net for net in nets if isinstance(net, int))
        self.clock = next(
            (n for p, (_, (n, *_)) in unit.ports.items() if p == "clk" and isinstance(n, int)), 0
        )
        self.enables: dict[int, tuple[int, int | str]] = {}  # gated clock to clock and enable
        levels: set[int] = set()
        for cell in unit.cells:
            if library.cells[cell.kind].clock_gate:
                clock, enable, out = gate_pins(library)
                net = cell.pins[enable][0]
                self.enables[cell.pins[out][0]] = cell.pins[clock][0], net
                levels.update({net} if isinstance(net, int) else ())
        for memory in unit.memories:
            for pin in ("en", "re", "we"):
                levels.update(n for n in memory.pins.get(pin, ()) if isinstance(n, int))
        self.levels = sorted(levels)
        self.registers: dict[int, list[str]] = {}
        self.states: set[int] = set()
        for cell in unit.cells:
            kind = library.cells[cell.kind]
            if (ff := kind.flip_flop) is None:
                continue
            data, clock = cell.pins[ff.next_state][0], cell.pins[ff.clocked_on][0]
            for pin in kind.outputs:
                net = (cell.pins.get(pin) or [None])[0]
                if net is not None:
                    inverse = "~" if kind.pins[pin].function == ff.inverse else ""
                    statement = f"n{net} <= {inverse}{_name(data)};"
                    self.registers.setdefault(clock, []).append(statement)
                    self.states.add(net)
        self.nets = sorted(found - set(self.enables))
        own = sorted({net for nets in _driven(unit, library) for net in nets})
        self.toggled = own
        self.chunks = len(self.chunked())

    def chunked(self) -> list[tuple[int, list[int]]]:
        """Groups of nets with one counter each, and whether it counts levels."""
        return [
            (level, nets[n : n + CHUNK])
            for level, nets in ((0, self.toggled), (1, self.levels))
            for n in range(0, len(nets), CHUNK)
        ]


def _driven(unit: Unit, library: Library):
    """Nets that cells and memories of a module drive, and the inputs of the top's ports."""
    for cell in unit.cells:
        kind = library.cells[cell.kind]
        if not kind.clock_gate:
            for pin in kind.outputs:
                yield [net for net in cell.pins.get(pin, ()) if isinstance(net, int)]
    for memory in unit.memories:
        yield [n for pin in ("data", "rd") for n in memory.pins.get(pin, ()) if isinstance(n, int)]


def _name(net: int | str) -> str:
    return f"n{net}" if isinstance(net, int) else f"1'b{net if net in '01' else 0}"


def _bus(nets: list[int | str]) -> str:
    return "{" + ", ".join(_name(net) for net in reversed(nets)) + "}"


def _escaped(name: str) -> str:
    """A name as an identifier of Verilog; the names of our own modules need no escape."""
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else f"\\{name} "


def _logic(kind: Cell, cell: Instance) -> list[str]:
    lines = []
    for pin in kind.outputs:
        nets = cell.pins.get(pin, [])
        if nets:
            function = kind.pins[pin].function
            if function is None:
                raise BadInput(
                    f"cell {kind.name}", "no function", "a cell of logic", "give another library"
                )
            text = to_verilog(function, lambda name: _name(cell.pins[name][0]))
            lines.append(f"  assign {_name(nets[0])} = {text};")
    return lines


def _memory(n: int, memory: Instance) -> str:
    numbers = ", ".join(
        f".{name}({parameter(memory, name)})" for name in ("WIDTH", "DEPTH", "ADDR")
    )
    if memory.kind == ROM:
        numbers += f', .FILE("{memory.parameters["FILE"]}")'
    pins = ", ".join(f".{pin}({_bus(nets)})" for pin, nets in memory.pins.items())
    return f"  {memory.kind} #({numbers}) memory_{n} ({pins});"
