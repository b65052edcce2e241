import math

import pytest
import torch

from gyre import osc_cost
from model.compress.training import TrainOptions
from tests.compress import tiny


def test_slope_is_the_exponent() -> None:
    sizes = (64, 128, 256)
    assert osc_cost.slope(sizes, [3e-6 * k**2.5 for k in sizes]) == pytest.approx(2.5)


@pytest.mark.parametrize("way", [osc_cost.one_step, osc_cost.admm])
def test_time_ends_at_the_accuracy(way: object, monkeypatch: pytest.MonkeyPatch) -> None:
    module, dataset = tiny.network(), tiny.dataset()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    options = TrainOptions(epochs=1, batch=16, learning_rate=1e-2, schedule="constant")
    monkeypatch.setattr(osc_cost, "MOST_EPOCHS", 3)
    seconds, epochs = way(module, dataset, ["1"], 2, options, 0.0)
    assert (epochs, math.isfinite(seconds)) == (0, True)
    assert way(module, dataset, ["1"], 2, options, 1.1) == (math.inf, 3)
    assert all(torch.equal(before[key], tensor) for key, tensor in module.state_dict().items())
