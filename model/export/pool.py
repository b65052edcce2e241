"""Handlers of max pooling and of average pooling."""

import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from model.export.conv import check_window, image, one, pair
from model.export.values import Average, Stream, Value, channels_first
from model.export.walk import Walk, handles
from model.ir.errors import BadInput
from model.ir.pool import MaxPoolSpec


@handles(nn.MaxPool2d, torch.max_pool2d, functional.max_pool2d, transparent=True, image=True)
def max_pool(
    walk: Walk, name: str, module: nn.Module | None, node: fx.Node, value: Value
) -> Stream:
    """The largest code of each window: rounding and clamping keep the order of real numbers, so it
    is the code of the largest."""
    given = _given(module, node, nn.MaxPool2d)
    layer = str(node.target) if module is not None else name
    kernel, stride = _check(layer, given, ("padding", "dilation", "ceil_mode", "return_indices"))
    source = walk.stream(value, node.all_input_nodes[0])
    rows, columns, channels = image(layer, source)
    kernel = check_window(layer, (rows, columns), kernel, stride)
    spec = MaxPoolSpec(
        rows=rows,
        columns=columns,
        channels=channels,
        kernel_rows=kernel[0],
        kernel_columns=kernel[1],
        stride=stride,
        format=source.format,
    )
    index = channels_first(spec.out_shape(source.shape))
    stream = walk.append(name, spec, (source,), index, source.scale, {})
    return replace(stream, quantizer=source.quantizer)


@handles(nn.AvgPool2d, functional.avg_pool2d, image=True)
def average_pool(
    walk: Walk, name: str, module: nn.Module | None, node: fx.Node, value: Value
) -> Average:
    """The sum of each window, whose factor divides."""
    given = _given(module, node, nn.AvgPool2d)
    layer = str(node.target) if module is not None else name
    kernel, stride = _check(layer, given, ("padding", "ceil_mode", "divisor_override"))
    source = walk.stream(value, node.all_input_nodes[0])
    rows, columns, channels = image(layer, source)
    kernel = check_window(layer, (rows, columns), kernel, stride)
    shape = tuple(
        (size - side) // stride + 1 for size, side in zip((rows, columns), kernel, strict=True)
    )
    return Average(name, (source,), channels_first((*shape, channels)), kernel, stride)


@handles(nn.AdaptiveAvgPool2d, functional.adaptive_avg_pool2d, image=True)
def adaptive_average_pool(
    walk: Walk, name: str, module: nn.Module | None, node: fx.Node, value: Value
) -> Average:
    """The average of the whole frame."""
    size = module.output_size if module is not None else _argument(node, 1, "output_size", None)
    if size is None or pair(size) != (1, 1):
        raise BadInput(
            str(node.target) if module is not None else name,
            f"adaptive pooling to {size}",
            "to 1",
            "use nn.AvgPool2d",
        )
    source = walk.stream(value, node.all_input_nodes[0])
    return _whole(name, source, (source.shape[-1], 1, 1))


@handles(torch.mean, "mean", image=True)
def mean(walk: Walk, name: str, module: None, node: fx.Node, value: Value) -> Average:
    """The average over rows and columns, in either order of the axes."""
    axes = _argument(node, 1, "dim", ())
    axes = tuple(axes) if isinstance(axes, tuple | list) else (axes,)
    source = walk.stream(value, node.all_input_nodes[0])
    count = source.index.ndim + 1
    found = sorted(axis % count for axis in axes if isinstance(axis, int))
    first = (source.index.shape[0], 1, 1)
    last = (1, 1, source.index.shape[-1])
    orders = {(2, 3): (channels_first, first), (1, 2): (None, last)}
    if count != 4 or tuple(found) not in orders:
        raise BadInput(
            name,
            f"a mean over the axes {axes} of a frame of shape {source.index.shape}",
            "a mean over rows and columns",
            "average over the axes (2, 3) of [frames, channels, rows, columns]",
        )
    order, shape = orders[tuple(found)]
    if order is None:
        source = _turned(source)
    shape = shape if _argument(node, 2, "keepdim", False) else (max(shape),)
    return _whole(name, source, shape)


def _turned(source: Stream) -> Stream:
    """The same codes as torch would have them channels first."""
    return Stream(
        source.edge,
        source.index.transpose(2, 0, 1),
        source.format,
        source.scale,
        source.codes,
    )


def _whole(name: str, source: Stream, shape: tuple[int, ...]) -> Average:
    rows, columns, channels = image(name, source)
    index = channels_first((1, 1, channels)).reshape(shape)
    return Average(name, (source,), index, (rows, columns), 1)


def _argument(node: fx.Node, place: int, name: str, default: Any) -> Any:
    if name in node.kwargs:
        return node.kwargs[name]
    return node.args[place] if len(node.args) > place else default


def _given(module: nn.Module | None, node: fx.Node, like: type[nn.Module]) -> dict[str, Any]:
    """Arguments of a pooling by name, those of its function in the order of its module."""
    names = list(inspect.signature(like).parameters)
    if module is not None:
        return {name: getattr(module, name) for name in names}
    return dict(zip(names, node.args[1:], strict=False)) | {
        key: item for key, item in node.kwargs.items() if key != "input"
    }


def _check(layer: str, given: dict[str, Any], plain: tuple[str, ...]) -> tuple[Any, int]:
    """Kernel and stride; raises BadInput for what the network does not know."""
    defaults = {"padding": 0, "dilation": 1, "divisor_override": None}
    for name in plain:
        default = defaults.get(name, False)
        found = given.get(name, default)
        if found != default and not (isinstance(found, tuple) and set(found) == {default}):
            raise BadInput(layer, f"{name} {found}", f"{name} {default}", "change it")
    kernel = given["kernel_size"]
    stride = given.get("stride")
    return kernel, one(layer, "stride", kernel if stride is None or stride == [] else stride)
