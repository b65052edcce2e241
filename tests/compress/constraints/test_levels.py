"""Sets of levels: each against all of its values, and their codes."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.compress.constraints import (
    Binary,
    Conductance,
    Free,
    Levels,
    LevelSet,
    OddLevels,
    PowerOfTwo,
    Ternary,
)
from model.ir.errors import BadInput
from model.ir.numerics import BipolarFormat, CodebookFormat, UniformFormat
from tests.compress.constraints.weights import distance, kernels, matrices

SMALL = [
    Levels(2),
    Levels(3),
    OddLevels(1),
    OddLevels(2),
    Binary(),
    Ternary(),
    PowerOfTwo(3),
    Conductance(states=[1, 2, 5]),
    Conductance(states=[2, 3], cells=4),
]
ALL = [
    *SMALL,
    Levels(8),
    Levels(10, "channel"),
    OddLevels(8, "channel"),
    Binary("channel"),
    Ternary("channel"),
    PowerOfTwo(5, "channel"),
    Conductance(),
    Conductance(cells=4, per="channel"),
]
sides = st.integers(1, 4)
weights = matrices(sides, sides) | kernels(sides, sides)


@pytest.mark.parametrize("rule", SMALL, ids=repr)
@settings(max_examples=25)
@given(weight=matrices(st.just(1), st.integers(1, 3)))
def test_projection_is_the_nearest_of_all_values(rule: LevelSet, weight: torch.Tensor) -> None:
    """Brute force: every vector of values, each with its best scale; zeros may be absent."""
    values = sorted({s * m for m in rule.magnitudes for s in (-1, 1)})
    weight = weight.double()
    options = [values if w or rule.has_zero else [0] for w in weight[0].tolist()]
    codes = torch.tensor(list(itertools.product(*options)), dtype=torch.float64)
    dot, norm = codes @ weight[0], codes.square().sum(1)
    gain = torch.where(norm > 0, dot.square() / norm.clamp_min(1), 0.0)
    least = max(0.0, float(weight.square().sum() - gain.max()))
    assert distance(weight, rule.project(weight)) ** 2 <= least + 1e-9


@pytest.mark.parametrize("rule", ALL, ids=repr)
@settings(max_examples=25)
@given(weight=weights)
def test_projection_is_feasible_and_idempotent(rule: LevelSet, weight: torch.Tensor) -> None:
    once = rule.project(weight)
    assert (once.shape, once.dtype) == (weight.shape, weight.dtype)
    scale = rule.fit(weight)
    assert scale.shape == (1 if rule.per == "tensor" else len(weight),)
    values = rule.values(weight, scale)
    present = weight != 0 if not rule.has_zero else torch.ones_like(weight, dtype=torch.bool)
    assert torch.isin(values[present].abs(), torch.tensor(rule.magnitudes).double()).all()
    assert not values[~present].any()
    spread = scale.reshape(-1, *[1] * (weight.ndim - 1))
    assert torch.equal(once, (values * spread).float())
    # values are the same, the scale is fitted again to 32-bit products
    torch.testing.assert_close(rule.project(once), once, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("rule", ALL, ids=repr)
def test_codes_stand_for_the_values(rule: LevelSet) -> None:
    positive = [m for m in rule.magnitudes if m]
    values = torch.tensor([*[0] * rule.has_zero, *positive, *[-m for m in positive]])
    codes = rule.codes_of(values)
    assert codes.dtype == torch.int64
    rule.format.check(codes.numpy(), "codes")
    assert np.array_equal(rule.format.decode(codes.numpy()), values.numpy())
    if rule.has_zero:
        assert rule.format.has_zero
        assert rule.codes_of(torch.tensor([0])).tolist() == [0]


@pytest.mark.parametrize("rule", ALL, ids=repr)
@settings(max_examples=25)
@given(
    ratio=st.lists(st.floats(-2000, 2000, width=32), min_size=1, max_size=5),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_nearest_is_the_nearest_and_ties_go_up(
    rule: LevelSet, ratio: list[float], dtype: torch.dtype
) -> None:
    x = torch.tensor(ratio, dtype=dtype)
    found = rule.nearest(x)
    assert (found.shape, found.dtype) == (x.shape, dtype)
    values = torch.tensor(sorted({s * m for m in rule.magnitudes for s in (-1, 1)})).double()
    gaps = (x.double()[:, None] - values).abs()
    assert torch.equal((x.double() - found.double()).abs(), gaps.amin(1))
    middles = ((values[1:] + values[:-1]) / 2).to(dtype)
    assert torch.equal(rule.nearest(middles), values[1:].to(dtype))


@pytest.mark.parametrize(
    ("rule", "format"),
    [
        (Levels(5), UniformFormat(5, True)),
        (Levels(16), UniformFormat(16, True)),
        (OddLevels(2), CodebookFormat((1, 3, -3, -1))),
        (Binary(), BipolarFormat()),
        (Ternary(), UniformFormat(2, True)),
        (PowerOfTwo(3), CodebookFormat((0, 1, 2, 4, -4, -2, -1))),
        (Conductance(states=[5, 9]), CodebookFormat((5, 9, -9, -5))),
    ],
)
def test_formats_are_the_shortest_that_hold_the_levels(rule: LevelSet, format: object) -> None:
    assert rule.format == format
    assert rule.bits == format.bits
    assert rule.top == rule.magnitudes[-1] == format.values.high


@pytest.mark.parametrize("rule", [OddLevels(3), Binary(), Conductance()], ids=repr)
def test_an_absent_weight_stays_absent_and_leaves_the_scale_alone(rule: LevelSet) -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 8)
    masked = torch.cat([weight, torch.zeros(6, 30)], 1)
    torch.testing.assert_close(rule.fit(masked), rule.fit(weight))
    torch.testing.assert_close(rule.project(masked)[:, :8], rule.project(weight))
    assert not rule.project(masked)[:, 8:].any()
    with pytest.raises(BadInput, match="weight values: found 0"):
        rule.codes(masked, rule.fit(masked))


@pytest.mark.parametrize("rule", ALL, ids=repr)
def test_a_layer_of_zeros_stays_zero(rule: LevelSet) -> None:
    weight = torch.zeros(3, 4)
    assert not rule.project(weight).any()
    assert rule.fit(weight).eq(1).all()


def test_binary_scale_is_the_mean_magnitude() -> None:
    weight = torch.tensor([[1.0, -2.0, 3.0], [4.0, 4.0, -4.0]])
    assert Binary().fit(weight).tolist() == [3.0]
    assert Binary("channel").fit(weight).tolist() == [2.0, 4.0]


@settings(max_examples=25)
@given(weights, st.integers(9, 16))
def test_many_bits_span_the_full_range(weight: torch.Tensor, bits: int) -> None:
    rule = Levels(bits)
    moved = (rule.project(weight).double() - weight.double()).abs().max()
    peak = float(weight.abs().max())
    assert moved <= peak / (2 * rule.top) * (1 + 1e-3)


def test_weights_of_structured_layers_may_have_other_axes() -> None:
    torch.manual_seed(0)
    weight = torch.randn(2, 3, 4)
    assert torch.equal(
        Levels(4, "channel").project(weight).flatten(1),
        Levels(4, "channel").project(weight.flatten(1)),
    )


def test_levels_freeze_nothing() -> None:
    weight = torch.randn(2, 3)
    frozen = Levels(4).freeze(weight)
    assert isinstance(frozen, Free)
    assert frozen.project(weight) is weight


@pytest.mark.parametrize("rule", ALL, ids=repr)
def test_bad_weights_are_refused(rule: LevelSet) -> None:
    for bad in (float("nan"), float("inf")):
        with pytest.raises(BadInput, match="NaN"):
            rule.project(torch.tensor([[1.0, bad]]))
    with pytest.raises(BadInput, match=r"shape \(3,\)"):
        rule.project(torch.ones(3))
    with pytest.raises(BadInput, match="weight values: found 99999"):
        rule.codes_of(torch.tensor([99999]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Levels(1),
        lambda: Levels(17),
        lambda: Levels(4, "row"),
        lambda: OddLevels(0),
        lambda: OddLevels(9),
        lambda: Binary("row"),
        lambda: Ternary(True),
        lambda: PowerOfTwo(1),
        lambda: PowerOfTwo(6),
    ],
)
def test_bad_options_are_refused(make: object) -> None:
    with pytest.raises(BadInput):
        make()


@pytest.mark.parametrize("rule", ALL, ids=repr)
def test_repr_makes_the_levels_again(rule: LevelSet) -> None:
    again = eval(repr(rule))  # of our own text
    assert repr(again) == repr(rule)
    assert (again.magnitudes, again.per) == (rule.magnitudes, rule.per)
