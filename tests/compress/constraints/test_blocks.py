"""The four constraints on blocks, against all masks that they allow."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.compress.constraints import (
    CoarseBlocks,
    Constraint,
    CrossbarBlocks,
    CrossbarColumns,
    TwoLevelBlocks,
    grid_of,
    mask_of,
)
from model.ir.errors import BadInput
from tests.compress.constraints.weights import distance, kernels, matrices

sides = st.integers(1, 5)
small = matrices(sides, sides)


def blocks_of(shape: tuple[int, int], rows: int, columns: int) -> list[list[torch.Tensor]]:
    """Bool masks of the blocks of a matrix, by row and column of blocks."""
    found = []
    for r in range(0, shape[0], rows):
        found.append([])
        for c in range(0, shape[1], columns):
            mask = torch.zeros(shape, dtype=torch.bool)
            mask[r : r + rows, c : c + columns] = True
            found[-1].append(mask)
    return found


def least(weight: torch.Tensor, masks: list[torch.Tensor]) -> float:
    return min(distance(weight, weight * mask) for mask in masks)


def union(masks: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.stack(masks).any(0)


@settings(max_examples=25)
@given(small, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_crossbar_blocks_are_the_nearest(
    weight: torch.Tensor, lines: int, outputs: int, keep: int
) -> None:
    """Word lines are columns of the matrix, and bit lines its rows."""
    blocks = list(itertools.chain(*blocks_of(weight.shape, outputs, lines)))
    keep = min(keep, len(blocks))
    projected = CrossbarBlocks(lines, outputs, keep, pad="pad").project(weight)
    masks = [union(chosen) for chosen in itertools.combinations(blocks, keep)]
    assert distance(weight, projected) <= least(weight, masks) + 1e-6
    assert any(torch.equal(projected, projected * mask) for mask in masks)


@settings(max_examples=25)
@given(matrices(st.integers(1, 3), sides), st.integers(2, 3), st.integers(1, 4))
def test_crossbar_columns_are_the_nearest(weight: torch.Tensor, lines: int, keep: int) -> None:
    pieces = list(itertools.chain(*blocks_of(weight.shape, 1, lines)))
    keep = min(keep, len(pieces))
    projected = CrossbarColumns(lines, 2, keep, pad="pad").project(weight)
    masks = [union(chosen) for chosen in itertools.combinations(pieces, keep)]
    assert distance(weight, projected) <= least(weight, masks) + 1e-6
    assert any(torch.equal(projected, projected * mask) for mask in masks)


@settings(max_examples=25)
@given(matrices(st.just(4), st.just(6)), st.integers(1, 2))
def test_columns_of_each_crossbar_compete_alone(weight: torch.Tensor, keep: int) -> None:
    """Crossbars of 3 word lines and 2 bit lines: each is pruned like a weight of its own."""
    projected = CrossbarColumns(3, 2, keep, within="crossbar").project(weight)
    for r, c in itertools.product((0, 2), (0, 3)):
        part = weight[r : r + 2, c : c + 3]
        expected = CrossbarColumns(3, 2, keep).project(part)
        assert torch.equal(projected[r : r + 2, c : c + 3], expected)


@settings(max_examples=25)
@given(small, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_coarse_blocks_are_the_nearest_of_equal_counts(
    weight: torch.Tensor, rows: int, columns: int, keep: int
) -> None:
    blocks = blocks_of(weight.shape, rows, columns)
    keep = min(keep, len(blocks[0]))
    rule = CoarseBlocks(rows, columns, keep, pad="pad")
    options = [[union(c) for c in itertools.combinations(row, keep)] for row in blocks]
    masks = [union(chosen) for chosen in itertools.product(*options)]
    projected = rule.project(weight)
    assert distance(weight, projected) <= least(weight, masks) + 1e-6
    frozen = rule.freeze(weight)
    assert any(torch.equal(frozen.mask, mask) for mask in masks)
    assert (grid_of(frozen), frozen.per_row) == ((rows, columns), keep)


@settings(max_examples=25)
@given(matrices(st.just(2), st.just(8)), st.integers(1, 2), st.integers(1, 2))
def test_two_level_blocks_are_the_nearest(weight: torch.Tensor, outer: int, inner: int) -> None:
    """Outer blocks 2x4, inner 1x2: choose outer blocks, then inner ones in each row of each."""
    rule = TwoLevelBlocks(
        outer={"rows": 2, "columns": 4, "keep": outer},
        inner={"rows": 1, "columns": 2, "keep": inner},
    )
    masks = []
    for large in itertools.combinations(range(2), outer):
        rows = []
        for row, block in itertools.product(range(2), large):
            pieces = blocks_of(weight.shape, 1, 2)[row][2 * block : 2 * block + 2]
            rows.append([union(c) for c in itertools.combinations(pieces, inner)])
        masks += [union(chosen) for chosen in itertools.product(*rows)]
    frozen = rule.freeze(weight)
    assert distance(weight, rule.project(weight)) <= least(weight, masks) + 1e-6
    assert any(torch.equal(frozen.mask, mask) for mask in masks)
    assert (frozen.grid, frozen.per_row) == ((1, 2), outer * inner)


def test_a_crossbar_at_the_edge_may_have_fewer_columns_than_the_others_keep() -> None:
    """5 outputs on crossbars of 4 bit lines that keep 2: the second has but one."""
    weight = torch.arange(1.0, 6.0)[:, None].expand(5, 2)
    rule = CrossbarColumns(2, 4, 2, within="crossbar", pad="pad")
    assert rule.project(weight)[:, 0].tolist() == [0, 0, 3, 4, 5]


LEVELS = {
    "outer": {"rows": 2, "columns": 2, "keep": 0.5},
    "inner": {"rows": 1, "columns": 1, "keep": 1},
}
RULES = [
    CrossbarBlocks(2, 3, 1, pad="pad"),
    CrossbarColumns(2, 3, 1, pad="pad"),
    CrossbarColumns(2, 3, 1, within="crossbar", pad="pad"),
    CoarseBlocks(2, 2, 1, pad="pad"),
    CoarseBlocks(2, 2, 1, choose="random", seed=3, pad="pad"),
    TwoLevelBlocks(**LEVELS, pad="pad"),
    TwoLevelBlocks(**LEVELS, choose="random", pad="pad"),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
@settings(max_examples=25)
@given(weight=small | kernels(sides, sides))
def test_projection_is_idempotent_and_frozen_structure_holds_it(
    rule: Constraint, weight: torch.Tensor
) -> None:
    once = rule.project(weight)
    assert (once.shape, once.dtype) == (weight.shape, weight.dtype)
    assert torch.equal(rule.project(once), once)
    frozen = rule.freeze(weight)
    assert torch.equal(frozen.project(weight), once)
    assert mask_of(frozen, weight).shape == weight.shape
    assert mask_of(frozen, weight).any()


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_repr_makes_the_constraint_again(rule: Constraint) -> None:
    again = eval(repr(rule))  # of our own text
    assert repr(again) == repr(rule)
    weight = torch.linspace(-1, 1, 20).reshape(4, 5)
    assert torch.equal(again.project(weight), rule.project(weight))


def test_blocks_of_a_convolution_run_over_channels_first() -> None:
    """Columns are (kernel row, kernel column, channel): 2 word lines are 2 channels."""
    weight = torch.ones(2, 2, 1, 2)
    weight[:, :, 0, 1] = 2.0
    projected = CrossbarBlocks(2, 2, 1).project(weight)
    assert projected[:, :, 0, 1].eq(2).all()
    assert not projected[:, :, 0, 0].any()


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: CoarseBlocks(4, 4, 2, choose="random", seed=seed),
        lambda seed: TwoLevelBlocks(
            outer={"rows": 8, "columns": 8, "keep": 2},
            inner={"rows": 2, "columns": 2, "keep": 2},
            choose="random",
            seed=seed,
        ),
    ],
)
def test_random_blocks_depend_on_seed_and_shape_alone(make: object) -> None:
    a, b = torch.zeros(16, 32), torch.randn(16, 32)
    assert torch.equal(make(1).freeze(a).mask, make(1).freeze(b).mask)
    assert not torch.equal(make(1).freeze(a).mask, make(2).freeze(a).mask)
    assert make(1).freeze(a).per_row == (2 if isinstance(make(1), CoarseBlocks) else 4)


def test_a_random_mask_is_the_same_on_every_machine() -> None:
    mask = CoarseBlocks(1, 1, 2, choose="random", seed=1).freeze(torch.ones(3, 5)).mask
    assert mask.nonzero()[:, 1].reshape(3, 2).tolist() == [[1, 3], [1, 3], [0, 3]]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (CrossbarBlocks(4, 3, 1), "rows: found 10 rows, which blocks of 3 do not divide"),
        (CrossbarBlocks(4, 5, 1), "columns: found 7 columns, which blocks of 4 do not divide"),
        (CrossbarColumns(7, 3, 1), "rows: found 10 rows, which blocks of 3"),
        (CrossbarColumns(2, 5, 1), "columns: found 7 columns, which blocks of 2"),
        (CoarseBlocks(5, 2, 1), "columns: found 7 columns, which blocks of 2"),
        (TwoLevelBlocks(**LEVELS), r"expected a multiple of 2; .* pad = 'pad' \(to 8\)"),
    ],
    ids=repr,
)
def test_sizes_that_do_not_divide_are_refused(rule: Constraint, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        rule.project(torch.ones(10, 7))


@pytest.mark.parametrize("keep", [0.04, 200])
@pytest.mark.parametrize(
    "make",
    [
        lambda keep: CrossbarBlocks(4, 5, keep),
        lambda keep: CrossbarColumns(8, 10, keep, within="crossbar"),
        lambda keep: CoarseBlocks(5, 2, keep),
        lambda keep: TwoLevelBlocks(
            {"rows": 5, "columns": 4, "keep": keep}, {"rows": 1, "columns": 2, "keep": 1}
        ),
        lambda keep: TwoLevelBlocks(
            {"rows": 5, "columns": 4, "keep": 1}, {"rows": 1, "columns": 2, "keep": keep}
        ),
    ],
)
def test_a_target_that_leaves_nothing_or_has_not_enough_is_refused(
    make: object, keep: int | float
) -> None:
    expected = "leaves the layer empty" if keep == 0.04 else "which there are"
    with pytest.raises(BadInput, match=expected):
        make(keep).project(torch.ones(10, 8))


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_weights_that_are_not_finite_are_refused(rule: Constraint) -> None:
    with pytest.raises(BadInput, match="NaN"):
        rule.project(torch.tensor([[1.0, float("nan")], [1.0, 1.0]]))


@pytest.mark.parametrize(
    ("make", "thing"),
    [
        (lambda: CrossbarBlocks(0, 4, 1), "rows"),
        (lambda: CrossbarBlocks(4, 2.0, 1), "columns"),
        (lambda: CrossbarBlocks(4, 4, 0), "keep"),
        (lambda: CrossbarColumns(4, 4, 1, pad="yes"), "pad"),
        (lambda: CrossbarColumns(4, 4, 1, within="tile"), "within"),
        (lambda: CoarseBlocks(4, 4, 1, choose="best"), "choose"),
        (lambda: CoarseBlocks(4, 4, 1, seed=-1), "seed"),
        (lambda: TwoLevelBlocks({"rows": 4}, LEVELS["inner"]), "outer"),
        (lambda: TwoLevelBlocks(LEVELS["outer"], 3), "inner"),
        (lambda: TwoLevelBlocks(LEVELS["inner"], LEVELS["outer"]), "inner rows"),
    ],
)
def test_bad_options_are_refused(make: object, thing: str) -> None:
    with pytest.raises(BadInput) as caught:
        make()
    assert caught.value.thing == thing
