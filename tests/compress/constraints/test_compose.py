"""Constraints that hold together, and what is asked of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.compress.constraints import (
    Binary,
    BlockCirculant,
    CoarseBlocks,
    ColumnSparsity,
    Compose,
    Conductance,
    Constraint,
    CrossbarBlocks,
    CrossbarColumns,
    FilterSparsity,
    FixedMask,
    Free,
    Levels,
    LevelSet,
    OddLevels,
    PowerOfTwo,
    Ternary,
    build,
    circulant_of,
    grid_of,
    levels_of,
    mask_of,
    padding_of,
    structure_of,
)
from model.ir.errors import BadInput
from tests.compress.constraints.weights import kernels, matrices

structures = st.sampled_from(
    [
        FilterSparsity(2),
        ColumnSparsity(2),
        CrossbarColumns(2, 2, 4),
        CrossbarBlocks(2, 2, 2),
        CoarseBlocks(2, 2, 1),
    ]
)
levels = st.sampled_from(
    [Levels(3), OddLevels(2, "channel"), Binary(), Ternary("channel"), PowerOfTwo(3), Conductance()]
)
weights = matrices(st.just(4), st.just(4)) | kernels(st.just(4), st.just(2))


@settings(max_examples=60)
@given(weights, structures, structures, levels)
def test_all_parts_hold(
    weight: torch.Tensor, first: Constraint, second: Constraint, rule: LevelSet
) -> None:
    both = first & second & rule
    projected = both.project(weight)
    structured = (first & second).project(weight)
    assert torch.equal(projected, rule.project(structured))
    for part in (first, second):
        assert torch.equal(part.project(projected), projected)
    torch.testing.assert_close(both.project(projected), projected, rtol=1e-6, atol=1e-30)
    assert not projected[structured == 0].any()  # pruned is absent, on any levels
    if not rule.has_zero:
        assert projected[structured != 0].all()


@settings(max_examples=60)
@given(weights, structures, structures, levels)
def test_freezing_gives_one_mask_without_the_levels(
    weight: torch.Tensor, first: Constraint, second: Constraint, rule: LevelSet
) -> None:
    frozen = (first & rule & second).freeze(weight + 1e-3)
    assert isinstance(frozen, FixedMask)
    expected = (first & second).project(weight + 1e-3)
    assert torch.equal(frozen.project(weight + 1e-3), expected)
    assert torch.equal(mask_of(frozen, weight), frozen.mask)
    assert levels_of(frozen) is None


@settings(max_examples=20)
@given(weights, structures, levels)
def test_levels_come_last_wherever_they_stand(
    weight: torch.Tensor, structure: Constraint, rule: LevelSet
) -> None:
    assert torch.equal((rule & structure).project(weight), (structure & rule).project(weight))


@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_levels_on_circulant_blocks_keep_them_circulant(per: str) -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 12) * torch.arange(1, 9)[:, None]
    both = BlockCirculant(4) & Levels(3, per)
    projected = both.project(weight)
    torch.testing.assert_close(BlockCirculant(4).project(projected), projected)
    for rows in projected.split(8 if per == "tensor" else 4):
        magnitudes = rows.abs().unique()
        assert len(magnitudes) <= 4
        steps = magnitudes / magnitudes[magnitudes > 0].min()
        torch.testing.assert_close(steps, steps.round())


def test_levels_alone_freeze_nothing() -> None:
    weight = torch.randn(2, 2)
    assert isinstance(Compose(Levels(3)).freeze(weight), Free)
    assert mask_of(Free(), weight) is None
    assert grid_of(Free()) is None
    assert circulant_of(Free()) is None


@pytest.mark.parametrize(
    ("constraint", "levels", "structure"),
    [
        (Levels(3), "Levels(3, 'tensor')", "None"),
        (FilterSparsity(2), "None", "FilterSparsity(2)"),
        (FilterSparsity(2) & Levels(3), "Levels(3, 'tensor')", "FilterSparsity(2)"),
        (
            ColumnSparsity(1) & Binary() & FilterSparsity(2),
            "Binary('tensor')",
            "ColumnSparsity(1) & FilterSparsity(2)",
        ),
        (Compose(Binary()), "Binary('tensor')", "None"),
    ],
    ids=repr,
)
def test_levels_and_structure_come_apart(
    constraint: Constraint, levels: str, structure: str
) -> None:
    assert repr(levels_of(constraint)) == levels
    assert repr(structure_of(constraint)) == structure


def test_compositions_of_compositions_are_flat() -> None:
    parts = (FilterSparsity(2), ColumnSparsity(1), Binary())
    assert Compose(Compose(*parts[:2]), parts[2]).parts == parts
    assert Compose(parts[0], Compose(*parts[1:])).parts == parts


@pytest.mark.parametrize(
    ("rule", "grid", "per_row"),
    [
        (CoarseBlocks(4, 2, 2), (4, 2), 2),
        (CoarseBlocks(4, 2, 2) & FilterSparsity(4), (4, 2), 2),
        (CoarseBlocks(4, 4, 1) & CrossbarBlocks(2, 4, 2), (4, 2), 1),
        (FilterSparsity(4) & ColumnSparsity(4), None, None),
    ],
    ids=repr,
)
def test_the_grid_of_blocks_is_known_after_freezing(
    rule: Constraint, grid: tuple | None, per_row: int | None
) -> None:
    """A dominant block in each half of the rows makes the choice unique."""
    weight = torch.full((8, 8), 0.01)
    weight[:4, :2] = 3.0
    weight[4:, 4:6] = 2.0
    frozen = rule.freeze(weight)
    assert (grid_of(frozen), frozen.per_row) == (grid, per_row)


def test_two_sets_of_levels_are_refused() -> None:
    with pytest.raises(BadInput, match="one set of levels"):
        Levels(3) & Binary()


def test_masks_that_leave_nothing_together_are_refused() -> None:
    a = torch.tensor([[True, False]])
    with pytest.raises(BadInput, match="none of the weights left"):
        (FixedMask(a) & FixedMask(~a)).project(torch.ones(1, 2))


def test_identity_of_a_mask_follows_its_content() -> None:
    a = torch.tensor([[True, False], [True, True]])
    assert repr(FixedMask(a)) == repr(FixedMask(a.clone()))
    assert repr(FixedMask(a)) != repr(FixedMask(~a))
    assert repr(FixedMask(a)) != repr(FixedMask(a, grid=(1, 1)))


def test_padding_is_told_where_blocks_do_not_divide() -> None:
    weight = torch.ones(6, 8)
    padded = build({"filter_sparsity": 3, "block_circulant": {"k": 4, "pad": "pad"}}, "x")
    assert padding_of(padded, weight) == "6 rows, which blocks of 4 do not divide"
    assert padding_of(padded, torch.ones(4, 8)) is None
    assert padding_of(build({"block_circulant": {"k": 2, "pad": "pad"}}, "x"), weight) is None
    assert padding_of(build({"filter_sparsity": 3}, "x"), weight) is None
