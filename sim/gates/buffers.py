"""Trees of buffers behind nets that drive many pins: those of registers and between modules.

Logic synthesis sees one module and the logic between its registers alone, so it sizes and buffers
neither what a register drives nor what crosses modules. Here every net but clocks and constants
gets buffers until none drives more than :data:`FAN_OUT` pins, counted down to the pins of cells.
"""

from dataclasses import dataclass
from typing import Any

from sim.gates.liberty import Cell, Library

FAN_OUT = 16
"""Most pins that a net drives: also what logic synthesis is asked for."""


@dataclass
class _Sink:
    """A pin that a net drives, or a port behind which there are ``load`` pins."""

    pins: list[Any]
    index: int
    load: int


def buffer_of(library: Library) -> Cell | None:
    """The buffer next in size to the smallest of the library, or the only one; None without any.

    The smallest is as weak as a register, which is what needs help.
    """
    found = [
        cell
        for cell in library.cells.values()
        if cell.plain
        and cell.flip_flop is None
        and len(cell.inputs) == len(cell.outputs) == 1
        and cell.pins[cell.outputs[0]].function == cell.inputs[0]
    ]
    found.sort(key=lambda cell: (cell.area, cell.name))
    return found[min(1, len(found) - 1)] if found else None


def add_buffers(modules: dict[str, Any], top: str, library: Library) -> int:
    """Put buffers into the modules that Yosys wrote as JSON; returns how many.

    Parameters
    ----------
    modules : dict
        ``modules`` of the JSON, changed in place.
    top : str
    library : Library
        Without a buffer in it the modules stay as they are.

    A net that drives p pins gets ceil(p / 16) buffers, and those again, so its tree has
    ceil(log16 p) - 1 levels. The pins of a port count where the port is driven; an output port
    counts nothing in its own module.
    """
    kind = buffer_of(library)
    if kind is None:
        return 0
    loads: dict[str, dict[int, int]] = {}
    """Of the bits of a module's input ports: the pins behind them; 0 for a clock."""
    added = 0

    def enter(name: str) -> None:
        nonlocal added
        module = modules[name]
        for cell in module["cells"].values():
            if cell["type"] in modules and cell["type"] not in loads and not _black(cell, modules):
                enter(cell["type"])
        added += _Module(module, modules, loads, library, kind).add()
        ports = module["ports"].values()
        bits = {bit for port in ports if port["direction"] == "input" for bit in port["bits"]}
        sinks, clocks = _sinks(module, modules, loads, library)
        loads[name] = {
            bit: 0 if bit in clocks else sum(sink.load for sink in sinks.get(bit, [])) or 1
            for bit in bits
        }

    enter(top)
    return added


def _black(cell: dict[str, Any], modules: dict[str, Any]) -> bool:
    return "blackbox" in modules[cell["type"]].get("attributes", {})


def _sinks(
    module: dict[str, Any],
    modules: dict[str, Any],
    loads: dict[str, dict[int, int]],
    library: Library,
) -> tuple[dict[int, list[_Sink]], set[int]]:
    """What each net of a module drives, and the nets that clock something."""
    sinks: dict[int, list[_Sink]] = {}
    clocks: set[int] = set()
    for cell in module["cells"].values():
        for pin, bits in cell["connections"].items():
            for n, bit in enumerate(bits):
                load = _load(cell["type"], pin, n, modules, loads, library)
                if isinstance(bit, str) or load is None:
                    continue
                if load == 0:
                    clocks.add(bit)
                sinks.setdefault(bit, []).append(_Sink(bits, n, load))
    return sinks, clocks


def _load(
    kind: str,
    pin: str,
    n: int,
    modules: dict[str, Any],
    loads: dict[str, dict[int, int]],
    library: Library,
) -> int | None:
    """Pins behind bit ``n`` of a cell's pin: 0 for a clock, None for an output."""
    if kind in library.cells:
        cell = library.cells[kind]
        if pin not in cell.inputs:
            return None
        return 0 if pin in cell.clocks else 1
    port = modules[kind]["ports"][pin]
    if port["direction"] != "input":
        return None
    if kind in loads:
        return loads[kind][port["bits"][n]]
    return 0 if pin == "clk" else 1  # a memory


class _Module:
    """The buffers of one module."""

    def __init__(
        self,
        module: dict[str, Any],
        modules: dict[str, Any],
        loads: dict[str, dict[int, int]],
        library: Library,
        kind: Cell,
    ) -> None:
        self.module, self.kind = module, kind
        self.sinks, self.clocks = _sinks(module, modules, loads, library)
        everything = [port["bits"] for port in module["ports"].values()]
        everything += [bits for c in module["cells"].values() for bits in c["connections"].values()]
        everything += [net["bits"] for net in module.get("netnames", {}).values()]
        self.next = 1 + max(
            (b for bits in everything for b in bits if isinstance(b, int)), default=1
        )
        self.added = 0

    def add(self) -> int:
        for net, sinks in self.sinks.items():
            if net not in self.clocks:
                self._tree(net, sinks)
        return self.added

    def _tree(self, net: int, sinks: list[_Sink]) -> None:
        while sum(sink.load for sink in sinks) > FAN_OUT and len(sinks) > 1:
            groups: list[list[_Sink]] = [[]]
            for sink in sinks:
                if groups[-1] and sum(s.load for s in groups[-1]) + sink.load > FAN_OUT:
                    groups.append([])
                groups[-1].append(sink)
            sinks = [self._buffer(net, group) for group in groups]

    def _buffer(self, net: int, group: list[_Sink]) -> _Sink:
        (entry,), (out,) = self.kind.inputs, self.kind.outputs
        pins = [net]
        cell = {"type": self.kind.name, "connections": {entry: pins, out: [self.next]}}
        self.module["cells"][f"$buffer${self.added}"] = cell
        for sink in group:
            sink.pins[sink.index] = self.next
        self.next += 1
        self.added += 1
        return _Sink(pins, 0, 1)
