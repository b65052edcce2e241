"""Handlers of the convolutions, plain and circulant."""

from typing import Any

import torch
from torch import fx, nn

from model.compress.layers import CirculantConv2d
from model.export.values import Conv, Stream, Value, channels_first
from model.export.walk import Walk, check_finite, handles
from model.export.weights import weights_of
from model.ir.errors import BadInput


@handles(nn.Conv2d, CirculantConv2d, image=True)
def conv(walk: Walk, name: str, module: nn.Module, node: fx.Node, value: Value) -> Conv:
    """A new layer on the codes of its input; its bias becomes the offset."""
    check_finite(node, module)
    layer = str(node.target)
    stride = one(layer, "stride", module.stride)
    padding = _padding(layer, module)
    _check_kind(layer, module)
    source = walk.stream(value, node.all_input_nodes[0])
    rows, columns, channels = image(layer, source)
    if channels != module.in_channels:
        raise BadInput(
            layer,
            f"a frame of {channels} channels",
            f"{module.in_channels} channels",
            "correct the layer's size, or the order of the frame's axes",
        )
    kernel = check_window(layer, (rows, columns), module.kernel_size, stride, padding)
    matrix, scale = weights_of(layer, module, walk.weight_bits, walk.weights_per)
    out = len(matrix.codes)
    offset = torch.zeros(out) if module.bias is None else module.bias
    gain = (scale * source.scale).expand(out)
    shape = tuple(
        (size + 2 * padding - side) // stride + 1
        for size, side in zip((rows, columns), kernel, strict=True)
    )
    index = channels_first((*shape, out))
    return Conv(
        name,
        (source,),
        index,
        matrix,
        gain,
        offset.double(),
        kernel,
        stride,
        padding,
        module.groups,
    )


def image(layer: str, source: Stream) -> tuple[int, int, int]:
    """Rows, columns and channels of what a layer reads; raises BadInput if it is no image."""
    shape = source.shape
    good = len(shape) == 3 and source.index.shape == (shape[2], *shape[:2])
    if not good or (source.index != channels_first(shape)).any():
        raise BadInput(
            layer,
            f"a frame of shape {source.index.shape} in torch and {shape} in the network",
            "a frame [channels, rows, columns] in torch",
            "permute the frame to channels first (in the forward function, or by channels_first)",
        )
    return shape


def one(layer: str, thing: str, size: Any) -> int:
    """The number that holds for both axes; raises BadInput if they differ."""
    if isinstance(size, int):
        return size
    sizes = {int(side) for side in size}
    if len(sizes) != 1:
        raise BadInput(layer, f"{thing} {tuple(size)}", f"one {thing} for both axes", "change it")
    return sizes.pop()


def pair(size: Any) -> tuple[int, int]:
    """Rows and columns of a size that may be one number."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))


def check_window(
    layer: str, frame: tuple[int, int], kernel: Any, stride: int, padding: int = 0
) -> tuple[int, int]:
    """The kernel's rows and columns; raises BadInput unless it suits frame, stride and padding."""
    kernel = pair(kernel)
    for size, side in zip(frame, kernel, strict=True):
        if side > size + 2 * padding:
            raise BadInput(
                layer,
                f"a kernel {kernel} on a frame {frame} with padding {padding}",
                "a kernel within the frame",
                "use a smaller kernel, or pool less before",
            )
        skips = stride > side and size + 2 * padding - side >= stride
        if (padding and padding >= side) or (skips and kernel != (1, 1)):
            raise BadInput(
                layer,
                f"stride {stride} and padding {padding} of a kernel {kernel}",
                "a stride of at most the kernel, and a padding under it",
                "change them",
            )
    return kernel


def _padding(layer: str, module: nn.Module) -> int:
    padding = module.padding
    if padding == "valid":
        return 0
    if padding == "same":
        kernel = pair(module.kernel_size)
        if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
            raise BadInput(
                layer,
                f"padding 'same' of a kernel {kernel}, which is not symmetric",
                "the same padding on all four sides",
                "use an odd kernel",
            )
        padding = tuple((side - 1) // 2 for side in kernel)
    return one(layer, "padding", padding)


def _check_kind(layer: str, module: nn.Module) -> None:
    if pair(module.dilation) != (1, 1):
        raise BadInput(
            layer, f"dilation {module.dilation}", "dilation 1", "use a kernel without gaps"
        )
    if module.groups not in (1, module.in_channels):
        raise BadInput(
            layer,
            f"{module.groups} groups of {module.in_channels} channels",
            "1 group, or as many as channels (depthwise)",
            "change the groups",
        )
    mode = getattr(module, "padding_mode", "zeros")
    if mode != "zeros":
        raise BadInput(layer, f"padding mode {mode!r}", "'zeros'", "pad with zeros")
