"""What the benches of many blocks have in common."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from amaranth.lib import wiring

from model import golden
from model.ir.matrix import MatrixSpec
from model.ir.network import Node
from sim.block import Block, Pattern, Trace, check_values

Blocks = Mapping[str, Block] | Sequence[Block]
Codes = Mapping[str, np.ndarray] | Sequence[np.ndarray]
Traces = Mapping[tuple[str, Pattern], Trace]


def check_all(blocks: Blocks, expected: Codes, traces: Traces) -> None:
    """Hold what every block gave under every pattern equal to the codes expected of it.

    Blocks and codes are in one order, or by one name.
    """
    if isinstance(blocks, Mapping):
        assert isinstance(expected, Mapping)
        assert blocks.keys() == expected.keys()
        blocks, expected = list(blocks.values()), [expected[name] for name in blocks]
    assert isinstance(expected, Sequence)
    assert {name for name, _ in traces} == {block.name for block in blocks}
    for block, codes in zip(blocks, expected, strict=True):
        check_values(traces, block, codes)


def spreading(layer: MatrixSpec) -> MatrixSpec:
    """The layer with a requantization whose outputs spread over their codes, and some beyond."""
    rule = layer.requantize
    reach = rule.product(layer.accumulator()).bits
    shift = max(0, reach - rule.out_format.bits - 4)
    return replace(layer, requantize=replace(rule, shift=shift, b_bits=max(2, reach - 4)))


def evaluated(
    node: Node, shape: tuple[int, ...], frames: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Golden accumulators and output codes, int64 [frames, codes], of inputs of a shape.

    Fails if nearly all codes are at the ends of their range, which would compare little.
    """
    keep: dict[str, torch.Tensor] = {}
    out = golden.evaluate(node.spec, node, [torch.from_numpy(frames.reshape(-1, *shape))], keep)
    span = node.spec.out_format.values
    assert ((out == span.low) | (out == span.high)).double().mean() < 0.9
    return keep[f"{node.name}.acc"].flatten(1).numpy(), out.flatten(1).numpy()


def stage_block(
    name: str,
    stage: wiring.Component,
    node: Node,
    shape: tuple[int, ...],
    frames: np.ndarray,
    files: dict[str, str],
) -> Block:
    """A stage that computes a node of inputs of a shape."""
    out = node.spec.out_shape(shape)
    return Block(name, stage, frames, math.prod(out), files, shape=shape, out_shape=out)
