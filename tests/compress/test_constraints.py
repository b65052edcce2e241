import itertools

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.compress import constraints
from model.compress.constraints import ColumnSparsity, Compose, Constraint, FilterSparsity, Levels
from model.ir.errors import BadInput

elements = st.floats(-4, 4, width=32)
matrices = hnp.array_shapes(min_dims=2, max_dims=2, max_side=5).flatmap(
    lambda shape: hnp.arrays(np.float32, shape, elements=elements).map(torch.from_numpy)
)
kernels = hnp.array_shapes(min_dims=4, max_dims=4, max_side=3).flatmap(
    lambda shape: hnp.arrays(np.float32, shape, elements=elements).map(torch.from_numpy)
)
sparsities = st.builds(FilterSparsity, st.floats(0.5, 1.0)) | st.builds(
    ColumnSparsity, st.floats(0.5, 1.0)
)
levels = st.builds(Levels, st.integers(2, 4), st.sampled_from(["tensor", "channel"]))
singles = sparsities | levels


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm())


@given(matrices | kernels, singles | st.builds(Compose, sparsities, sparsities, levels))
def test_projection_is_idempotent_and_keeps_shape_and_type(
    weight: torch.Tensor, constraint: Constraint
) -> None:
    once = constraint.project(weight)
    assert once.shape == weight.shape
    assert once.dtype == weight.dtype
    # levels: codes are the same, the scale is fitted again to 32-bit products
    torch.testing.assert_close(constraint.project(once), once, rtol=1e-6, atol=1e-30)


@given(matrices, st.integers(1, 5))
def test_filter_sparsity_is_the_nearest(weight: torch.Tensor, keep: int) -> None:
    keep = min(keep, len(weight))
    projected = FilterSparsity(keep).project(weight)
    assert int(projected.any(1).sum()) <= keep
    for rows in itertools.combinations(range(len(weight)), keep):
        other = torch.zeros_like(weight)
        other[list(rows)] = weight[list(rows)]
        assert distance(weight, projected) <= distance(weight, other) + 1e-6


@given(matrices, st.integers(1, 5))
def test_column_sparsity_is_filter_sparsity_of_the_transpose(
    weight: torch.Tensor, keep: int
) -> None:
    keep = min(keep, weight.shape[1])
    expected = FilterSparsity(keep).project(weight.T).T
    assert torch.equal(ColumnSparsity(keep).project(weight), expected)


def test_columns_of_a_convolution_are_kernel_positions_of_one_channel() -> None:
    weight = torch.zeros(2, 3, 2, 2)
    weight[:, 1, 0, 1] = 3.0
    weight[:, 2, 1, 0] = 2.0
    weight[0, 0, 0, 0] = 1.0
    projected = ColumnSparsity(2).project(weight)
    assert projected[0, 0, 0, 0] == 0
    assert projected[:, 1, 0, 1].tolist() == [3.0, 3.0]
    assert projected[:, 2, 1, 0].tolist() == [2.0, 2.0]


def test_rows_of_a_convolution_are_filters() -> None:
    weight = torch.ones(3, 2, 2, 2)
    weight[1] = 2.0
    projected = FilterSparsity(1).project(weight)
    assert projected[1].eq(2).all()
    assert not projected[[0, 2]].any()


@given(hnp.arrays(np.float32, st.integers(1, 5), elements=elements), st.integers(2, 3))
def test_levels_are_the_nearest_of_all_codes(row: np.ndarray, bits: int) -> None:
    """Brute force: every vector of codes, each with its best scale."""
    weight = torch.from_numpy(row)[None].double()
    top = 2 ** (bits - 1) - 1
    codes = torch.tensor(list(itertools.product(range(-top, top + 1), repeat=len(row))))
    codes = codes.double()
    dot, norm = codes @ weight[0], codes.square().sum(1)
    gain = torch.where(norm > 0, dot.square() / norm.clamp_min(1), torch.zeros_like(dot))
    least = max(0.0, float(weight.square().sum() - gain.max()))
    projected = Levels(bits).project(weight)
    assert distance(weight, projected) ** 2 <= least + 1e-9


