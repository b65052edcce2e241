import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from model.compress.layers.block_sparse import BlockSparseLinear
from model.ir.errors import BadInput


def random_columns(rows: int, columns: int, kept: int) -> torch.Tensor:
    return torch.stack([torch.randperm(columns)[:kept].sort().values for _ in range(rows)])


@given(st.integers(1, 11), st.integers(1, 11), st.integers(1, 4), st.integers(1, 4), st.data())
def test_equals_its_expanded_matrix(
    into: int, out: int, r: int, c: int, data: st.DataObject
) -> None:
    torch.manual_seed(0)
    kept = data.draw(st.integers(1, -(-into // c)))
    columns = random_columns(-(-out // r), -(-into // c), kept)
    layer = BlockSparseLinear(into, out, columns, r, c).double()
    x = torch.randn(2, 3, into, dtype=torch.float64, requires_grad=True)
    found, expected = layer(x), functional.linear(x, layer.expanded(), layer.bias)
    torch.testing.assert_close(found, expected)
    of = x, *layer.parameters()
    weights = torch.randn_like(found)
    pairs = zip(
        torch.autograd.grad((found * weights).sum(), of),
        torch.autograd.grad((expected * weights).sum(), of),
        strict=True,
    )
    for a, b in pairs:
        torch.testing.assert_close(a, b)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.data())
def test_kept_blocks_survive_the_change_of_form(
    rows: int, columns: int, r: int, c: int, data: st.DataObject
) -> None:
    torch.manual_seed(0)
    index = random_columns(rows, columns, data.draw(st.integers(1, columns)))
    blocks = torch.zeros(rows, columns, dtype=torch.bool).scatter_(1, index, True)
    mask = blocks.repeat_interleave(r, 0).repeat_interleave(c, 1)
    plain = nn.Linear(columns * c, rows * r)
    with torch.no_grad():
        plain.weight.mul_(mask)
    layer = BlockSparseLinear.of(plain, mask, (r, c))
    assert layer is not None
    assert layer.weight.shape == (rows, index.shape[1], r, c)
    assert torch.equal(layer.columns, index)
    assert torch.equal(layer.expanded(), plain.weight)


@pytest.mark.parametrize(
    "mask",
    [
        [[1, 1, 0, 0], [1, 0, 0, 0]],
        [[1, 1, 0, 0], [1, 1, 1, 1]],
        [[0, 0, 0, 0], [0, 0, 0, 0]],
    ],
)
def test_other_masks_stay_plain(mask: list) -> None:
    grid = (1, 2) if mask[1][3] or not mask[0][0] else (2, 2)
    assert BlockSparseLinear.of(nn.Linear(4, 2), torch.tensor(mask).bool(), grid) is None
    assert BlockSparseLinear.of(nn.Linear(4, 2), torch.ones(2, 4).bool(), (2, 3)) is None


@pytest.mark.parametrize("columns", [[[0, 0]], [[1, 0]], [[0, 2]], [[-1, 0]], [[0], [1]]])
def test_bad_columns_are_refused(columns: list) -> None:
    with pytest.raises(BadInput, match="ascending columns from 0 to 1 in 1 rows"):
        BlockSparseLinear(4, 2, torch.tensor(columns), 2, 2)
