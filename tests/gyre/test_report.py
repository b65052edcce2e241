"""The printed report, as a person sees it in a terminal of 80 columns."""

import copy
import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from gyre.flow import ZOO
from gyre.report import _density, _utilisation, read_report, show, write_report
from model.ir.circulant_array import CirculantArraySpec
from model.ir.network import Network
from model.ir.planner import Budget, plan
from tests.tools import refused

LAYER = {
    "name": "fc1",
    "engine": "pe_array",
    "arithmetic": "exact",
    "cycles": 64,
    "bound_cycles": 64,
    "multipliers": 181,
    "multiplier_bits": 3000,
    "macros": 0,
    "weight_bits": 46080,
    "density": 1.0,
    "utilisation": 0.9931,
    "busy": 0.96,
    "busy_bound": 0.9931,
    "dense": {"cycles": 64, "weight_bits": 46080},
    "weight_reuse": 1.0,
    "activation_reuse": 5.0,
    "lanes": 1,
}
SELECT = LAYER | {
    "name": "select",
    "engine": None,
    "multipliers": 0,
    "density": None,
    "utilisation": None,
    "busy": None,
    "busy_bound": None,
    "dense": None,
    "weight_reuse": None,
    "activation_reuse": None,
}
REPORT = {
    "recipe": "mnist_mlp",
    "dataset": {"name": "mnist", "train": 55000, "validation": 5000, "test": 10000},
    "seed": 1,
    "accuracy": {"float": 0.9852, "compressed": 0.9755, "golden": 0.975, "rtl": 0.975},
    "compression": {
        "weights": 59008,
        "kept": 15120,
        "ratio_weights": 3.9026,
        "bits_float": 1888256,
        "bits_stored": 77000,
        "ratio_bits": 24.52,
        "bits_on_chip": 60480,
    },
    "rtl": {
        "frames": 10000,
        "mismatches": 0,
        "equal": True,
        "checks": {
            **{"layers": 64, "frames": 10000, "stalled": 100},
            **{"random": 1000, "seeds": 100, "reset": 100},
        },
        "differences": [],
        "cycles_per_frame": 64.0,
        "latency_cycles": 243,
        "bound_cycles_per_frame": 64,
        "utilisation": 0.9803,
        "sim_seconds": 9.53,
        "cycles_per_second": 67123.4,
    },
    "layers": [SELECT, LAYER],
    "resources": {"multipliers": 241},
}


def shown(report: dict, width: int = 80) -> list[str]:
    file = io.StringIO()
    # As the command line makes it: nothing may hinge on its settings.
    show(report, Console(file=file, width=width, soft_wrap=True, highlight=False))
    return file.getvalue().splitlines()


def words(lines: list[str]) -> str:
    """The text without frames, as one line."""
    return " ".join(" ".join(lines).translate(dict.fromkeys(map(ord, "│╭╮╰╯─"), " ")).split())


def changed(**sections: dict) -> dict:
    report = copy.deepcopy(REPORT)
    for section, keys in sections.items():
        report[section] |= keys
    return report


DIFFERENCES = [
    f"{check}: first difference in frame 1234, layer a_layer_with_a_long_name, element 123: "
    f"expected -32768, found 32767 (98765 codes differ)"
    for check in ("layers", "frames", "stalled")
]
UNEQUAL = changed(rtl={"equal": False, "mismatches": 98765, "differences": DIFFERENCES})


@pytest.mark.parametrize("report", [REPORT, UNEQUAL], ids=["equal", "not equal"])
@pytest.mark.parametrize("width", [50, 80, 132])
def test_nothing_is_cut(report: dict, width: int) -> None:
    lines = shown(report, width)
    assert all(len(line) <= width for line in lines)
    assert "…" not in "".join(lines)
    panel = lines[next(n for n, line in enumerate(lines) if "VERDICT" in line) :]
    assert all(line[0] in "│╭╰" and line[-1] in "│╮╯" for line in panel)
    text = words(lines)
    for part in [
        "98.52 %",
        "97.55 %",
        "24.52x in stored bits, 3.90x in weights (59,008 to 15,120)",
        "64.00 a frame (bound 64), latency 243",
        "241, utilisation 0.980",
        "67,123 cycles/s, 9.53 s",
        "1,000 of random codes; 100 from other initial values; 100 after a reset in mid-frame",
    ]:
        assert part in text or width < 80, part
    assert text.endswith("100 after a reset in mid-frame")


def test_busy_cycles_stand_beside_those_of_the_bound() -> None:
    row = next(line for line in shown(REPORT, 132) if " fc1 " in line)
    assert " 99 % " in row  # used
    assert " 97 % " in row  # 0.96 / 0.9931


def test_the_verdict_comes_first_in_its_panel_and_whole() -> None:
    lines = shown(REPORT)
    first = lines[next(n for n, line in enumerate(lines) if "VERDICT" in line) + 1]
    assert first.strip("│ ") == (
        "EQUAL, bit for bit: 10,000 test frames of mnist in RTL, 0 mismatches"
    )


