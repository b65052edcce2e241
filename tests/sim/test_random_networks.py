"""Level 6 of what counts as proven: random networks under random mappings."""

import os
from dataclasses import replace

import numpy as np
import pytest

from model.ir.mapping import Mapping
from model.ir.network import Network
from sim.block import FULL_SPEED, Pattern, run_blocks
from tests.sim.random_cases import (
    block_of,
    costs_of,
    expected_of,
    random_mapping,
    random_network,
)
from tests.tools import require_tools

pytestmark = pytest.mark.rtl

FRAMES = 14
SETTLED = 4
"""Frames at the end that are in steady state."""

BENCH = 8
CAMPAIGN = int(os.environ.get("GYRE_CAMPAIGN", "26"))
"""Benches of the campaign, each with so many networks."""


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_tools("g++")


def check(pairs: list[tuple[Network, Mapping]], seed: int) -> None:
    """Every layer of every frame, the cycles, the latency and the steps of some accelerators."""
    patterns = [
        FULL_SPEED,
        Pattern(True, False, seed + 1),
        Pattern(False, True, seed + 2),
        Pattern(True, True, seed + 3),
        Pattern(True, True, seed + 4, 50 + seed % 50),
    ]
    blocks = [block_of(network, mapping, FRAMES, seed) for network, mapping in pairs]
    traces = run_blocks(blocks, patterns)
    for (network, mapping), block in zip(pairs, blocks, strict=True):
        expected = expected_of(network, block.codes)
        for pattern in patterns:
            trace = traces[network.name, pattern]
            found = trace.taps | {network.output.name: trace.codes}
            for name, codes in found.items():
                assert np.array_equal(codes, expected[name]), f"{name} under {pattern}: {mapping}"
        costs, trace = costs_of(network, mapping), traces[network.name, FULL_SPEED]
        cycles = max(cost.cycles for cost in costs)
        assert trace.gaps[-SETTLED:] == [cycles] * SETTLED, f"{network.name}: {mapping}"
        steps = {
            f"step_{node.name}": FRAMES * cost.steps
            for node, cost in mapping.costs(network)
            if cost.steps
        }
        for pattern in patterns:
            assert traces[network.name, pattern].steps == steps, f"{network.name}: {mapping}"
        assert trace.latency <= sum(cost.latency for cost in costs), f"{network.name}: {mapping}"


def random_pairs(seed: int, count: int = BENCH) -> list[tuple[Network, Mapping]]:
    """Networks, each with a mapping."""
    rng = np.random.default_rng(seed)
    networks = [random_network(rng, f"s{seed}n{n}") for n in range(count)]
    return [(network, random_mapping(rng, network)) for network in networks]


def test_every_layer_of_a_random_network_equals_golden() -> None:
    check(random_pairs(1001, 6), 1001)


def test_a_mapping_never_changes_a_code() -> None:
    rng = np.random.default_rng(17)
    network = random_network(rng, "net")
    while len(network.nodes) < 3 or network.nodes[0].spec.kind != "select":
        network = random_network(rng, "net")
    mappings = [random_mapping(rng, network) for _ in range(3)]
    assert len(set(mappings)) == 3
    blocks = []
    for n, mapping in enumerate(mappings):
        # The names of the .hex files follow those of the nodes.
        block = block_of(renamed(network, f"m{n}_"), renamed_mapping(mapping, f"m{n}_"), FRAMES, 3)
        blocks.append(block)
    traces = run_blocks(blocks, [FULL_SPEED, Pattern(True, True, 5)])
    expected = expected_of(network, blocks[0].codes)[network.output.name]
    for trace in traces.values():
        assert np.array_equal(trace.codes, expected)
    assert len({traces[block.name, FULL_SPEED].latency for block in blocks}) > 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(CAMPAIGN))
def test_a_campaign_of_random_networks_equals_golden(seed: int) -> None:
    check(random_pairs(seed), seed)


def renamed(network: Network, prefix: str) -> Network:
    """The network with other names for its nodes."""
    own = {node.name for node in network.nodes}
    nodes = tuple(
        replace(
            node,
            name=prefix + node.name,
            inputs=tuple(prefix + edge if edge in own else edge for edge in node.inputs),
        )
        for node in network.nodes
    )
    return replace(network, name=prefix + network.name, nodes=nodes)


def renamed_mapping(mapping: Mapping, prefix: str) -> Mapping:
    """The mapping of a network whose nodes have other names."""
    stages = tuple(replace(stage, node=prefix + stage.node) for stage in mapping.stages)
    return replace(mapping, stages=stages)
