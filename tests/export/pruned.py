"""Random networks with rows and channels of zeros, whose codes spread over their formats."""

import math
from dataclasses import replace

import numpy as np
import torch

from model import golden
from model.export import remove_pruned
from model.ir.add import AddSpec
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.block_sparse import BlockSparseStorage
from model.ir.conv import ConvSpec
from model.ir.layer import LayerSpec
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import BipolarFormat, CodebookFormat, Format, UniformFormat
from model.ir.pool import AveragePoolSpec, MaxPoolSpec
from model.ir.requantize import RequantizeSpec

FORMAT = UniformFormat(4, False)
WIDE = UniformFormat(16, True)
WEIGHTS = UniformFormat(3, True)
ANY_WEIGHTS = (WEIGHTS, CodebookFormat((1, 0, -2, 5)), BipolarFormat())
MIDDLE = (FORMAT, WEIGHTS, UniformFormat(1, False))
STEPS = ("conv", "conv", "depthwise", "pool", "add", "circulant")
ACCUMULATORS = RequantizeSpec(WIDE, 0, "one", 0, 1)
FRAMES = 12


def frames_of(entry: InputSpec, count: int = FRAMES) -> torch.Tensor:
    """Random input codes, both ends of the format among them."""
    span = entry.format.codes
    codes = np.random.default_rng(0).integers(span.low, span.high + 1, (count, *entry.shape))
    codes[0], codes[1] = span.low, span.high
    return torch.from_numpy(codes)


