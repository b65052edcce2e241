"""Energies of a netlist of three cells, worked out by hand from the made-up library."""

import pytest

from sim.gates.liberty import read_liberty
from sim.gates.power import accesses, measure
from sim.gates.simulation import Activity
from sim.gates.synthesis import RAM, ROM, Instance, Netlist
from tests.sim.gates.test_liberty import TINY

CLOCK, ENABLE, GATED, DATA, NEXT = 2, 3, 4, 5, 6
FRAMES, CYCLES, PERIOD = 2, 100, 1e-9
FJ = 1e-15


def netlist() -> Netlist:
    """A register on a gated clock that inverts itself, and two memories."""
    cells = [
        Instance(("a",), "INV", {"A": [DATA], "Y": [NEXT]}, {}),
        Instance(("a", "b"), "DFF", {"D": [NEXT], "CK": [GATED], "Q": [DATA]}, {}),
        Instance((), "GATE", {"CK": [CLOCK], "E": [ENABLE], "GCK": [GATED]}, {}),
    ]
    size = {"WIDTH": f"{8:032b}", "DEPTH": f"{16:032b}", "ADDR": f"{4:032b}"}
    memories = [
        Instance(("m", "rom"), ROM, {"en": ["1"], "addr": [DATA] * 4, "data": [9] * 8}, size),
        Instance(("m", "ram"), RAM, {"re": [ENABLE], "we": [ENABLE] * 8, "rd": [10] * 8}, size),
    ]
    ports = {"clk": ("input", [CLOCK]), "enable": ("input", [ENABLE])}
    return Netlist("top", ports, cells, memories, {}, {})


def activity() -> Activity:
    """The clock passes the gate in 40 of 100 cycles; the register toggles in each of them."""
    high = {ENABLE: 40, "1": CYCLES, "0": 0}
    return Activity(FRAMES, CYCLES, {DATA: 40, NEXT: 40, ENABLE: 10}, high)


def test_logic_takes_its_load_and_what_is_inside() -> None:
    parts = measure(netlist(), read_liberty(TINY), activity(), PERIOD)
    energy = parts["a",].energy
    # It drives one pin of 1 fF at 1 V: 0.5 fJ, and 3 fJ inside, 40 times over two frames.
    assert energy.switching == pytest.approx(40 * 3.5 * FJ / FRAMES)
    assert energy.clock == 0
    assert energy.leakage == pytest.approx(10e-9 * CYCLES * PERIOD / FRAMES)


def test_a_register_takes_what_its_output_and_its_clock_take() -> None:
    parts = measure(netlist(), read_liberty(TINY), activity(), PERIOD)
    energy = parts["a", "b"].energy
    # Q drives the inverter, 1 fF, and takes 7 fJ; the clock runs 40 cycles, all of which change.
    assert energy.switching == pytest.approx(40 * 7.5 * FJ / FRAMES)
    assert energy.clock == pytest.approx(40 * (2.0 + 2 * 5.0) * FJ / FRAMES)


def test_a_register_that_keeps_its_state_takes_less() -> None:
    idle = Activity(FRAMES, CYCLES, {}, activity().high)
    energy = measure(netlist(), read_liberty(TINY), idle, PERIOD)["a", "b"].energy
    assert energy.switching == 0
    assert energy.clock == pytest.approx(40 * (2.0 + 2 * 3.0) * FJ / FRAMES)


def test_a_gate_takes_every_edge_before_it_and_those_that_pass() -> None:
    energy = measure(netlist(), read_liberty(TINY), activity(), PERIOD)[()].energy
    assert energy.clock == pytest.approx((100 * 1.0 + 40 * 2 * 1.0) * FJ / FRAMES)


def test_inputs_of_memories_load_the_nets_that_drive_them() -> None:
    library = read_liberty(TINY)
    bare, loaded = (
        measure(netlist(), library, activity(), PERIOD, pin)["a", "b"].energy.switching
        for pin in (0.0, 2e-15)
    )
    assert loaded - bare == pytest.approx(40 * 4 * 0.5 * 2.0 * FJ / FRAMES)


def test_accesses_are_counted_a_frame() -> None:
    ram, rom = accesses(netlist(), activity())
    assert (rom.bits, rom.reads, rom.read_bits, rom.written_bits) == (128, 50.0, 400.0, 0.0)
    assert (ram.reads, ram.read_bits, ram.written_bits) == (20.0, 160.0, 160.0)


def test_without_activity_there_are_areas_alone() -> None:
    parts = measure(netlist(), read_liberty(TINY), None, PERIOD)
    assert sum(part.area for part in parts.values()) == 1.0 + 5.0 + 4.0
    assert all(part.energy.total == 0 for part in parts.values())
