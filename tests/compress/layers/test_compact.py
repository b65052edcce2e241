import pytest
import torch
from torch import nn

from model.compress.constraints import (
    BlockCirculant,
    CoarseBlocks,
    Constraint,
    FilterSparsity,
    Free,
    TwoLevelBlocks,
)
from model.compress.layers import BlockSparseLinear, CirculantConv2d, CirculantLinear, compact


def frozen(layer: nn.Module, rule: Constraint) -> Constraint:
    """The constraint frozen about the layer's weight, which is projected in place."""
    space = rule.freeze(layer.weight.detach())
    with torch.no_grad():
        layer.weight.copy_(space.project(layer.weight))
    return space


@pytest.mark.parametrize(
    ("plain", "rule", "form"),
    [
        (nn.Linear(8, 12), BlockCirculant(4), CirculantLinear),
        (nn.Linear(7, 10, bias=False), BlockCirculant(4, pad="pad"), CirculantLinear),
        (nn.Conv2d(8, 4, 3, 2, 1), BlockCirculant(4), CirculantConv2d),
        (nn.Conv2d(6, 5, (1, 2)), BlockCirculant(4, pad="pad"), CirculantConv2d),
        (nn.Linear(8, 6), CoarseBlocks(3, 2, 2), BlockSparseLinear),
        (nn.Linear(8, 6), CoarseBlocks(3, 2, 2, choose="random", seed=3), BlockSparseLinear),
        (
            nn.Linear(8, 8),
            TwoLevelBlocks(
                {"rows": 4, "columns": 4, "keep": 1}, {"rows": 2, "columns": 2, "keep": 1}
            ),
            BlockSparseLinear,
        ),
    ],
)
def test_compressed_form_computes_the_same(plain: nn.Module, rule: Constraint, form: type) -> None:
    torch.manual_seed(0)
    layer = compact(plain, frozen(plain, rule))
    assert isinstance(layer, form)
    assert layer.weight.numel() < plain.weight.numel()
    torch.testing.assert_close(layer.expanded(), plain.weight)
    shape = (3, plain.in_features) if isinstance(plain, nn.Linear) else (3, plain.in_channels, 5, 5)
    x = torch.randn(shape)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("plain", "rule"),
    [
        (nn.Linear(8, 6), FilterSparsity(3)),
        (nn.Linear(8, 8), BlockCirculant(4) & CoarseBlocks(4, 4, 1)),
        (nn.Conv2d(4, 4, 1), CoarseBlocks(2, 2, 1)),
        (nn.Linear(8, 6), Free()),
    ],
    ids=repr,
)
def test_other_spaces_stay_plain(plain: nn.Module, rule: Constraint) -> None:
    space = frozen(plain, rule)
    assert compact(plain, space) is plain