@given(matrices, st.integers(2, 8), st.sampled_from(["tensor", "channel"]))
def test_levels_are_whole_multiples_of_the_scale(weight: torch.Tensor, bits: int, per: str) -> None:
    rule = Levels(bits, per)
    scale = rule.fit(weight)
    assert len(scale) == (1 if per == "tensor" else len(weight))
    codes = rule.codes(weight, scale)
    assert codes.abs().max() <= 2 ** (bits - 1) - 1
    assert torch.equal(codes, codes.round())
    assert torch.equal(rule.project(weight), (codes * scale[:, None]).float())


def test_levels_per_channel_scale_each_row() -> None:
    weight = torch.tensor([[1.0, -1.0, 0.0], [100.0, 0.0, 100.0]])
    assert torch.equal(Levels(2, "channel").project(weight), weight)
    assert not torch.equal(Levels(2, "tensor").project(weight), weight)


@given(matrices, sparsities, sparsities)
def test_composition_holds_both(
    weight: torch.Tensor, first: Constraint, second: Constraint
) -> None:
    both = first & second
    projected = both.project(weight)
    assert torch.equal(projected, second.project(first.project(weight)))
    assert torch.equal(first.project(projected), projected)
    assert torch.equal(second.project(projected), projected)


@given(matrices, sparsities, sparsities, st.integers(0, 99))
def test_frozen_structure_is_linear_and_keeps_the_support(
    weight: torch.Tensor, first: Constraint, second: Constraint, seed: int
) -> None:
    both = first & second
    frozen = both.freeze(weight)
    torch.manual_seed(seed)
    a, b = torch.randn_like(weight), torch.randn_like(weight)
    assert torch.equal(frozen.project(weight), both.project(weight))
    torch.testing.assert_close(frozen.project(a + b), frozen.project(a) + frozen.project(b))
    assert torch.equal(both.project(frozen.project(a)), frozen.project(a))


@pytest.mark.parametrize("keep", [0, -1, 0.0, 1.5, True, "3"])
@pytest.mark.parametrize("kind", [FilterSparsity, ColumnSparsity])
def test_bad_keep_is_refused(kind: type, keep: object) -> None:
    with pytest.raises(BadInput) as caught:
        kind(keep)
    assert caught.value.found == repr(keep)
    assert "count" in caught.value.expected


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(BadInput, match="found 4; expected at most 3"):
        FilterSparsity(4).project(torch.ones(3, 9))


def test_fractions_round_half_up() -> None:
    weight = torch.ones(5, 1)
    assert int(FilterSparsity(0.5).project(weight).sum()) == 3
    assert int(FilterSparsity(0.1).project(weight).sum()) == 1


def test_a_target_that_leaves_a_layer_empty_is_refused() -> None:
    with pytest.raises(BadInput, match="leaves the layer empty") as caught:
        FilterSparsity(0.01).project(torch.ones(5, 1))
    assert caught.value.expected == "a share of at least 0.1, which leaves one"


@pytest.mark.parametrize(
    ("bits", "per"), [(1, "tensor"), (17, "tensor"), (4, "row"), (2.0, "tensor")]
)
def test_bad_levels_are_refused(bits: object, per: str) -> None:
    with pytest.raises(BadInput) as caught:
        Levels(bits, per)
    assert caught.value.found in (repr(bits), repr(per))


@pytest.mark.parametrize("rule", [FilterSparsity(1), ColumnSparsity(1)])
def test_structured_weights_must_be_matrices(rule: Constraint) -> None:
    with pytest.raises(BadInput, match=r"shape \(2, 2, 2\)"):
        rule.project(torch.ones(2, 2, 2))


def test_built_by_name() -> None:
    rule = constraints.build({"column_sparsity": 2, "filter_sparsity": 0.5}, "compress.layers.fc1")
    assert repr(rule) == "ColumnSparsity(2) & FilterSparsity(0.5)"


@pytest.mark.parametrize(
    ("parts", "thing", "found"),
    [
        ({"colum_sparsity": 2}, "compress.layers.fc1.colum_sparsity", "unknown"),
        ({"column_sparsity": -2}, "compress.layers.fc1.column_sparsity", "-2"),
        ({}, "compress.layers.fc1", "no constraint"),
    ],
)
def test_bad_constraint_of_a_recipe_is_named(parts: dict, thing: str, found: str) -> None:
    with pytest.raises(BadInput) as caught:
        constraints.build(parts, "compress.layers.fc1")
    assert caught.value.thing == thing
    assert found in caught.value.found
