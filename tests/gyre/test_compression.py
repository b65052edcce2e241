import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from gyre import compression, results, training
from gyre import recipe as recipes
from gyre.compression import Result
from gyre.flow import Flow, ZooFlow
from model.compress import MismatchOptions, accuracy_under
from model.ir.errors import BadInput
from model.ir.network import Network
from tests.gyre import reduced
from tests.gyre.front import TINY, call

RESULT = Result(
    name="tiny",
    recipe="1",
    data="2",
    network="3",
    data_name="digits",
    split="test",
    samples=200,
    seed=1,
    accuracy={"float": 0.99, "compressed": 0.98, "golden": 0.98},
    right={"float": 198, "compressed": 196, "golden": 196},
    compression={
        "weights": 1000,
        "kept": 100,
        "ratio_weights": 10.0,
        "bits_float": 32000,
        "bits_stored": 1600,
        "ratio_bits": 20.0,
        "bits_on_chip": 1500,
    },
    seconds={"float": 3.0, "compress": 4.0},
    machine={"device": "a processor", "threads": 1, "torch": "2"},
    goal={},
    command="gyre compress recipes/tiny.toml --retrain --record",
)


def with_goal(**goal: object) -> Result:
    return dataclasses.replace(RESULT, goal=goal)


@pytest.fixture
def varied(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(
        TINY
        + """
[variants.narrow.network.options]
hidden = [6]
[variants.short.float]
epochs = 1
"""
    )
    return path


# --- the command -------------------------------------------------------------------------------


@pytest.mark.usefixtures("first_run", "build")
def test_result_holds_the_figures_of_the_network(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gyre.flow.RESULTS", tmp_path / "results")
    out = tmp_path / "out"
    said = call("compress", tiny, "--out", out, "--record")
    assert said.status == 0
    found = compression.read(out / "compress.json")
    assert found == compression.read(tmp_path / "results" / "tiny.json")
    assert call("export", tiny, "--out", out).status == 0
    network = Network.load(out / "network")
    assert found.network == network.hash()
    assert found.compression["bits_stored"] == network.stored_bits()
    assert found.compression["kept"] == network.weights()
    assert found.samples == 360
    assert found.split == "test"
    assert found.accuracy["golden"] == found.right["golden"] / 360
    assert found.seconds.keys() == {"float", "compress"}
    assert "golden %" in said.out


@pytest.mark.usefixtures("first_run", "build")
def test_choosing_reads_validation_alone(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unread(_: object) -> None:
        raise AssertionError("the test split is not to be read")

    monkeypatch.setattr("model.data.dataset.Dataset.test", property(unread))
    said = call("compress", tiny, "--out", tmp_path / "out", "--on", "validation")
    assert said.status == 0
    found = compression.read(tmp_path / "out" / "compress.json")
    assert (found.split, found.samples) == ("validation", 237)


def test_kept_network_is_not_measured_on_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The zoo knows the accuracies of the test split alone."""
    flow = ZooFlow(results.ROOT / "zoo" / "mnist_mlp")
    flow.__dict__["dataset"] = reduced.dataset("mnist")

    def trained(_: object) -> None:
        raise AssertionError("trained anew")

    monkeypatch.setattr("gyre.flow.Flow._made", property(trained))
    with pytest.raises(AssertionError, match="trained anew"):
        flow.compress("validation")


UNDER = ["evaluate.samples=3", "evaluate.mismatch.spread=0.6", "evaluate.mismatch.seed=2"]


def test_devices_are_measured_on_the_same_split(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GYRE_BUILD", str(tmp_path / "build"))
    sets = [part for text in UNDER for part in ("--set", text)]
    out = tmp_path / "out"
    said = call("compress", tiny, "--out", out, "--on", "validation", *sets)
    assert said.status == 0
    found = compression.read(out / "compress.json")
    assert found.mismatch.keys() == {"devices", "mean", "least", "deviation"}
    flow = Flow(recipes.load(tiny, UNDER))
    options = MismatchOptions(spread=0.6, seed=2)
    module = training.train_float(flow.recipe, flow.dataset, tmp_path / "build" / "trained")
    compressed = training.compress(
        flow.recipe, flow.dataset, module, tmp_path / "build" / "trained"
    )
    shares = accuracy_under(compressed, flow.dataset.validation, options, 3)
    assert found.mismatch["devices"] == 3
    assert found.mismatch["mean"] == pytest.approx(sum(shares) / 3)
    assert found.mismatch["least"] == min(shares) < found.accuracy["compressed"]
    assert found.mismatch["deviation"] == pytest.approx(float(np.std(shares, ddof=1)))
    assert "mismatch, 3 devices: " in said.out
    assert f"least {100 * min(shares):.2f} %" in said.out
    plain = call("compress", tiny, "--out", out, "--on", "validation")
    assert compression.read(out / "compress.json").mismatch == {}
    assert "mismatch" not in plain.out


def test_devices_of_a_network_of_the_zoo_need_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = ZooFlow(results.ROOT / "zoo" / "mnist_mlp")
    flow.__dict__["dataset"] = reduced.dataset("mnist")
    asked = recipes.EvaluateSection(samples=2, mismatch=MismatchOptions(spread=0.1))
    flow.recipe = flow.recipe.model_copy(update={"evaluate": asked})

    def trained(_: object) -> None:
        raise AssertionError("trained anew")

    monkeypatch.setattr("gyre.flow.Flow._made", property(trained))
    with pytest.raises(AssertionError, match="trained anew"):
        flow.compress()


def test_what_is_evaluated_decides_nothing_of_the_training(tiny: Path) -> None:
    assert recipes.load(tiny, UNDER).hash == recipes.load(tiny).hash


def test_result_without_devices_still_loads(tmp_path: Path) -> None:
    form = dataclasses.asdict(RESULT)
    del form["mismatch"]
    path = tmp_path / "x.json"
    path.write_text(json.dumps(form))
    assert compression.read(path) == RESULT


def test_kept_result_without_the_devices_asked_for_is_made_anew(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    recipe = recipes.load(tiny)
    kept = dataclasses.replace(RESULT, recipe=recipe.hash)
    compression.write(tmp_path / "tiny.json", kept)
    assert results.kept(recipe) == kept
    asked = recipes.load(tiny, UNDER)
    assert results.kept(asked) is None
    full = dataclasses.replace(kept, mismatch={"devices": 3, "mean": 0.9})
    compression.write(tmp_path / "tiny.json", full)
    assert results.kept(asked) == results.kept(recipe) == full


# --- variants ----------------------------------------------------------------------------------


def test_variant_replaces_keys_and_has_a_name_of_its_own(varied: Path) -> None:
    assert recipes.variants(varied) == ["narrow", "short"]
    base, narrow = recipes.load(varied), recipes.load(varied, variant="narrow")
    assert (base.name, narrow.name) == ("tiny", "tiny_narrow")
    assert narrow.network.options == {"hidden": [6]}
    assert narrow.float_ == base.float_
    assert recipes.load(varied, variant="short").float_.batch == 32
    assert len({recipes.load(varied, variant=v).hash for v in (None, "narrow", "short")}) == 3


def test_unknown_variant_is_named(varied: Path) -> None:
    with pytest.raises(BadInput, match=r"'wide'.*narrow, short"):
        recipes.load(varied, variant="wide")


def test_variants_that_are_no_tables_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text("variants = 3\n" + TINY)
    with pytest.raises(BadInput, match=r"variants.*tables"):
        recipes.load(path)


def test_recipe_without_an_engine_is_told_so_before_any_training(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.compress.training._Steps.epoch", None)
    said = call("verilog", tiny, "--set", "mapping.engine=none", "--out", tmp_path / "out")
    assert said.status == 2
    assert "no hardware yet" in said.error
    assert not (tmp_path / "out").exists()


# --- goals and the page ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("goal", "missed"),
    [
        ({}, 0),
        ({"accuracy_min": 0.98, "loss_max": 0.01, "ratio_weights_min": 10.0}, 0),
        ({"accuracy_min": 0.981}, 1),
        ({"loss_max": 0.009, "ratio_bits_min": 21.0}, 2),
        ({"float_min": 0.991, "published": "0.99"}, 1),
        ({"accuracy_min": 0.0, "loss_max": 0.0}, 0),
    ],
)
def test_goals_are_compared_with_golden(goal: dict, missed: int) -> None:
    assert len(with_goal(**goal).missed()) == missed


def test_golden_must_be_what_was_trained() -> None:
    off = dataclasses.replace(
        RESULT, samples=10000, accuracy={"float": 0.99, "compressed": 0.99, "golden": 0.9888}
    )
    assert off.missed() == ["golden: 0.0012 from the compressed network, wanted <= 0.001"]
    right = dataclasses.replace(off, accuracy=off.accuracy | {"golden": 0.9891})
    assert right.missed() == []


def test_loss_beyond_that_of_another_row_is_missed() -> None:
    more = with_goal(more_than="tiny", more_max=0.002)
    better = dataclasses.replace(RESULT, accuracy=RESULT.accuracy | {"golden": 0.9825})
    rows = [dataclasses.replace(better, name="tiny"), dataclasses.replace(more, name="tiny_b5")]
    page = results.page({"tiny": rows}, "")
    assert "missed: more_max: 0.0025 more than tiny, wanted 0.002" in page
    near = [dataclasses.replace(rows[0], accuracy=RESULT.accuracy), rows[1]]
    assert "| reached |" in results.page({"tiny": near}, "")


def test_page_names_what_was_not_run() -> None:
    assert "Not run yet: `a`, `b`." in results.page({"tiny": [RESULT]}, "", ["a", "b"])


def test_page_has_a_row_for_each_result_and_says_what_is_missed() -> None:
    rows = {"tiny": [RESULT, with_goal(published="14x", ratio_bits_min=30.0)]}
    page = results.page(rows, "")
    assert "| `tiny` |  | 99.00 | 98.00 | 1.00 | 10.00x | 20.00x | 1,500 | 1 | 3 + 4 |  |" in page
    assert "| 14x |" in page
    assert "missed: ratio_bits_min: 20.0000, wanted 30.0" in page
    assert RESULT.command in page
    assert "Pooled" not in page


def test_folds_are_pooled_with_their_interval() -> None:
    folds = [
        dataclasses.replace(
            RESULT,
            right={"float": 198, "compressed": 198, "golden": 198 - lost},
            accuracy={"float": 0.99, "compressed": 0.99, "golden": (198 - lost) / 200},
            goal={"pool": "folds", "loss_pooled_max": 0.0051},
        )
        for lost in (0, 1, 2)
    ]
    page = results.page({"tiny": folds}, "")
    # mean loss 0.5 %, standard deviation 0.5 %, three folds: 4.303 * 0.5 / sqrt(3) = 1.242
    assert (
        "| `folds` | 3 | 600 | 99.00 | 98.50 | 0.50 | -0.74 to 1.74 | <= 0.51: reached | 0.50 |"
        in page
    )


def test_kept_results_are_those_of_the_recipes() -> None:
    """A result that its recipe no longer makes would be a figure that nobody can repeat."""
    known = {
        recipes.load(path, variant=variant).name: recipes.load(path, variant=variant).hash
        for path, variant in results.recipes([])
    }
    for path in sorted(results.RESULTS.glob("*.json")):
        assert json.loads(path.read_text())["recipe"] == known.get(path.stem), path.name


def test_unknown_recipe_of_results_is_named() -> None:
    with pytest.raises(BadInput, match="'nothing'"):
        list(results.recipes(["nothing"]))


def test_result_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(BadInput, match="No such file"):
        compression.read(path)
    path.write_text("{}")
    with pytest.raises(BadInput, match="unreadable"):
        compression.read(path)
