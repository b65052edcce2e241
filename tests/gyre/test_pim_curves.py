"""The curves of macros that are not ideal, on a small network."""

import numpy as np
import pytest
import torch

from gyre.pim_curves import Bench, Point, main
from model import golden
from model.data import Split
from model.export import PIMOptions
from tests.ffts import frames_of, network_of
from tests.pims import pim_free_linear


def bench() -> Bench:
    network = network_of(pim_free_linear(), 1)
    codes = torch.from_numpy(frames_of(network, 2, 60))
    labels = golden.predict(golden.run(network, codes)).numpy()
    frames = Split(codes.numpy().astype(np.float64), labels, network.input.scale)
    return Bench(network, PIMOptions(rows=8, columns=16, cell_bits=2), frames, codes[:30])


def test_the_ideal_macro_keeps_all_codes() -> None:
    assert bench().ideal() == (1.0, True)


def test_more_bits_and_better_cells_give_better_curves() -> None:
    own = bench()
    few, many = own.adc((1, 8))
    assert few.mean < many.mean
    assert "steps" in few.note
    none, wide = own.spread((0.0, 0.5), seeds=2)
    assert none.accuracies == (1.0,)
    assert len(wide.accuracies) == 2
    assert wide.least <= wide.mean < 1.0


def test_repair_brings_accuracy_back() -> None:
    own = bench()
    (plain,), (repaired,) = (own.stuck((0.1,), repair, seeds=3) for repair in (False, True))
    assert plain.mean < repaired.mean
    assert plain.note == ""
    assert "repaired" in repaired.note


def test_a_point_has_a_mean_and_a_least() -> None:
    point = Point(1, (0.5, 1.0))
    assert (point.mean, point.least) == (0.75, 0.5)


def test_refuses_an_unknown_system(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no_such_network"])
    assert "unknown systems no_such_network" in capsys.readouterr().err
