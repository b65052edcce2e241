import json
from dataclasses import replace
from pathlib import Path

import pytest

from gyre import recipe as recipes
from model.compress.constraints import ColumnSparsity
from model.ir.errors import BadInput
from model.ir.faults import Faults
from model.ir.pim_planner import PimBudget
from model.ir.planner import Budget

ROOT = Path(__file__).resolve().parents[2]
MINIMAL = """
name = "small"
[data]
name = "digits"
[network]
name = "mlp"
[network.options]
hidden = [8]
[float]
epochs = 1
[compress]
solver = "admm"
[compress.layers.fc1]
column_sparsity = 20
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "small.toml"
    file.write_text(MINIMAL)
    return file


def test_defaults_fill_the_rest(path: Path) -> None:
    recipe = recipes.load(path)
    assert recipe.mapping.engine == "pe_array"
    assert recipe.simulate.frames == "all"
    assert recipe.format.weight_bits == 8
    (constraint,) = recipe.compress.constraints().values()
    assert isinstance(constraint, ColumnSparsity)


@pytest.mark.parametrize("file", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_recipes_of_the_project_load(file: Path) -> None:
    recipe = recipes.load(file)
    assert recipe.name == file.stem


@pytest.mark.parametrize(
    ("text", "read", "value"),
    [
        ("seed=7", lambda r: r.seed, 7),
        ("float.learning_rate=1e-4", lambda r: r.float_.learning_rate, 1e-4),
        ("float.optimizer=sgd", lambda r: r.float_.optimizer, "sgd"),
        ("simulate.frames=100", lambda r: r.simulate.frames, 100),
        ("mapping.memory_bits = 5000", lambda r: r.mapping.memory_bits, 5000),
        ("mapping.sequences=3", lambda r: r.mapping.sequences, 3),
        ("network.options.hidden=[3, 4]", lambda r: r.network.options["hidden"], [3, 4]),
        (
            "compress.options.retrain.epochs=2",
            lambda r: r.compress.solver_options().retrain.epochs,
            2,
        ),
        (
            "compress.layers.fc2.filter_sparsity=0.5",
            lambda r: repr(r.compress.constraints()["fc2"]),
            "FilterSparsity(0.5)",
        ),
    ],
)
def test_set_replaces_one_key(path: Path, text: str, read: object, value: object) -> None:
    assert read(recipes.load(path, [text])) == value


@pytest.mark.parametrize(
    ("text", "thing", "found", "remedy"),
    [
        ("seeed=1", "seeed", "'seeed'", "'seed'"),
        ("float.epoch=3", "float.epoch", "'epoch'", "'epochs'"),
        ("format.weights_bits=3", "format.weights_bits", "weights_bits", "'weight"),
        ("mapping.multiplier=3", "mapping.multiplier", "multiplier", "'multipliers'"),
        ("network.options.hiden=[3]", "network.options.hiden", "hiden", "'hidden'"),
        ("compress.options.roh=1.0", "compress.options.roh", "roh", "'rho'"),
        (
            "compress.options.train.epoch=1",
            "compress.options.train.epoch",
            "epoch",
            "'epochs'",
        ),
        ("float.epochs=0", "float.epochs", "0", "correct epochs"),
        ("float.epochs=2.5", "float.epochs", "2.5", "correct epochs"),
        ("float.epochs=many", "float.epochs", "'many'", "correct epochs"),
        ("float.learning_rate=inf", "float.learning_rate", "inf", "correct"),
        ("float.optimizer=adagrad", "float.optimizer", "'adagrad'", "correct optimizer"),
        ("seed=-1", "seed", "-1", "correct seed"),
        ("format.weight_bits=0", "format.weight_bits", "0", "correct weight_bits"),
        ("format.input_bits=17", "format.input_bits", "17", "correct input_bits"),
        ("mapping.engine=tpu", "mapping.engine", "'tpu'", "correct engine"),
        ("mapping.multipliers=0", "mapping.multipliers", "0", "correct multipliers"),
        ("mapping.sequences=0", "mapping.sequences", "0", "correct sequences"),
        ("mapping.sequences=257", "mapping.sequences", "257", "correct sequences"),
        ("simulate.frames=0", "simulate.frames", "0", "correct"),
        ("simulate.frames=some", "simulate.frames", "'some'", "correct"),
        ("network.options.dropout=1.5", "network.options.dropout", "1.5", "correct dropout"),
        ("evaluate.samples=-1", "evaluate.samples", "-1", "correct samples"),
        ("evaluate.mismatch.width=1", "evaluate.mismatch.width", "'width'", "remove the key"),
        ("data.options.fold=1", "data.options.fold", "'fold'", "remove the key"),
        ("data.options=1", "data.options", "1", "correct options"),
        ("data.name=mnits", "data.name", "'mnits'", "known data set"),
        ("network.name=mpl", "network", "'mpl'", "known network"),
        ("compress.solver=amdm", "solver", "'amdm'", "known solver"),
        ("compress.layers.fc1.rows=3", "compress.layers.fc1.rows", "unknown", "correct the name"),
        (
            "compress.layers.fc1.column_sparsity=0",
            "compress.layers.fc1.column_sparsity",
            "0",
            "correct",
        ),
        ("name=Big Net", "name", "'Big Net'", "rename"),
        ("data.name=1979-05-27", "recipe", "date", "correct"),
        ("float", "--set", "'float'", "write it so"),
        ("name.x=1", "--set", "name.x=1", "correct the key"),
    ],
)
def test_bad_value_is_named_with_its_remedy(
    path: Path, text: str, thing: str, found: str, remedy: str
) -> None:
    with pytest.raises(BadInput) as caught:
        recipes.load(path, [text])
    assert caught.value.thing == thing
    assert found in caught.value.found
    assert remedy in caught.value.remedy
    assert caught.value.expected


def test_option_of_the_data_set_is_checked(path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        recipes.load(path, ["data.name=fsdd", "data.options.fold=10"])
    assert caught.value.thing == "data.options.fold"
    assert "less than 10" in caught.value.expected


def test_hash_covers_the_options_of_the_data_set(path: Path) -> None:
    def digest(*sets: str) -> str:
        return recipes.load(path, ["data.name=fsdd", *sets]).hash

    assert digest("data.options.fold=1") != digest()
    assert digest("data.options.fold=0") == digest()  # the default
    assert digest() != recipes.load(path).hash


def test_hash_of_a_recipe_without_data_options_stays() -> None:
    origin = json.loads((ROOT / "zoo" / "mnist_mlp" / "origin.json").read_text())
    assert recipes.load(ROOT / "recipes" / "mnist_mlp.toml").hash == origin["recipe"]


def test_missing_key_is_named(path: Path) -> None:
    path.write_text(MINIMAL.replace("epochs = 1", ""))
    with pytest.raises(BadInput, match=r"float\.epochs: found nothing.*add the key 'epochs'"):
        recipes.load(path)


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_file_that_is_not_toml_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"small\.toml.*no valid TOML"):
        recipes.load(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nothing\.toml: found No such file"):
        recipes.load(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    "text",
    [
        "seed=1",
        "network.options.hidden=[9]",
        "float.learning_rate=0.5",
        "compress.layers.fc1.column_sparsity=21",
        "compress.options.rho=0.5",
        "format.multiplier_bits=9",
    ],
)
def test_hash_covers_what_decides_the_network(path: Path, text: str) -> None:
    assert recipes.load(path, [text]).hash != recipes.load(path).hash


@pytest.mark.parametrize(
    "text",
    [
        "name=other",
        "mapping.multipliers=3",
        "simulate.frames=3",
        "evaluate.samples=3",
        "evaluate.mismatch.spread=0.2",
        "float.batch=128",
        "network.options.batch_norm=false",
        "compress.options.rho=1e-3",
    ],
)
def test_hash_leaves_out_names_hardware_and_defaults(path: Path, text: str) -> None:
    assert recipes.load(path, [text]).hash == recipes.load(path).hash


@pytest.mark.parametrize(
    ("name", "own", "twin", "variant"),
    [
        ("sot_pim_lenet5", None, "lenet5_crossbar", None),
        ("sot_pim_lenet5", "spread", "lenet5_crossbar", "spread"),
        ("memristor_lenet5", None, "lenet5_crossbar", "conductance"),
        ("sac_pim", None, "osc_lenet5", None),
    ],
)
def test_a_recipe_on_macros_shares_the_training_of_its_twin(
    name: str, own: str | None, twin: str, variant: str | None
) -> None:
    folder = Path(__file__).resolve().parents[2] / "recipes"
    one = recipes.load(folder / f"{name}.toml", variant=own)
    other = recipes.load(folder / f"{twin}.toml", variant=variant)
    assert one.training_hash == other.training_hash
    assert one.hash != other.hash


def test_the_budget_of_macros_is_that_of_both_sections(path: Path) -> None:
    sets = [
        'mapping.engine="pim_array"',
        "mapping.macros=9",
        "mapping.columns_per_converter=4",
        "mapping.write.cycles=3",
        "mapping.write.attempts=5",
        "format.pim.columns=48",
        "format.pim.spare=6",
    ]
    recipe = recipes.load(path, sets)
    found = recipe.mapping.budget(recipe.format.pim)
    macros = PimBudget(48, 6, 4, 9, programs=True, write_cycles=3, attempts=5)
    stuck = ["format.pim.stuck_high=0.25", "format.pim.repair=true", "format.pim.seed=7"]
    faulty = recipes.load(path, sets + stuck)
    assert faulty.mapping.budget(faulty.format.pim).pim == replace(
        macros, faults=Faults(0.0, 0.25, 7, repair=True)
    )
    assert found == Budget(256, pim=macros)
    assert recipes.load(path).mapping.budget(recipe.format.pim).pim is None


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("mapping.macros=0", "mapping.macros"),
        ("mapping.columns_per_converter=65", "mapping.columns_per_converter"),
        ("mapping.write.pulses=2", "mapping.write.pulses"),
        ('mapping.macro_body="two words"', "mapping.macro_body"),
        ('mapping.technology="paper"', "mapping.technology"),
        ("format.pim.rows=0", "format.pim.rows"),
    ],
)
def test_bad_keys_of_macros_are_named(path: Path, text: str, thing: str) -> None:
    with pytest.raises(BadInput) as caught:
        recipes.load(path, [text])
    assert caught.value.thing == thing