def test_what_differs_is_shown_whole() -> None:
    text = words(shown(UNEQUAL))
    assert "NOT EQUAL: 98,765 codes differ in 10,000 test frames of mnist" in text
    for difference in DIFFERENCES:
        check, _, place = difference.partition(": ")
        assert f"{check} {place}" in text
    assert "EQUAL, bit for bit" not in text
    assert "also equal" not in text


def test_a_difference_outside_the_bulk_run_is_no_equality() -> None:
    report = changed(rtl={"equal": False, "differences": DIFFERENCES[2:]})
    text = words(shown(report))
    assert "NOT EQUAL: 10,000 test frames of mnist agree, but another check failed" in text
    assert "stalled first difference in frame 1234" in text


def test_fewer_frames_than_the_test_split_are_said() -> None:
    assert "(golden and rtl on" not in words(shown(REPORT))
    text = words(shown(changed(rtl={"frames": 500})))
    assert "(golden and rtl on 500 of 10,000 frames)" in text


def test_a_single_frame_has_no_rate() -> None:
    report = changed(rtl={"frames": 1, "cycles_per_frame": None, "utilisation": None})
    text = words(shown(report))
    assert "cycles latency 243" in text
    assert "utilisation" not in text


def test_sequences_are_counted_as_such() -> None:
    found = {"steps": 7631, "sequences": 300, "idle": 62, "slots": 3, "cycles_alone": 388}
    report = changed(
        rtl={"recurrent": found, "frames": 7631}, dataset={"name": "fsdd", "test": 300}
    )
    text = words(shown(report))
    assert "EQUAL, bit for bit: 7,631 steps of 300 test sequences of fsdd in RTL" in text
    assert "3 interleaved, 62 idle frames; one at a time 388 cycles a step by formula" in text
    assert "(golden and rtl on" not in text
    report["rtl"]["recurrent"] = found | {"sequences": 100}
    assert "(golden and rtl on 100 of 300 sequences)" in words(shown(report))


def test_pruned_layers_stand_beside_their_dense_selves() -> None:
    assert "density" not in words(shown(REPORT))
    report = changed()
    pruned = LAYER | {"density": 0.125, "dense": {"cycles": 512, "weight_bits": 368640}}
    report["layers"] = [SELECT, pruned]
    text = "".join(shown(report))
    for part in ("pruned", "density", "12.5 %", "512", "368,640"):
        assert part in text


def test_fill_of_the_fifos_is_shown_with_their_depths() -> None:
    report = changed() | {"fifos": [{"layer": "sum", "input": 1, "depth": 1090, "fill": 1001}]}
    assert "FIFO fill sum 1,001 of 1,090 beats" in words(shown(report))


def test_pulses_and_rows_that_failed_are_shown() -> None:
    counts = {"pulses_fc1": 1200, "failures_fc1": 2, "pulses_fc2": 34, "failures_fc2": 1}
    assert "programming 1,234 pulses, 3 rows that failed" in words(
        shown(changed() | {"programming": counts})
    )


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    assert "of [red]mnist in RTL" in words(shown(changed(dataset={"name": "[red]mnist"})))


def test_written_report_is_read_back(tmp_path: Path) -> None:
    path = write_report(tmp_path / "a" / "b", REPORT)
    assert path == tmp_path / "a" / "b" / "report.json"
    assert read_report(path.parent) == REPORT
    assert [p.name for p in path.parent.iterdir()] == ["report.json"]


def test_failed_writing_leaves_the_older_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path, REPORT)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path, changed(rtl={"frames": 1}))
    monkeypatch.undo()
    assert read_report(tmp_path) == REPORT
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("content", "found", "remedy"),
    [
        (None, "No such file", "first"),
        ("{", "unreadable data", "again"),
        ("[]", "no 'recipe'", "again"),
        (json.dumps({k: v for k, v in REPORT.items() if k != "rtl"}), "no 'rtl'", "again"),
    ],
)
def test_report_that_cannot_be_read_is_refused(
    tmp_path: Path, content: str | None, found: str, remedy: str
) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    error = refused(lambda: read_report(tmp_path))
    assert error.thing == str(tmp_path / "report.json")
    assert found in error.found
    assert error.remedy == f"run `gyre run` {remedy}"


def test_a_circulant_layer_is_used_as_its_lanes_are_and_not_pruned() -> None:
    network = Network.load(ZOO / "osc_mnist_mlp" / "network")
    mapping = plan(network, Budget(256))
    for node, cost in mapping.costs(network):
        (stage,) = (stage for stage in mapping.stages if stage.node == node.name)
        engine = mapping.engine(stage.engine)
        if isinstance(engine, CirculantArraySpec):
            p, q = node.spec.arithmetic.grid(node.spec)
            assert _utilisation(engine, cost) == p * q / (engine.lanes * cost.cycles)
            assert _density(node, cost) is None
        else:
            assert _density(node, cost) == 1.0
