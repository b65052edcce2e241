import copy
import sys
from pathlib import Path

import pytest
import torch

from model.compress import ADMMOptions, FormatOptions, QuantizedTraining, TrainOptions, admm, solver
from model.compress.admm import Pull
from model.compress.constraints import ColumnSparsity, FilterSparsity, Levels
from model.compress.training import accuracy, fit
from model.ir.errors import BadInput
from tests.compress import tiny
from tests.compress.test_training import Interrupted, assert_same, interrupt_after

LAYERS = {"1": ColumnSparsity(5) & FilterSparsity(4), "5": FilterSparsity(3)}
FORMATS = FormatOptions(input_bits=4, weight_bits=4, activation_bits=4)
OPTIONS = ADMMOptions(
    train=TrainOptions(epochs=4, batch=16, learning_rate=5e-3),
    retrain=QuantizedTraining(epochs=4, batch=16, learning_rate=5e-3),
    rho=0.05,
    interval=2,
)


def test_updates_are_those_of_the_paper() -> None:
    torch.manual_seed(0)
    w = torch.randn(4, 6, requires_grad=True)
    rule = FilterSparsity(2)
    pull = Pull([("w", w, rule)], ADMMOptions(rho=0.5, growth=2.0, interval=3))
    z, u, rho = rule.project(w.detach()), torch.zeros(4, 6), 0.5
    for epoch in range(1, 10):
        expected = rho / 2 * (w - z + u).square().sum()
        torch.testing.assert_close(pull.penalty(), expected)
        with torch.no_grad():
            w += 0.3 * torch.randn(4, 6)
        pull.after_epoch(epoch)
        if epoch % 3 == 0:
            z = rule.project((w + u).detach())
            u = u + w.detach() - z
            rho *= 2.0
    (gradient,) = torch.autograd.grad(pull.penalty(), w)
    torch.testing.assert_close(gradient, rho * (w - z + u).detach())


@pytest.mark.parametrize(
    ("constraints", "share"),
    [([FilterSparsity(3)], 1e-3), ([Levels(3)], 1e-3), ([FilterSparsity(3), Levels(3)], 0.1)],
)
def test_penalty_draws_weights_to_their_constraints(constraints: list, share: float) -> None:
    torch.manual_seed(0)
    w = torch.randn(6, 6, requires_grad=True)
    target = w.detach().clone()
    pairs = [(f"pair{n}", w, rule) for n, rule in enumerate(constraints)]
    pull = Pull(pairs, ADMMOptions(rho=0.1, growth=1.3, interval=1))
    before = pull.distance()
    for epoch in range(1, 60):
        # below 2 / curvature of the whole loss, so that every step goes down
        rate = 0.3 / (0.1 + len(pairs) * float(pull.rho))
        for _ in range(10):
            loss = 0.05 * (w - target).square().sum() + pull.penalty()
            (gradient,) = torch.autograd.grad(loss, w)
            with torch.no_grad():
                w -= rate * gradient
        pull.after_epoch(epoch)
    assert pull.distance() < share * before


@pytest.fixture(scope="module")
def compressed() -> tuple:
    data = tiny.dataset()
    net = fit(tiny.network(), data, TrainOptions(epochs=8, batch=16, learning_rate=1e-2), seed=0)
    before = copy.deepcopy(net)
    result = admm(net, data, LAYERS, FORMATS, OPTIONS, seed=3)
    return data, net, before, result


def test_result_holds_structure_and_levels(compressed: tuple) -> None:
    *_, result = compressed
    for name, rows, columns in (("1", 4, 5), ("5", 3, 6), ("7", 2, 5)):
        layer = result.get_submodule(name)
        weight = layer.weight.detach()
        assert int(weight.any(1).sum()) <= rows
        assert int(weight.any(0).sum()) <= columns
        codes = weight / layer.parametrizations.weight[0].scale
        torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-4)
        assert codes.abs().max() < 7.001


def test_result_still_classifies_and_the_input_is_untouched(compressed: tuple) -> None:
    data, net, before, result = compressed
    assert accuracy(result, data.validation) > 0.95
    assert_same(net, before)


@pytest.mark.parametrize("phase", ["admm", "retrain"])
def test_resumed_equals_uninterrupted(
    compressed: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    data, net, _, whole = compressed
    if phase == "retrain":
        # the package's attribute of that name is the function
        monkeypatch.setattr(sys.modules["model.compress.admm"], "retrain", None)
        with pytest.raises(TypeError):
            admm(net, data, LAYERS, FORMATS, OPTIONS, seed=3, folder=tmp_path)
        monkeypatch.undo()
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(Interrupted):
            admm(net, data, LAYERS, FORMATS, OPTIONS, seed=3, folder=tmp_path)
    assert (tmp_path / "retrain").exists() == (phase == "retrain")
    assert_same(whole, admm(net, data, LAYERS, FORMATS, OPTIONS, seed=3, folder=tmp_path))


def test_checkpoint_of_other_constraints_is_refused(compressed: tuple, tmp_path: Path) -> None:
    data, net, *_ = compressed
    admm(net, data, LAYERS, FORMATS, OPTIONS, seed=3, folder=tmp_path)
    with pytest.raises(BadInput, match="another recipe"):
        admm(net, data, {"5": FilterSparsity(3)}, FORMATS, OPTIONS, seed=3, folder=tmp_path)


def test_unknown_layer_is_named() -> None:
    with pytest.raises(BadInput) as caught:
        admm(tiny.network(), tiny.dataset(), {"fc1": FilterSparsity(2)}, FORMATS, OPTIONS)
    assert "fc1" in caught.value.thing
    assert "1, 5, 7" in caught.value.expected


def test_impossible_count_names_the_layer() -> None:
    with pytest.raises(BadInput) as caught:
        admm(tiny.network(), tiny.dataset(), {"5": FilterSparsity(9)}, FORMATS, OPTIONS)
    assert caught.value.thing == "constraint on layer 5"
    assert caught.value.found == "9"
    assert "at most 5" in caught.value.expected


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    net = tiny.network()
    with torch.no_grad():
        net[5].weight[1, 2] = bad
    with pytest.raises(BadInput, match=r"5\.weight"):
        admm(net, tiny.dataset(), {}, FORMATS, OPTIONS)


def test_unknown_solver_lists_the_known_ones() -> None:
    assert solver.find("admm") == (admm, ADMMOptions)
    with pytest.raises(BadInput, match=r"'amdm'.*admm"):
        solver.find("amdm")
