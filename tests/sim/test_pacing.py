"""FIFOs before windows, in RTL: with them a network keeps the pace of its slowest stage."""

from dataclasses import replace

import numpy as np
import pytest

from model.ir.add import AddSpec
from model.ir.conv import ConvSpec
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pacing import with_paced_fifos
from model.ir.pe_array import PeArraySpec
from model.ir.pim_arithmetic import PIMArithmetic
from model.ir.pim_array import PimArraySpec
from model.ir.placement import place
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


def on_macros(name: str, copies: int) -> tuple[Network, Mapping]:
    """The same two on macros of 32 x 16 cells, their sums a channel a beat."""
    network, pim = two_convolutions(name)[0], PIMArithmetic(32, 1, "twos_complement")
    nodes = tuple(replace(n, spec=replace(n.spec, arithmetic=pim)) for n in network.nodes)
    network, engines = replace(network, nodes=nodes), []
    for node, cols in zip(nodes, (3, 15), strict=True):
        tensors = dict(node.tensors)
        macros, tiles = place(node.spec, tensors, 16).macros, len(pim.tiles(node.spec, tensors))
        engines.append(Engine(node.name, PimArraySpec(cols, 16, macros, tiles, copies)))
    stages = tuple(StageMapping(node.name, node.name, 1) for node in nodes)
    mapping = Mapping(1, tuple(engines), stages).check(network)
    return network, with_paced_fifos(mapping, network)


def residual(name: str, rng: np.random.Generator) -> tuple[Network, Mapping]:
    """Two residual blocks, the second with a short cut that subsamples, on narrow streams."""
    nodes: list[Node] = []

    def conv(
        edge: str, size: int, channels: int, out: int, kernel: int = 3, stride: int = 1
    ) -> str:
        sizes = size, size, channels, out, kernel, kernel, stride, kernel // 2, 1
        spec = ConvSpec(*sizes, U4, S4, RULE)
        tensors = {"weight": codes_of(S4.codes, rng, *spec.tensor_shapes()["weight"])}
        tensors |= requantize_tensors(RULE, out, rng)
        nodes.append(Node(f"{name}{len(nodes)}", spec, (edge,), 1.0, tensors))
        return nodes[-1].name

    def add(edges: tuple[str, str], *shape: int) -> str:
        factors = {"mx": np.array([5]), "my": np.array([-3])}
        spec = AddSpec(shape, U4, U4, U4, 3, 4)
        nodes.append(Node(f"{name}{len(nodes)}", spec, edges, 1.0, factors))
        return nodes[-1].name

    first = conv("x", 12, 2, 4)
    first = add((conv(conv(first, 12, 4, 4), 12, 4, 4), first), 12, 12, 4)
    long = conv(conv(first, 12, 4, 12, stride=2), 6, 12, 12)
    short = conv(first, 12, 4, 12, kernel=1, stride=2)
    conv(add((long, short), 6, 6, 12), 6, 12, 4)
    arrays = [(1, 6), (1, 6, 2), (1, 6, 2), (1, 12), (2, 18), (1, 1), (1, 9)]
    network = Network(name, InputSpec("x", (12, 12, 2), U4, 1.0), tuple(nodes))
    engines, stages = [], []
    for node in nodes:
        engine = None
        if isinstance(node.spec, ConvSpec):
            engine = f"e_{node.name}"
            engines.append(Engine(engine, PeArraySpec(*arrays[len(engines)])))
        stages.append(StageMapping(node.name, engine, 1))
    return network, with_paced_fifos(Mapping(1, tuple(engines), tuple(stages)), network)


def test_a_branching_network_keeps_the_pace_of_its_slowest_stage() -> None:
    """As ResNet-18 does. The short cut takes its input in bursts, behind a FIFO of its own."""
    require_tools("g++")
    paced, plain = (residual(name, np.random.default_rng(4)) for name in ("paced", "plain"))
    (short,) = (node.name for node in plain[0].nodes if getattr(node.spec, "area", 9) == 1)
    fifos = tuple(fifo for fifo in plain[1].fifos if fifo.node != short)
    assert len(fifos) == len(plain[1].fifos) - 1
    pairs = [paced, (plain[0], replace(plain[1], fifos=fifos).check(plain[0]))]
    blocks = [block_of(network, mapping, FRAMES, 1) for network, mapping in pairs]
    traces = run_blocks(blocks, [FULL_SPEED], settle=2000)
    bound = max(cost.bound_cycles for _, cost in paced[1].costs(paced[0]))
    for (network, _), block in zip(pairs, blocks, strict=True):
        shaped = block.codes.reshape(FRAMES, *network.input.shape)
        expected = expected_of(network, shaped)[network.output.name].reshape(FRAMES, -1)
        assert np.array_equal(traces[network.name, FULL_SPEED].codes, expected)
    assert traces["paced", FULL_SPEED].gaps[-1] == bound
    assert traces["plain", FULL_SPEED].gaps[-1] > bound


def test_with_fifos_before_windows_a_network_keeps_the_pace_of_its_slowest_stage() -> None:
    require_tools("g++")
    plain, paced = two_convolutions("plain"), two_convolutions("paced")
    pairs = [plain, (paced[0], with_paced_fifos(paced[1], paced[0]))]
    pairs += [on_macros("macros", 1), on_macros("copies", 2)]
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
    assert gaps[1:] == [1, 1, 1]
