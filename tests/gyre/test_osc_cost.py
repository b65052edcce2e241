import pytest
import torch
from torch import nn

from gyre import osc_cost
from gyre import recipe as recipes
from model.compress.constraints import BlockCirculant
from model.compress.training import TrainOptions
from tests.compress import tiny


def test_slope_is_the_exponent() -> None:
    sizes = (64, 128, 256)
    assert osc_cost.slope(sizes, [3e-6 * k**2.5 for k in sizes]) == pytest.approx(2.5)


@pytest.mark.parametrize("way", [osc_cost.one_step, osc_cost.admm])
def test_time_ends_at_the_accuracy(way: object) -> None:
    module, dataset = tiny.network(), tiny.dataset()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    options = TrainOptions(epochs=1, batch=16, learning_rate=1e-2, schedule="constant")
    assert way(module, dataset, ["1"], 2, options, 0.0)[1:] == (0, True)
    assert way(module, dataset, ["1"], 2, options, 1.1, 3)[1:] == (3, False)
    assert all(torch.equal(before[key], tensor) for key, tensor in module.state_dict().items())


def test_a_side_that_never_gets_there_bounds_the_ratio() -> None:
    assert osc_cost._ratio((2.0, 3, True), (9.0, 8, True)) == "4.5"
    assert osc_cost._ratio((2.0, 3, True), (9.0, 8, False)) == "> 4.5"
    assert osc_cost._ratio((2.0, 3, False), (9.0, 8, True)) == "-"


def test_measured_network_of_admm_is_circulant(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no evaluation beside it is within the time."""
    measured = []

    def accuracy(net: nn.Module, _: object) -> float:
        measured.append(net.get_submodule("1").weight.detach().clone())
        return 0.0

    monkeypatch.setattr(osc_cost, "accuracy", accuracy)
    monkeypatch.setattr("model.compress.training._accuracy", None)
    options = TrainOptions(epochs=1, batch=16, learning_rate=1e-2, schedule="constant")
    osc_cost.admm(tiny.network(), tiny.dataset(), ["1"], 2, options, 1.0, 2)
    assert len(measured) == 3
    for weight in measured:
        blocks = weight.reshape(3, 2, 4, 2)
        assert torch.equal(blocks[:, 0, :, 0], blocks[:, 1, :, 1])
        assert torch.equal(blocks[:, 0, :, 1], blocks[:, 1, :, 0])
        torch.testing.assert_close(BlockCirculant(2).project(weight), weight)
    assert not torch.equal(measured[0], measured[2])


def test_the_data_are_those_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(Exception):
        pass

    def load(*asked: object) -> None:
        raise Asked(*asked)

    recipe = recipes.load(osc_cost.ROOT / "recipes" / "c_lstm_fsdd.toml", ["data.options.fold=4"])
    monkeypatch.setattr(osc_cost.recipes, "load", lambda _: recipe)
    monkeypatch.setattr(osc_cost.data, "load", load)
    monkeypatch.setattr(osc_cost, "SIZES", (4, 8))
    monkeypatch.setattr("sys.argv", ["osc_cost"])
    with pytest.raises(Asked) as caught:
        osc_cost.main()
    assert caught.value.args == ("fsdd", {"fold": 4})
