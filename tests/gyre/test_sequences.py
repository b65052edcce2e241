"""A recurrent recipe from its float network to the verdict, and its report on sequences."""

from pathlib import Path

import pytest

from gyre import recipe as recipes
from gyre.flow import Flow
from model.ir.errors import BadInput
from model.ir.interleave import interleave
from tests.gyre import reduced
from tests.gyre.test_report import shown, words
from tests.tools import require_tools

PATH = Path(__file__).resolve().parents[2] / "recipes" / "c_lstm_vowels.toml"
SAMPLES = 24
SMALL = ["network.options.cells=16", "network.options.projection=8", "mapping.multipliers=40"]
"""What keeps the two builds short."""


def flow_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: list[str]) -> Flow:
    recipe = recipes.load(PATH, [*reduced.sets(recipes.load(PATH)), *sets])
    dataset = reduced.dataset(recipe.data.name, SAMPLES * 2)
    monkeypatch.setattr("gyre.flow.data.load", lambda *_: dataset)
    monkeypatch.setattr("gyre.flow.ZOO", tmp_path / "zoo")
    return Flow(recipe, tmp_path / "out")


@pytest.mark.rtl
@pytest.mark.timeout(600)  # two builds
def test_the_recipe_for_ci_ends_equal_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_tools("g++")
    flow = flow_of(tmp_path, monkeypatch, SMALL)
    verdict, report = flow.simulate()
    assert verdict.equal, verdict.differences
    lengths, slots = flow.dataset.test.lengths, flow.recipe.mapping.sequences
    order = interleave(lengths.tolist(), slots)
    rtl, found = report["rtl"], report["rtl"]["recurrent"]
    assert rtl["frames"] == found["steps"] == lengths.sum()
    assert found["sequences"] == SAMPLES
    assert found["slots"] == slots == 3
    assert found["idle"] == len(order) - lengths.sum()
    design = flow.accelerator
    costs = {node.name: cost for node, cost in design.mapping.costs(design.network)}
    assert report["layers"][0]["cycles"] == costs["lstm"].cycles
    assert rtl["cycles_per_frame"] <= max(cost.cycles for cost in costs.values())
    assert found["cycles_alone"] > costs["lstm"].cycles
    assert report["layers"][0]["arithmetic"] == "fft"
    assert report["layers"][0]["density"] is None
    assert 0 < report["layers"][0]["utilisation"] <= 1
    text = words(shown(report, 200))
    assert f"{lengths.sum():,} steps of {SAMPLES} test sequences of japanese_vowels" in text
    assert f"3 interleaved, {found['idle']} idle frames" in text
    assert "golden and rtl on" not in text


@pytest.mark.parametrize(
    ("key", "match"),
    [
        ("mapping.multipliers=3", r"at least \d+ multipliers"),
        ("mapping.memory_bits=100", r"at least \d+ memory bits"),
    ],
)
def test_a_budget_below_one_lane_names_the_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, match: str
) -> None:
    with pytest.raises(BadInput, match=match):
        _ = flow_of(tmp_path, monkeypatch, [key]).accelerator
