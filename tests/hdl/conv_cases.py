"""Convolutions for the engines and the stages, with the vectors that an engine reads."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from model import golden
from model.golden.window import windows
from model.ir.block_sparse import BlockSparseStorage
from model.ir.conv import ConvSpec
from model.ir.network import Node
from model.ir.numerics import Format, UniformFormat
from model.ir.pe_array import PeArraySpec
from model.ir.requantize import RequantizeSpec
from tests.examples import codes_of
from tests.strategies import requantize_tensors

U3, S3 = UniformFormat(3, False), UniformFormat(3, True)


@dataclass(frozen=True)
class ConvCase:
    """A convolution and the array that computes it.

    ``frame`` is (rows, columns, channels), ``kernel`` is (rows, columns, stride, padding),
    ``blocks`` is (rows, columns, density) of block-sparse weights, ``array`` is (rows, cols,
    pixels, lanes); ``tiled`` makes the array block-sparse.
    """

    frame: tuple[int, int, int]
    out_channels: int
    kernel: tuple[int, int, int, int]
    array: tuple[int, int, int, int]
    blocks: tuple[int, int, float] | None = None
    tiled: bool = False
    formats: tuple[Format, Format] = (U3, S3)
    per: str = "one"

    @property
    def lanes(self) -> int:
        return self.array[3]

    def node(self, n: int) -> Node:
        """The node; ``n`` seeds its weights and names it."""
        rng = np.random.default_rng(n)
        (rows, columns, channels), (high, wide, stride, padding) = self.frame, self.kernel
        entry, weight = self.formats
        rule = RequantizeSpec(UniformFormat(8, True), 1, self.per, 0 if self.per == "one" else 3, 6)
        size = high * wide * channels
        codes = codes_of(weight.codes, rng, self.out_channels, size)
        spec = ConvSpec(
            rows, columns, channels, self.out_channels, high, wide, stride, padding, 1,
            entry, weight, rule,
        )  # fmt: skip
        tensors = {"weight": codes}
        if self.blocks is not None:
            sizes = [_sizes(self.out_channels, self.blocks[0]), _sizes(size, self.blocks[1])]
            mask = rng.random((len(sizes[0]), len(sizes[1]))) < self.blocks[2]
            storage, tensors = BlockSparseStorage.pack(codes, mask, *sizes)
            spec = replace(spec, storage=storage)
        tensors = tensors | requantize_tensors(rule, self.out_channels, rng)
        return Node(f"cv{n}", spec, ("x",), 1.0, tensors)

    def spec(self, node: Node) -> PeArraySpec:
        """The array, checked."""
        spec = PeArraySpec(*self.array[:3])
        if self.tiled:
            spec = replace(spec, tiles=spec.kept_tiles(node))
        spec.check(node, self.lanes)
        return spec

    def frames(self, count: int) -> np.ndarray:
        """Random frames of codes, int64 [count, rows · columns · channels]."""
        rng = np.random.default_rng(count)
        return codes_of(self.formats[0].codes, rng, count, int(np.prod(self.frame)))


def _sizes(length: int, size: int) -> np.ndarray:
    return np.array([min(size, length - start) for start in range(0, length, size)])


def evaluated(node: Node, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Golden accumulators and output codes, int64 [frames, positions · out_channels]."""
    layer, keep = node.spec, {}
    shape = (len(frames), layer.rows, layer.columns, layer.channels)
    out = golden.evaluate(layer, node, [torch.from_numpy(frames.reshape(shape))], keep)
    acc = keep[f"{node.name}.acc"]
    return acc.reshape(len(frames), -1).numpy(), out.reshape(len(frames), -1).numpy()


def engine_input(spec: PeArraySpec, layer: ConvSpec, frames: np.ndarray) -> np.ndarray:
    """The codes that an array reads: its words of each vector, padding 0; int64 [frames, codes]."""
    x = frames.reshape(len(frames), layer.rows, layer.columns, layer.channels)
    vectors = windows(layer, torch.from_numpy(x)).reshape(len(x), layer.vectors, -1).numpy()
    padded = np.pad(vectors, ((0, 0), (0, 0), (0, 1)))  # index -1 is the added code 0
    return padded[:, :, spec.words(layer)].reshape(len(x), -1)