class Builder:
    """Nodes on the newest edge, and the codes of some frames there."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...], format: Format) -> None:
        self.rng = rng
        self.entry = InputSpec("x", shape, format, 1.0)
        self.edge, self.shape, self.format = "x", shape, format
        self.codes = frames_of(self.entry)
        self.nodes: list[Node] = []

    def network(self) -> Network:
        return Network("net", self.entry, tuple(self.nodes))

    def put(self, spec: LayerSpec, tensors: dict, *inputs: tuple[str, torch.Tensor]) -> None:
        edges = inputs or ((self.edge, self.codes),)
        name = f"n{len(self.nodes)}"
        node = Node(name, spec, tuple(edge for edge, _ in edges), 1.0, tensors)
        self.codes = golden.evaluate(spec, node, [codes for _, codes in edges], {})
        self.nodes.append(node)
        self.edge, self.shape, self.format = name, tuple(self.codes.shape[1:]), spec.out_format

    def requantized(self, spec: LayerSpec, tensors: dict, format: Format) -> None:
        """A layer of accumulators, with a requantization that spreads them over a format."""
        channels = ACCUMULATORS.tensor_shapes(self._channels(spec))["b"]
        node = Node("acc", spec, (self.edge,), 1.0, {**tensors, "b": np.zeros(channels, int)})
        acc = golden.evaluate(spec, node, [self.codes], {}).flatten(0, -2).numpy()
        per = str(self.rng.choice(["one", "layer", "channel"]))
        shape = {"one": (), "layer": (1,), "channel": channels}[per]
        m = np.array(1) if per == "one" else self.rng.integers(1, 31, shape)
        m = m * self.rng.choice([-1, 1], shape, p=[0.2, 0.8]) if per != "one" else m
        total, span = acc * m, format.codes
        spread = max(1, int(np.ptp(total, axis=0).max()))
        shift = max(0, math.ceil(math.log2(spread / max(1, 0.8 * (span.high - span.low)))))
        noise = self.rng.integers(-spread // 4, spread // 4 + 1, channels)
        constant = np.ptp(total, axis=0) == 0
        noise += constant * self.rng.integers(0, spread + 1, channels)
        b = (span.low << shift) - total.min(axis=0) + noise
        rule = RequantizeSpec(format, shift, per, 0 if per == "one" else 6, 32)
        parameters = {"b": b} if per == "one" else {"b": b, "m": m}
        self.put(replace(spec, requantize=rule), {**tensors, **parameters})

    def _channels(self, spec: LayerSpec) -> int:
        return spec.channels if isinstance(spec, AveragePoolSpec) else spec.matrix_rows

    def weights(
        self, rows: int, columns: int, channels: int, format: Format = WEIGHTS
    ) -> np.ndarray:
        """Codes with rows and channels of zeros, but not only of such."""
        codes = self.rng.integers(
            format.codes.low, format.codes.high + 1, (rows, columns // channels, channels)
        )
        values = format.decode(np.arange(format.codes.low, format.codes.high + 1)).tolist()
        if 0 in values:
            zero = values.index(0) + format.codes.low
            for axis, length in ((0, rows), (2, channels)):
                idle = self.rng.random(length) < self.rng.random() * 0.7
                idle[self.rng.integers(length)] = False
                codes[(slice(None),) * axis + (idle,)] = zero
        return codes.reshape(rows, columns)

    def conv(self, side: int = 0, out: int = 0, groups: bool = False) -> None:
        rows, columns, channels = self.shape
        side = side or int(self.rng.integers(1, min(rows, columns, 3) + 1))
        out = channels if groups else out or int(self.rng.integers(1, 6))
        padding = int(self.rng.integers(0, 2)) if side > 1 else 0
        spec = ConvSpec(
            rows, columns, channels, out, side, side, 1, padding, channels if groups else 1,
            FORMAT, WEIGHTS, ACCUMULATORS,
        )  # fmt: skip
        each = 1 if groups else channels
        self.requantized(spec, {"weight": self.weights(out, side * side * each, each)}, FORMAT)

    def depthwise(self) -> None:
        self.conv(groups=True)

    def circulant(self) -> None:
        rows, columns, channels = self.shape
        storage = BlockCirculantStorage(2, 1)
        spec = ConvSpec(
            rows, columns, channels, channels, 1, 1, 1, 0, 1, FORMAT, WEIGHTS, ACCUMULATORS,
            storage=storage,
        )  # fmt: skip
        weight = self.rng.integers(-4, 4, storage.tensor_shapes(channels, channels)["weight"])
        weight[self.rng.random(weight.shape[:2]) < 0.3] = 0
        self.requantized(spec, {"weight": weight}, FORMAT)

    def pool(self) -> None:
        rows, columns, channels = self.shape
        side = int(self.rng.integers(1, min(rows, columns, 2) + 1))
        if self.rng.random() < 0.5:
            self.put(MaxPoolSpec(rows, columns, channels, side, side, side, FORMAT), {})
        else:
            spec = AveragePoolSpec(rows, columns, channels, side, side, side, FORMAT, ACCUMULATORS)
            self.requantized(spec, {}, FORMAT)

    def add(self) -> None:
        before = self.edge, self.codes
        self.conv(1, self.shape[2])
        spec = AddSpec(self.shape, FORMAT, FORMAT, FORMAT, 3, 6)
        m = {name: self.rng.integers(-2, 9, 1) for name in ("mx", "my")}
        self.put(spec, m, before, (self.edge, self.codes))

    def linear(
        self, out: int, format: Format, weights: Format = WEIGHTS, blocks: bool = False
    ) -> None:
        features = math.prod(self.shape)
        spec = LinearSpec(features, out, self.format, weights, ACCUMULATORS)
        codes = self.weights(out, features, self.shape[-1], weights)
        tensors = {"weight": codes}
        if blocks:
            storage, tensors = self._blocks(codes)
            spec = replace(spec, storage=storage)
        self.requantized(spec, tensors, format)

    def _blocks(self, codes: np.ndarray) -> tuple[BlockSparseStorage, dict]:
        sizes = []
        for length in codes.shape:
            size = int(self.rng.integers(1, min(length, 4) + 1))
            sizes.append(np.diff([*range(0, length, size), length]))
        mask = self.rng.random((len(sizes[0]), len(sizes[1]))) < 0.5
        if self.rng.random() < 0.5:
            mask = self.rng.permuted(np.repeat(mask[:1], len(mask), axis=0), axis=1)
        return BlockSparseStorage.pack(codes, mask, *sizes)


def image_net(seed: int, steps: list[str] | None = None) -> Network:
    """A few steps on an image, then two linear layers."""
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(3, 6)), int(rng.integers(3, 6)), int(rng.integers(1, 4))
    build = Builder(rng, shape, FORMAT)
    for step in steps or rng.choice(STEPS, rng.integers(1, 6)):
        getattr(build, step)()
    build.linear(int(rng.integers(1, 10)), FORMAT, blocks=bool(rng.integers(2)))
    build.linear(3, WIDE, blocks=bool(rng.integers(2)))
    return build.network()


def chain(seed: int) -> Network:
    """One to four linear layers of any formats."""
    rng = np.random.default_rng(seed)
    build = Builder(rng, (int(rng.integers(1, 8)),), MIDDLE[rng.integers(3)])
    depth = int(rng.integers(1, 5))
    for n in range(depth):
        format = WIDE if n == depth - 1 else MIDDLE[rng.integers(3)]
        build.linear(int(rng.integers(1, 8)), format, ANY_WEIGHTS[rng.integers(3)])
    return build.network()


def constant(network: Network) -> bool:
    """Whether all frames give the same output codes."""
    codes = golden.run(network, frames_of(network.input))
    return bool((codes == codes[:1]).all())


def difference(network: Network) -> str | None:
    """What removal changes: an edge whose codes are not those of some channels of before."""
    frames = frames_of(network.input)
    before = golden.trace(network, frames)
    removed = remove_pruned(network)
    after = golden.trace(removed, frames)
    for node in removed.nodes:
        if node.name not in before:
            continue
        channels = iter(before[node.name].flatten(0, -2).T)
        for n, codes in enumerate(after[node.name].flatten(0, -2).T):
            if not any(torch.equal(codes, channel) for channel in channels):
                return f"channel {n} of {node.name}"
    if not torch.equal(after[removed.output.name], before[network.output.name]):
        return "the output"
    return None
