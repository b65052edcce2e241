"""A small block-sparse network down to gates: equal to golden, and every sum adds up."""

import functools
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

from gyre import synth
from hdl.accelerator import Accelerator
from model.ir.block_sparse import BlockSparseStorage
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.planner import Budget, plan
from model.ir.requantize import RequantizeSpec
from sim.build import BuildError
from sim.gates.liberty import read_liberty
from sim.gates.synthesis import synthesize
from sim.technology import load_memory
from tests.examples import codes_of
from tests.tools import optional_tools, refused

pytestmark = [pytest.mark.synth, pytest.mark.timeout(900)]

TINY = Path(__file__).parents[1] / "sim" / "gates" / "tiny.lib"
REAL = Path(os.environ.get("GYRE_DATA", "")) / "liberty" / "nangate45_typ.lib.gz"
FRAMES = 36


@functools.cache
def cells():
    """A library of real cells, which is no part of the project."""
    if not REAL.exists():
        pytest.skip(f"no {REAL.name} in $GYRE_DATA/liberty")
    return read_liberty(REAL)


def network() -> Network:
    """Two layers: blocks of 4 × 4, two in each block row, of 3-bit weights; then a dense one."""
    rng = np.random.default_rng(3)
    entry, hidden = UniformFormat(4, False), UniformFormat(3, False)
    mask = np.array([[1, 0, 1, 0], [0, 1, 0, 1]])
    codes = codes_of(UniformFormat(3, True).codes, rng, 8, 16)
    storage, tensors = BlockSparseStorage.pack(codes, mask, [4, 4], [4] * 4)
    first = LinearSpec(
        16,
        8,
        entry,
        UniformFormat(3, True),
        RequantizeSpec(hidden, 4, "layer", 4, 8),
        storage=storage,
    )
    tensors |= {"b": codes_of(hidden.codes, rng, 8), "m": np.array([3])}
    last = LinearSpec(
        8,
        4,
        hidden,
        UniformFormat(1, True),
        RequantizeSpec(UniformFormat(16, True), 0, "one", 0, 4),
    )
    tail = {"weight": -rng.integers(0, 2, (4, 8)), "b": np.array([1, -2, 0, 3])}
    nodes = (Node("fc1", first, ("x",), 1.0, tensors), Node("fc2", last, ("fc1",), 1.0, tail))
    return Network("small", InputSpec("x", (16,), entry, 1.0), nodes)


def accelerator() -> Accelerator:
    found = network()
    return Accelerator(found, plan(found, Budget(64, goal="energy")))


def frames() -> torch.Tensor:
    rng = np.random.default_rng(4)
    return torch.from_numpy(codes_of(UniformFormat(4, False).codes, rng, FRAMES, 16))


@functools.cache
def _netlist(verilog: str, period: float, gating: bool):
    return synthesize(verilog, "accelerator", cells(), period=period, gating=gating)


@pytest.fixture(scope="module", autouse=True)
def synthesized_once():
    """The same design under the same options is synthesized once for all tests."""

    def once(verilog, top, library, *, period, gating):
        assert (top, library.name) == ("accelerator", cells().name)
        return _netlist(verilog, period, gating)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synth, "synthesize", once)
        yield


@pytest.fixture(scope="module")
def report() -> dict:
    optional_tools("yosys")
    return synth.of_accelerator(accelerator(), frames(), cells(), load_memory(), period=10.0)


def test_the_gate_netlist_equals_golden(report) -> None:
    assert report["simulation"] == {
        "frames": FRAMES,
        "counted": FRAMES - 2 * 8,
        "mismatches": 0,
        "cycles_per_frame": report["cycles_per_frame"],
    }


def test_energies_of_modules_and_memories_add_up(report) -> None:
    energy = report["energy"]
    logic = sum(part["nj"] for part in report["modules"])
    assert energy["logic"] == pytest.approx(logic)
    assert energy["logic"] == pytest.approx(
        energy["switching"] + energy["clock"] + energy["leakage"]
    )
    for level in ("low", "typical", "high"):
        memories = sum(memory["nj"][level] for memory in report["memories"])
        assert energy["memories"][level] == pytest.approx(memories)
        assert energy["total"][level] == pytest.approx(memories + logic)
        assert energy["with_wires"][level] == pytest.approx(memories + 1.5 * logic)
    assert min(energy["switching"], energy["clock"], energy["leakage"]) > 0


def test_memories_are_read_as_often_as_the_formulas_say(report) -> None:
    made = accelerator()
    costs = {
        node.name: cost
        for node, cost in zip(
            made.network.nodes, (c for _, c in made.mapping.costs(made.network)), strict=True
        )
    }
    found = {memory["name"]: memory for memory in report["memories"]}
    for name, bits in (("fc1", 3), ("fc2", 1)):
        weights = found[f"{name}.engine.weights.rom"]
        assert weights["read_bits"] == costs[name].weight_words * bits
        assert weights["reads"] == costs[name].steps
    assert found["fc1.engine.sequencer.entries.rom"]["width"] == 2  # log2 of four block columns
    assert found["fc1.engine.sequencer.entries.rom"]["reads"] == costs["fc1"].steps


def test_area_is_that_of_the_cells(report) -> None:
    assert report["area"]["cells"] == pytest.approx(sum(m["area"] for m in report["modules"]))


