"""Handlers of what only changes the order of axes or joins them: codes stay where they are."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from model.compress.tracing import kind
from model.export.values import Value
from model.export.walk import Walk, handles, is_size
from model.ir.errors import BadInput

_TRANSPOSE = ("transpose", torch.transpose)


@handles(nn.Flatten, torch.flatten, "flatten", transparent=True)
def flatten(walk: Walk, name: str, module: nn.Module | None, node: fx.Node, value: Value) -> Value:
    """All axes but the first become one."""
    if module is not None:
        start, end = module.start_dim, module.end_dim
    else:
        given = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
        start, end = given.get("start_dim", 0), given.get("end_dim", -1)
    if start != 1 or end not in (-1, value.index.ndim):
        raise BadInput(
            str(node.target),
            f"flattening of axes {start} to {end}",
            "of all axes but the first (1 to -1)",
            "use nn.Flatten()",
        )
    return replace(value, index=value.index.reshape(-1))


@handles("view", "reshape", torch.reshape, transparent=True)
def reshape(walk: Walk, name: str, module: None, node: fx.Node, value: Value) -> Value:
    """Another shape of the same elements of a frame."""
    frames, *shape = _sizes(node)
    whole = frames == -1 or is_size(walk.graph, frames)
    try:
        if not whole or not all(isinstance(size, int) for size in shape):
            raise ValueError
        index = value.index.reshape(shape)
    except ValueError:
        raise BadInput(
            name,
            f"a reshape of frames {value.index.shape} to {tuple(map(str, (frames, *shape)))}",
            "the frames' axis first, and sizes in numbers whose product is that of the frame",
            "use nn.Flatten()",
        ) from None
    return replace(value, index=index)


@handles("permute", torch.permute, transparent=True)
def permute(walk: Walk, name: str, module: None, node: fx.Node, value: Value) -> Value:
    """Another order of the axes of a frame."""
    count = value.index.ndim + 1
    order = [axis % count if isinstance(axis, int) else axis for axis in _sizes(node)]
    return _permuted(name, value, order)


def _permuted(name: str, value: Value, order: list[Any]) -> Value:
    """A value whose axes, counted with that of the frames, stand in another order."""
    count = value.index.ndim + 1
    if len(order) != count or order[0] != 0 or sorted(order) != list(range(count)):
        raise BadInput(
            name,
            f"the axes {tuple(map(str, order))} of frames of shape {value.index.shape}",
            f"an order of {count} axes that keeps the frames' axis first",
            "correct the axes",
        )
    return replace(value, index=np.transpose(value.index, [axis - 1 for axis in order[1:]]))


@handles("transpose", torch.transpose, "movedim", torch.movedim, transparent=True)
def move(walk: Walk, name: str, module: None, node: fx.Node, value: Value) -> Value:
    """Two axes exchanged, or axes moved: torch itself says where the axes go."""
    axes = torch.empty((0, *range(1, value.index.ndim + 1)), device="meta")
    apply = torch.transpose if kind(walk.graph, node) in _TRANSPOSE else torch.movedim
    try:
        order = apply(axes, *node.args[1:], **_named(node)).shape
    except (RuntimeError, IndexError, TypeError):
        order = torch.Size()
    return _permuted(name, value, list(order))


def _sizes(node: fx.Node) -> list[Any]:
    """Sizes or axes, given one by one or as one tuple."""
    given = [*node.args[1:], *_named(node).values()]
    if len(given) == 1 and isinstance(given[0], tuple | list):
        return list(given[0])
    return given


def _named(node: fx.Node) -> dict[str, Any]:
    """Keyword arguments but the input."""
    return {key: item for key, item in node.kwargs.items() if key != "input"}
