"""Layers that hold a constrained weight in its compressed form, and train in it."""

from collections.abc import Callable

from torch import Tensor, nn

from model.compress.constraints import Constraint, circulant_of, grid_of, mask_of
from model.compress.layers.block_sparse import BlockSparseLinear
from model.compress.layers.circulant import CirculantConv2d, CirculantLinear

STRUCTURED = (CirculantLinear, CirculantConv2d, BlockSparseLinear)

__all__ = [
    "STRUCTURED",
    "BlockSparseLinear",
    "CirculantConv2d",
    "CirculantLinear",
    "compact",
    "product",
]


def product(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """The function [n, in] to [n, out] of a linear layer, plain or structured, without its bias.

    What depends on the weight alone is computed once.
    """
    if isinstance(layer, STRUCTURED):
        return layer.product()
    weight = layer.weight.T
    return lambda x: x @ weight


def compact(layer: nn.Module, frozen: Constraint) -> nn.Module:
    """The structured layer of a plain one under a frozen constraint, or the layer itself.

    Parameters
    ----------
    layer : nn.Module
        ``nn.Linear`` or ``nn.Conv2d``, whose weight fulfils the constraint.
    frozen : Constraint
        What ``freeze`` of a constraint gave.

    The layer itself is returned where no structured layer holds exactly that space: a mask that is
    not of whole blocks, as many in each block row, masked circulants, masked convolutions.
    """
    weight = layer.weight.detach()
    k, mask, grid = circulant_of(frozen), mask_of(frozen, weight), grid_of(frozen)
    masked = mask is not None and not bool(mask.all())
    if k is not None and not masked:
        if isinstance(layer, nn.Linear):
            return CirculantLinear.of(layer, k)
        if isinstance(layer, nn.Conv2d):
            return CirculantConv2d.of(layer, k)
    if k is None and masked and grid is not None and isinstance(layer, nn.Linear):
        sparse = BlockSparseLinear.of(layer, mask, grid)
        return layer if sparse is None else sparse
    return layer
