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


FORMS = [("twos_complement", 1), ("twos_complement", 3), ("pairs", 1), ("pairs", 4)]


@pytest.mark.parametrize(("form", "cell_bits"), FORMS)
def test_slices_hold_every_value_as_pim_arithmetic_does(form: str, cell_bits: int) -> None:
    levels = Levels(8)
    values = torch.arange(-levels.top, levels.top + 1.0)
    nothing = MismatchOptions(cells=form, cell_bits=cell_bits)
    assert torch.equal(drawn_weights(values, levels, None, nothing), values)
    # all cells in their highest state: the same sum of slices, whatever they should hold
    stuck = MismatchOptions(cells=form, cell_bits=cell_bits, stuck_high=1.0)
    top = 2**cell_bits - 1
    if form == "pairs":
        wanted = 0.0
    else:
        low = sum(2**n for n in range(0, 7, cell_bits))
        wanted = float(top * (low - 2 ** (8 - cell_bits)))
    assert torch.equal(drawn_weights(values, levels, None, stuck), torch.full_like(values, wanted))


@pytest.mark.parametrize(
    ("form", "value", "deviation"),
    [
        ("twos_complement", -1.0, sum(4.0**n for n in range(8)) ** 0.5),
        ("twos_complement", 5.0, 17.0**0.5),
        ("pairs", -1.0, 1.0),
        ("pairs", 5.0, 17.0**0.5),
    ],
)
def test_each_set_cell_of_a_slice_deviates_by_itself(
    form: str, value: float, deviation: float
) -> None:
    torch.manual_seed(0)
    drawn = drawn_weights(
        torch.full((40_000,), value),
        Levels(8),
        None,
        MismatchOptions(spread=0.1, cells=form),
    )
    assert float(drawn.std()) == pytest.approx(0.1 * deviation, rel=0.03)
    assert float(drawn.mean()) == pytest.approx(value, abs=0.005 * deviation)


def test_the_scale_feels_deviations_in_its_steps() -> None:
    weight = torch.tensor([[-1.27, -0.01], [-0.01, -1.27]])
    quantizer = WeightQuantizer(
        weight, Levels(8), None, MismatchOptions(stuck_high=1.0, cells="twos_complement")
    )
    quantizer(weight).sum().backward()
    quiet = WeightQuantizer(weight, Levels(8))
    quiet(weight).sum().backward()
    assert quiet.values(weight).tolist() == [[-127, -1], [-1, -127]]
    off = 2 * 126 * float(quiet.scale.detach()) * quiet.damp  # all became -1
    found = float(quantizer.log_scale.grad) - float(quiet.log_scale.grad)
    assert found == pytest.approx(off, rel=1e-4)


def test_bits_of_cells_without_slices_are_refused() -> None:
    with pytest.raises(ValueError, match="cell_bits only for cells"):
        MismatchOptions(cell_bits=2)
