"""A circulant network written out: the same function, and no more multiplier bits."""

from dataclasses import replace

import pytest
import torch

from gyre import against_dense
from gyre.flow import ZOO
from model import golden
from model.ir.errors import BadInput
from model.ir.network import Network
from model.ir.planner import Budget, plan


@pytest.fixture(scope="module")
def network() -> Network:
    """The last circulant layer and the dense one behind it."""
    whole = Network.load(ZOO / "osc_mnist_mlp" / "network")
    fc2, fc3 = whole.nodes[-2:]
    entry = replace(whole.input, shape=(fc2.spec.in_features,), format=fc2.spec.in_format)
    return replace(whole, input=entry, nodes=(replace(fc2, inputs=(entry.name,)), fc3))


def test_a_network_of_blocks_of_4_written_out_gives_the_same_codes(network: Network) -> None:
    dense = against_dense.written_out(network)
    assert [node.spec.storage.describe() for node in dense.nodes] == ["dense", "dense"]
    span = network.input.format.codes
    codes = torch.randint(span.low, span.high + 1, (50, *network.input.shape))
    assert torch.equal(golden.run(dense, codes), golden.run(network, codes))


def test_the_mapping_has_as_many_multipliers_as_the_bits_allow(network: Network) -> None:
    dense = against_dense.written_out(network)
    found = against_dense.plan_within_bits(dense, 4000)
    bits = against_dense.multiplier_bits(dense, found)
    used = sum(cost.multiplier_count for _, cost in found.costs(dense))
    assert 3000 < bits <= 4000
    more = plan(dense, Budget(used + 8))
    assert against_dense.multiplier_bits(dense, more) > 4000


def test_too_few_multiplier_bits_are_refused(network: Network) -> None:
    with pytest.raises(BadInput, match="multiplier bits of osc_mnist_mlp: found 90"):
        against_dense.plan_within_bits(against_dense.written_out(network), 90)
