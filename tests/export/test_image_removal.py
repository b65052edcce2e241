"""Removal in convolution nets is exact in codes, whatever the network."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import golden
from model.export import remove_pruned
from model.ir.add import AddSpec
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.block_sparse import BlockSparseStorage
from model.ir.conv import ConvSpec
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import BipolarFormat, Format, UniformFormat
from model.ir.pool import AveragePoolSpec, MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from model.ir.storage import DenseStorage

FORMAT = UniformFormat(4, False)
WEIGHTS = UniformFormat(3, True)


class Builder:
    """Random nodes on the newest edge, with rows and channels of zeros."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.shape = (int(rng.integers(3, 6)), int(rng.integers(3, 6)), int(rng.integers(1, 4)))
        self.entry = InputSpec("x", self.shape, FORMAT, 1.0)
        self.edge = "x"
        self.nodes: list[Node] = []

    def rule(self, channels: int, format: Format = FORMAT) -> tuple[RequantizeSpec, dict]:
        per = str(self.rng.choice(["one", "layer", "channel"]))
        rule = RequantizeSpec(
            format, int(self.rng.integers(0, 5)), per, 0 if per == "one" else 6, 12
        )
        tensors = {}
        for name, shape in rule.tensor_shapes(channels).items():
            reach = 31 if name == "m" else 60
            tensors[name] = self.rng.integers(-reach, reach, shape)
        return rule, tensors

    def codes(self, rows: int, columns: int, channels: int) -> np.ndarray:
        codes = self.rng.integers(-4, 4, (rows, columns // channels, channels))
        codes[self.rng.random(rows) < self.rng.random() * 0.8] = 0
        codes[:, :, self.rng.random(channels) < self.rng.random() * 0.8] = 0
        return codes.reshape(rows, columns)

    def put(self, spec: object, tensors: dict, *inputs: str) -> None:
        name = f"n{len(self.nodes)}"
        shapes = [self.shape for _ in inputs] or [self.shape]
        self.nodes.append(Node(name, spec, inputs or (self.edge,), 1.0, tensors))
        self.edge, self.shape = name, spec.out_shape(*shapes)

    def conv(self, side: int = 0, out: int = 0, groups: bool = False) -> None:
        rows, columns, channels = self.shape
        side = side or int(self.rng.integers(1, min(rows, columns, 3) + 1))
        out = channels if groups else out or int(self.rng.integers(1, 6))
        padding = int(self.rng.integers(0, 2)) if side > 1 else 0
        padding = 1 if side == 3 and rows < 3 else padding
        rule, tensors = self.rule(out)
        spec = ConvSpec(
            rows, columns, channels, out, side, side, 1, padding, channels if groups else 1,
            FORMAT, WEIGHTS, rule,
        )  # fmt: skip
        each = 1 if groups else channels
        self.put(spec, {"weight": self.codes(out, side * side * each, each), **tensors})

    def circulant(self) -> None:
        rows, columns, channels = self.shape
        rule, tensors = self.rule(channels)
        storage = BlockCirculantStorage(2, 1)
        spec = ConvSpec(
            rows, columns, channels, channels, 1, 1, 1, 0, 1, FORMAT, WEIGHTS, rule,
            storage=storage,
        )  # fmt: skip
        weight = self.rng.integers(-4, 4, storage.tensor_shapes(channels, channels)["weight"])
        weight[self.rng.random(weight.shape[:2]) < 0.5] = 0
        self.put(spec, {"weight": weight, **tensors})

    def pool(self) -> None:
        rows, columns, channels = self.shape
        side = int(self.rng.integers(1, min(rows, columns, 2) + 1))
        if self.rng.random() < 0.5:
            self.put(MaxPoolSpec(rows, columns, channels, side, side, side, FORMAT), {})
        else:
            rule, tensors = self.rule(channels)
            spec = AveragePoolSpec(rows, columns, channels, side, side, side, FORMAT, rule)
            self.put(spec, tensors)

    def add(self) -> None:
        before, shape = self.edge, self.shape
        self.conv(1, shape[2])
        spec = AddSpec(self.shape, FORMAT, FORMAT, FORMAT, 2, 6)
        m = {name: self.rng.integers(-8, 9, 1) for name in ("mx", "my")}
        self.put(spec, m, before, self.edge)

    def linear(self, out: int, format: Format) -> None:
        features = int(np.prod(self.shape))
        rule, tensors = self.rule(out, format)
        spec = LinearSpec(features, out, FORMAT, WEIGHTS, rule)
        self.put(spec, {"weight": self.codes(out, features, self.shape[-1]), **tensors})


@st.composite
def networks(draw: st.DrawFn) -> Network:
    build = Builder(np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    steps = ["conv", "conv", "depthwise", "pool", "add", "circulant"]
    for step in draw(st.lists(st.sampled_from(steps), min_size=1, max_size=5)):
        if step == "depthwise":
            build.conv(groups=True)
        else:
            getattr(build, step)()
    build.linear(draw(st.integers(1, 5)), FORMAT)
    build.linear(3, UniformFormat(16, True))
    return Network("net", build.entry, tuple(build.nodes))


def frames_of(network: Network, count: int = 8) -> torch.Tensor:
    codes = np.random.default_rng(0).integers(0, 16, (count, *network.input.shape))
    codes[0], codes[1] = 0, 15
    return torch.from_numpy(codes)


@settings(max_examples=100, deadline=None)
@given(networks())
def test_output_codes_stay(network: Network) -> None:
    frames = frames_of(network)
    removed = remove_pruned(network)
    assert removed.input == network.input
    assert torch.equal(golden.run(removed, frames), golden.run(network, frames))
    assert removed.weights() <= network.weights()
    assert remove_pruned(removed).hash() == removed.hash()


def conv(
    name: str, source: str, weight: np.ndarray, b: list[int], padding: int = 0, **named: object
) -> Node:
    """A convolution of weight [out, rows, columns, channels] on a frame of 4 x 4, shift 1."""
    out, rows, columns, channels = weight.shape
    rule = RequantizeSpec(FORMAT, 1, "one", 0, 12)
    spec = ConvSpec(
        4, 4, channels, out, rows, columns, 1, padding, 1, FORMAT, WEIGHTS, rule, **named
    )
    return Node(name, spec, (source,), 1.0, {"weight": weight.reshape(out, -1), "b": np.array(b)})


def last(source: str, features: int, weight: np.ndarray) -> Node:
    rule = RequantizeSpec(UniformFormat(16, True), 0, "one", 0, 12)
    spec = LinearSpec(features, len(weight), FORMAT, WEIGHTS, rule)
    return Node("fc", spec, (source,), 1.0, {"weight": weight, "b": np.zeros(len(weight), int)})


def pruned(b: int, padding: int) -> Network:
    """Filter 1 of ``a`` is zero and has the constant code (b + 1) >> 1 at all positions."""
    first = np.ones((3, 1, 1, 1), dtype=int)
    first[1] = 0
    size = 4 + 2 * padding - 2
    nodes = (
        conv("a", "x", first, [0, b, 0]),
        conv("b", "a", np.ones((2, 3, 3, 3), dtype=int), [0, 0], padding),
        last("b", size * size * 2, np.ones((2, size * size * 2), dtype=int)),
    )
    return Network("n", InputSpec("x", (4, 4, 1), FORMAT, 1.0), nodes)


def test_zero_filter_of_code_zero_goes_whatever_the_padding() -> None:
    for padding in (0, 1):
        removed = remove_pruned(pruned(-4, padding))
        assert removed["a"].spec.out_channels == removed["b"].spec.channels == 2
        assert removed["b"].tensors["b"].tolist() == [0, 0]


def test_other_constants_fold_only_without_padding() -> None:
    folded, kept = remove_pruned(pruned(9, 0)), remove_pruned(pruned(9, 1))
    assert folded["a"].spec.out_channels == 2
    assert folded["b"].tensors["b"].tolist() == [9 * 5, 9 * 5]  # nine weights of 1, code 5
    assert kept["a"].spec.out_channels == 3


def test_idle_channels_go_through_pool_and_flatten() -> None:
    """Channel 0 of the flattened frame is idle at all positions, channel 1 at some only."""
    weight = np.ones((2, 4, 3), dtype=int)
    weight[:, :, 0] = 0
    weight[:, 1, 1] = 0
    nodes = (
        conv("a", "x", np.ones((3, 1, 1, 1), dtype=int), [0, 0, 0]),
        Node("p", MaxPoolSpec(4, 4, 3, 2, 2, 2, FORMAT), ("a",), 1.0, {}),
        last("p", 12, weight.reshape(2, 12)),
    )
    network = Network("n", InputSpec("x", (4, 4, 1), FORMAT, 1.0), nodes)
    removed = remove_pruned(network)
    assert removed["a"].spec.out_channels == removed["p"].spec.channels == 2
    assert removed["fc"].tensors["weight"].tolist() == weight[:, :, 1:].reshape(2, 8).tolist()


def test_channels_of_an_addition_stay() -> None:
    zero = np.zeros((2, 1, 1, 2), dtype=int)
    m = {"mx": np.array([1]), "my": np.array([1])}
    nodes = (
        conv("a", "x", zero, [0, 0]),
        Node("s", AddSpec((4, 4, 2), FORMAT, FORMAT, FORMAT, 0, 4), ("x", "a"), 1.0, m),
        last("s", 32, np.ones((2, 32), dtype=int)),
    )
    network = Network("n", InputSpec("x", (4, 4, 2), FORMAT, 1.0), nodes)
    assert remove_pruned(network)["a"].spec.out_channels == 2


def block_sparse(format: Format, mask: list[list[int]], values: int) -> Network:
    """Two linear layers; the first one, of 4 x 4, is kept in blocks of 2 x 2."""
    codes = np.full((4, 4), values)
    storage, tensors = BlockSparseStorage.pack(
        codes, np.array(mask), np.array([2, 2]), np.array([2, 2])
    )
    rule = RequantizeSpec(FORMAT, 0, "one", 0, 12)
    spec = LinearSpec(4, 4, FORMAT, format, rule, storage=storage)
    first = Node("a", spec, ("x",), 1.0, {**tensors, "b": np.zeros(4, dtype=int)})
    weight = np.array([[1, 1, 1, 0], [1, 1, 1, 0]])
    return Network("n", InputSpec("x", (4,), FORMAT, 1.0), (first, last("a", 4, weight)))


def masked(
    mask: np.ndarray, sizes: tuple[int, int], idle: list[int], rows: list[int] | None = None
) -> Network:
    """Two linear layers, the first one in blocks, with ``rows`` of zeros; ``idle`` is not read."""
    shape = mask.shape[0] * sizes[0], mask.shape[1] * sizes[1]
    rng = np.random.default_rng(3)
    codes = rng.integers(1, 4, shape)
    codes[rows or []] = 0
    groups = [np.full(count, size) for count, size in zip(mask.shape, sizes, strict=True)]
    storage, tensors = BlockSparseStorage.pack(codes, mask, *groups)
    rule = RequantizeSpec(FORMAT, 4, "one", 0, 12)
    spec = LinearSpec(shape[1], shape[0], FORMAT, WEIGHTS, rule, storage=storage)
    first = Node("a", spec, ("x",), 1.0, {**tensors, "b": rng.integers(0, 20, shape[0])})
    weight = rng.integers(1, 4, (3, shape[0]))
    weight[:, idle] = 0
    nodes = (first, last("a", shape[0], weight))
    return Network("n", InputSpec("x", (shape[1],), FORMAT, 1.0), nodes)


def balanced(block_rows: int, block_columns: int, per_row: int) -> np.ndarray:
    """A mask with as many blocks in every block row."""
    mask = np.zeros((block_rows, block_columns), dtype=int)
    mask[:, :per_row] = 1
    return np.random.default_rng(1).permuted(mask, axis=1)


def assert_same_codes(removed: Network, network: Network) -> None:
    frames = frames_of(network, 20)
    codes = golden.run(network, frames)
    assert (codes != codes[:1]).any()
    assert torch.equal(golden.run(removed, frames), codes)


def test_equal_counts_lose_rows_by_whole_block_rows() -> None:
    """Rows 8 to 15 are block row 1; row 20 is a part of block row 2 and stays."""
    network = masked(balanced(4, 6, 2), (8, 8), idle=[*range(8, 12), 20], rows=[*range(12, 16), 21])
    removed = remove_pruned(network)
    storage = removed["a"].spec.storage
    assert removed["a"].spec.out_features == removed["fc"].spec.in_features == 24
    assert (storage.per_row, storage.row_size, storage.column_size) == (2, 8, 8)
    assert_same_codes(removed, network)


def test_twenty_pruned_units_of_512_do_not_cost_the_next_layer_its_blocks() -> None:
    """The second layer's columns belong to groups of 8, and the first one is plain."""
    rng = np.random.default_rng(0)
    mask = balanced(16, 64, 24)
    storage, tensors = BlockSparseStorage.pack(
        rng.integers(1, 4, (128, 512)), mask, np.full(16, 8), np.full(64, 8)
    )
    weight = rng.integers(-4, 4, (512, 6))
    weight[rng.choice(512, 20, replace=False)] = 0
    rule = RequantizeSpec(FORMAT, 2, "one", 0, 12)
    first = LinearSpec(6, 512, FORMAT, WEIGHTS, rule)
    second = LinearSpec(
        512, 128, FORMAT, WEIGHTS, RequantizeSpec(FORMAT, 8, "one", 0, 16), storage=storage
    )
    nodes = (
        Node("a", first, ("x",), 1.0, {"weight": weight, "b": np.zeros(512, int)}),
        Node("b", second, ("a",), 1.0, {**tensors, "b": np.zeros(128, int)}),
        last("b", 128, rng.integers(-4, 4, (3, 128))),
    )
    network = Network("n", InputSpec("x", (6,), FORMAT, 1.0), nodes)
    removed = remove_pruned(network)
    assert removed["b"].spec.storage == storage
    assert removed.stored_bits() <= network.stored_bits()
    assert_same_codes(removed, network)


def test_a_column_group_that_no_block_row_has_goes() -> None:
    mask = np.insert(balanced(4, 5, 2), 3, 0, axis=1)
    network = masked(mask, (4, 4), idle=[])
    removed = remove_pruned(network)
    storage = removed["a"].spec.storage
    assert (storage.per_row, storage.column_groups, storage.column_size) == (2, 5, 4)
    assert removed["select"].spec.out_features == 20
    assert_same_codes(removed, network)


def test_a_column_group_that_some_block_rows_have_stays() -> None:
    """Group 1 is all zeros, but only two block rows have it; none has group 3, which goes."""
    mask = np.array([[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 0, 1], [1, 0, 0, 0, 1]])
    network = masked(mask, (4, 4), idle=[])
    node = network["a"]
    values = node.spec.values(node.tensors)
    values[:, 4:8] = 0
    _, tensors = BlockSparseStorage.pack(values, mask, np.full(4, 4), np.full(5, 4))
    node = replace(node, tensors={**tensors, "b": node.tensors["b"]})
    network = Network("n", network.input, (node, network["fc"]))
    removed = remove_pruned(network)
    assert removed["select"].tensors["indices"].tolist() == [*range(12), *range(16, 20)]
    assert removed["a"].tensors["mask"].tolist() == np.delete(mask, 3, axis=1).tolist()
    assert_same_codes(removed, network)


def test_free_sizes_shrink_only_where_that_takes_no_more_bits() -> None:
    """Without equal counts: one weight less is not worth 16 sizes, and eight rows are."""
    mask = np.tri(8, 8, dtype=int)
    one = masked(mask, (4, 4), idle=[1])
    assert remove_pruned(one)["a"].spec.storage == one["a"].spec.storage
    many = masked(mask, (4, 4), idle=[*range(17, 20), *range(21, 24), *range(26, 28)])
    removed = remove_pruned(many)
    assert removed["a"].spec.out_features == 24
    assert removed["a"].tensors["row_sizes"].tolist() == [4, 4, 4, 4, 1, 1, 2, 4]
    assert removed["a"].spec.stored_bits() < many["a"].spec.stored_bits()
    assert_same_codes(removed, many)


def test_storage_is_dense_where_that_is_smaller_or_nothing_is_absent() -> None:
    whole = remove_pruned(block_sparse(BipolarFormat(), [[1, 1], [1, 1]], 1))
    assert whole["a"].spec.storage == DenseStorage()
    one_bit = remove_pruned(block_sparse(UniformFormat(1, True), [[1, 1], [1, 0]], -1))
    assert one_bit["a"].spec.storage == DenseStorage()
    wide = remove_pruned(block_sparse(UniformFormat(8, True), [[1, 0], [0, 1]], 1))
    assert isinstance(wide["a"].spec.storage, BlockSparseStorage)
