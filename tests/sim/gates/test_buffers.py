"""Buffers bound what a net drives, and change neither clocks nor what reaches a pin."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest

from sim.gates.buffers import FAN_OUT, add_buffers, buffer_of
from sim.gates.liberty import read_liberty

TINY = read_liberty(Path(__file__).with_name("tiny.lib"))


def port(direction: str, *bits: int) -> dict:
    return {"direction": direction, "bits": list(bits)}


def cell(kind: str, **pins: int) -> dict:
    return {"type": kind, "connections": {name: [bit] for name, bit in pins.items()}}


def flip_flop(d: int, q: int, clock: int) -> dict:
    kind = TINY.flip_flop
    assert kind.flip_flop is not None
    (out,) = kind.outputs
    pins = {kind.flip_flop.clocked_on: clock, kind.flip_flop.next_state: d, out: q}
    return cell(kind.name, **pins)


def design(inside: int, children: int, direct: int) -> dict:
    """A register that drives ``children`` modules of ``inside`` pins each and ``direct`` pins."""
    leaf = {"ports": {"a": port("input", 2), "clk": port("input", 3)}, "cells": {}}
    for n in range(inside):
        leaf["cells"][f"i{n}"] = cell("INV", A=2, Y=10 + n)
    for n in range(40):
        leaf["cells"][f"f{n}"] = flip_flop("0", 100 + n, 3)
    top = {"ports": {"clk": port("input", 2), "d": port("input", 3)}, "cells": {}}
    top["cells"]["f"] = flip_flop(3, 4, 2)
    for n in range(children):
        top["cells"][f"c{n}"] = cell("leaf", a=4, clk=2)
    for n in range(direct):
        top["cells"][f"i{n}"] = cell("INV", A=4, Y=10 + n)
    return {"leaf": leaf, "top": top}


def source(module: dict, net: int) -> tuple[int, int]:
    """Where a net comes from through buffers, and through how many."""
    kind, levels = buffer_of(TINY), 0
    assert kind is not None
    while True:
        driver = [
            c
            for c in module["cells"].values()
            if c["type"] == kind.name and c["connections"][kind.outputs[0]] == [net]
        ]
        if not driver:
            return net, levels
        (net,) = driver[0]["connections"][kind.inputs[0]]
        levels += 1


def pins(modules: dict, name: str, net: int) -> int:
    """Pins of cells that a net drives, buffers among them, down the hierarchy."""
    total = 0
    for c in modules[name]["cells"].values():
        for pin, bits in c["connections"].items():
            if bits != [net]:
                continue
            if c["type"] in modules:
                total += pins(modules, c["type"], modules[c["type"]]["ports"][pin]["bits"][0])
            else:
                total += pin in TINY.cells[c["type"]].inputs
    return total


def nets(module: dict) -> set[int]:
    return {
        b
        for c in module["cells"].values()
        for bits in c["connections"].values()
        for b in bits
        if b != "0"
    }


@pytest.mark.parametrize(("inside", "children", "direct"), [(20, 3, 5), (300, 1, 0), (2, 40, 600)])
def test_no_net_but_a_clock_drives_more_than_the_fan_out(inside, children, direct) -> None:
    modules = design(inside, children, direct)
    assert add_buffers(modules, "top", TINY) > 0
    for name, clock in (("leaf", 3), ("top", 2)):
        found = {net: pins(modules, name, net) for net in nets(modules[name])}
        assert {net for net, count in found.items() if count > FAN_OUT} == {clock}
    assert pins(modules, "top", 2) == 1 + 40 * children


def test_every_pin_gets_what_it_got() -> None:
    before = design(300, 3, 600)
    after = copy.deepcopy(before)
    added = add_buffers(after, "top", TINY)
    depth = 0
    for name, module in before.items():
        for label, c in module["cells"].items():
            for pin, bits in c["connections"].items():
                net, levels = source(
                    after[name], after[name]["cells"][label]["connections"][pin][0]
                )
                assert net == bits[0]
                depth = max(depth, levels)
    assert depth == 2  # 600 pins: 38 buffers behind 3
    assert added == sum(len(after[n]["cells"]) - len(before[n]["cells"]) for n in before)
    again = copy.deepcopy(after)
    assert add_buffers(again, "top", TINY) == 0
    assert again == after


def test_without_a_buffer_in_the_library_nothing_changes() -> None:
    cells = {name: cell for name, cell in TINY.cells.items() if not name.startswith("BUF")}
    modules = design(30, 3, 30)
    before = copy.deepcopy(modules)
    assert add_buffers(modules, "top", replace(TINY, cells=cells)) == 0
    assert modules == before
