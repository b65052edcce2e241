"""The kept network of 8x blocks and 3 bits: overhead and cycles of its block-sparse arrays."""

from pathlib import Path

import pytest

from model.ir.block_sparse import BlockSparseStorage
from model.ir.network import Network
from model.ir.pe_array import PeArraySpec, index_bits
from model.ir.planner import Budget, plan

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
