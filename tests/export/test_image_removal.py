"""Removal in convolution nets is exact in codes, whatever the network."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import golden
from model.export import remove_pruned
from model.ir.add import AddSpec
from model.ir.block_sparse import BlockSparseStorage
from model.ir.conv import ConvSpec
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import BipolarFormat, Format, UniformFormat
from model.ir.pool import AveragePoolSpec, MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from model.ir.storage import DenseStorage
from tests.export.pruned import (
    FORMAT,
    STEPS,
    WEIGHTS,
    constant,
    difference,
    frames_of,
    image_net,
)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from(STEPS), min_size=1, max_size=5))
def test_codes_of_every_edge_stay(seed: int, steps: list[str]) -> None:
    network = image_net(seed, steps)
    removed = remove_pruned(network)
    assert difference(network) is None
    assert removed.input == network.input
    assert removed.weights() <= network.weights()
    assert remove_pruned(removed).hash() == removed.hash()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_storage_grows_or_loses_equal_counts(seed: int) -> None:
    network = image_net(seed, ["conv"])
    removed = remove_pruned(network)
    for node in removed.nodes:
        if not isinstance(node.spec, LinearSpec):
            continue
        before, after = network[node.name].spec, node.spec
        old, new = (
            one.storage.stored_bits(one.matrix_rows, one.matrix_columns, one.weight_format)
            for one in (before, after)
        )
        assert new <= old
        if isinstance(after.storage, BlockSparseStorage):
            assert after.storage.as_even_as(before.storage)


def test_generated_networks_can_show_a_difference() -> None:
    assert sum(constant(image_net(seed)) for seed in range(100)) <= 50


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


def test_a_filter_that_stays_without_weights_and_zero_has_the_multiplier_0() -> None:
    """Filter 1 of ``a`` keeps no weight and its code 5 goes into a padded convolution."""
    network = pruned(9, 1)
    a = network["a"]
    storage, weight = BlockSparseStorage.pack(
        np.array([[1], [0], [0]]), np.array([[1], [0], [1]]), [1, 1, 1], [1]
    )
    rule = replace(a.spec.requantize, per="channel", m_bits=3)
    spec = replace(a.spec, weight_format=BipolarFormat(), requantize=rule, storage=storage)
    tensors = a.tensors | weight | {"m": np.array([2, 3, -1])}
    nodes = (replace(a, spec=spec, tensors=tensors), *network.nodes[1:])
    network = replace(network, nodes=nodes)
    assert difference(network) is None
    removed = remove_pruned(network)
    assert removed["a"].tensors["m"].tolist() == [2, 0, -1]
    assert remove_pruned(removed).hash() == removed.hash()


def constant_before(node: Node, shape: tuple[int, int]) -> Network:
    """Filter 1 of ``a`` is zero and has the code (9 + 1) >> 1 = 5; then ``node``, then fc."""
    first = np.ones((3, 1, 1, 1), dtype=int)
    first[1] = 0
    size = shape[0] * shape[1] * 3
    weight = np.tile([[1, 2, 3], [-1, 1, 0]], shape[0] * shape[1])
    nodes = (conv("a", "x", first, [0, 9, 0]), node, last("p", size, weight))
    return Network("n", InputSpec("x", (4, 4, 1), FORMAT, 1.0), nodes)


def test_a_constant_goes_through_average_pooling_with_its_requantization() -> None:
    """A window's sum is 4 * 5 = 20; (20 * 3 - 4 + 4) >> 3 = 7, at each of four positions."""
    rule = RequantizeSpec(FORMAT, 3, "layer", 4, 8)
    spec = AveragePoolSpec(4, 4, 3, 2, 2, 2, FORMAT, rule)
    tensors = {"m": np.array([3]), "b": np.array([0, -4, 2])}
    network = constant_before(Node("p", spec, ("a",), 1.0, tensors), (2, 2))
    removed = remove_pruned(network)
    assert removed["a"].spec.out_channels == removed["p"].spec.channels == 2
    assert removed["p"].tensors["b"].tolist() == [0, 2]
    assert removed["fc"].tensors["b"].tolist() == [4 * 2 * 7, 4 * 1 * 7]
    assert_same_codes(removed, network)


def test_a_constant_goes_through_a_depthwise_convolution_with_its_weights() -> None:
    """Weights 1, 2, 0, -1 sum to 2; (2 * 5 + 3 + 1) >> 1 = 7, at each of nine positions."""
    rule = RequantizeSpec(FORMAT, 1, "one", 0, 8)
    spec = ConvSpec(4, 4, 3, 3, 2, 2, 1, 0, 3, FORMAT, WEIGHTS, rule)
    weight = np.array([[1, 1, 0, 1], [1, 2, 0, -1], [0, 0, 1, 0]])
    node = Node("p", spec, ("a",), 1.0, {"weight": weight, "b": np.array([0, 3, 0])})
    network = constant_before(node, (3, 3))
    removed = remove_pruned(network)
    assert (removed["p"].spec.channels, removed["p"].spec.groups) == (2, 2)
    assert removed["p"].tensors["weight"].tolist() == weight[[0, 2]].tolist()
    assert removed["fc"].tensors["b"].tolist() == [9 * 2 * 7, 9 * 1 * 7]
    assert_same_codes(removed, network)


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
    frames = frames_of(network.input, 20)
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
