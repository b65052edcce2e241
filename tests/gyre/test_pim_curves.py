"""The curves of macros that are not ideal, on a small network."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gyre import pim_curves
from gyre.pim_curves import (
    KEPT,
    POINTS,
    SYSTEMS,
    ZOO,
    Bench,
    Finished,
    Measured,
    Point,
    Task,
    curve,
    exact,
    main,
    plain,
)
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

NO_FRAMES = Split(np.zeros((0, 28, 28, 1)), np.zeros(0, dtype=np.int64), 1.0)


def bench() -> Bench:
    network = network_of(pim_free_linear(), 1)
    codes = torch.from_numpy(frames_of(network, 2, 60))
    labels = golden.predict(golden.run(network, codes)).numpy()
    frames = Split(codes.numpy().astype(np.float64), labels, network.input.scale)
    return Bench(network, PIMOptions(rows=8, columns=16, cell_bits=2), frames, codes[:30])


def mean(own: Bench, kind: str, x: float, seeds: int = 3) -> float:
    return sum(own.measure(Task(kind, x, seed)).accuracy for seed in range(seeds)) / seeds


def test_the_ideal_macro_keeps_all_codes() -> None:
    found = bench().measure(Task("ideal"))
    assert (found.accuracy, found.note) == (1.0, "")


def test_more_bits_and_better_cells_give_better_points() -> None:
    own = bench()
    few, many = own.measure(Task("adc", 1)), own.measure(Task("adc", 8))
    assert few.accuracy < many.accuracy
    assert few.note.startswith("steps ")
    assert mean(own, "spread", 0.5) < mean(own, "spread", 0.1) <= 1.0
    assert own.measure(Task("spread", 0.5, 1)) != own.measure(Task("spread", 0.5, 2))


def test_repair_brings_accuracy_back() -> None:
    own = bench()
    assert mean(own, "stuck", 0.1) < mean(own, "repaired", 0.1)
    assert own.measure(Task("stuck", 0.1)).note == ""
    assert "repaired" in own.measure(Task("repaired", 0.1)).note


def test_a_sweep_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    own, asked = bench(), []

    def accuracy(network: Network) -> float:
        asked.append(network.hash())
        return 0.5

    own.accuracy = accuracy
    path, wanted = tmp_path / "a" / "points.json", [Task("ideal"), Task("spread", 0.1, 1)]
    Finished(path, own.identity).measure(wanted[0], own.measure)
    again = Finished(path, own.identity)
    for task in wanted:
        again.measure(task, own.measure)
    hashes = [own.convert(task)[0].hash() for task in wanted]
    assert asked == hashes
    assert Finished(path, own.identity).points == {
        "ideal 0 0": Measured(0.5, "", hashes[0]),
        "spread 0.1 1": Measured(0.5, "", hashes[1]),
    }
    assert Finished(path, "other frames").points == {}


def test_a_point_of_another_network_is_measured_anew() -> None:
    own = bench()
    found = own.measure(Task("spread", 0.3))
    known = Measured(0.125, "known", found.network)
    assert own.measure(Task("spread", 0.3), known) == known
    assert own.measure(Task("spread", 0.3), replace(known, network="another")) == found


def test_a_curve_begins_at_the_ideal_macro_and_ascends() -> None:
    points = plain(
        {
            "ideal 0 0": Measured(1.0, "", ""),
            "spread 0.2 0": Measured(0.5, "", ""),
            "spread 0.1 1": Measured(0.8, "b", ""),
            "spread 0.1 0": Measured(0.6, "a", ""),
            "adc 3 0": Measured(0.9, "steps 1", ""),
        }
    )
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
    assert exact(fft).hash() == network.hash()
    coarse = with_fft(network, FFTOptions(word_bits=8))
    with pytest.raises(BadInput, match="arithmetic = 'exact'"):
        exact(coarse)


def test_what_is_recorded_shows_every_network(tmp_path: Path) -> None:
    points = plain(
        {
            "ideal 0 0": Measured(0.99, "", ""),
            "spread 0.1 0": Measured(0.95, "", ""),
            "spread 0.1 1": Measured(0.93, "", ""),
            "repaired 0.01 0": Measured(0.9, "3 cells wrong", ""),
            "stuck 0.01 0": Measured(0.7, "", ""),
            "adc 3 0": Measured(0.8, "steps 2", ""),
        }
    )
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
    options = {n: system.options for system in SYSTEMS.values() for n in system.networks.values()}
    for name, form in kept.items():
        own = Bench(exact(Network.load(ZOO / name / "network")), options[name], NO_FRAMES, None)
        assert form["network"] == own.network.hash(), name
        for task in (Task("ideal"), Task("spread", 0.1, 1), Task("stuck", 0.01)):
            assert form["points"][task.key]["network"] == own.convert(task)[0].hash(), (name, task)
    assert (KEPT / pim_curves.PAGE).read_text() == pim_curves.page(kept)


def test_refuses_an_unknown_system(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no_such_network"])
    assert "unknown systems no_such_network" in capsys.readouterr().err
