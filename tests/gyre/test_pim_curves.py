"""The curves of macros that are not ideal, on a small network."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gyre import pim_curves
from gyre.pim_curves import KEPT, POINTS, SYSTEMS, ZOO, Bench, Finished, Point, Task, curve, main
from model import golden
from model.compress.quantizers import FFTOptions
from model.data import Split
from model.export import PIMOptions
from model.export.fft import with_fft
from model.ir.arithmetic import ExactArithmetic
from model.ir.errors import BadInput
from model.ir.network import Network
from tests.ffts import fft_linear, frames_of, network_of
from tests.pims import pim_free_linear


def bench() -> Bench:
    network = network_of(pim_free_linear(), 1)
    codes = torch.from_numpy(frames_of(network, 2, 60))
    labels = golden.predict(golden.run(network, codes)).numpy()
    frames = Split(codes.numpy().astype(np.float64), labels, network.input.scale)
    return Bench(network, PIMOptions(rows=8, columns=16, cell_bits=2), frames, codes[:30])


def mean(own: Bench, kind: str, x: float, seeds: int = 3) -> float:
    return sum(own.measure(Task(kind, x, seed))[0] for seed in range(seeds)) / seeds


def test_the_ideal_macro_keeps_all_codes() -> None:
    assert bench().measure(Task("ideal")) == (1.0, "")


def test_more_bits_and_better_cells_give_better_points() -> None:
    own = bench()
    few, many = own.measure(Task("adc", 1)), own.measure(Task("adc", 8))
    assert few[0] < many[0]
    assert few[1].startswith("steps ")
    assert mean(own, "spread", 0.5) < mean(own, "spread", 0.1) <= 1.0
    assert own.measure(Task("spread", 0.5, 1)) != own.measure(Task("spread", 0.5, 2))


def test_repair_brings_accuracy_back() -> None:
    own = bench()
    assert mean(own, "stuck", 0.1) < mean(own, "repaired", 0.1)
    assert own.measure(Task("stuck", 0.1))[1] == ""
    assert "repaired" in own.measure(Task("repaired", 0.1))[1]


def test_a_sweep_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    done: list[Task] = []

    def measure(task: Task) -> tuple[float, str]:
        done.append(task)
        return 0.5, "note"

    path, wanted = tmp_path / "a" / "points.json", [Task("ideal"), Task("spread", 0.1, 1)]
    Finished(path, "one").measure(wanted[0], measure)
    again = Finished(path, "one")
    for task in wanted:
        again.measure(task, measure)
    assert done == wanted
    assert Finished(path, "one").points == {
        "ideal 0 0": [0.5, "note"],
        "spread 0.1 1": [0.5, "note"],
    }
    assert Finished(path, "another").points == {}


def test_what_decides_the_points_is_in_their_identity() -> None:
    own, other = bench(), bench()
    assert own.identity == bench().identity
    other.options = PIMOptions(rows=8, columns=8, cell_bits=2)
    assert other.identity != own.identity


def test_a_curve_begins_at_the_ideal_macro_and_ascends() -> None:
    points = {
        "ideal 0 0": [1.0, ""],
        "spread 0.2 0": [0.5, ""],
        "spread 0.1 1": [0.8, "b"],
        "spread 0.1 0": [0.6, "a"],
        "adc 3 0": [0.9, "steps 1"],
    }
    assert curve(points, "spread") == [
        Point(0.0, (1.0,)),
        Point(0.1, (0.6, 0.8), "a"),
        Point(0.2, (0.5,)),
    ]
    assert curve(points, "spread")[1].mean == pytest.approx(0.7)
    assert curve(points, "spread")[1].least == 0.6
    assert curve(points, "adc") == [Point(3.0, (0.9,), "steps 1")]
    assert curve(points, "stuck") == []


def test_fft_layers_become_exact_where_the_scale_is_the_same() -> None:
    network = network_of(replace(fft_linear(4), arithmetic=ExactArithmetic()), 1)
    fft = with_fft(network)
    assert fft.hash() != network.hash()
    assert pim_curves.exact(fft).hash() == network.hash()
    coarse = with_fft(network, FFTOptions(word_bits=8))
    with pytest.raises(BadInput, match="arithmetic = 'exact'"):
        pim_curves.exact(coarse)


def test_what_is_recorded_shows_every_network(tmp_path: Path) -> None:
    points = {
        "ideal 0 0": [0.99, ""],
        "spread 0.1 0": [0.95, ""],
        "spread 0.1 1": [0.93, ""],
        "repaired 0.01 0": [0.9, "3 cells wrong"],
        "stuck 0.01 0": [0.7, ""],
        "adc 3 0": [0.8, "steps 2"],
    }
    names = [name for system in SYSTEMS.values() for name in system.networks.values()]
    kept = {name: {"frames": 100, "network": "x", "points": points} for name in names}
    pim_curves.record(kept, tmp_path)
    page = (tmp_path / pim_curves.PAGE).read_text()
    assert all(f"`{name}`, 100 test frames, 99.00 %" in page for name in names)
    assert page.count("| 10 | 94.00 / 93.00 | 94.00 / 93.00 |  |") == len(SYSTEMS)
    assert page.count("| 3 | 80.00 | 80.00 | steps 2 |") == len(SYSTEMS)
    picture = (tmp_path / pim_curves.PICTURE).read_text()
    assert picture.count("<polyline") == len(SYSTEMS) * 2 * 4
    assert json.loads((tmp_path / POINTS).read_text()) == kept


def test_kept_curves_are_those_of_the_networks_of_the_zoo() -> None:
    """Points of another network would be figures that nobody can repeat."""
    kept = json.loads((KEPT / POINTS).read_text())
    known = {name for system in SYSTEMS.values() for name in system.networks.values()}
    assert set(kept) <= known
    for name, form in kept.items():
        network = pim_curves.exact(Network.load(ZOO / name / "network"))
        assert form["network"] == network.hash(), name
    assert (KEPT / pim_curves.PAGE).read_text() == pim_curves.page(kept)


def test_refuses_an_unknown_system(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no_such_network"])
    assert "unknown systems no_such_network" in capsys.readouterr().err
