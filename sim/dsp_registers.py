"""The register behind a multiplier of an ECP5 moves into it.

Yosys maps a product to ``MULT18X18D`` and leaves its register in the fabric, although the block has
its own: then a cycle goes from the operands' registers through the whole multiplier and on to
wherever the product's register lies. Here a multiplier takes that register if every bit of the
product that is used goes to a register and nowhere else. Registers with a reset, or that begin at
1, stay where they are; so do those of the operands, which part a multiplier from the memories, far
away and slow.

Multipliers that lie together share their block's clock and ``ENABLES`` enables. So that any of them
may lie together, there is one clock and so many enables for all, each with a number of its own:
those of the most multipliers. Registers under other enables stay.
"""

from collections import Counter, defaultdict
from typing import Any

MULTIPLIER, REGISTER = "MULT18X18D", "TRELLIS_FF"
PRODUCT_BITS = 36
ENABLES = 4

Control = tuple[int | str, int | str]
"""Clock and enable of a register."""

_PLAIN = {"CEMUX": ("CE", "1"), "CLKMUX": ("CLK",), "REGSET": ("RESET",)}
"""Parameters of a register that can move."""


class Netlist:
    """The cells of a flat module in Yosys' JSON, and who reads each net."""

    def __init__(self, module: dict[str, Any]) -> None:
        self.cells: dict[str, dict[str, Any]] = module["cells"]
        self.readers: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for port in module["ports"].values():
            for bit in port["bits"]:
                if port["direction"] != "input":
                    self.readers[bit].append(("", "port"))
        for name, cell in self.cells.items():
            for port, bits in cell["connections"].items():
                for bit in bits:
                    if cell["port_directions"][port] == "input":
                        self.readers[bit].append((name, port))

    def plain(self, name: str) -> bool:
        """Whether a cell is a register that can move."""
        cell = self.cells.get(name)
        return (
            cell is not None
            and cell["type"] == REGISTER
            and all(cell["parameters"].get(key, may[0]) in may for key, may in _PLAIN.items())
            and cell["connections"].get("LSR", ["0"]) == ["0"]
        )

    def control(self, name: str) -> Control:
        """What a register changes on."""
        cell = self.cells[name]
        always = cell["parameters"].get("CEMUX", "CE") == "1"
        return cell["connections"]["CLK"][0], "1" if always else cell["connections"]["CE"][0]

    def product(self, name: str) -> dict[str, str]:
        """The register behind each bit of a multiplier's product that is used, if it can move."""
        found = {}
        for port in (f"P{n}" for n in range(PRODUCT_BITS)):
            (bit,) = self.cells[name]["connections"].get(port) or [None]
            readers = self.readers.get(bit, [])
            if not readers:
                continue
            reader, at = readers[0]
            if len(readers) > 1 or at != "DI" or not self.plain(reader):
                return {}
            found[port] = reader
        return found


def absorb_registers(module: dict[str, Any]) -> dict[str, int]:
    """Move registers into the multipliers of a module, in place.

    Returns how many ``multipliers`` took theirs, and how many ``registers`` those were.
    """
    net = Netlist(module)
    products = {
        name: net.product(name) for name, cell in net.cells.items() if cell["type"] == MULTIPLIER
    }
    controls = {
        name: {net.control(one) for one in found.values()} for name, found in products.items()
    }
    wanted = Counter(next(iter(found)) for found in controls.values() if len(found) == 1)
    clock = next((control[0] for control, _ in wanted.most_common(1)), None)
    mine = [control for control, _ in wanted.most_common() if control[0] == clock]
    numbers = {control: number for number, control in enumerate(mine[:ENABLES])}
    moved = {"multipliers": 0, "registers": 0}
    for name, found in products.items():
        if len(controls[name]) == 1 and (control := next(iter(controls[name]))) in numbers:
            _move(net, name, found, control, numbers[control])
            moved["multipliers"] += 1
            moved["registers"] += len(found)
    return moved


def _move(net: Netlist, name: str, found: dict[str, str], control: Control, number: int) -> None:
    """Move registers into a multiplier, under its clock 0 and the enable of that number."""
    cell = net.cells[name]
    for port, register in found.items():
        cell["connections"][port] = net.cells.pop(register)["connections"]["Q"]
    clock, enable = control
    for port, bit in (("CLK0", clock), (f"CE{number}", enable)):
        cell["port_directions"][port] = "input"
        cell["connections"][port] = [bit]
    cell["parameters"] |= {"REG_OUTPUT_CLK": "CLK0", "REG_OUTPUT_CE": f"CE{number}"}
