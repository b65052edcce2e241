import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.compress.constraints import (
    BlockCirculant,
    CoarseBlocks,
    Constraint,
    FixedCirculant,
    circulant_of,
    defining_vectors,
    expand_vectors,
    mask_of,
)
from model.ir.errors import BadInput
from tests.compress.constraints.weights import distance, kernels, matrices

sides = st.integers(1, 9)
weights = matrices(sides, sides) | kernels(sides, sides)
sizes = st.integers(2, 4)


@settings(max_examples=25)
@given(weights, sizes, st.integers(0, 99))
def test_projection_is_the_nearest(weight: torch.Tensor, k: int, seed: int) -> None:
    """The residual is orthogonal to the space, and no random member of the space is nearer."""
    rule = BlockCirculant(k, pad="pad")
    projected = rule.project(weight)
    assert (projected.shape, projected.dtype) == (weight.shape, weight.dtype)
    torch.testing.assert_close(rule.project(projected), projected, rtol=1e-5, atol=1e-6)
    torch.manual_seed(seed)
    vectors = torch.randn_like(defining_vectors(weight, k))
    other = expand_vectors(vectors, weight)
    residual = (weight - projected).double()
    assert abs(float((residual * other).sum())) <= 1e-4
    assert distance(weight, projected) <= distance(weight, other) + 1e-5


@settings(max_examples=25)
@given(matrices(st.sampled_from([4, 8]), st.sampled_from([4, 12])))
def test_projection_keeps_the_diagonal_of_the_transform(weight: torch.Tensor) -> None:
    """The nearest circulant of M is F^-1 diag(F M F^-1) F: its spectrum is that diagonal."""
    vectors = defining_vectors(weight, 4).double()
    transform = torch.fft.fft(torch.eye(4, dtype=torch.complex128))
    for p, q in torch.cartesian_prod(*(torch.arange(n) for n in vectors.shape[:2])).tolist():
        block = weight[4 * p : 4 * p + 4, 4 * q : 4 * q + 4].to(torch.complex128)
        spectrum = (transform @ block @ transform.inverse()).diagonal()
        torch.testing.assert_close(torch.fft.fft(vectors[p, q]), spectrum, rtol=1e-5, atol=1e-5)


def test_the_vector_is_the_first_column_of_its_block() -> None:
    weight = expand_vectors(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.empty(3, 3))
    assert weight.tolist() == [[1, 3, 2], [2, 1, 3], [3, 2, 1]]


@settings(max_examples=25)
@given(weights, sizes)
def test_vectors_stand_for_the_projection(weight: torch.Tensor, k: int) -> None:
    vectors = defining_vectors(weight, k)
    positions = weight[0, 0].numel()
    assert vectors.shape == (-(-len(weight) // k), positions * -(-weight.shape[1] // k), k)
    assert torch.equal(
        expand_vectors(vectors, weight), BlockCirculant(k, pad="pad").project(weight)
    )


def test_blocks_of_a_convolution_lie_over_the_channels_of_a_position() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 4, 2, 3)
    projected = BlockCirculant(2).project(weight)
    for row in range(2):
        for column in range(3):
            expected = BlockCirculant(2).project(weight[:, :, row, column])
            assert torch.equal(projected[:, :, row, column], expected)


@settings(max_examples=25)
@given(weights, sizes)
def test_frozen_space_is_that_of_the_projection(weight: torch.Tensor, k: int) -> None:
    rule = BlockCirculant(k, pad="pad")
    frozen = rule.freeze(weight)
    assert isinstance(frozen, FixedCirculant)
    assert circulant_of(frozen) == k
    assert mask_of(frozen, weight) is None
    assert torch.equal(frozen.project(weight), rule.project(weight))


def test_gradients_pass_through_the_frozen_space() -> None:
    weight = torch.randn(4, 4, requires_grad=True)
    FixedCirculant(2).project(weight)[0, 0].backward()
    assert weight.grad[:2, :2].tolist() == [[0.5, 0.0], [0.0, 0.5]]


@pytest.mark.parametrize(
    ("both", "k"),
    [
        (CoarseBlocks(4, 4, 1) & BlockCirculant(4), 4),
        (BlockCirculant(4) & CoarseBlocks(4, 4, 1), 4),
        (BlockCirculant(2) & CoarseBlocks(4, 4, 1), 2),
    ],
)
def test_a_mask_of_whole_blocks_holds_with_circulant_blocks(both: Constraint, k: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 12)
    projected = both.project(weight)
    for part in both.parts:
        torch.testing.assert_close(part.project(projected), projected)
    assert torch.count_nonzero(projected) == 8 * 4
    frozen = both.freeze(weight)
    assert circulant_of(frozen) == k
    assert int(mask_of(frozen, weight).sum()) == 8 * 4
    torch.testing.assert_close(frozen.project(weight), projected)


def test_a_mask_that_cuts_through_circulant_blocks_is_refused() -> None:
    with pytest.raises(BadInput, match="a mask of whole blocks"):
        (BlockCirculant(4) & CoarseBlocks(2, 2, 1)).project(torch.randn(8, 8))
    with pytest.raises(BadInput, match="circulant blocks of 2 and 4"):
        (BlockCirculant(2) & BlockCirculant(4)).freeze(torch.randn(8, 8))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.ones(10, 8), r"rows: found 10 rows, .*blocks of 4.*pad = 'pad' \(to 12\)"),
        (torch.ones(8, 9), "channels: found 9 channels, which blocks of 4"),
        (torch.ones(8, 6, 2, 2), "channels: found 6 channels"),  # not the 24 columns
        (torch.full((4, 4), float("nan")), "NaN"),
        (torch.ones(4, 4, 4), "shape"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weight: torch.Tensor, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        BlockCirculant(4).project(weight)


@pytest.mark.parametrize(("k", "pad"), [(0, "pad"), (2.0, "pad"), (4, "no")])
def test_bad_options_are_refused(k: object, pad: str) -> None:
    with pytest.raises(BadInput):
        BlockCirculant(k, pad)


def test_repr_is_complete() -> None:
    assert repr(BlockCirculant(8)) == "BlockCirculant(8, 'refuse')"
    assert repr(FixedCirculant(8)) == "FixedCirculant(8)"


def test_blocks_of_one_restrict_nothing() -> None:
    weight = torch.randn(3, 5)
    assert torch.equal(BlockCirculant(1).project(weight), weight)
    assert circulant_of(BlockCirculant(1).freeze(weight)) is None
