import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hdl.accelerator import Accelerator
from hdl.axi.registers import HASH_FILE
from hdl.package import MANIFEST, SOURCE, read_package, write_package
from hdl.verilog import Design, generate_accelerator
from model.ir.checksums import NAME as SUMS
from model.ir.checksums import write_sums
from model.ir.network import Network
from model.ir.planner import Budget, plan
from sim.build import WAIVERS
from sim.golden_frames import golden_frames
from sim.toolchain import toolchain
from tests.examples import example_network
from tests.tools import refused

ROOT = Path(__file__).resolve().parents[2]
NETWORK = example_network()
ACCELERATOR = Accelerator(NETWORK, plan(NETWORK, Budget(24)))
FRAMES = golden_frames(ACCELERATOR)
HEX = sorted([*ACCELERATOR.files(), HASH_FILE])
OTHERS = [
    *("accelerator.core", SOURCE, "accelerator_axi.v", "accelerator_tb.v", "example.v"),
    *("tb_expected.hex", "tb_input.hex"),
]
FILES = [*HEX, *OTHERS, MANIFEST, SUMS]

AGAIN = """
import sys
from pathlib import Path
from hdl.package import write_package
from hdl.verilog import generate_accelerator
from tests.package.test_package import ACCELERATOR, FRAMES
write_package(ACCELERATOR, generate_accelerator(ACCELERATOR), Path(sys.argv[1]), FRAMES)
"""


@pytest.fixture(scope="module")
def design() -> Design:
    return generate_accelerator(ACCELERATOR)


