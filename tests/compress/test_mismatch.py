import copy

import pytest
import torch

from model.compress import MismatchOptions, TrainOptions, accuracy, accuracy_under, fit
from model.compress.constraints import (
    Conductance,
    FilterSparsity,
    Levels,
    LevelSet,
    OddLevels,
)
from model.compress.mismatch import drawn_cells, drawn_weights
from model.compress.quantizers import FormatOptions, WeightQuantizer
from model.compress.tracing import insert_quantizers
from model.compress.training import real_samples
from model.ir.errors import BadInput
from tests.compress import tiny

SETS = [Levels(3), OddLevels(3), Conductance(states=(1, 2, 5)), Conductance(states=(1, 3), cells=4)]


def some_values(levels: LevelSet) -> torch.Tensor:
    torch.manual_seed(0)
    return levels.nearest(torch.randn(6, 50) * levels.top)


@pytest.mark.parametrize("distribution", ["normal", "lognormal"])
def test_spread_is_relative_and_keeps_the_mean(distribution: str) -> None:
    torch.manual_seed(0)
    nominal = torch.tensor([1.0, 10.0]).repeat(40_000, 1)
    options = MismatchOptions(spread=0.2, distribution=distribution)
    cells = drawn_cells(nominal, 1.0, 10.0, options)
    torch.testing.assert_close(cells.mean(0), nominal[0], rtol=0.01, atol=0)
    torch.testing.assert_close(cells.std(0), 0.2 * nominal[0], rtol=0.02, atol=0)


def test_conductances_are_never_negative() -> None:
    torch.manual_seed(0)
    cells = drawn_cells(torch.ones(1000), 1.0, 1.0, MismatchOptions(spread=3.0))
    assert float(cells.min()) == 0


def test_shares_of_stuck_cells() -> None:
    torch.manual_seed(0)
    cells = drawn_cells(
        torch.full((50_000,), 3.0), 1.0, 7.0, MismatchOptions(stuck_low=0.1, stuck_high=0.3)
    )
    for state, share in ((1.0, 0.1), (7.0, 0.3), (3.0, 0.6)):
        assert float((cells == state).float().mean()) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("levels", SETS, ids=repr)
def test_nothing_changes_without_mismatch_and_all_with_stuck_cells(levels: LevelSet) -> None:
    values = some_values(levels)
    assert torch.equal(drawn_weights(values, levels, None, MismatchOptions()), values)
    high = drawn_weights(values, levels, None, MismatchOptions(stuck_high=1.0))
    low = drawn_weights(values, levels, None, MismatchOptions(stuck_low=1.0))
    held = values != 0
    assert torch.equal(high[held], values.sign()[held] * levels.top)
    assert torch.equal(low[held], values.sign()[held] * levels.magnitudes[0])


@pytest.mark.parametrize("levels", SETS, ids=repr)
def test_absent_weights_have_no_cells(levels: LevelSet) -> None:
    weight = torch.randn(6, 8)
    quantizer = WeightQuantizer(
        weight,
        levels,
        FilterSparsity(2).freeze(weight),
        MismatchOptions(spread=0.5, stuck_high=0.4),
    )
    quantizer.train()
    assert int((quantizer(weight).abs().sum(1) > 0).sum()) == 2


def test_training_draws_anew_in_each_pass_and_evaluation_does_not() -> None:
    weight = torch.randn(4, 4)
    quantizer = WeightQuantizer(weight, Levels(4), None, MismatchOptions(spread=0.1))
    first, second = quantizer.train()(weight), quantizer(weight)
    assert not torch.equal(first, second)
    clean = quantizer.eval()(weight)
    assert torch.equal(clean, WeightQuantizer(weight, Levels(4))(weight))


def test_gradient_passes_the_mismatch() -> None:
    weight = torch.randn(4, 4, requires_grad=True)
    quantizer = WeightQuantizer(weight, Levels(4), None, MismatchOptions(spread=0.1))
    quantizer(weight).sum().backward()
    assert int(weight.grad.count_nonzero()) > 8
    assert float(quantizer.log_scale.grad) != 0


def test_accuracy_of_devices_is_reproducible_and_leaves_no_trace() -> None:
    data = tiny.dataset()
    trained = fit(
        tiny.network(), data, TrainOptions(epochs=8, batch=16, learning_rate=1e-2), seed=0
    )
    net = insert_quantizers(trained, real_samples(data.train), FormatOptions(weight_bits=4))
    before, clean = copy.deepcopy(net.state_dict()), accuracy(net, data.validation)
    options = MismatchOptions(spread=1.0, stuck_low=0.3, seed=4)
    found = accuracy_under(net, data.validation, options, 6)
    assert found == accuracy_under(net, data.validation, options, 6)
    assert found[:3] == accuracy_under(net, data.validation, options, 3)
    assert len(set(found)) > 1
    assert accuracy_under(net, data.validation, MismatchOptions(), 2) == [clean, clean]
    assert accuracy(net, data.validation) == clean
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_evaluation_needs_quantizers() -> None:
    with pytest.raises(BadInput, match="compress it first"):
        accuracy_under(tiny.network(), tiny.dataset().validation, MismatchOptions(), 1)


def test_shares_above_one_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 1 together"):
        MismatchOptions(stuck_low=0.6, stuck_high=0.6)
