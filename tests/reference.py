"""An evaluation of networks that shares nothing with the golden model but the specifications.

Plain Python integers and fractions, one number at a time: slow, and easy to believe.
"""

from fractions import Fraction
from math import floor

import numpy as np

from model.ir.linear import LinearSpec
from model.ir.network import Network
from model.ir.numerics import BipolarFormat, CodebookFormat, Format
from model.ir.requantize import RequantizeSpec


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
    exact = Fraction(acc * m + b, 2**spec.shift)
    low, high = bounds(spec.out_format)
    return min(max(floor(exact + Fraction(1, 2)), low), high)


def run(network: Network, frame: np.ndarray) -> dict[str, list[int]]:
    """Every edge, and the accumulators ``<node>.acc``, of one frame of input codes."""
    edges = {network.input.name: [int(code) for code in frame.flatten()]}
    for node in network.nodes:
        (x,) = (edges[edge] for edge in node.inputs)
        spec = node.spec
        if not isinstance(spec, LinearSpec):
            edges[node.name] = [x[int(n)] for n in node.tensors["indices"]]
            continue
        acc = [
            sum(
                value(spec.weight_format, int(w)) * value(spec.in_format, code)
                for w, code in zip(row, x, strict=True)
            )
            for row in node.tensors["weight"]
        ]
        b = [int(number) for number in node.tensors["b"]]
        m = [int(number) for number in node.tensors.get("m", np.array([1]))]
        m = m * len(b) if len(m) == 1 else m
        edges[f"{node.name}.acc"] = acc
        edges[node.name] = [
            requantize(spec.requantize, *row) for row in zip(acc, m, b, strict=True)
        ]
    return edges
