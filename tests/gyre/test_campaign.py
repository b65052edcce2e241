"""The campaign: its points, what it keeps, and that it goes on where it was.

The data are made up and the networks narrow; trainings are of one epoch.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from torch import nn

from gyre import campaign, campaign_rows, compression, flow, results, training, zoo
from gyre import recipe as recipes
from model import nets
from model.compress import checkpoint, execution, solver
from model.compress.constraints import CrossbarColumns
from model.compress.training import real_samples
from model.export import export
from model.ir.errors import BadInput
from tests.compress.test_solvers import without_training
from tests.compress.test_training import Interrupted
from tests.gyre import reduced

EPOCHS = 0.005  # one of each training
SAMPLES = 32


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that a campaign writes goes here, and it reads made-up data."""
    monkeypatch.setenv("GYRE_BUILD", str(tmp_path / "build"))
    monkeypatch.setattr("gyre.flow.ZOO", tmp_path / "zoo")
    monkeypatch.setattr("gyre.campaign_rows.KEPT", tmp_path / "kept")
    monkeypatch.setattr("gyre.campaign.PAGE", tmp_path / "results.md")
    (tmp_path / "results.md").write_text(f"# Results\n{results.RTL}the last run\n")
    dataset = reduced.dataset("cifar10", SAMPLES)
    monkeypatch.setattr("gyre.flow.data.load", lambda *_: dataset)
    return tmp_path


def start(chosen: list[campaign.Point], **options: object) -> int:
    settings = {"frames": 0, "minutes": 0.0, "floats": False} | options
    return campaign.campaign(chosen, console=Console(quiet=True), **settings)


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.compress.training._Steps.epoch", None)


# --- points ------------------------------------------------------------------------------------


def test_points_are_every_recipe_and_its_variants() -> None:
    labels = [point.label for point in campaign.points()]
    assert labels == [
        "convnet_50x_cifar10",
        *("osc_cifar10", "osc_cifar10:k8", "osc_cifar10:k16"),
        *("resnet18_cifar10", "resnet18_cifar10:levels", "resnet18_cifar10:x60"),
        *("vgg16_cifar10", "vgg16_cifar10:levels"),
    ]
    assert [p.label for p in campaign.points(["osc_cifar10"])] == labels[1:4]
    assert [p.label for p in campaign.points(["osc_cifar10:k8"])] == labels[2:3]
    names = [point.recipe.name for point in campaign.points()]
    assert len(set(names)) == len(labels)
    assert all(name.startswith("campaign_") for name in names)


def test_point_at_full_scale_is_the_recipe_as_it_stands() -> None:
    (point,) = campaign.points(["osc_cifar10:k8"])
    assert point.sets == []
    assert point.recipe == recipes.load(point.path, variant="k8")
    assert str(point.scale) == "full width, 64"
    assert point.recipe.network.options["width"] == 64


def test_scaled_point_has_its_own_name_and_a_share_of_the_epochs() -> None:
    (point,) = campaign.points(["vgg16_cifar10:levels"], 16, 0.025)
    found = point.recipe
    assert found.name == "campaign_vgg16_cifar10_levels_w16_e25"
    assert found.goal.more_than == "campaign_vgg16_cifar10_w16_e25"
    assert found.network.options["width"] == 16
    options = found.compress.solver_options()
    assert (found.float_.epochs, options.train.epochs, options.retrain.epochs) == (5, 2, 3)
    assert (options.train.restart, options.interval) == (1, 1)
    assert str(point.scale) == "width-scaled: 16 of 64, 2.5 % of the epochs"
    assert not point.scale.whole
    assert point.command == (
        "python -m gyre.campaign vgg16_cifar10:levels --set width=16 --set epochs=0.025"
    )
    again = campaign.points(["vgg16_cifar10:levels"], **campaign.scale_of(point_sets(point)))
    assert again == [point]


def point_sets(point: campaign.Point) -> list[str]:
    return [part.split(" ")[1] for part in point.command.split(" --")[1:]]


