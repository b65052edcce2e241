"""What all solvers have in common, on problems whose best solution is known."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model.compress import (
    ADMMOptions,
    ConstrainedOptions,
    FormatOptions,
    MismatchOptions,
    OneStepOptions,
    QuantizedTraining,
    TrainOptions,
    accuracy,
    admm,
    constrained,
    one_step,
)
from model.compress.admm import PATIENCE, Pull
from model.compress.constrained import initialise, is_static
from model.compress.constraints import (
    BlockCirculant,
    CoarseBlocks,
    ColumnSparsity,
    Constraint,
    FilterSparsity,
    Levels,
    OddLevels,
    Ternary,
)
from model.compress.layers import BlockSparseLinear, CirculantConv2d, CirculantLinear
from model.compress.training import fit
from model.data import Dataset, Split
from model.ir.errors import BadInput
from tests.compress import tiny
from tests.compress.test_training import Interrupted, assert_same, interrupt_after

FINE = FormatOptions(input_bits=10, weight_bits=8, activation_bits=8)
FOLLOW = {"batch": 64, "distill": 1.0, "temperature": 1.0}
SIZE = 8


class Known(nn.Sequential):
    """A linear network of the true weights, whose copies have other ones.

    A solver follows the network it is given, and trains a copy of it: so this teaches the truth to
    a network that starts elsewhere.
    """

    def __init__(self, truth: torch.Tensor, start: torch.Tensor) -> None:
        super().__init__(nn.Linear(SIZE, SIZE, bias=False))
        self.start = start
        with torch.no_grad():
            self[0].weight.copy_(truth)

    def __deepcopy__(self, memo: dict) -> nn.Sequential:
        return nn.Sequential(*Known(self.start, self.start))


def known(truth: torch.Tensor, start: torch.Tensor | None = None) -> tuple[Known, Dataset]:
    """A network that teaches the truth and starts at ``start`` (the truth if None), and data."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        samples = rng.normal(size=(count, SIZE)).astype(np.float32)
        return Split(samples, (samples @ truth.numpy().T).argmax(1), 1.0)

    train, validation = split(512), split(64)
    net = Known(truth, truth if start is None else start)
    return net, Dataset("known", train, validation, lambda: validation, SIZE, "known")


def noisy(truth: torch.Tensor, share: float) -> torch.Tensor:
    """The truth and Gaussian noise, of a share of its root mean square, where it is not 0."""
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(7))
    return truth + share * truth.square().mean().sqrt() * noise * (truth != 0)


def solve(
    name: str, net: nn.Module, data: Dataset, rule: Constraint, start: str = "fresh"
) -> nn.Module:
    last = QuantizedTraining(epochs=12, learning_rate=2e-2, **FOLLOW)
    first = TrainOptions(epochs=12, learning_rate=6e-2, **FOLLOW)
    if name == "one_step":
        return one_step(net, data, {"0": rule}, FINE, OneStepOptions(finetune=last))
    if name == "constrained":
        options = ConstrainedOptions(start=start, train=first, retrain=last)
        return constrained(net, data, {"0": rule}, FINE, options)
    options = ADMMOptions(train=first, retrain=last, rho=0.02, interval=2)
    return admm(net, data, {"0": rule}, FINE, options)


def without_training(monkeypatch: pytest.MonkeyPatch, *parts: str) -> None:
    """Let some modules of ``model.compress`` train nothing."""
    for part in parts:  # the package's attribute of that name may be a function
        module = sys.modules[f"model.compress.{part}"]
        monkeypatch.setattr(module, "fit", lambda net, *_, **__: net.eval())


def centred(weight: torch.Tensor) -> torch.Tensor:
    """Scores matter up to one number for all classes."""
    return weight - weight.mean(0)


def error(found: torch.Tensor, truth: torch.Tensor) -> float:
    found, truth = centred(found.detach()), centred(truth)
    return float((found - truth).norm() / truth.norm())


def layer_of(net: nn.Module, form: type[nn.Module]) -> nn.Module:
    (layer,) = [part for part in net.modules() if isinstance(part, form)]
    return layer


def values_of(net: nn.Module) -> tuple[torch.Tensor, float]:
    """Integer values of the one layer, and their scale."""
    weight = net.get_submodule("0").parametrizations.weight
    return weight[0].values(weight.original), float(weight[0].scale.detach())


