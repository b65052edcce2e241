"""A filter without weights, of a format without a zero, in RTL: its multiplier is 0."""

import numpy as np
import pytest
import torch

from hdl.accelerator import Accelerator
from model import golden
from model.export import remove_pruned
from model.ir.block_sparse import BlockSparseStorage
from model.ir.conv import ConvSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import BipolarFormat, UniformFormat
from model.ir.planner import Budget, plan
from model.ir.requantize import RequantizeSpec
from sim import simulate
from tests.examples import codes_of
from tests.tools import require_tools

EMPTY = [1, 3]


def network() -> Network:
    """Two filters of four keep no weight, and a padded convolution reads their constants."""
    rng = np.random.default_rng(5)
    entry, weights = UniformFormat(4, False), BipolarFormat()
    mask = np.array([[1, 0], [0, 0], [1, 1], [0, 0]])
    storage, tensors = BlockSparseStorage.pack(
        codes_of(weights.codes, rng, 4, 4), mask, [1] * 4, [2] * 2
    )
    rule = RequantizeSpec(entry, 2, "channel", 4, 8)
    first = ConvSpec(4, 4, 4, 4, 1, 1, 1, 0, 1, entry, weights, rule, storage=storage)
    tensors |= {"m": np.array([2, 3, -3, 7]), "b": np.array([20, 33, 40, 12])}
    out = RequantizeSpec(UniformFormat(16, True), 0, "one", 0, 4)
    second = ConvSpec(4, 4, 4, 2, 3, 3, 1, 1, 1, entry, UniformFormat(3, True), out)
    tail = {"weight": codes_of(UniformFormat(3, True).codes, rng, 2, 36), "b": np.array([1, -2])}
    nodes = (Node("a", first, ("x",), 1.0, tensors), Node("b", second, ("a",), 1.0, tail))
    return Network("net", InputSpec("x", (4, 4, 4), entry, 1.0), nodes)


@pytest.mark.rtl
def test_rows_without_weights_equal_golden_in_rtl() -> None:
    require_tools("g++")
    removed = remove_pruned(network())
    assert removed["a"].tensors["m"][EMPTY].tolist() == [0, 0]
    codes = torch.from_numpy(
        codes_of(removed.input.format.codes, np.random.default_rng(6), 5, *removed.input.shape)
    )
    expected = golden.run(network(), codes)
    found = simulate(Accelerator(removed, plan(removed, Budget(16))), codes)
    assert torch.equal(golden.run(removed, codes), expected)
    assert torch.equal(found.outputs, expected)
    assert len(expected.unique()) > 20
