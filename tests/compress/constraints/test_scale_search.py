"""The search over scales, against the sweep of all events and against brute force."""

import itertools

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.compress.constraints import scale_search
from model.compress.constraints.scale_search import best_scales, search, sweep

magnitudes = st.lists(st.integers(0, 40), min_size=1, max_size=6, unique=True).map(sorted)
magnitudes = magnitudes.filter(lambda m: m != [0])
weights = hnp.arrays(np.float64, st.integers(1, 4), elements=st.floats(0, 4, width=32))
kinds = st.sampled_from(["normal", "heavy", "on levels", "few", "equal"])


def gain(group: torch.Tensor, levels: torch.Tensor, scale: float) -> float:
    """By how much the nearest levels of a scale, rescaled, lower the squared error."""
    half = (levels[1:] + levels[:-1]) / 2
    codes = levels[torch.searchsorted(half * scale, group, right=True)] * (group > 0)
    norm = float(codes.square().sum())
    return float(group @ codes) ** 2 / norm if norm else 0.0


def group_of(kind: str, seed: int, size: int = 300) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(size, dtype=torch.float64, generator=rng).abs()
    return {
        "normal": x,
        "heavy": x**5,
        "on levels": (x * 8).round() / 13,
        "few": (x * 2).round(),
        "equal": torch.ones_like(x),
    }[kind]


@settings(max_examples=50)
@given(weights, magnitudes)
def test_the_sweep_finds_the_best_of_all_codes(group: np.ndarray, levels: list[int]) -> None:
    """Brute force: every vector of magnitudes, each with its best scale; zeros may be absent."""
    group = torch.from_numpy(group)
    options = [levels if w > 0 or levels[0] == 0 else [0] for w in group.tolist()]
    codes = torch.tensor(list(itertools.product(*options)), dtype=torch.float64)
    norm = codes.square().sum(1)
    gains = torch.where(norm > 0, (codes @ group).square() / norm.clamp_min(1), 0.0)
    steps = torch.tensor(levels, dtype=torch.float64)
    scale = float(best_scales(group[None], steps))
    assert scale > 0
    assert gain(group, steps, scale) == pytest.approx(float(gains.max()), rel=1e-9, abs=1e-80)


@pytest.mark.parametrize("leaf", [1, 16, 1024])
@settings(max_examples=20)
@given(kind=kinds, seed=st.integers(0, 99), levels=magnitudes)
def test_the_search_finds_what_the_sweep_finds(
    leaf: int, kind: str, seed: int, levels: list[int]
) -> None:
    if len(levels) == 1:
        levels = [*levels, levels[0] + 1]
    group, steps = group_of(kind, seed), torch.tensor(levels, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scale_search, "LEAF", leaf)
        found = search(group, steps)
    best = gain(group, steps, float(sweep(group[None], steps)))
    assert gain(group, steps, found) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("kind", ["normal", "heavy", "on levels", "few", "equal"])
def test_runs_of_intervals_may_be_cut_anywhere(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    group, steps = group_of(kind, 1), torch.arange(128, dtype=torch.float64)
    best = gain(group, steps, float(sweep(group[None], steps)))
    monkeypatch.setattr(scale_search, "HELD", 500)
    monkeypatch.setattr(scale_search, "LEAF", 16)
    assert gain(group, steps, search(group, steps)) == pytest.approx(best, rel=1e-12)


def test_large_groups_are_searched_and_agree() -> None:
    group, steps = group_of("normal", 3, 1000), torch.arange(128, dtype=torch.float64)
    assert group.numel() * 127 > scale_search.SWEPT
    assert float(best_scales(group[None], steps)) == pytest.approx(float(sweep(group[None], steps)))


def test_a_large_layer_visits_a_small_part_of_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """400,000 weights on 8 bits have 51 million events: a sweep would take gigabytes."""
    swept = []
    run = scale_search._Steps._run

    def counted(self: object, high: object, first: torch.Tensor, last: torch.Tensor) -> object:
        swept.append(int((first - last).sum()))
        return run(self, high, first, last)

    monkeypatch.setattr(scale_search._Steps, "_run", counted)
    group = group_of("normal", 0, 400_000)
    scale = float(best_scales(group[None], torch.arange(128, dtype=torch.float64)))
    assert 0.02 < scale < 0.05
    assert max(swept) <= scale_search.HELD
    assert sum(swept) < 2_000_000


@pytest.mark.parametrize("size", [5, 70_000])
def test_scale_of_zeros_is_one(size: int) -> None:
    steps = torch.tensor([1.0, 3.0], dtype=torch.float64)
    assert best_scales(torch.zeros(2, size, dtype=torch.float64), steps).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("factor", [1e-300, 1e-30, 1e30, 1e300])
def test_scales_follow_the_weights_over_all_magnitudes(factor: float) -> None:
    group, steps = group_of("normal", 1), torch.arange(8, dtype=torch.float64)
    scale = float(best_scales(group[None], steps))
    assert float(best_scales(group[None] * factor, steps)) == pytest.approx(scale * factor)


def test_each_group_has_its_own_scale() -> None:
    groups = torch.stack([group_of(kind, 2) for kind in ("normal", "heavy", "few")])
    steps = torch.arange(4, dtype=torch.float64)
    alone = [float(best_scales(group[None], steps)) for group in groups]
    assert best_scales(groups, steps).tolist() == alone
