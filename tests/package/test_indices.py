"""The index memories of a package: an entry beyond the vector is found, checksums or not."""

from pathlib import Path

import pytest

from hdl.accelerator import Accelerator
from hdl.package import read_package, write_package
from hdl.verilog import generate_accelerator
from model.ir.checksums import NAME as SUMS
from model.ir.checksums import write_sums
from model.ir.planner import Budget, plan
from tests.gyre.test_synth import network
from tests.tools import refused

INDEX = "fc1_index.hex"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    found = network()
    accelerator = Accelerator(found, plan(found, Budget(64, goal="energy")))
    write_package(accelerator, generate_accelerator(accelerator), tmp_path / "package")
    return tmp_path / "package"


def tamper(package: Path, entry: str) -> None:
    """Replace the first entry and state the new checksum, as a tamperer would."""
    path = package / INDEX
    lines = path.read_text().splitlines()
    path.write_text("\n".join([entry, *lines[1:]]) + "\n")
    (package / SUMS).unlink()
    write_sums(package, sorted(p.name for p in package.iterdir()))


def test_the_manifest_states_what_an_entry_may_name(package: Path) -> None:
    _, manifest = read_package(package)
    assert manifest["indices"] == {INDEX: {"words": 4, "marks": 0}}


def test_an_entry_that_names_no_word_is_refused(package: Path) -> None:
    tamper(package, "4")
    error = refused(lambda: read_package(package))
    assert error.thing == f"{package / INDEX}: entry 0"
    assert (error.found, error.expected) == ("activation word 4", "a number below 4")


def test_a_tampered_file_under_the_old_checksums_is_refused(package: Path) -> None:
    path = package / INDEX
    path.write_text("7" + path.read_text()[1:])
    assert INDEX in str(refused(lambda: read_package(package)))
