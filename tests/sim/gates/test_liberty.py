"""What is read of a library, and what is refused."""

import gzip
from pathlib import Path

import pytest

from sim.gates.liberty import Table, read_liberty
from tests.tools import refused

TINY = Path(__file__).with_name("tiny.lib")


def edited(tmp_path: Path, old: str, new: str) -> Path:
    text = TINY.read_text()
    assert old in text
    path = tmp_path / "edited.lib"
    path.write_text(text.replace(old, new))
    return path


def test_reads_units_cells_pins_and_energies() -> None:
    library = read_liberty(TINY)
    assert (library.voltage, library.capacitance, library.leakage_unit) == (1.0, 1e-15, 1e-9)
    assert set(library.cells) == {"INV", "BUF", "NAND2", "GATE", "DFF"}
    nand = library.cells["NAND2"]
    assert (nand.area, nand.leakage, nand.inputs, nand.outputs) == (2.0, 20.0, ["A", "B"], ["Y"])
    assert nand.pins["A"].capacitance == 2.0
    assert library.cells["INV"].pins["Y"].edge() == 3.0  # the mean of rising and falling
    assert library.flip_flop.name == "DFF"
    assert library.clock_gate is not None
    assert library.clock_gate.name == "GATE"


def test_energies_are_read_at_the_third_slew_and_between_loads() -> None:
    pin = read_liberty(TINY).cells["NAND2"].pins["Y"]
    assert [pin.edge(load) for load in (0.0, 5.0, 10.0, 99.0)] == [1.0, 2.0, 3.0, 3.0]
    assert Table((1.0, 2.0), (4.0, 6.0)).at(0.0) == 4.0


def test_a_compressed_file_reads_alike(tmp_path) -> None:
    path = tmp_path / "tiny.lib.gz"
    path.write_bytes(gzip.compress(TINY.read_bytes()))
    assert read_liberty(path).cells == read_liberty(TINY).cells


def test_refuses_a_library_without_flip_flops(tmp_path) -> None:
    path = edited(tmp_path, 'ff ("IQ", "IQN") { next_state : "D"; clocked_on : "CK"; }', "")
    error = refused(lambda: read_liberty(path).flip_flop)
    assert "no flip-flop" in error.found
    assert str(path) == error.thing


def test_a_flip_flop_of_the_falling_edge_or_with_a_reset_is_not_taken(tmp_path) -> None:
    for old, new in (('"CK"; }', '"!CK"; }'), ('"CK"; }', '"CK"; clear : "!R"; }')):
        path = edited(tmp_path, old, new)
        assert "no flip-flop" in refused(lambda p=path: read_liberty(p).flip_flop).found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "library"),
        (b"nothing of the kind", "library"),
        (TINY.read_bytes()[:2000], "library"),  # cut short
        (b"library (a) { nom_voltage : 1.0; }", "no cells"),
    ],
)
def test_refuses_what_is_no_library(tmp_path, content, words) -> None:
    path = tmp_path / "x.lib"
    path.write_bytes(content)
    assert words in str(refused(lambda: read_liberty(path)))


def test_refuses_a_missing_file_and_a_broken_archive(tmp_path) -> None:
    path = tmp_path / "x.lib.gz"
    assert "unreadable" in refused(lambda: read_liberty(path)).found
    path.write_bytes(b"no archive")
    assert "unreadable" in refused(lambda: read_liberty(path)).found