SOLVERS = ["admm", "one_step", "constrained"]
TRAINING = ["admm", "constrained", "realise"]
BLOCKS = [[1, 2], [1, 2], [0, 3], [0, 3]]


def circulant_truth() -> torch.Tensor:
    torch.manual_seed(1)
    return CirculantLinear(SIZE, SIZE, 4, bias=False).expanded().detach() * 4


def block_truth() -> torch.Tensor:
    """2 × 2 blocks, of which each row of blocks has those of ``BLOCKS``."""
    torch.manual_seed(1)
    truth = torch.randn(4, 2, 4, 2) * torch.tensor([0, 1, 1, 0]).reshape(1, 1, 4, 1)
    truth[2:] = torch.randn(2, 2, 4, 2) * torch.tensor([1, 0, 0, 1]).reshape(1, 1, 4, 1)
    return truth.reshape(SIZE, SIZE)


def level_truth() -> torch.Tensor:
    rng = np.random.default_rng(2)
    return torch.from_numpy(rng.integers(-1, 2, (SIZE, SIZE)))


def level_start() -> torch.Tensor:
    """The true codes times 0.8, under noise that puts some on other levels."""
    noise = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return 0.8 * level_truth() + 0.35 * noise


@pytest.mark.parametrize("name", SOLVERS)
def test_circulant_weights_are_recovered(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = circulant_truth()
    net, data = known(truth, noisy(truth, 0.5))
    layer = layer_of(solve(name, net, data, BlockCirculant(4)), CirculantLinear)
    assert layer.weight.shape == (2, 2, 4)
    assert error(layer.expanded(), truth) < 0.05
    assert torch.equal(net[0].weight, truth)
    without_training(monkeypatch, *TRAINING)
    layer = layer_of(solve(name, net, data, BlockCirculant(4)), CirculantLinear)
    assert error(layer.expanded(), truth) > 0.1


@pytest.mark.parametrize("name", SOLVERS)
def test_block_sparse_weights_are_recovered(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = block_truth()
    net, data = known(truth, noisy(truth, 0.5))
    layer = layer_of(solve(name, net, data, CoarseBlocks(2, 2, 2), "trained"), BlockSparseLinear)
    assert layer.columns.tolist() == BLOCKS
    assert error(layer.expanded(), truth) < 0.05
    without_training(monkeypatch, *TRAINING)
    layer = layer_of(solve(name, net, data, CoarseBlocks(2, 2, 2), "trained"), BlockSparseLinear)
    assert error(layer.expanded(), truth) > 0.1


@pytest.mark.parametrize("name", SOLVERS)
def test_weights_on_levels_are_recovered(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = level_truth()
    net, data = known(0.8 * codes, level_start())
    values, scale = values_of(solve(name, net, data, Ternary()))
    assert torch.equal(values, codes)
    assert scale == pytest.approx(0.8, rel=0.05)
    without_training(monkeypatch, *TRAINING)
    assert int((values_of(solve(name, net, data, Ternary()))[0] != codes).sum()) > 5


def test_admm_finds_other_blocks_than_those_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The projection of the start keeps wrong blocks, which no retraining gets rid of."""
    truth = block_truth()
    start = (0.2 * truth).reshape(4, 2, 4, 2)
    start[[0, 3], :, [3, 2]] = 0.5
    net, data = known(truth, start.reshape(SIZE, SIZE))
    rule = CoarseBlocks(2, 2, 2)
    layer = layer_of(solve("admm", net, data, rule), BlockSparseLinear)
    assert layer.columns.tolist() == BLOCKS
    assert error(layer.expanded(), truth) < 0.05
    without_training(monkeypatch, "admm")
    layer = layer_of(solve("admm", net, data, rule), BlockSparseLinear)
    assert [3 in layer.columns[0], 2 in layer.columns[3]] == [True, True]
    assert error(layer.expanded(), truth) > 0.2


def test_admm_finds_other_levels_than_those_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a retraining too short to move a weight to another level."""
    codes = level_truth()
    net, data = known(0.8 * codes, level_start())
    options = ADMMOptions(
        train=TrainOptions(epochs=12, learning_rate=6e-2, **FOLLOW),
        retrain=QuantizedTraining(epochs=1, learning_rate=1e-4, **FOLLOW),
        rho=0.02,
        interval=2,
    )
    values, scale = values_of(admm(net, data, {"0": Ternary()}, FINE, options))
    assert torch.equal(values, codes)
    assert scale == pytest.approx(0.8, rel=0.05)
    without_training(monkeypatch, "admm")
    values, _ = values_of(admm(net, data, {"0": Ternary()}, FINE, options))
    assert int((values != codes).sum()) > 5


def test_fresh_start_forgets_the_trained_weights() -> None:
    """Without a teacher the data alone give the columns that matter."""
    truth = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    truth[:, [1, 4, 6]] = 0
    net, data = known(truth, torch.randn(SIZE, SIZE) * 100)
    options = ConstrainedOptions(
        train=TrainOptions(epochs=20, batch=64, learning_rate=3e-2),
        retrain=QuantizedTraining(epochs=6, batch=64, learning_rate=3e-3),
    )
    result = constrained(net, data, {"0": ColumnSparsity(5)}, FINE, options)
    weight = result.get_submodule("0").weight
    assert (~weight.any(0)).nonzero().flatten().tolist() == [1, 4, 6]
    assert accuracy(result, data.validation) > 0.8


def test_trained_start_keeps_the_structure_of_the_trained_weights() -> None:
    torch.manual_seed(0)
    truth = torch.randn(SIZE, SIZE)
    truth[[1, 2]] *= 0.01
    net, data = known(truth)
    options = ConstrainedOptions(
        start="trained", train=TrainOptions(epochs=1), retrain=QuantizedTraining(epochs=1)
    )
    result = constrained(net, data, {"0": FilterSparsity(6)}, FINE, options)
    rows = result.get_submodule("0").weight.any(1)
    assert (~rows).nonzero().flatten().tolist() == [1, 2]


@pytest.mark.parametrize("name", SOLVERS)
def test_absent_weights_stay_absent_where_no_level_is_zero(name: str) -> None:
    torch.manual_seed(1)
    net, data = known(torch.randn(SIZE, SIZE))
    result = solve(name, net, data, FilterSparsity(5) & OddLevels(3))
    layer = result.get_submodule("0")
    values = layer.weight.detach() / layer.parametrizations.weight[0].scale
    assert int(values.any(1).sum()) == 5
    assert set(values[values.any(1)].abs().round().unique().tolist()) <= {1.0, 3.0, 5.0, 7.0}


def test_convolutions_train_in_their_own_form() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 4, 1)
            self.conv2 = nn.Conv2d(4, 8, (2, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.flatten(self.conv2(torch.relu(self.conv1(x.permute(0, 3, 1, 2)))), 1)

    options = OneStepOptions(finetune=QuantizedTraining(epochs=4, batch=16, learning_rate=1e-2))
    torch.manual_seed(0)
    data = tiny.dataset()
    net = fit(Net(), data, TrainOptions(epochs=10, batch=16, learning_rate=1e-2), seed=0)
    result = one_step(net, data, {"conv2": BlockCirculant(4)}, FINE, options)
    assert isinstance(result.get_submodule("conv2"), CirculantConv2d)
    assert accuracy(result, data.validation) > 0.9


def test_retraining_under_mismatch_differs_and_is_reproducible() -> None:
    data = tiny.dataset()
    net = fit(tiny.network(), data, TrainOptions(epochs=4, batch=16, learning_rate=1e-2), seed=0)
    found = []
    for spread in (0.0, 0.2, 0.2):
        last = QuantizedTraining(epochs=2, mismatch=MismatchOptions(spread=spread))
        found.append(one_step(net, data, {}, FINE, OneStepOptions(finetune=last)))
    assert_same(found[1], found[2])
    first, second = (f.get_submodule("1").parametrizations.weight.original for f in found[:2])
    assert not torch.equal(first, second)


def run_one_step(folder: Path | None) -> nn.Module:
    last = QuantizedTraining(epochs=4, batch=16, mismatch=MismatchOptions(spread=0.1))
    rules = {"1": BlockCirculant(2), "5": FilterSparsity(3)}
    options = OneStepOptions(finetune=last)
    return one_step(tiny.network(), tiny.dataset(), rules, FINE, options, seed=2, folder=folder)


def run_constrained(folder: Path | None) -> nn.Module:
    options = ConstrainedOptions(
        train=TrainOptions(epochs=4, batch=16, average=0.9),
        retrain=QuantizedTraining(epochs=4, batch=16),
    )
    rules = {"1": BlockCirculant(2), "5": FilterSparsity(3)}
    return constrained(tiny.network(), tiny.dataset(), rules, FINE, options, seed=2, folder=folder)


@pytest.mark.parametrize("stop", [1, 3])
@pytest.mark.parametrize("run", [run_one_step, run_constrained])
def test_resumed_equals_uninterrupted(
    run: Callable, stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(None)
    for _ in range(2):  # the second time in the last training, where there are two
        with monkeypatch.context() as patch:
            interrupt_after(patch, stop)
            try:
                resumed = run(tmp_path)
            except Interrupted:
                continue
            break
    else:
        resumed = run(tmp_path)
    assert_same(whole, resumed)


def test_diverging_admm_stops_with_update_layer_and_checkpoint(tmp_path: Path) -> None:
    net, data = known(torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0)))
    options = ADMMOptions(
        train=TrainOptions(
            epochs=40, batch=512, optimizer="sgd", momentum=0.0, learning_rate=1.0,
            schedule="constant",
        ),
        rho=2.2,
        growth=1.2,
        interval=1,
    )  # fmt: skip
    with pytest.raises(BadInput, match="lower the learning rate, rho or growth") as caught:
        admm(net, data, {"0": FilterSparsity(4)}, FINE, options, folder=tmp_path)
    assert caught.value.thing.startswith("admm, update ")
    assert "layer 0" in caught.value.thing
    assert f"is kept in {tmp_path / 'admm'}" in caught.value.remedy
    assert not (tmp_path / "retrain").exists()


def test_residual_that_is_not_finite_ends_admm() -> None:
    weight = torch.randn(4, 4)
    pull = Pull([("fc1.levels", weight, Levels(3))], ADMMOptions(interval=1))
    weight[0, 0] = float("inf")
    with pytest.raises(BadInput, match=r"update 1 \(epoch 1\), layer fc1: found a residual of inf"):
        pull.after_epoch(1)


def test_a_residual_may_rise_for_a_while() -> None:
    weight = torch.ones(2, 2)
    pull = Pull([("fc1.levels", weight, Levels(3))], ADMMOptions(interval=1))
    pull.best[0] = 0.1
    for update in range(1, PATIENCE + 1):
        pull.targets[0].fill_(3.0)
        if update < PATIENCE:
            pull.after_epoch(update)
    with pytest.raises(BadInput, match=r"was 0\.1 at best"):
        pull.after_epoch(PATIENCE)


@pytest.mark.parametrize(
    ("rule", "static"),
    [
        (BlockCirculant(2), True),
        (CoarseBlocks(2, 2, 1, choose="random"), True),
        (CoarseBlocks(2, 2, 1), False),
        (FilterSparsity(2), False),
        (ColumnSparsity(3), False),
        (FilterSparsity(1.0), True),
        (BlockCirculant(2) & CoarseBlocks(2, 2, 1), False),
    ],
    ids=repr,
)
def test_static_structures_are_told_from_those_by_magnitude(rule: Constraint, static: bool) -> None:
    assert is_static(rule, torch.randn(4, 6)) == static


def test_static_structures_are_told_apart_in_large_layers_too() -> None:
    assert is_static(BlockCirculant(4), torch.randn(1024, 128))
    assert not is_static(FilterSparsity(2), torch.randn(1024, 128))


def test_initialisation_depends_on_the_seed_alone() -> None:
    nets = [tiny.network(5), tiny.network(6), tiny.network(5)]
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        initialise(net, seed)
    assert_same(nets[0], nets[1])
    assert not torch.equal(nets[0][1].weight, nets[2][1].weight)


def test_parts_that_cannot_be_initialised_are_named() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1))

    with pytest.raises(BadInput, match=r'module 0: found Scale.*start = "trained"'):
        initialise(nn.Sequential(Scale()), 0)
