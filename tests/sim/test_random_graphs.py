"""Level 6 of what counts as proven, for images: random graphs under random mappings.

The long run, of ``GYRE_CAMPAIGN`` benches with ``BENCH`` graphs each (by default over 500 in all)::

    python -m pytest -q -m slow tests/sim/test_random_graphs.py
"""

import os

import numpy as np
import pytest

from hdl.accelerator import fill_port
from model.ir.mapping import Mapping
from model.ir.network import Network
from model.ir.pacing import with_paced_fifos
from sim.block import FULL_SPEED, Pattern, run_blocks
from tests.sim.random_cases import costs_of, expected_of
from tests.sim.random_graphs import block_of, random_pair
from tests.tools import require_tools

pytestmark = pytest.mark.rtl

FRAMES = 6
BENCH = 8
CAMPAIGN = int(os.environ.get("GYRE_CAMPAIGN", "64"))
"""Benches of the campaign, each with so many graphs."""


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_tools("g++")


def check(pairs: list[tuple[Network, Mapping]], seed: int) -> None:
    """Every layer of every frame, the steps of the engines, the fill of the FIFOs and the pace.

    The fill never passes the depth, under any stalls; and with all the FIFOs that are computed a
    network at full speed keeps the pace of its slowest stage.
    """
    patterns = [
        FULL_SPEED,
        Pattern(True, False, seed + 1),
        Pattern(False, True, seed + 2),
        Pattern(True, True, seed + 3, 50 + seed % 50),
    ]
    blocks = [block_of(network, mapping, FRAMES, seed) for network, mapping in pairs]
    slowest = max(cost.cycles for pair in pairs for cost in costs_of(*pair))
    traces = run_blocks(blocks, patterns, patience=10 * slowest + 2000, settle=slowest + 100)
    for (network, mapping), block in zip(pairs, blocks, strict=True):
        shaped = block.codes.reshape(FRAMES, *network.input.shape)
        expected = {
            name: edge.reshape(FRAMES, -1) for name, edge in expected_of(network, shaped).items()
        }
        steps = {
            f"step_{node.name}": FRAMES * cost.steps
            for node, cost in mapping.costs(network)
            if cost.steps
        }
        for pattern in patterns:
            trace = traces[network.name, pattern]
            found = trace.taps | {network.output.name: trace.codes}
            for name, codes in found.items():
                assert np.array_equal(codes, expected[name]), f"{name} under {pattern}: {mapping}"
            assert trace.steps == steps, f"{network.name}: {mapping}"
            depths = {fill_port(fifo): fifo.depth for fifo in mapping.fifos}
            assert trace.fills.keys() == depths.keys()
            for name, fill in trace.fills.items():
                assert 0 < fill <= depths[name], f"{name} of {network.name} under {pattern}"
        trace = traces[network.name, FULL_SPEED]
        own = max(cost.cycles for cost in costs_of(network, mapping))
        assert trace.gaps[-1] >= 0.9 * own, f"{network.name}: {mapping}"
        if with_paced_fifos(mapping, network) == mapping:  # FIFOs that are full cost no cycle
            assert trace.gaps[-1] <= 1.05 * own, f"{network.name}: {mapping}"


def random_pairs(seed: int, count: int = BENCH) -> list[tuple[Network, Mapping]]:
    """Networks, each with a mapping."""
    rng = np.random.default_rng(seed)
    return [random_pair(rng, f"s{seed}n{n}") for n in range(count)]


def test_every_layer_of_a_random_graph_equals_golden() -> None:
    network, mapping = random_pairs(20)[1]  # short frames: a beat that waits costs a cycle of 17
    short = network, with_paced_fifos(mapping, network)
    assert short[1].fifos
    check([*random_pairs(2001, 6), short], 2001)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(CAMPAIGN))
def test_a_campaign_of_random_graphs_equals_golden(seed: int) -> None:
    check(random_pairs(seed), seed)
