import json
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from model.compress import checkpoint
from model.compress.training import (
    TrainOptions,
    _disturbed,
    _flipped,
    _Resident,
    _shifted,
    accuracy,
    fit,
    lengths_of,
    real_samples,
)
from model.data import Dataset, Split
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
        epochs=4,
        batch=10,
        optimizer=optimizer,
        learning_rate=1e-2,
        shift=1,
        flip=True,
        clip=1.0,
        average=0.9,
        weight_decay=0.1,
    )
    whole = fit(tiny.network(dropout=0.3), data, options, seed=5)
    with monkeypatch.context() as patch:
        interrupt_after(patch, stop)
        with pytest.raises(Interrupted):
            fit(tiny.network(dropout=0.3), data, options, seed=5, folder=tmp_path)
    torch.manual_seed(99)  # whatever state the generator is in
    resumed = fit(tiny.network(dropout=0.3), data, options, seed=5, folder=tmp_path)
    assert_same(whole, resumed)


@pytest.mark.parametrize("epoch", [1, 3])
def test_killed_between_the_files_of_a_checkpoint_the_one_before_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    data = tiny.dataset()
    options = TrainOptions(epochs=4, batch=10, learning_rate=1e-2, shift=1, average=0.9)
    whole = fit(tiny.network(dropout=0.3), data, options, seed=5)
    replace, calls = checkpoint.replace, []

    def stop(path: Path, content: bytes) -> None:
        calls.append(path.name)
        if len(calls) == 2 * epoch:  # the JSON of this epoch
            raise Interrupted
        replace(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "replace", stop)
        with pytest.raises(Interrupted):
            fit(tiny.network(dropout=0.3), data, options, seed=5, folder=tmp_path)
    assert calls[-1] == checkpoint.NAME
    assert (tmp_path / f"epoch-{epoch:04d}.safetensors").exists()
    assert checkpoint.epochs(tmp_path) == epoch - 1
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


def test_diverging_loss_names_epoch_step_and_layer() -> None:
    options = TrainOptions(epochs=3, optimizer="sgd", learning_rate=1e30)
    with pytest.raises(BadInput, match="lower the learning rate") as caught:
        fit(tiny.network(), tiny.dataset(), options, seed=0, title="float")
    assert caught.value.thing.startswith("float, epoch ")
    assert ", step " in caught.value.thing
    assert re.search(
        r"first that is not finite: (the gradient of )?\d\.(weight|bias)", str(caught.value)
    )


def test_last_good_checkpoint_is_kept_and_named(tmp_path: Path) -> None:
    class Poison:
        """Makes the loss NaN in the third epoch."""

        done = 0

        def penalty(self) -> torch.Tensor:
            return torch.tensor(float("nan") if self.done == 2 else 0.0)

        def after_epoch(self, done: int) -> None:
            self.done = done

        def state(self) -> dict:
            return {}

    options = TrainOptions(epochs=5, batch=32)
    with pytest.raises(BadInput) as caught:
        fit(
            tiny.network(),
            tiny.dataset(),
            options,
            seed=0,
            title="float",
            folder=tmp_path,
            regularizer=Poison(),
        )
    assert caught.value.thing == "float, epoch 3, step 1"
    assert f"the state after epoch 2 is kept in {tmp_path}" in caught.value.remedy
    assert json.loads((tmp_path / checkpoint.NAME).read_text())["epoch"] == 2


def test_state_that_is_not_finite_is_never_kept(tmp_path: Path) -> None:
    """One step an epoch: the loss is still finite when the parameters are not."""
    options = TrainOptions(epochs=2, batch=96, optimizer="sgd", learning_rate=1e38)
    with pytest.raises(BadInput):
        fit(tiny.network(), tiny.dataset(), options, seed=0, folder=tmp_path)
    for path in tmp_path.glob("*.safetensors"):
        for tensor in safetensors.torch.load_file(path).values():
            assert torch.isfinite(tensor).all()


