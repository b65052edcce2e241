"""The kept network of 8x blocks and 3 bits: overhead and cycles of its block-sparse arrays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.compress.constraints import build
from model.ir.block_sparse import BlockSparseStorage
from model.ir.linear import LinearSpec
from model.ir.network import Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pe_array import PeArraySpec, index_bits
from model.ir.planner import Budget, plan
from model.ir.requantize import RequantizeSpec

FOLDER = Path(__file__).parents[2] / "zoo" / "clp_mnist_energy" / "network"
BUDGET = Budget(256, goal="energy")


@pytest.fixture(scope="module")
def layers() -> list:
    """Nodes of the network with blocks, each with its array and its cost."""
    network = Network.load(FOLDER)
    mapping = plan(network, BUDGET)
    engines = {engine.name: engine.spec for engine in mapping.engines}
    found = []
    for stage, (node, cost) in zip(mapping.stages, mapping.costs(network), strict=True):
        if stage.engine is not None and isinstance(node.spec.storage, BlockSparseStorage):
            found.append((node, engines[stage.engine], cost))
    assert [node.name for node, _, _ in found] == ["fc1", "fc2"]
    return found


def test_indices_and_scales_take_at_most_a_twentieth_of_the_weight_bits(layers) -> None:
    weights = extra = 0
    for node, spec, cost in layers:
        storage = node.spec.storage
        assert node.spec.requantize.per == "layer"
        weights += storage.kept * node.spec.weight_format.bits
        blocks = storage.row_groups * storage.per_row
        index = blocks * index_bits(storage.column_groups)
        assert cost.steps == blocks  # a block is a tile
        assert spec.per_fold(node.spec) == storage.per_row  # and its entry holds no mark
        extra += index + node.spec.requantize.m_bits
    assert extra / weights <= 0.05


def test_cycles_are_those_of_the_kept_share_of_a_dense_array(layers) -> None:
    for node, spec, cost in layers:
        layer = node.spec
        dense = PeArraySpec(spec.rows, spec.cols)
        density = layer.storage.kept / (layer.matrix_rows * layer.matrix_columns)
        whole = dense.row_folds(layer) * dense.col_folds(layer)
        assert cost.cycles <= 1.02 * density * whole, node.name


def test_only_kept_weights_are_stored_and_read(layers) -> None:
    for node, _, cost in layers:
        assert cost.weight_words == node.spec.storage.kept == cost.kept_macs


def test_energy_mapping_moves_fewer_bits_than_the_fastest_one() -> None:
    network = Network.load(FOLDER)
    least, fastest = (
        sum(
            cost.weight_words * node.spec.weight_format.bits
            for node, cost in plan(network, budget).costs(network)
            if node.name.startswith("fc")
        )
        for budget in (BUDGET, Budget(256))
    )
    assert least < fastest


def test_two_level_blocks_are_counted_as_one_level_is() -> None:
    """Equally many inner blocks stand in each of their rows: outer ones kept times inner ones."""
    weight = torch.from_numpy(np.random.default_rng(5).normal(size=(16, 32)))
    outer = {"rows": 8, "columns": 16, "keep": 1}
    inner = {"rows": 4, "columns": 4, "keep": 3}
    kept = build({"two_level_blocks": {"outer": outer, "inner": inner}}, "fc1").project(weight)
    mask = (kept != 0).numpy().reshape(4, 4, 8, 4).any(axis=(1, 3))
    storage, tensors = BlockSparseStorage.pack(
        np.ones((16, 32), dtype=np.int64), mask, [4] * 4, [4] * 8
    )
    assert storage.per_row == 3
    rule = RequantizeSpec(UniformFormat(4, False), 3, "one", 0, 8)
    layer = LinearSpec(
        32, 16, UniformFormat(4, False), UniformFormat(2, True), rule, storage=storage
    )
    node = Node("fc1", layer, ("x",), 1.0, tensors | {"b": np.zeros(16, dtype=np.int64)})
    spec = PeArraySpec(4, 4, tiles=1)
    spec = replace(spec, tiles=spec.kept_tiles(node))
    spec.check(node, 4)
    assert spec.tiles == 4 * 3
    assert spec.per_fold(layer) == 3
