"""The codes of the golden model, several times faster, for sweeps over many networks on macros.

Where counts are exact a layer is one matrix product. It is computed here in 32-bit floats: of the
actual weights the range of every partial sum follows, and integers below 2^24 are exact in any
order; a matrix that reaches further is cut into ``high · 2^n + low``, two products. Of a
convolution no window is written out, and the largest code of a pool is that of the largest
accumulator, where no factor of the requantization is negative, so a pool goes first.

Layers whose converters round or saturate, and whatever else is not of this kind, are golden's own.
Tests hold every code equal to :func:`model.golden.run`.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model import golden
from model.golden.graph import evaluate
from model.golden.matrix import prepare, requantized
from model.ir.arithmetic import ExactArithmetic
from model.ir.conv import ConvSpec
from model.ir.linear import LinearSpec
from model.ir.network import Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pim_arithmetic import PIMArithmetic
from model.ir.pool import MaxPoolSpec

EXACT = 1 << 24
"""Integers up to here are exact in a float of 32 bits."""

FRAMES = 250
"""Frames that are computed at once."""

Step = Callable[[Tensor], Tensor]

Parts = tuple[tuple[Tensor, int], ...]
"""Parts of a matrix, float32 [rows, columns], each with the power of two that it is worth."""


def run(network: Network, codes: Tensor) -> Tensor:
    """The output codes int64 [frames, *shape] of :func:`model.golden.run`, for chains of layers.

    Networks that branch, or recur, go to golden as they are.
    """
    names = [network.input.name, *(node.name for node in network.nodes)]
    chained = all(
        node.inputs == (name,) for node, name in zip(network.nodes, names[:-1], strict=True)
    )
    if not chained or network.recurrent:
        return golden.run(network, codes)
    steps = _steps(network)
    found = []
    for part in codes.split(FRAMES):
        for step in steps:
            part = step(part)
        found.append(part)
    return torch.cat(found)


def _steps(network: Network) -> list[Step]:
    """What is done with a batch of codes, layer after layer."""
    steps: list[Step] = []
    nodes = list(network.nodes)
    while nodes:
        node = nodes.pop(0)
        parts = _parts(node)
        if parts:
            pool = nodes.pop(0) if nodes and _first(nodes[0], node) else None
            steps.append(partial(_layer, node, parts, pool))
        else:
            steps.append(partial(_golden, node))
    return steps


def _golden(node: Node, x: Tensor) -> Tensor:
    return evaluate(node.spec, node, [x], {})


def _first(pool: Node, node: Node) -> bool:
    """Whether a layer is a pool that may go before the requantization of ``node``."""
    rising = node.spec.requantize.per == "one" or bool((node.tensors["m"] >= 0).all())
    return isinstance(pool.spec, MaxPoolSpec) and isinstance(node.spec, ConvSpec) and rising


def _parts(node: Node) -> Parts:
    """The matrix of a layer with exact counts, cut into parts; none if golden must compute it."""
    spec = node.spec
    if not isinstance(spec, ConvSpec | LinearSpec) or not isinstance(spec.in_format, UniformFormat):
        return ()
    if isinstance(spec, ConvSpec) and spec.groups > 1:
        return ()
    counted = isinstance(spec.arithmetic, PIMArithmetic) and spec.arithmetic.adc_bits is None
    if not counted and not isinstance(spec.arithmetic, ExactArithmetic):
        return ()
    whole = prepare(spec.arithmetic, spec, node.tensors).long().numpy()
    span = spec.in_format.values
    for shift in range(24):
        high, low = whole >> shift, whole & ((1 << shift) - 1)
        if max(_reach(part, span.low, span.high) for part in (high, low)) <= EXACT:
            cut = ((high, shift), (low, 0)) if low.any() else ((high, shift),)
            return tuple((torch.from_numpy(part).float(), at) for part, at in cut)
    return ()


def _reach(matrix: np.ndarray, low: int, high: int) -> int:
    """No partial sum of a row's products with numbers from ``low`` to ``high`` is larger."""
    most = np.maximum(matrix * high, matrix * low).clip(0).sum(axis=1)
    least = np.minimum(matrix * high, matrix * low).clip(None, 0).sum(axis=1)
    return max(int(most.max(initial=0)), -int(least.min(initial=0)))


def _layer(node: Node, parts: Parts, pool: Node | None, x: Tensor) -> Tensor:
    """Codes int64 of a layer, and of the pool behind it, of codes int64."""
    spec = node.spec
    if isinstance(spec, LinearSpec):
        x = x.flatten(1).float()
        products = [(x @ matrix.T).long() << shift for matrix, shift in parts]
        return requantized(node, sum(products[1:], products[0]), {})
    x = x.float().permute(0, 3, 1, 2)
    size = spec.out_channels, spec.kernel_rows, spec.kernel_columns, spec.channels
    products = [
        functional.conv2d(
            x,
            matrix.reshape(size).permute(0, 3, 1, 2),
            stride=spec.stride,
            padding=spec.padding,
        )
        for matrix, _ in parts
    ]
    acc = products[0]
    if len(parts) > 1 or parts[0][1]:
        acc = sum(p.double() * (1 << shift) for p, (_, shift) in zip(products, parts, strict=True))
    if pool is not None:
        own = pool.spec
        acc = functional.max_pool2d(acc, (own.kernel_rows, own.kernel_columns), own.stride)
    return requantized(node, acc.permute(0, 2, 3, 1).long(), {})