def test_average_is_that_of_the_steps() -> None:
    """Against an average taken outside, by a regularizer, with one step an epoch."""
    net = tiny.network()
    seen = []

    class Watch:
        def penalty(self) -> torch.Tensor:
            return torch.zeros(())

        def after_epoch(self, done: int) -> None:
            seen.append(net[1].weight.detach().clone())

        def state(self) -> dict:
            return {}

    expected = net[1].weight.detach().clone()
    options = TrainOptions(epochs=4, batch=96, learning_rate=1e-2, average=0.7)
    fit(net, tiny.dataset(), options, seed=0, regularizer=Watch())
    for weight in seen:
        expected = 0.7 * expected + 0.3 * weight
    torch.testing.assert_close(net[1].weight.detach(), expected)


@pytest.mark.parametrize("most", [4096, 40])
def test_statistics_are_those_of_the_averaged_parameters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, most: int
) -> None:
    monkeypatch.setattr("model.compress.training.STATISTICS_SAMPLES", most)
    data = tiny.dataset()
    options = TrainOptions(epochs=3, batch=96, learning_rate=3e-2, average=0.9)
    net = fit(tiny.network(), data, options, seed=0, folder=tmp_path)
    x = real_samples(data.train)
    chosen = torch.linspace(0, 95, min(most, 96)).long()
    seen = net[1](x.flatten(1))[chosen].detach()
    torch.testing.assert_close(net[2].running_mean, seen.mean(0))
    torch.testing.assert_close(net[2].running_var, seen.var(0))
    assert net[2].momentum == nn.BatchNorm1d(6).momentum
    assert not net.training
    # and the same when the finished training is read
    assert_same(net, fit(tiny.network(1), data, options, seed=0, folder=tmp_path))


def test_statistics_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    """A variance that overflows leaves loss and parameters finite."""
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(8), nn.Linear(8, 2))
    train = tiny.dataset().train
    huge = Split(train.samples, train.labels, 1e30)
    data = Dataset("huge", huge, huge, lambda: huge, 2, "huge")
    with pytest.raises(BadInput, match=r"1\.running_var that is not finite") as caught:
        fit(net, data, TrainOptions(epochs=2, batch=96), seed=0, title="float", folder=tmp_path)
    assert caught.value.thing == "float, epoch 1, step 1"
    assert not list(tmp_path.iterdir())


def test_unwatched_training_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    options = TrainOptions(epochs=2, batch=16)
    watched = fit(tiny.network(), tiny.dataset(), options, seed=0)
    monkeypatch.setattr("model.compress.training._accuracy", None)
    assert_same(watched, fit(tiny.network(), tiny.dataset(), options, seed=0, watch=False))


def test_clipped_steps_are_short() -> None:
    net = tiny.network()
    before = net[5].weight.detach().clone()
    options = TrainOptions(
        epochs=1, batch=96, optimizer="sgd", momentum=0.0, learning_rate=1.0, clip=1e-3
    )
    fit(net, tiny.dataset(), options, seed=0)
    assert 0 < float((net[5].weight.detach() - before).norm()) <= 1.01e-3


class LastStep(nn.Module):
    """Running sums of features, then a linear layer: scores [frames, steps, 2]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(3, 2)
        self.steps: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps.append(x.shape[1])
        return self.fc(x.cumsum(1))


def sequences(filler: float = 0.0) -> Dataset:
    """40 sequences of 1 to 12 steps; what follows a sequence is ``filler``."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 13, 40)
    samples = rng.normal(size=(40, 12, 3)).astype(np.float32)
    samples[np.arange(12) >= lengths[:, None]] = filler
    sums = np.stack([x[:n].sum(0) for x, n in zip(samples, lengths, strict=True)])
    split = Split(samples, (sums[:, 0] > sums[:, 1]).astype(np.int64), 1.0, lengths)
    return Dataset("sequences", split, split, lambda: split, 2, "sequences")


def test_sequences_count_by_their_last_step_alone() -> None:
    options = TrainOptions(epochs=30, batch=8, learning_rate=3e-2)
    nets = [fit(LastStep(), sequences(filler), options, seed=1) for filler in (0.0, 100.0)]
    assert_same(*nets)
    assert accuracy(nets[0], sequences().validation) > 0.9


