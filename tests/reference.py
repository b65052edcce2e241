"""An evaluation of networks that shares nothing with the golden model but the specifications.

Plain Python integers and fractions, one number at a time: slow, and easy to believe.
"""

from collections.abc import Mapping
from fractions import Fraction
from math import ceil, floor

import numpy as np

from model.ir.add import AddSpec
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.block_sparse import BlockSparseStorage
from model.ir.linear import LinearSpec
from model.ir.matrix import MatrixSpec
from model.ir.network import Network, Node
from model.ir.numerics import BipolarFormat, CodebookFormat, Format
from model.ir.pool import AveragePoolSpec, MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from model.ir.select import SelectSpec
from model.ir.window import Windowed


def value(format: Format, code: int) -> int:
    """The integer that a code stands for."""
    if isinstance(format, BipolarFormat):
        return 1 if code else -1
    if isinstance(format, CodebookFormat):
        return format.levels[code]
    return code


def bounds(format: Format) -> tuple[int, int]:
    """Least and greatest code of a plain format."""
    if format.signed:
        return -(2 ** (format.bits - 1)), 2 ** (format.bits - 1) - 1
    return 0, 2**format.bits - 1


def requantize(spec: RequantizeSpec, acc: int, m: int, b: int) -> int:
    """The nearest code of ``(acc * m + b) / 2^s``, a half rounding up, by exact fractions."""
    return rounded(Fraction(acc * m + b, 2**spec.shift), spec.out_format)


def rounded(exact: Fraction, format: Format) -> int:
    """The nearest code of a plain format, a half rounding up."""
    low, high = bounds(format)
    return min(max(floor(exact + Fraction(1, 2)), low), high)


def matrix(spec: MatrixSpec, tensors: Mapping[str, np.ndarray]) -> list[list[int]]:
    """The weight values [rows][columns], each element looked up by the rule of its storage."""
    storage, columns = spec.storage, spec.matrix_columns
    codes, format = tensors["weight"], spec.weight_format
    out = [[0] * columns for _ in range(spec.matrix_rows)]
    if isinstance(storage, BlockSparseStorage):
        rest = iter(codes.tolist())
        top = 0
        for r, height in enumerate(tensors["row_sizes"].tolist()):
            left = 0
            for c, width in enumerate(tensors["column_sizes"].tolist()):
                if tensors["mask"][r, c]:
                    for i in range(top, top + height):
                        for j in range(left, left + width):
                            out[i][j] = value(format, next(rest))
                left += width
            top += height
        assert not list(rest)
        return out
    for i, row in enumerate(out):
        for j in range(columns):
            if isinstance(storage, BlockCirculantStorage):
                k, channels = storage.k, columns // storage.positions
                position, channel = divmod(j, channels)
                block = position * ceil(channels / k) + channel // k
                code = codes[i // k, block, (i % k - channel % k) % k]
            else:
                code = codes[i, j]
            row[j] = value(format, int(code))
    return out


def window(spec: Windowed, x: list[int], position: int) -> list[list[int]]:
    """The values [kernel position][channel] under a window; ``x`` has channels last."""
    r, c = divmod(position, spec.out_columns)
    found = []
    for i in range(spec.kernel_rows):
        for j in range(spec.kernel_columns):
            row, column = r * spec.stride - spec.padding + i, c * spec.stride - spec.padding + j
            inside = 0 <= row < spec.rows and 0 <= column < spec.columns
            start = (row * spec.columns + column) * spec.channels
            found.append(x[start : start + spec.channels] if inside else [0] * spec.channels)
    return found


def accumulators(node: Node, x: list[int]) -> list[int]:
    """Accumulators of a layer that requantizes, in the order of its output."""
    spec = node.spec
    if isinstance(spec, AveragePoolSpec):
        patches = [window(spec, x, position) for position in range(spec.positions)]
        return [sum(column) for patch in patches for column in zip(*patch, strict=True)]
    weights = matrix(spec, node.tensors)
    if isinstance(spec, LinearSpec):
        return [sum(w * v for w, v in zip(row, x, strict=True)) for row in weights]
    acc = []
    for position in range(spec.positions):
        patch = window(spec, x, position)
        for o, row in enumerate(weights):
            own = range(spec.channels)
            if spec.groups > 1:
                own = [o * spec.channels // spec.out_channels]
            seen = [values[channel] for values in patch for channel in own]
            acc.append(sum(w * v for w, v in zip(row, seen, strict=True)))
    return acc


def run(network: Network, frame: np.ndarray) -> dict[str, list[int]]:
    """Every edge, and the accumulators ``<node>.acc``, of one frame of input codes."""
    edges = {network.input.name: [int(code) for code in frame.flatten()]}
    for node in network.nodes:
        spec = node.spec
        inputs = [
            [value(network.format(edge), code) for code in edges[edge]] for edge in node.inputs
        ]
        x = inputs[0]
        if isinstance(spec, SelectSpec):
            edges[node.name] = [x[int(n)] for n in node.tensors["indices"]]
        elif isinstance(spec, MaxPoolSpec):
            patches = [window(spec, x, position) for position in range(spec.positions)]
            edges[node.name] = [max(c) for patch in patches for c in zip(*patch, strict=True)]
        elif isinstance(spec, AddSpec):
            mx, my = (int(node.tensors[name][0]) for name in ("mx", "my"))
            edges[node.name] = [
                rounded(Fraction(a * mx + b * my, 2**spec.shift), spec.out_format)
                for a, b in zip(*inputs, strict=True)
            ]
        else:
            acc = accumulators(node, x)
            b = [int(number) for number in node.tensors["b"]]
            m = [int(number) for number in node.tensors.get("m", np.array([1]))]
            m = m * len(b) if len(m) == 1 else m
            edges[f"{node.name}.acc"] = acc
            edges[node.name] = [
                requantize(spec.requantize, number, m[n % len(b)], b[n % len(b)])
                for n, number in enumerate(acc)
            ]
    return edges