def test_a_register_with_an_enable_has_a_gated_clock_and_saves_energy(report) -> None:
    optional_tools("yosys")
    plain = synth.of_accelerator(
        accelerator(), frames(), cells(), load_memory(), period=10.0, gating=False
    )
    assert plain["simulation"]["mismatches"] == 0
    assert report["gating"]
    assert not plain["gating"]
    assert report["energy"]["clock"] < 0.8 * plain["energy"]["clock"]


def test_a_clock_is_kept_or_missed_with_its_critical_path(report) -> None:
    optional_tools("yosys", "sta")
    timing = report["timing"]
    assert timing["met"]
    assert timing["slack_ns"] == pytest.approx(10.0 - timing["least_ns"], abs=1e-3)
    assert synth.failed(report) is None
    from sim.gates.timing import analyse

    library = cells()
    from hdl.verilog import generate_accelerator

    netlist = _netlist(generate_accelerator(accelerator()).verilog, 10.0, True)
    missed = analyse(netlist, library, load_memory(), 0.3)
    assert not missed.met
    assert missed.least == pytest.approx(timing["least_ns"], abs=1e-3)
    why = synth.failed(report | {"clock_ns": 0.3, "timing": synth._timing(missed)})
    assert why is not None
    assert "0.3 ns" in why
    assert "Startpoint" in why
    assert missed.ends[0]


def test_opensta_gives_the_same_energy_of_nets_and_the_same_leakage(report) -> None:
    optional_tools("yosys", "sta")
    theirs, ours = report["opensta"]["opensta"], report["opensta"]["own"]
    assert theirs["nets"] == pytest.approx(ours["nets"], rel=2e-3)
    assert theirs["leakage"] == pytest.approx(ours["leakage"], rel=1e-5)
    assert theirs["clock"] == pytest.approx(ours["clock"], rel=0.15)
    assert 1.5 < theirs["inside"] / ours["inside"] < 3  # both edges' energies for every edge
    assert report["opensta"]["nets_with_wires"] > 1.05 * theirs["nets"]
    energy = report["energy"]
    assert ours["nets"] + ours["inside"] == pytest.approx(energy["switching"], rel=0.05)
    assert ours["clock"] < energy["clock"]  # without the clock's nets


def test_an_opensta_without_the_commands_leaves_the_rest_standing(monkeypatch) -> None:
    optional_tools("yosys", "sta")

    def other(*_, **__):
        raise BuildError("sta failed with status 1:\ninvalid command name")

    monkeypatch.setattr(synth.sta_power, "compare", other)
    found = synth.of_accelerator(accelerator(), frames(), cells(), load_memory(), period=10.0)
    assert found["missing"] == ["energy by OpenSTA: sta failed with status 1:"]
    assert "opensta" not in found
    assert found["timing"]["met"]
    assert found["energy"]["logic"] > 0


def test_without_frames_area_and_timing_are_found_and_nothing_is_simulated(report) -> None:
    optional_tools("yosys")
    found = synth.of_accelerator(accelerator(), None, cells(), load_memory(), period=10.0)
    assert found["area"] == report["area"]
    assert found.get("timing") == report.get("timing")
    assert not {"simulation", "energy", "opensta"} & set(found)


def test_a_missing_tool_is_named_and_the_rest_stands(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = synth.of_accelerator(accelerator(), frames(), cells(), load_memory(), period=10.0)
    assert "tool yosys" in found["missing"][0]
    assert found["cycles_per_frame"] > 0
    assert synth.failed(found) is None
    console = Console(record=True, width=300)
    synth.show(found, console)
    assert "apt install yosys" in console.export_text()


def test_without_opensta_all_but_timing_stands(monkeypatch) -> None:
    optional_tools("yosys")

    def absent() -> str:
        return refuse()

    def refuse():
        from model.ir.errors import BadInput

        raise BadInput("tool sta", "none on the PATH", "OpenSTA", "install it")

    monkeypatch.setattr(synth, "find_sta", absent)
    found = synth.of_accelerator(accelerator(), frames(), cells(), load_memory(), period=10.0)
    assert "tool sta" in found["missing"][0]
    assert "timing" not in found
    assert found["energy"]["logic"] > 0


def test_the_report_is_json_and_shows_what_counts(report) -> None:
    assert json.loads(json.dumps(report)) == report
    console = Console(record=True, width=120)
    synth.show(report, console)
    text = console.export_text()
    for word in ("fc1.engine.pe", "fc1.engine.weights.rom", "nJ a frame", "not counted: wires"):
        assert word in text


@pytest.mark.parametrize("period", [0.0, -1.0, 1e9, float("nan")])
def test_refuses_a_clock_that_is_none(period) -> None:
    flow = SimpleNamespace()
    assert "--clock" in str(refused(lambda: synth.synth(flow, TINY, period)))


def test_refuses_too_few_frames_and_a_library_without_flip_flops(tmp_path) -> None:
    flow = SimpleNamespace()
    assert "--frames" in str(refused(lambda: synth.synth(flow, TINY, 1.0, frames=19)))
    text = TINY.read_text().replace('clocked_on : "CK"', 'clocked_on : "!CK"')
    path = tmp_path / "none.lib"
    path.write_text(text)
    assert "no flip-flop" in str(refused(lambda: synth.synth(flow, path, 1.0)))


def test_a_tampered_report_of_a_wrong_netlist_fails() -> None:
    wrong = {"simulation": {"mismatches": 3}}
    assert synth.failed(wrong) == "the gate netlist differs from golden"
