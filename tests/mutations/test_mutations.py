"""Level 7 of what counts as proven: each seeded fault makes its probe report a mismatch."""

from pathlib import Path

import pytest

from tests.mutations.faults import FAULTS, Mutation
from tests.mutations.planting import DETECTED, edit, planted, run_probe


def marked(probe: str) -> list[pytest.MarkDecorator]:
    """The markers of the tests that run a probe."""
    return [] if probe in ("probe_golden", "probe_removal") else [pytest.mark.rtl]


PROBES = [
    pytest.param(probe, marks=marked(probe)) for probe in sorted({fault.probe for fault in FAULTS})
]
CASES = [
    pytest.param(fault, marks=marked(fault.probe), id=fault.what.replace(" ", "_"))
    for fault in FAULTS
]


@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_finds_nothing_where_there_is_no_fault(probe: str) -> None:
    with planted(None) as tree:
        result = run_probe(probe, tree)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("fault", CASES)
def test_every_seeded_fault_is_detected(fault: Mutation) -> None:
    with planted(fault) as tree:
        result = run_probe(fault.probe, tree)
    output = result.stdout + result.stderr
    assert result.returncode == DETECTED, f"status {result.returncode}, not detected:\n{output}"
    assert "MISMATCH" in result.stdout, output


def test_a_crash_does_not_count_as_a_detection() -> None:
    broken = Mutation("crash", "model/golden/select.py", "import torch\n", "import torchh\n", "")
    with planted(broken) as tree:
        result = run_probe("probe_golden", tree)
    assert result.returncode not in (0, DETECTED)
    assert "torchh" in result.stderr


def test_faults_have_names_of_their_own() -> None:
    assert len({fault.what for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("text", ["none here", "x = 1\nx = 1\n"])
def test_an_edit_must_fit_exactly_once(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.py").write_text(text)
    with pytest.raises(AssertionError, match=r"a.py must hold 'x = 1' exactly once, not [02]"):
        edit(tmp_path / "a.py", "x = 1", "x = 2")
    assert (tmp_path / "a.py").read_text() == text
