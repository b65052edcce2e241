"""Registers beside the multipliers of an ECP5 move into them.

Yosys maps a product to ``MULT18X18D`` and leaves the registers of its operands and of the product
in the fabric, although the block has its own: then a cycle goes from the fabric through the whole
multiplier and back. Here a multiplier takes its operands' registers if every bit of both comes from
a register or is constant, and the product's if every bit of it that is used goes to a register and
nowhere else. Registers of an operand must share clock and enable; they are copied, as several
multipliers may read one, and go if nothing else reads them. Registers with a reset, or that begin
at 1, stay where they are.
"""

from collections import defaultdict
from typing import Any

MULTIPLIER, REGISTER = "MULT18X18D", "TRELLIS_FF"
OPERANDS = {"A": 18, "B": 18}
PRODUCT_BITS = 36

_PLAIN = {"CEMUX": ("CE", "1"), "CLKMUX": ("CLK",), "REGSET": ("RESET",)}
"""Parameters of a register that can move."""


class Netlist:
    """The cells of a flat module in Yosys' JSON, and who drives and reads each net."""

    def __init__(self, module: dict[str, Any]) -> None:
        self.cells: dict[str, dict[str, Any]] = module["cells"]
        self.driver: dict[int, str] = {}
        self.readers: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for port in module["ports"].values():
            for bit in port["bits"]:
                if port["direction"] != "input" and isinstance(bit, int):
                    self.readers[bit].append(("", "port"))
        for name, cell in self.cells.items():
            for port, bits in cell["connections"].items():
                for bit in bits:
                    if not isinstance(bit, int):
                        continue
                    if cell["port_directions"][port] == "input":
                        self.readers[bit].append((name, port))
                    else:
                        self.driver[bit] = name

    def plain(self, name: str | None) -> bool:
        """Whether a cell is a register that can move."""
        cell = self.cells.get(name or "")
        return (
            cell is not None
            and cell["type"] == REGISTER
            and all(cell["parameters"].get(key, may[0]) in may for key, may in _PLAIN.items())
            and cell["connections"].get("LSR", ["0"]) == ["0"]
        )

    def control(self, name: str) -> tuple[int | str, int | str]:
        """Clock and enable of a register."""
        cell = self.cells[name]
        always = cell["parameters"].get("CEMUX", "CE") == "1"
        return cell["connections"]["CLK"][0], "1" if always else cell["connections"]["CE"][0]


def absorb_registers(module: dict[str, Any]) -> dict[str, int]:
    """Move registers into the multipliers of a module, in place; how many took which."""
    net = Netlist(module)
    found = {"operands": 0, "product": 0}
    for name in [name for name, cell in net.cells.items() if cell["type"] == MULTIPLIER]:
        inside = _operands(net, name)
        outside = _product(net, name)
        clocks = {control[0] for control in (inside, outside) if control is not None}
        if len(clocks) > 1:
            outside = None
        if inside is not None:
            _take_operands(net, name, inside)
            found["operands"] += 1
        if outside is not None:
            _take_product(net, name, outside)
            found["product"] += 1
    return found


def _bits(net: Netlist, name: str, port: str, width: int) -> list[int | str]:
    connections = net.cells[name]["connections"]
    return [connections[f"{port}{n}"][0] for n in range(width) if connections.get(f"{port}{n}")]


def _operands(net: Netlist, name: str) -> tuple[int | str, int | str] | None:
    """Clock and enable of the registers of both operands, if they can move."""
    controls = set()
    for port, width in OPERANDS.items():
        for bit in _bits(net, name, port, width):
            if isinstance(bit, str):
                continue
            source = net.driver.get(bit)
            if source is None or not net.plain(source):
                return None
            controls.add(net.control(source))
    return controls.pop() if len(controls) == 1 else None


def _product(net: Netlist, name: str) -> tuple[int | str, int | str] | None:
    """Clock and enable of the registers of the product, if they can move."""
    controls = set()
    for bit in _bits(net, name, "P", PRODUCT_BITS):
        readers = net.readers[bit] if isinstance(bit, int) else []
        if not readers:
            continue
        if len(readers) > 1 or readers[0][1] != "DI" or not net.plain(readers[0][0]):
            return None
        controls.add(net.control(readers[0][0]))
    return controls.pop() if len(controls) == 1 else None


def _use(net: Netlist, name: str, registers: list[str], number: int, control) -> None:
    """Switch registers of a multiplier on, with its clock 0 and an enable of that number."""
    cell = net.cells[name]
    clock, enable = control
    for port, bit in (("CLK0", clock), (f"CE{number}", enable), ("RST0", "0")):
        cell["port_directions"][port] = "input"
        cell["connections"][port] = [bit]
    for register in registers:
        cell["parameters"] |= {
            f"REG_{register}_CLK": "CLK0",
            f"REG_{register}_CE": f"CE{number}",
            f"REG_{register}_RST": "RST0",
        }


def _take_operands(net: Netlist, name: str, control) -> None:
    cell = net.cells[name]
    for port, width in OPERANDS.items():
        for n in range(width):
            bits = cell["connections"].get(f"{port}{n}")
            if not bits or isinstance(bits[0], str):
                continue
            (bit,) = bits
            source = net.driver[bit]
            before = net.cells[source]["connections"]["DI"][0]
            cell["connections"][f"{port}{n}"] = [before]
            net.readers[bit].remove((name, f"{port}{n}"))
            if isinstance(before, int):
                net.readers[before].append((name, f"{port}{n}"))
            if not net.readers[bit]:
                if isinstance(before, int):
                    net.readers[before].remove((source, "DI"))
                del net.cells[source]
    _use(net, name, ["INPUTA", "INPUTB"], 0, control)


def _take_product(net: Netlist, name: str, control) -> None:
    cell = net.cells[name]
    for n in range(PRODUCT_BITS):
        bits = cell["connections"].get(f"P{n}")
        if not bits or not net.readers.get(bits[0]):
            continue
        ((register, _),) = net.readers.pop(bits[0])
        after = net.cells[register]["connections"]["Q"][0]
        cell["connections"][f"P{n}"] = [after]
        net.driver[after] = name
        del net.cells[register]
    _use(net, name, ["OUTPUT"], 1, control)