@pytest.fixture(scope="module")
def written(design: Design, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "package"
    write_package(ACCELERATOR, design, folder, FRAMES)
    return folder


@pytest.fixture
def package(written: Path, tmp_path: Path) -> Path:
    """A copy of the package that a test may damage."""
    shutil.copytree(written, tmp_path / "package")
    return tmp_path / "package"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def other_weights(network: Network) -> Network:
    """The same structure with every weight replaced."""
    nodes = []
    for node in network.nodes:
        tensors = dict(node.tensors)
        if "weight" in tensors:
            tensors["weight"] = np.flip(tensors["weight"], axis=1)
        nodes.append(dataclasses.replace(node, tensors=tensors))
    return dataclasses.replace(network, nodes=tuple(nodes))


# --- what is written ---------------------------------------------------------------------------


def test_read_gives_back_what_was_written(design: Design, package: Path) -> None:
    found, manifest = read_package(package)
    assert found == design
    assert manifest["top"] == "accelerator"
    assert manifest["network"] == {"name": "example", "sha256": NETWORK.hash()}


def test_package_holds_exactly_its_files(package: Path) -> None:
    assert sorted(contents(package)) == sorted(FILES)
    manifest = json.loads((package / MANIFEST).read_text())
    assert (manifest["files"], manifest["others"]) == (HEX, OTHERS)
    assert [path.name for path in package.parent.iterdir()] == ["package"]


def test_manifest_states_streams_and_costs(package: Path) -> None:
    _, manifest = read_package(package)
    mapping = ACCELERATOR.mapping
    entry, exit_ = manifest["input"], manifest["output"]
    assert (entry["edge"], entry["shape"], entry["scale"]) == ("image", [4, 3], 0.0625)
    assert entry["format"] == {"kind": "uniform", "bits": 4, "signed": False}
    assert entry["beats_per_frame"] == -(-12 // entry["lanes"])
    assert (exit_["edge"], exit_["shape"], exit_["scale"]) == ("fc2", [5], 0.125)
    assert exit_["beats_per_frame"] == -(-5 // exit_["lanes"])
    assert manifest["ports"]["i__payload"]["bits"] == entry["lanes"] * 4 + 2
    assert manifest["ports"]["o__payload"]["bits"] == exit_["lanes"] * 16 + 2
    assert manifest["cycles_per_frame"] == max(c.cycles for _, c in mapping.costs(NETWORK))
    assert manifest["mapping"] == json.loads(json.dumps(mapping.to_json()))


def test_ports_of_the_manifest_are_those_of_the_verilog(package: Path) -> None:
    found, manifest = read_package(package)
    header = re.search(r"module accelerator\((.*?)\);", found.verilog, re.S).group(1)
    assert sorted(re.split(r",\s*", header)) == sorted(manifest["ports"])
    body = found.verilog.split("module accelerator(", 1)[1].split("endmodule", 1)[0]
    for name, port in manifest["ports"].items():
        declared = re.search(rf"^\s*(input|output) (?:\[(\d+):0\] )?{name};", body, re.M)
        assert declared.group(1) == port["direction"]
        assert int(declared.group(2) or 0) + 1 == port["bits"]


def test_second_writing_gives_the_same_bytes(package: Path, tmp_path: Path) -> None:
    write_package(ACCELERATOR, generate_accelerator(ACCELERATOR), tmp_path / "again", FRAMES)
    assert contents(tmp_path / "again") == contents(package)


def test_another_process_gives_the_same_bytes(package: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-c", AGAIN, str(again)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    assert contents(again) == contents(package)


def test_weights_stand_in_hex_files_only(design: Design) -> None:
    """Other weights of the same structure change no byte of the Verilog."""
    network = other_weights(NETWORK)
    changed = generate_accelerator(Accelerator(network, ACCELERATOR.mapping))
    assert changed.verilog == design.verilog
    assert {n for n in changed.files if changed.files[n] != design.files[n]} == {
        f"fc{n}_weight.hex" for n in range(3)
    }
    named = set(re.findall(r'"([^"]+\.hex)"', design.verilog))
    assert named == set(design.files)


# --- damage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_is_found_and_named(package: Path, name: str) -> None:
    path = package / name
    intact = path.read_bytes()
    rng = np.random.default_rng(len(intact))
    for place in rng.choice(8 * len(intact), min(40, 8 * len(intact)), replace=False):
        data = bytearray(intact)
        data[place // 8] ^= 1 << (place % 8)
        path.write_bytes(data)
        error = refused(lambda: read_package(package))
        # A flipped checksum speaks of the file that it belongs to.
        assert str(path) in error.thing or name == SUMS, (place, str(error))
        assert SUMS in str(error)
        assert error.remedy == "generate the package again"
    path.write_bytes(intact)
    read_package(package)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(package: Path, name: str) -> None:
    (package / name).unlink()
    error = refused(lambda: read_package(package))
    assert error.thing == str(package / name)
    assert error.found == "No such file or directory"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", ["truncated", "line missing", "line surplus", "empty"])
def test_lines_lost_or_added_are_found(package: Path, name: str, change: str) -> None:
    path = package / name
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(
        {
            "truncated": b"".join(lines)[:-2],
            "line missing": b"".join(lines[1:]),
            "line surplus": b"".join([*lines, lines[-1]]),
            "empty": b"",
        }[change]
    )
    error = refused(lambda: read_package(package))
    assert str(path) in error.thing or name == SUMS
    assert SUMS in str(error)


def rewrite(package: Path, **keys: object) -> None:
    """Change keys of the manifest and state its new checksum, as a tamperer would."""
    path = package / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    (package / SUMS).unlink()
    write_sums(package, sorted(contents(package)))


@pytest.mark.parametrize(
    "name",
    ["../x.hex", "/etc/x.hex", "a/b.hex", "x.hex\n", ".hex", "..", "x.v", "", 5, None, ["a"]],
)
def test_names_that_lead_elsewhere_are_refused(package: Path, name: object) -> None:
    (package.parent / "x.hex").write_text("0\n")
    rewrite(package, files=[*HEX, name])
    error = refused(lambda: read_package(package))
    assert error.thing == f"{package / MANIFEST}: files"
    assert error.found == repr(name)
    assert error.expected == "plain .hex file names"


@pytest.mark.parametrize(
    "keys", [{"files": 5}, {"files": "a.hex"}, {"top": None}, {"files": {}}, {"others": 5}]
)
def test_manifest_of_other_types_is_refused(package: Path, keys: dict) -> None:
    rewrite(package, **keys)
    assert refused(lambda: read_package(package)).thing == str(package / MANIFEST)


def test_manifest_that_leaves_a_file_out_is_refused(package: Path) -> None:
    rewrite(package, files=HEX[1:])
    error = refused(lambda: read_package(package))
    assert error.thing == str(package / SUMS)
    assert error.found == "surplus or damaged lines"


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b"5", b"{}"])
def test_manifest_that_is_none_is_refused(package: Path, content: bytes) -> None:
    (package / MANIFEST).write_bytes(content)
    write_sums(package, sorted(set(contents(package)) - {SUMS}))
    assert refused(lambda: read_package(package)).thing == str(package / MANIFEST)


def test_source_that_is_not_listed_is_refused(package: Path) -> None:
    rewrite(package, others=[name for name in OTHERS if name != SOURCE])
    error = refused(lambda: read_package(package))
    assert error.thing == f"{package / MANIFEST}: others"
    assert error.expected == f"{SOURCE} among them"


# --- the name ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "9net", "my-net", "Net", "a b", "module", "logic", "x\n"])
def test_name_that_is_no_legal_identifier_is_refused(
    design: Design, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "package"
    error = refused(lambda: write_package(ACCELERATOR, design, folder, FRAMES, name))
    assert (error.thing, error.found) == ("--top", repr(name))
    assert error.remedy == "rename it"
    assert not folder.exists()


def test_another_name_stands_before_every_module_and_memory(design: Design, tmp_path: Path) -> None:
    """So that two packages fit into one project."""
    folder = tmp_path / "package"
    write_package(ACCELERATOR, design, folder, FRAMES, "my_net")
    found, manifest = read_package(folder)
    assert found.top == manifest["top"] == "my_net"
    assert all(name.startswith("my_net_") for name in manifest["files"])
    text = found.verilog + (folder / "my_net_axi.v").read_text()
    modules = re.findall(r"^module \\?(\w+)", text, re.M)
    assert all(name.startswith("my_net") for name in modules)
    assert len(modules) > 20
    files = re.findall(r'\.FILE\("(.*?)"\)', text)
    assert files
    assert all(name.startswith("my_net_") for name in files)
    write_package(ACCELERATOR, design, folder, FRAMES, "other")
    assert read_package(folder)[1]["top"] == "other"
    assert not (folder / "my_net.v").exists()


# --- where it is written -----------------------------------------------------------------------


@pytest.mark.parametrize("file", ["thesis.txt", "my_design.v", "other.core"])
@pytest.mark.parametrize("inside", ["package", "something"])
def test_folder_that_holds_something_else_is_left_alone(
    design: Design, package: Path, inside: str, file: str
) -> None:
    folder = package.parent / inside
    folder.mkdir(exist_ok=True)
    (folder / file).write_text("three years of work")
    before = contents(folder)
    error = refused(lambda: write_package(ACCELERATOR, design, folder))
    assert error.thing == str(folder)
    assert f"something else ({file})" in error.found
    assert "choose another folder" in error.remedy
    assert contents(folder) == before


def test_file_in_the_way_is_left_alone(design: Design, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below" / "package"):
        error = refused(lambda folder=folder: write_package(ACCELERATOR, design, folder))
        assert (error.thing, error.found) == (str(tmp_path / "file"), "a file")
    assert (tmp_path / "file").read_text() == "mine"


def test_older_package_leaves_no_stale_file(design: Design, package: Path) -> None:
    """The older one has more memories than the newer one."""
    fewer = Network("few", NETWORK.input, NETWORK.nodes[:2])
    small = Accelerator(fewer, plan(fewer, Budget(24)))
    write_package(small, generate_accelerator(small), package, golden_frames(small))
    _, manifest = read_package(package)
    assert manifest["network"]["name"] == "few"
    assert sorted(contents(package)) == sorted([*small.files(), HASH_FILE, *OTHERS, MANIFEST, SUMS])
    assert [path.name for path in package.parent.iterdir()] == ["package"]


@pytest.mark.parametrize("name", [MANIFEST, SUMS])
@pytest.mark.parametrize("content", [b"", b"\xff{", None])
def test_damaged_package_can_be_generated_again(
    design: Design, package: Path, name: str, content: bytes | None
) -> None:
    """It is the remedy that the messages name."""
    (package / name).unlink()
    if content is not None:
        (package / name).write_bytes(content)
    write_package(ACCELERATOR, design, package)
    assert read_package(package)[0] == design


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("call", ["write_sums", "os.replace", "Path.write_bytes"])
def test_failed_writing_leaves_everything_as_it_was(
    design: Design, package: Path, monkeypatch: pytest.MonkeyPatch, existing: bool, call: str
) -> None:
    if not existing:
        shutil.rmtree(package)
    before = contents(package) if existing else None
    counts: dict[str, int] = {"calls": 0}
    original = {"os.replace": os.replace, "Path.write_bytes": Path.write_bytes}.get(call)

    def fail(*args: object) -> object:
        """Let the first call through; the move of an older package does succeed."""
        counts["calls"] += 1
        if original is None or counts["calls"] == (2 if existing or "Path" in call else 1):
            raise OSError("disk full")
        return original(*args)

    monkeypatch.setattr(f"model.ir.folders.{call}", fail)
    changed = dataclasses.replace(design, verilog=design.verilog + "// changed\n")
    with pytest.raises(OSError, match="disk full"):
        write_package(ACCELERATOR, changed, package)
    monkeypatch.undo()
    assert [path.name for path in package.parent.iterdir()] == (["package"] if existing else [])
    assert before is None or contents(package) == before


# --- the Verilog -------------------------------------------------------------------------------


def lint(package: Path, *files: str, top: str = "accelerator") -> subprocess.CompletedProcess:
    tools = toolchain()
    command = [*tools.verilator, "--lint-only", "--default-language", "1364-2005"]
    return subprocess.run(
        [*command, "--top-module", top, *files, SOURCE],
        cwd=package,
        env=os.environ | {"VERILATOR_ROOT": str(tools.verilator_root)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.rtl
@pytest.mark.parametrize(
    ("top", "files"),
    [
        ("accelerator", []),
        ("accelerator_axi", ["accelerator_axi.v"]),
        ("example", ["example.v", "accelerator_axi.v"]),
    ],
)
def test_verilog_of_2005_passes_lint(package: Path, top: str, files: list[str]) -> None:
    waivers = str(WAIVERS), str(WAIVERS.with_name("lint.vlt"))
    done = lint(package, *waivers, "-Wall", *files, top=top)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.rtl
def test_lint_without_waivers_finds_matters_of_width_alone(package: Path) -> None:
    """No latch, no combinational loop, no signal with two drivers, no case that is incomplete."""
    found = set(re.findall(r"%(?:Warning|Error)-?(\w*)", lint(package, "-Wno-fatal").stderr))
    assert found <= {"WIDTHEXPAND", "WIDTHTRUNC", "CASEOVERLAP"}


@pytest.mark.rtl
def test_lint_finds_a_planted_latch(package: Path) -> None:
    source = package / SOURCE
    latch = (
        "  reg held;\n  always @* if (rst) held = i__valid;\n  assign i__ready = held;\nendmodule"
    )
    text = source.read_text()
    assert text.startswith("module accelerator(")
    source.write_text(text.replace("endmodule", latch, 1))
    assert "LATCH" in lint(package, str(WAIVERS)).stderr
