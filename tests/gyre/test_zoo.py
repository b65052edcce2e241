import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from gyre import campaign, campaign_rows, results, zoo
from gyre import recipe as recipes
from gyre.compression import GOLDEN_TOLERANCE
from model import data
from model.ir.checksums import write_sums
from model.ir.errors import BadInput
from model.ir.network import Network
from tests.gyre.test_recipe import MINIMAL

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "zoo" / "mnist_mlp"


@pytest.fixture
def entry(tmp_path: Path) -> tuple:
    """A zoo with one entry: the kept MNIST network under the name of another recipe."""
    (tmp_path / "small.toml").write_text(MINIMAL)
    recipe = recipes.load(tmp_path / "small.toml")
    dataset = data.load("digits")
    network = Network.load(KEPT / "network")
    folder = zoo.write_entry(
        tmp_path / "zoo",
        recipe,
        dataset,
        network,
        weights=592,
        accuracy={"float": 0.9},
        command="gyre run small.toml --retrain",
    )
    return tmp_path / "zoo", folder, recipe, dataset, network


def test_written_entry_is_found_again(entry: tuple) -> None:
    place, folder, recipe, dataset, network = entry
    assert sorted(p.name for p in folder.iterdir()) == ["SHA256SUMS", "network", "origin.json"]
    found, origin = zoo.find_in_zoo(place, recipe, dataset)
    assert found.hash() == network.hash() == origin.network
    assert (origin.weights, origin.accuracy, origin.seed) == (592, {"float": 0.9}, 0)


def test_other_recipe_or_data_is_not_found(entry: tuple) -> None:
    place, _, recipe, dataset, _ = entry
    assert zoo.find_in_zoo(place, recipe.model_copy(update={"seed": 5}), dataset) is None
    assert zoo.find_in_zoo(place, recipe.model_copy(update={"name": "other"}), dataset) is None
    assert zoo.find_in_zoo(place, recipe, dataclasses.replace(dataset, hash="0")) is None
    shutil.rmtree(place)
    assert zoo.find_in_zoo(place, recipe, dataset) is None


@pytest.mark.parametrize(
    "file",
    [
        *("origin.json", "SHA256SUMS"),
        *("network/network.json", "network/network.safetensors", "network/SHA256SUMS"),
    ],
)
def test_flipped_bit_is_caught(entry: tuple, file: str) -> None:
    place, folder, recipe, dataset, _ = entry
    path = folder / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match=path.name):
        zoo.find_in_zoo(place, recipe, dataset)


@pytest.mark.parametrize("content", ["{", "[]", '{"recipe": "1"}'])
def test_damaged_origin_is_refused(entry: tuple, content: str) -> None:
    place, folder, recipe, dataset, _ = entry
    (folder / "origin.json").write_text(content)
    write_sums(folder, ["origin.json"])
    with pytest.raises(BadInput, match="origin") as caught:
        zoo.find_in_zoo(place, recipe, dataset)
    assert "--retrain" in caught.value.remedy


def test_network_swapped_for_another_is_refused(entry: tuple) -> None:
    place, folder, recipe, dataset, _ = entry
    origin = json.loads((folder / "origin.json").read_text())
    origin["network"] = "0" * 64
    (folder / "origin.json").write_text(json.dumps(origin))
    write_sums(folder, ["origin.json"])
    with pytest.raises(BadInput, match="another network"):
        zoo.find_in_zoo(place, recipe, dataset)


@pytest.mark.parametrize("folder", sorted((ROOT / "zoo").iterdir()), ids=lambda p: p.name)
def test_kept_networks_are_those_of_their_recipes(folder: Path) -> None:
    """A kept network that its recipe no longer makes could not be made again."""
    network, origin = zoo.read_entry(folder)
    known = [recipes.load(path, variant=variant) for path, variant in results.recipes([])]
    known += [campaign.of_row(row).recipe for row in campaign_rows.read_all()]
    (recipe,) = (recipe for recipe in known if recipe.name == folder.name)
    assert origin.recipe == recipe.hash == zoo.recipe_of(origin).hash
    assert origin.data_name == recipe.data.name
    assert network.name == recipe.name


@pytest.mark.parametrize("folder", sorted((ROOT / "zoo").iterdir()), ids=lambda x: x.name)
def test_golden_of_a_kept_network_is_near_its_fake_quantization(folder: Path) -> None:
    _, origin = zoo.read_entry(folder)
    assert abs(origin.accuracy["golden"] - origin.accuracy["compressed"]) <= GOLDEN_TOLERANCE


def test_mnist_network_is_compressed_as_promised() -> None:
    network, origin = zoo.read_entry(KEPT)
    assert origin.weights == 59_008
    assert origin.weights * 32 / network.stored_bits() >= 24
    assert origin.accuracy["golden"] >= 0.973
    assert origin.accuracy["float"] >= 0.975