def test_sequences_are_batched_by_length_and_cut() -> None:
    data = _Resident(sequences().train, torch.device("cpu"))
    torch.manual_seed(0)
    batches = data.batches(8)
    assert sorted(torch.cat(batches).tolist()) == list(range(40))
    spans = [data.lengths[index] for index in batches]
    assert sum(int(span.max()) * len(span) for span in spans) < 1.25 * int(data.lengths.sum())
    assert data.real(batches[0]).shape[1] == int(spans[0].max())
    torch.manual_seed(0)
    assert all(torch.equal(a, b) for a, b in zip(batches, data.batches(8), strict=True))
    assert not torch.equal(torch.cat(batches), torch.cat(data.batches(8)))


def test_first_sequences_are_cut_to_their_longest() -> None:
    split = sequences().train
    lengths = lengths_of(split, 3)
    assert lengths.tolist() == split.lengths[:3].tolist()
    assert real_samples(split, 3).shape == (3, int(lengths.max()), 3)
    assert lengths_of(tiny.dataset().train) is None


def test_flip_mirrors_about_half_of_the_images() -> None:
    torch.manual_seed(0)
    x = torch.arange(6.0).reshape(1, 2, 3, 1).expand(1000, 2, 3, 1)
    mirrored = _flipped(x)[:, 0, 0, 0] == 2
    assert 430 < int(mirrored.sum()) < 570
    allowed = {tuple(x[0].flatten().tolist()), tuple(x[0].flip(1).flatten().tolist())}
    assert {tuple(image.flatten().tolist()) for image in _flipped(x)} == allowed


def test_flip_needs_images() -> None:
    with pytest.raises(BadInput, match="set flip to false"):
        _flipped(torch.zeros(2, 5))


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


def test_shift_moves_the_features_of_whole_sequences() -> None:
    torch.manual_seed(0)
    x = torch.arange(1.0, 6).expand(200, 3, 5)
    moved = {tuple(sequence.flatten().tolist()) for sequence in _shifted(x, 1)}
    rows = ((1, 2, 3, 4, 5), (1, 1, 2, 3, 4), (2, 3, 4, 5, 5))
    assert moved == {row * 3 for row in rows}


def test_noise_is_on_each_number_and_offset_on_each_sample() -> None:
    torch.manual_seed(0)
    x = torch.zeros(400, 20, 5)
    noisy, moved = _disturbed(x, 0.5, 0.0), _disturbed(x, 0.0, 0.5)
    assert float(noisy.std()) == pytest.approx(0.5, rel=0.05)
    assert float(noisy.mean((1, 2)).std()) == pytest.approx(0.05, rel=0.2)
    assert float(moved.flatten(1).std(1).max()) == 0
    assert float(moved[:, 0, 0].std()) == pytest.approx(0.5, rel=0.1)


def test_teacher_of_sequences_is_followed_at_every_step_but_padding() -> None:
    """A pupil with the whole loss from the teacher learns what it says at the first steps."""
    options = TrainOptions(epochs=60, batch=8, learning_rate=3e-2, distill=1.0, temperature=1.0)
    teacher = LastStep()
    with torch.no_grad():
        teacher.fc.weight.copy_(torch.tensor([[1.0, -1, 0], [-1, 1, 0]]))
    pupils = [
        fit(LastStep(), sequences(filler), options, seed=1, teacher=teacher)
        for filler in (0.0, 100.0)
    ]
    assert_same(*pupils)
    first = torch.randn(50, 1, 3, generator=torch.Generator().manual_seed(0))
    said = [net(first).softmax(2) for net in (teacher, pupils[0])]
    assert float((said[0] - said[1]).detach().abs().max()) < 0.1


def test_shift_needs_images() -> None:
    with pytest.raises(BadInput, match="set shift to 0"):
        _shifted(torch.zeros(2, 5), 1)


def test_real_samples_are_scaled() -> None:
    split = tiny.dataset().train
    expected = torch.from_numpy(split.real()[:5])
    torch.testing.assert_close(real_samples(split, 5).double(), expected, rtol=1e-6, atol=0)
