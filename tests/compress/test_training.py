import json
from pathlib import Path

import pytest
import torch
from torch import nn

from model.compress import checkpoint
from model.compress.training import TrainOptions, _shifted, accuracy, fit, real_samples
from model.ir.errors import BadInput
from tests.compress import tiny


class Interrupted(Exception):
    pass


def interrupt_after(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Let the checkpoint after ``epoch`` be written, and stop there."""
    save = checkpoint.save

    def stop(folder: Path, identity: str, done: int, tensors: dict) -> None:
        save(folder, identity, done, tensors)
        if done == epoch:
            raise Interrupted

    monkeypatch.setattr(checkpoint, "save", stop)


def assert_same(a: nn.Module, b: nn.Module) -> None:
    first, second = a.state_dict(), b.state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("stop", [1, 3])
def test_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, stop: int
) -> None:
    data = tiny.dataset()
    options = TrainOptions(
        epochs=4, batch=10, optimizer=optimizer, learning_rate=1e-2, shift=1, weight_decay=0.1
    )
    whole = fit(tiny.network(dropout=0.3), data, options, seed=5)
    with monkeypatch.context() as patch:
        interrupt_after(patch, stop)
        with pytest.raises(Interrupted):
            fit(tiny.network(dropout=0.3), data, options, seed=5, folder=tmp_path)
    torch.manual_seed(99)  # whatever state the generator is in
    resumed = fit(tiny.network(dropout=0.3), data, options, seed=5, folder=tmp_path)
    assert_same(whole, resumed)


def test_finished_training_is_read_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TrainOptions(epochs=2)
    first = fit(tiny.network(), tiny.dataset(), options, seed=0, folder=tmp_path)
    monkeypatch.setattr("model.compress.training._Steps.epoch", None)
    assert_same(first, fit(tiny.network(1), tiny.dataset(), options, seed=0, folder=tmp_path))


def test_seed_decides_the_result() -> None:
    options = TrainOptions(epochs=1, batch=16)
    results = [fit(tiny.network(), tiny.dataset(), options, seed=s) for s in (0, 0, 1)]
    assert_same(results[0], results[1])
    assert not torch.equal(results[0][1].weight, results[2][1].weight)


def test_leaves_the_global_generator_alone() -> None:
    net = tiny.network()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    fit(net, tiny.dataset(), TrainOptions(epochs=1), seed=0)
    assert torch.equal(torch.rand(4), expected)


def test_learns() -> None:
    data = tiny.dataset()
    net = fit(tiny.network(), data, TrainOptions(epochs=8, batch=16, learning_rate=1e-2), seed=0)
    assert accuracy(net, data.validation) > 0.95
    assert not net.training


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"options": TrainOptions(epochs=3)},
        {"data": tiny.dataset(1)},
        {"title": "other"},
        {"module": nn.Sequential(nn.Flatten(), nn.Linear(8, 2))},
        {"facts": "another constraint"},
    ],
)
def test_checkpoint_of_another_training_is_refused(tmp_path: Path, change: dict) -> None:
    arguments = {
        "module": tiny.network(),
        "data": tiny.dataset(),
        "options": TrainOptions(epochs=2),
        "seed": 0,
        "folder": tmp_path,
    }
    fit(**arguments)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(BadInput) as caught:
        fit(**{**arguments, **change})
    assert str(tmp_path) in caught.value.thing
    assert "another recipe, network or data set" in caught.value.found
    assert f"remove the folder {tmp_path}" in caught.value.remedy
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("damage", ["flipped", "truncated", "gone", "json"])
def test_damaged_checkpoint_is_refused(tmp_path: Path, damage: str) -> None:
    options = TrainOptions(epochs=1)
    fit(tiny.network(), tiny.dataset(), options, seed=0, folder=tmp_path)
    (tensors,) = tmp_path.glob("*.safetensors")
    content = tensors.read_bytes()
    if damage == "flipped":
        tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "truncated":
        tensors.write_bytes(content[:50])
    elif damage == "gone":
        tensors.unlink()
    else:
        (tmp_path / checkpoint.NAME).write_text("{")
    with pytest.raises(BadInput, match="remove the folder"):
        fit(tiny.network(), tiny.dataset(), options, seed=0, folder=tmp_path)


def test_checkpoint_is_data_only(tmp_path: Path) -> None:
    fit(tiny.network(), tiny.dataset(), TrainOptions(epochs=3), seed=0, folder=tmp_path)
    record = json.loads((tmp_path / checkpoint.NAME).read_text())
    assert {path.name for path in tmp_path.iterdir()} == {checkpoint.NAME, record["file"]}
    assert record["epoch"] == 3
    assert record["file"].endswith(".safetensors")


def test_diverging_loss_is_refused() -> None:
    options = TrainOptions(epochs=3, optimizer="sgd", learning_rate=1e30)
    with pytest.raises(BadInput, match="lower the learning rate"):
        fit(tiny.network(), tiny.dataset(), options, seed=0)


def test_teacher_is_followed() -> None:
    """With the whole loss from a teacher of swapped classes, the pupil learns the swap."""
    data = tiny.dataset()
    options = TrainOptions(epochs=8, batch=16, learning_rate=1e-2)
    teacher = fit(tiny.network(), data, options, seed=0)
    with torch.no_grad():
        teacher[-1].weight.neg_()
        teacher[-1].bias.neg_()
    follow = options.model_copy(update={"distill": 1.0})
    pupil = fit(tiny.network(), data, follow, seed=0, teacher=teacher)
    assert accuracy(pupil, data.validation) < 0.05


def test_shift_moves_whole_images() -> None:
    torch.manual_seed(0)
    x = torch.arange(1.0, 13).reshape(1, 3, 4, 1).expand(200, 3, 4, 1)
    padded = nn.functional.pad(x[0, ..., 0], (1, 1, 1, 1))
    allowed = {
        tuple(padded[r : r + 3, c : c + 4].flatten().tolist()) for r in range(3) for c in range(3)
    }
    moved = {tuple(image.flatten().tolist()) for image in _shifted(x, 1)}
    assert moved == allowed


def test_shift_needs_images() -> None:
    with pytest.raises(BadInput, match="set shift to 0"):
        _shifted(torch.zeros(2, 5), 1)


def test_real_samples_are_scaled() -> None:
    split = tiny.dataset().train
    expected = torch.from_numpy(split.real()[:5])
    torch.testing.assert_close(real_samples(split, 5).double(), expected, rtol=1e-6, atol=0)