def test_source_of_a_point_names_its_recipe() -> None:
    """``gyre compress SOURCE`` makes the very same network."""
    (point,) = campaign.points(["osc_cifar10:k16"], 16, 0.025)
    file, *arguments = point.source.split(" ")
    pairs = list(zip(arguments[::2], arguments[1::2], strict=True))
    sets = [value for key, value in pairs if key == "--set"]
    (variant,) = [value for key, value in pairs if key == "--variant"]
    assert recipes.load(campaign.ROOT / file, sets, variant) == point.recipe


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["nothing"],), "'nothing'"),
        ((["osc_cifar10:k9"],), "osc_cifar10:k16"),
        (([], 0), "--set width"),
        (([], None, 0.0), "--set epochs"),
        (([], None, 1.5), "--set epochs"),
    ],
)
def test_unknown_points_and_scales_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        campaign.points(*arguments)


@pytest.mark.parametrize("text", ["width=wide", "depth=3", "width"])
def test_unknown_settings_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="width=COUNT or epochs=SHARE"):
        campaign.scale_of([text])


@pytest.mark.parametrize(
    "label",
    ["vgg16_cifar10", "vgg16_cifar10:levels", "resnet18_cifar10", "resnet18_cifar10:x60"],
)
def test_crossbars_keep_few_enough_weights_for_the_ratio(label: str) -> None:
    """Before any training: as many weights as the kept columns have cells, and all the others."""
    point = next(p for p in campaign.points([label]) if p.label == label)
    recipe, plain = point.recipe, campaign.points([label.partition(":")[0]])[0].recipe
    module = nets.build(recipe.network.name, (32, 32, 3), 10, recipe.network.options)
    weights = kept = 0
    for name, part in module.named_modules():
        if not isinstance(part, nn.Linear | nn.Conv2d):
            continue
        count = part.weight.numel()
        weights += count
        parts = recipe.compress.layers.get(name, {})
        if "crossbar_columns" in parts:
            columns = CrossbarColumns(**parts["crossbar_columns"])
            assert (columns.rows, columns.columns) == (128, 64)
            pieces = len(part.weight) * -(-part.weight[0].numel() // columns.rows)
            count = min(count, int(columns.keep * pieces + 0.5) * columns.rows)
        kept += count
    goal = recipe.goal.ratio_weights_min or plain.goal.ratio_weights_min
    assert goal > 20
    assert weights / kept >= goal


@pytest.mark.parametrize("width", [16, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("label", ["convnet_50x_cifar10", "osc_cifar10:k16"])
def test_stored_bits_reach_the_goal_whatever_the_weights(
    monkeypatch: pytest.MonkeyPatch, label: str, width: int | None
) -> None:
    """Blocks and bits alone decide: nothing is trained here."""
    without_training(monkeypatch, "realise", "constrained")
    recipe = campaign.points([label], width)[0].recipe
    dataset = reduced.dataset("cifar10", 16)
    module = training.float_network(recipe, dataset)
    function, _ = solver.find(recipe.compress.solver)
    options = recipe.compress.solver_options()
    rules = recipe.compress.constraints()
    compressed = function(module, dataset, rules, recipe.trained_format, options, seed=1)
    samples = real_samples(dataset.train)
    network = export(compressed, samples[:1], samples, name=recipe.name, **dict(recipe.format))
    found = compression.compression(network, training.float_weights(module))["ratio_bits"]
    assert found >= recipe.goal.ratio_bits_min >= 40


# --- runs --------------------------------------------------------------------------------------


@pytest.mark.train
def test_campaign_keeps_rows_networks_and_the_page(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = campaign.points(["osc_cifar10:k8"], 8, EPOCHS)
    assert start(chosen) == 0
    for point in chosen:
        row = campaign_rows.read(places / "kept" / f"{point.recipe.name}.json")
        assert row.result.recipe == point.recipe.hash
        assert row.result.command == point.command
        assert row.result.machine["torch"]
        assert campaign.of_row(row).recipe == point.recipe
        network, origin = zoo.read_entry(places / "zoo" / point.recipe.name)
        assert network.hash() == row.result.network
        assert "recipes/campaign/" in origin.command
        assert f"--set name={point.recipe.name}" in origin.command
    page = (places / "results.md").read_text()
    assert page.startswith("# Results\n\n## The CIFAR-10 campaign\n")
    assert page.endswith(f"\n{results.RTL}the last run\n")
    (line,) = [text for text in page.splitlines() if f"`{chosen[0].recipe.name}`" in text]
    assert "width-scaled: 8 of 64, 0.5 % of the epochs" in line
    assert "| none yet |" in line
    assert f"`{chosen[0].command}` |" in line
    # finished points are read
    no_training(monkeypatch)
    assert start(chosen) == 0
    assert (places / "results.md").read_text() == page


@pytest.mark.train
def test_interrupted_campaign_goes_on_where_it_was(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = campaign.points(["convnet_50x_cifar10"], 8, EPOCHS)
    (name,) = [point.recipe.name for point in chosen]
    # the same elsewhere, uninterrupted
    with monkeypatch.context() as patch:
        patch.setenv("GYRE_BUILD", str(places / "other"))
        assert start(chosen) == 0
    whole = campaign_rows.read(places / "kept" / f"{name}.json").result.network
    shutil.rmtree(places / "kept")
    shutil.rmtree(places / "zoo")
    save, saved = checkpoint.save, []

    def stop(folder: Path, *rest: object) -> None:
        save(folder, *rest)
        saved.append(folder.name)
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", stop)
        for _ in range(3):  # after the one epoch of each training
            with pytest.raises(Interrupted):
                start(chosen)
    assert [text.partition("-")[0] for text in saved] == ["float", "train", "retrain"]
    no_training(monkeypatch)
    assert start(chosen) == 0
    row = campaign_rows.read(places / "kept" / f"{name}.json")
    assert row.result.network == whole
    assert set(row.result.seconds) == {"float", "compress"}


@pytest.mark.train
def test_accelerator_that_fails_ends_the_campaign_and_loses_nothing(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = campaign.points(["osc_cifar10"], 8, EPOCHS)[:2]
    first = f"{chosen[0].recipe.name}.json"
    assert start(chosen[:1]) == 0
    before = (places / "kept" / first).read_text()

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered\nmore about it")

    with monkeypatch.context() as patch:
        patch.setattr("model.compress.training._Steps.epoch", fail)
        with pytest.raises(execution.AcceleratorFailed, match="finetune, epoch 1") as caught:
            start(chosen)
    assert "give the same command again" in caught.value.remedy
    assert (places / "kept" / first).read_text() == before
    assert start(chosen) == 0
    assert len(list((places / "kept").iterdir())) == 2


@pytest.mark.usefixtures("places")
def test_point_that_cannot_be_run_is_told_of_and_the_next_one_begins() -> None:
    """Circulant blocks of 16 do not fit a network of width 8."""
    chosen = [campaign.points([f"osc_cifar10:{k}"], 8, EPOCHS)[0] for k in ("k16", "k8")]
    assert start(chosen) == 2
    kept = [row.variant for row in campaign_rows.read_all()]
    assert kept == ["k8"]


@pytest.mark.train
def test_float_network_alone_has_its_own_row(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = campaign.points(["convnet_50x_cifar10"], 8, EPOCHS)
    assert start(chosen, floats=True) == 0
    (row,) = campaign_rows.read_all()
    assert isinstance(row, campaign_rows.FloatRow)
    assert row.epochs == 1
    assert 0 <= row.accuracy <= 1
    assert campaign.of_row(row).recipe == chosen[0].recipe
    page = (places / "results.md").read_text()
    assert f"| `{row.name}` | width-scaled: 8 of 64, 0.5 % of the epochs |" in page
    assert not (places / "zoo").exists()
    # the compression takes that very training
    epochs = []
    epoch = campaign_rows.checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda folder, *rest: (epochs.append(folder.name), epoch(folder, *rest))
    )
    assert start(chosen) == 0
    assert [name.partition("-")[0] for name in epochs] == ["train", "retrain"]


def test_missing_batches_are_named_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("GYRE_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("gyre.campaign.campaign", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        campaign.main(["--device", "cpu"])
    assert stop.value.code == 2
    said = capsys.readouterr().out
    assert "no data_batch_1.bin" in said
    assert "Traceback" not in said


# --- RTL ---------------------------------------------------------------------------------------


@pytest.fixture
def row(places: Path, monkeypatch: pytest.MonkeyPatch) -> campaign_rows.Row:
    """A kept row without RTL, of a point whose network is never made."""
    (point,) = campaign.points(["osc_cifar10:k8"], 8, EPOCHS)
    kept = json.loads(Path(flow.RESULTS / "osc_cifar10_k8.json").read_text())
    data = reduced.dataset("cifar10", SAMPLES).hash
    kept |= {"recipe": point.recipe.hash, "name": point.recipe.name, "data": data}
    result = campaign_rows.Result(**kept)
    found = campaign_rows.Row(point.path.stem, "k8", point.scale, result, campaign.ZOO_BYTES + 1)
    campaign_rows.write(found)
    return found


def simulated(monkeypatch: pytest.MonkeyPatch, seconds: float, equal: bool = True) -> list[int]:
    """Frames of each simulation; each takes so many seconds a frame."""
    asked = []

    def simulate(work: flow.Flow) -> tuple:
        frames = work.recipe.simulate.frames
        asked.append(frames)
        verdict = SimpleNamespace(frames=frames, mismatches=0 if equal else 3, equal=equal)
        report = {
            "rtl": {"cycles_per_frame": 12.5, "sim_seconds": seconds * frames},
            "resources": {"multipliers": 4},
        }
        return verdict, report

    monkeypatch.setattr("gyre.campaign.Flow.simulate", simulate)
    return asked


@pytest.mark.parametrize(
    ("minutes", "asked"),
    [(0.0, [4]), (0.1, [4]), (0.2, [4, 12]), (60.0, [4, 16])],
    ids=["none", "too few more", "what fits", "all"],
)
def test_as_many_frames_are_run_as_fit(
    row: campaign_rows.Row, monkeypatch: pytest.MonkeyPatch, minutes: float, asked: list[int]
) -> None:
    ran = simulated(monkeypatch, seconds=1.0)
    point = campaign.of_row(row)
    found = campaign.run(point, frames=4, minutes=minutes)
    assert ran == asked
    assert found.rtl["frames"] == asked[-1]
    assert campaign_rows.read(campaign_rows.KEPT / f"{row.name}.json") == found
    assert campaign.run(point, frames=4, minutes=minutes) == found
    assert ran == asked  # what is kept is not run again
    assert f"| {asked[-1]} | 0 | 12.50 |" in campaign_rows.section([found])


def test_difference_in_rtl_is_kept_and_fails(
    row: campaign_rows.Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = simulated(monkeypatch, seconds=0.1, equal=False)
    assert start([campaign.of_row(row)], frames=4, minutes=60.0) == 1
    assert ran == [4]
    (found,) = campaign_rows.read_all()
    assert found.rtl["mismatches"] == 3


# --- rows --------------------------------------------------------------------------------------


def test_goals_hold_at_full_scale_alone(row: campaign_rows.Row) -> None:
    goal = {"published": "", "loss_max": 0.001}
    result = dataclasses.replace(row.result, goal=goal)
    scaled = dataclasses.replace(row, result=result)
    assert "missed" not in scaled.line([])
    whole = dataclasses.replace(scaled, scale=campaign_rows.Scale(64, 64))
    assert "missed: loss_max" in whole.line([])


def test_section_takes_the_place_of_the_older_one() -> None:
    page = "# R\n\n## A\n\n1\n\n## In RTL\n\n2\n"
    before = "\n## In RTL\n"
    once = campaign_rows.put(page, campaign_rows.section([]), before)
    assert once.index("## A") < once.index("## The CIFAR-10 campaign") < once.index("## In RTL")
    assert campaign_rows.put(once, campaign_rows.section([]), before) == once
    other = campaign_rows.put(once, campaign_rows.HEADING + "\nnew\n", before)
    assert other == page.replace(before, campaign_rows.HEADING + "\nnew\n" + before)


@pytest.mark.parametrize("content", ["{", "{}", '{"scale": {"width": 3}}'])
def test_damaged_row_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(BadInput, match=r"x\.json"):
        campaign_rows.read(tmp_path / "x.json")
    with pytest.raises(BadInput, match="No such file"):
        campaign_rows.read(tmp_path / "y.json")


def test_kept_rows_are_those_of_the_recipes_and_stand_in_the_page() -> None:
    """A row that its recipe no longer makes would be a figure that nobody can repeat."""
    found = campaign_rows.read_all()
    for row in found:
        recipe = campaign.of_row(row).recipe
        if isinstance(row, campaign_rows.Row):
            assert row.result.recipe == recipe.hash, row.name
            assert row.name == recipe.name
        else:
            assert row.name == f"{recipe.name}_float"
    assert campaign_rows.section(found) in results.PAGE.read_text()
