"""FIFOs before windows, in RTL: with them a network keeps the pace of its slowest stage."""

from dataclasses import replace

import numpy as np
import pytest

from model.ir.conv import ConvSpec
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pacing import with_paced_fifos
from model.ir.pe_array import PeArraySpec
from model.ir.requantize import RequantizeSpec
from sim.block import FULL_SPEED, Pattern, run_blocks
from tests.examples import codes_of
from tests.sim.random_cases import expected_of
from tests.sim.random_graphs import block_of
from tests.strategies import requantize_tensors
from tests.tools import require_tools

pytestmark = pytest.mark.rtl

U4, S4 = UniformFormat(4, False), UniformFormat(4, True)
RULE = RequantizeSpec(U4, 5, "one", 0, 9)
FRAMES = 8


def two_convolutions(name: str) -> tuple[Network, Mapping]:
    """The second one needs four rows before it goes on, from one that is nearly as slow."""
    rng, nodes, edge = np.random.default_rng(3), [], "x"
    sizes = ((10, 10, 1, 3, 3, 3, 1, 1, 1), (10, 10, 3, 4, 5, 5, 1, 0, 1))
    for n, size in enumerate(sizes):
        spec = ConvSpec(*size, U4, S4, RULE)
        weight = codes_of(S4.codes, rng, *spec.tensor_shapes()["weight"])
        tensors = {"weight": weight} | requantize_tensors(RULE, spec.out_channels, rng)
        nodes.append(Node(f"{name}{n}", spec, (edge,), 1.0, tensors))
        edge = nodes[-1].name
    network = Network(name, InputSpec("x", (10, 10, 1), U4, 1.0), tuple(nodes))
    engines = Engine("a", PeArraySpec(1, 3)), Engine("b", PeArraySpec(1, 15))
    stages = StageMapping(f"{name}0", "a", 1), StageMapping(f"{name}1", "b", 1)
    return network, Mapping(1, engines, stages).check(network)


def test_with_fifos_before_windows_a_network_keeps_the_pace_of_its_slowest_stage() -> None:
    require_tools("g++")
    plain, paced = two_convolutions("plain"), two_convolutions("paced")
    pairs = [plain, (paced[0], with_paced_fifos(paced[1], paced[0]))]
    assert len(pairs[1][1].fifos) == 1
    blocks = [block_of(network, mapping, FRAMES, 1) for network, mapping in pairs]
    stalled = Pattern(True, True, 5)
    traces = run_blocks(blocks, [FULL_SPEED, stalled], settle=2000)
    gaps = []
    for (network, mapping), block in zip(pairs, blocks, strict=True):
        shaped = block.codes.reshape(FRAMES, *network.input.shape)
        expected = expected_of(network, shaped)[network.output.name].reshape(FRAMES, -1)
        for pattern in (FULL_SPEED, stalled):
            assert np.array_equal(traces[network.name, pattern].codes, expected)
        slowest = max(cost.cycles for _, cost in replace(mapping, fifos=()).costs(network))
        gaps.append(traces[network.name, FULL_SPEED].gaps[-1] / slowest)
    assert gaps[0] > 1.1
    assert gaps[1] == 1
