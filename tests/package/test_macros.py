"""The package of a network on macros: its tables and stuck cells are files like all others."""

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hdl.accelerator import Accelerator
from hdl.axi.registers import HASH_FILE
from hdl.package import MANIFEST, read_package, write_package
from hdl.testbench import EXPECTED_FILE, INPUT_FILE, GoldenFrames, memories
from hdl.verilog import Design, generate_accelerator
from model.ir.axi import PROGRAM_REGISTERS
from model.ir.pim_planner import PimBudget
from model.ir.planner import Budget, plan
from sim.golden_frames import golden_frames
from tests.package.test_package import ACCELERATOR
from tests.package.test_testbench import check_in_verilator, flip, icarus, run
from tests.sim.test_programming import OPTIONS, network
from tests.tools import require_tools

TABLES = {f"{node}_{what}_0.hex" for node in "ab" for what in ("stuck", "mask", "rows", "columns")}
FILES = sorted(
    {f"{node}_{what}.hex" for node in "ab" for what in ("cells", "channel")}
    | TABLES
    | {HASH_FILE, INPUT_FILE, EXPECTED_FILE}
)


@cache
def made(repair: bool = True) -> tuple[Accelerator, Design, GoldenFrames]:
    """Two layers on macros some of whose cells are stuck, with rows and columns moved or not."""
    options = OPTIONS.model_copy(update={"repair": repair})
    net = network(options)
    mapping = plan(net, Budget(64, pim=PimBudget(16, faults=options.faults())))
    accelerator = Accelerator(net, mapping)
    return accelerator, generate_accelerator(accelerator), golden_frames(accelerator)


def write(folder: Path, top: str = "accelerator") -> Path:
    accelerator, design, frames = made()
    write_package(accelerator, design, folder, frames, top)
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("macros") / "package")


@pytest.fixture(scope="module")
def program(package: Path) -> Path:
    require_tools("iverilog")
    return icarus(package, "accelerator")


def test_stuck_cells_and_moves_are_packaged_and_read(package: Path, tmp_path: Path) -> None:
    accelerator, design, frames = made()
    found, _ = read_package(package)
    assert set(found.files) >= TABLES
    surplus = replace(design, files=design.files | {"a_other_0.hex": "0\n"})
    with pytest.raises(ValueError, match=r"which \['a_other_0.hex'\] are not"):
        write_package(accelerator, surplus, tmp_path / "other", frames, "accelerator")


def test_every_memory_of_the_macros_is_found_with_its_size() -> None:
    for repair in (True, False):
        _, design, _ = made(repair)
        found = memories(design.verilog, "accelerator")
        assert sorted(memory.file for memory in found) == sorted(design.files)
        for memory in found:
            lines = design.files[memory.file].splitlines()
            assert memory.depth == len(lines), memory
            assert -(-memory.width // 4) == len(lines[0]), memory


@pytest.mark.parametrize("top", ["accelerator", "other_net"])
def test_passes_in_icarus_under_any_name(tmp_path: Path, top: str) -> None:
    require_tools("iverilog")
    folder = write(tmp_path / "package", top)
    done = run(icarus(folder, top), folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("PASS: 3 frames, 13 memories, ")


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_of_a_hex_file_fails(
    program: Path, package: Path, tmp_path: Path, name: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(package, copy)
    intact = (copy / name).read_bytes()
    for place in np.random.default_rng(len(intact)).choice(8 * len(intact), 4, replace=False):
        (copy / name).write_bytes(intact)
        flip(copy / name, int(place))
        done = run(program, copy)
        assert done.returncode == 1, place
        assert f"FAIL: file {name}: checksum" in done.stdout


@pytest.mark.parametrize("name", sorted(set(FILES) - {INPUT_FILE, EXPECTED_FILE}))
def test_another_digit_shows_in_the_memory_too(
    program: Path, package: Path, tmp_path: Path, name: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(package, copy)
    flip(copy / name, 0)  # of a first digit 0 to 9 that is another digit
    if (copy / name).read_text()[0] not in "0123456789abcdef":
        pytest.fail("choose another bit: this is no digit any more")
    done = run(program, copy)
    assert done.returncode == 1
    assert f"FAIL: memory of {name}" in done.stdout


@pytest.mark.rtl
def test_passes_in_verilator_and_fails_there_for_a_flipped_bit(tmp_path: Path) -> None:
    check_in_verilator(write(tmp_path / "package"), "3 frames, 13 memories", "b_mask_0.hex")


def test_the_manifest_names_the_layers_whose_cells_can_be_written(package: Path) -> None:
    accelerator, _, _ = made()
    shell = json.loads((package / MANIFEST).read_text())["axi"]
    assert shell["program"] == [cells.to_json() for cells in accelerator.cells]
    assert [layer["node"] for layer in shell["program"]] == ["a", "b"]
    names = [one["name"] for one in shell["registers"]]
    assert names[-len(PROGRAM_REGISTERS) :] == [one.name for one in PROGRAM_REGISTERS]
    assert shell["registers"][-1]["words"] == max(layer["words"] for layer in shell["program"])


def test_a_network_on_no_macros_has_no_port_in_package_or_verilog(tmp_path: Path) -> None:
    assert not ACCELERATOR.cells
    write_package(ACCELERATOR, generate_accelerator(ACCELERATOR), tmp_path / "package")
    manifest = json.loads((tmp_path / "package" / MANIFEST).read_text())
    assert "program" not in manifest["axi"]
    assert not any(one["offset"] >= 0x800 for one in manifest["axi"]["registers"])
    assert not any(name.startswith("program") for name in manifest["ports"])
    for name in ("accelerator.v", "accelerator_axi.v"):
        assert "program" not in (tmp_path / "package" / name).read_text()
