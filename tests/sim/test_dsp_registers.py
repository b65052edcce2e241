"""Registers that move into multipliers, and those that must not."""

import copy
from typing import Any

import pytest

from sim.dsp_registers import absorb_registers

CLOCK, ENABLE = 2, 3
LOADS = {"CEMUX": "CE", "CLKMUX": "CLK", "REGSET": "RESET"}
NONE = {"multipliers": 0, "registers": 0}


def register(before: int, after: int, enable: int = ENABLE) -> dict[str, Any]:
    return {
        "type": "TRELLIS_FF",
        "parameters": dict(LOADS),
        "port_directions": dict.fromkeys(("CLK", "CE", "DI", "LSR"), "input") | {"Q": "output"},
        "connections": {"CLK": [CLOCK], "CE": [enable], "DI": [before], "Q": [after]},
    }


def design() -> dict[str, Any]:
    """A multiplier of nets 20 and 21, the two lowest bits of the product into registers p and q."""
    ports = {f"{port}{n}": ["0"] for port in "AB" for n in range(18)}
    ports |= {f"P{n}": [100 + n] for n in range(36)} | {"A0": [20], "B0": [21]}
    multiplier = {
        "type": "MULT18X18D",
        "parameters": {},
        "port_directions": {port: "output" if port[0] == "P" else "input" for port in ports},
        "connections": ports,
    }
    cells = {"mult": multiplier, "p": register(100, 30), "q": register(101, 31)}
    outputs = {"o": {"direction": "output", "bits": [30, 31]}}
    return {"ports": outputs | {"clk": {"direction": "input", "bits": [CLOCK]}}, "cells": cells}


def changed(**keys: Any) -> dict[str, Any]:
    """The design with something else about register p."""
    module = design()
    parts = module["cells"]["p"]
    for key, value in keys.items():
        (parts["parameters"] if key.endswith(("MUX", "SET")) else parts["connections"])[key] = value
    return module


def test_the_product_s_registers_move_and_keep_clock_and_enable() -> None:
    module = design()
    assert absorb_registers(module) == {"multipliers": 1, "registers": 2}
    assert set(module["cells"]) == {"mult"}
    cell = module["cells"]["mult"]
    found = cell["connections"]
    assert (found["A0"], found["B0"], found["P0"], found["P1"]) == ([20], [21], [30], [31])
    assert cell["parameters"] == {"REG_OUTPUT_CLK": "CLK0", "REG_OUTPUT_CE": "CE0"}
    assert (found["CLK0"], found["CE0"]) == ([CLOCK], [ENABLE])
    assert cell["port_directions"]["CLK0"] == cell["port_directions"]["CE0"] == "input"


def test_registers_that_always_load_move_too() -> None:
    module = design()
    for name in "pq":
        module["cells"][name]["parameters"]["CEMUX"] = "1"
    absorb_registers(module)
    assert module["cells"]["mult"]["connections"]["CE0"] == ["1"]


@pytest.mark.parametrize(
    "keys", [{"LSR": [9]}, {"REGSET": "SET"}, {"CLKMUX": "INV"}, {"CE": [4]}, {"CLK": [9]}]
)
def test_registers_that_the_block_does_not_have_or_that_differ_stay(keys: dict[str, Any]) -> None:
    module = changed(**keys)
    before = copy.deepcopy(module)
    assert absorb_registers(module) == NONE
    assert module == before


@pytest.mark.parametrize("bit", [100, 101])
def test_a_product_that_is_read_elsewhere_stays(bit: int) -> None:
    module = design()
    module["ports"]["tap"] = {"direction": "output", "bits": [bit]}
    assert absorb_registers(module) == NONE


def test_a_product_that_goes_to_logic_stays() -> None:
    module = design()
    module["cells"]["p"]["type"] = "LUT4"
    assert absorb_registers(module) == NONE


def test_enables_keep_their_numbers_and_are_no_more_than_a_block_has() -> None:
    """Seven multipliers under six enables, of which the first has two multipliers."""
    module, whole = design(), design()
    module["cells"] = {}
    for n in range(7):
        cell = copy.deepcopy(whole["cells"]["mult"])
        cell["connections"] |= {f"P{bit}": [1000 * n + bit + 200] for bit in range(36)}
        module["cells"] |= {f"m{n}": cell, f"p{n}": register(1000 * n + 200, 90 + n, 50 + n % 6)}
        module["ports"]["o"]["bits"].append(90 + n)
    assert absorb_registers(module) == {"multipliers": 5, "registers": 5}
    nets: dict[str, set] = {}
    for n in range(7):
        for port, bits in module["cells"][f"m{n}"]["connections"].items():
            if port.startswith("CE"):
                nets.setdefault(port, set()).add(bits[0])
    assert nets == {"CE0": {50}, "CE1": {51}, "CE2": {52}, "CE3": {53}}
    assert {f"p{n}" for n in (4, 5)} == {name for name in module["cells"] if name[0] == "p"}
