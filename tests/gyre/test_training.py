from pathlib import Path

import pytest
from torch import nn

from gyre import recipe as recipes
from gyre import training
from model import data, nets
from model.compress import checkpoint
from model.ir.errors import BadInput
from tests.gyre.test_recipe import MINIMAL

QUICK = [
    "compress.options.train.epochs=2",
    "compress.options.retrain.epochs=2",
    "compress.options.interval=1",
    "float.epochs=2",
]


def steps(recipe: recipes.Recipe, build: Path) -> tuple:
    dataset = data.load(recipe.data.name)
    module = training.train_float(recipe, dataset, build)
    compressed = training.compress(recipe, dataset, module, build)
    return dataset, module, compressed, training.export_network(recipe, dataset, compressed, build)


@pytest.fixture
def recipe(tmp_path: Path) -> recipes.Recipe:
    path = tmp_path / "small.toml"
    path.write_text(MINIMAL)
    return recipes.load(path, QUICK)


def test_second_run_reads_what_the_first_made(
    recipe: recipes.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, first = steps(recipe, tmp_path / "build")
    monkeypatch.setattr("model.compress.training._Steps.epoch", None)
    monkeypatch.setattr("gyre.training.export", None)
    *_, second = steps(recipe, tmp_path / "build")
    assert first.hash() == second.hash()


def test_another_arithmetic_reads_the_same_training(
    recipe: recipes.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps(recipe, tmp_path / "build")
    monkeypatch.setattr("model.compress.training._Steps.epoch", None)
    sets = [*QUICK, "format.arithmetic=fft", "format.fft.word_bits=12"]
    other = recipes.load(tmp_path / "small.toml", sets)
    assert other.hash != recipe.hash
    steps(other, tmp_path / "build")


def test_seconds_count_trainings_alone(recipe: recipes.Recipe, tmp_path: Path) -> None:
    build = tmp_path / "build"
    dataset, *_ = steps(recipe, build)
    first = training.seconds(recipe, dataset, build)
    assert set(first) == {"float", "compress"}
    assert min(first.values()) > 0
    steps(recipe, build)
    assert training.seconds(recipe, dataset, build) == first
    # another recipe, which has the same float network, and a training that was cut off
    changed = recipes.load(tmp_path / "small.toml", [*QUICK, "format.weight_bits=3"])
    steps(changed, build)
    assert training.seconds(changed, dataset, build)["float"] == first["float"]
    (folder,) = build.glob("float-*")
    for path in folder.glob("epoch-*"):
        path.unlink()
    (folder / "checkpoint.json").unlink()
    (folder / training.SECONDS).write_text("1000.0\n")
    training.train_float(recipe, dataset, build)
    assert training.seconds(recipe, dataset, build)["float"] > 1000


def test_place_of_a_training_is_recorded_where_it_ran(
    recipe: recipes.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of one that ended elsewhere than it began, and was read by a third machine."""

    def on(device: str, **more: str) -> None:
        monkeypatch.setattr(
            "gyre.compression.machine", lambda: {"device": device, "torch": "2", **more}
        )

    build, dataset = tmp_path / "build", data.load(recipe.data.name)
    assert training.machine(recipe, dataset, build) is None
    on("a processor")
    save = checkpoint.save
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", lambda *a: (save(*a), 1 / 0))
        with pytest.raises(ZeroDivisionError):
            training.train_float(recipe, dataset, build)
    on("an accelerator", precision="bfloat16")
    steps(recipe, build)
    on("another one")
    steps(recipe, build)
    assert training.machine(recipe, dataset, build) == {
        "device": "a processor, then an accelerator",
        "torch": "2",
        "precision": "bfloat16",
    }


def test_another_build_folder_gives_the_same_network(
    recipe: recipes.Recipe, tmp_path: Path
) -> None:
    assert steps(recipe, tmp_path / "a")[-1].hash() == steps(recipe, tmp_path / "b")[-1].hash()


def test_changed_recipe_makes_new_folders_and_shares_the_float_network(
    recipe: recipes.Recipe, tmp_path: Path
) -> None:
    build = tmp_path / "build"
    *_, first = steps(recipe, build)
    changed = recipes.load(tmp_path / "small.toml", [*QUICK, "format.weight_bits=3"])
    *_, second = steps(changed, build)
    assert first.hash() != second.hash()
    kinds = sorted(path.name.split("-")[0] for path in build.iterdir())
    assert kinds == ["compress", "compress", "export", "export", "float"]


def test_a_renamed_recipe_shares_its_trainings_and_names_its_network(
    recipe: recipes.Recipe, tmp_path: Path
) -> None:
    build = tmp_path / "build"
    steps(recipe, build)
    *_, network = steps(recipes.load(tmp_path / "small.toml", [*QUICK, "name=other"]), build)
    assert network.name == "other"
    kinds = sorted(path.name.split("-")[0] for path in build.iterdir())
    assert kinds == ["compress", "export", "export", "float"]


def test_network_and_accuracies(recipe: recipes.Recipe, tmp_path: Path) -> None:
    dataset, module, compressed, network = steps(recipe, tmp_path / "build")
    assert network.name == "small"
    assert network["select"].spec.out_features <= 20
    assert training.float_weights(module) == 64 * 8 + 8 * 10
    shares = training.accuracies(module, compressed, dataset.validation)
    assert list(shares) == ["float", "compressed"]
    assert all(0 <= share <= 1 for share in shares.values())


def test_unsupported_network_is_refused_before_training(
    recipe: recipes.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        nets, "build", lambda *a: nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1))
    )
    monkeypatch.setattr("model.compress.training._Steps.epoch", None)
    with pytest.raises(BadInput, match="Softmax"):
        training.train_float(recipe, data.load("digits"), tmp_path / "build")
    assert not (tmp_path / "build").exists()


@pytest.mark.train
def test_digits_reach_their_accuracy(tmp_path: Path) -> None:
    """On validation: 97 % here leaves the recipe its margin over 96 % on the test split."""
    recipe = recipes.load(Path(__file__).resolve().parents[2] / "recipes" / "digits.toml")
    dataset, module, compressed, network = steps(recipe, tmp_path)
    share = training.golden_accuracy(network, dataset.validation)
    assert share >= 0.97
    assert training.accuracies(module, compressed, dataset.validation)["float"] - share <= 0.01
    assert set(training.seconds(recipe, dataset, tmp_path)) == {"float", "compress"}
