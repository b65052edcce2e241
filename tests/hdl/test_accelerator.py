"""The accelerator: mappings that do not fit, its ports, its memories against the formulas."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from hdl.accelerator import Accelerator
from hdl.pe.processing_element import SHIFT_ADD_BITS
from hdl.verilog import generate_accelerator
from model import golden
from model.ir.add import AddSpec
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.mapping import Engine, FifoMapping, Mapping, StageMapping
from model.ir.matrix import MatrixSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import BipolarFormat, CodebookFormat, UniformFormat
from model.ir.pe_array import PeArraySpec
from model.ir.requantize import RequantizeSpec
from model.ir.schedule import least_depths, with_fifos
from sim.bench import SimulationError
from sim.run import Simulator, Stall
from tests.examples import codes_of, example_network, image_network
from tests.tools import require_tools

KEEP = StageMapping("keep", None, 3)
ENGINES = tuple(Engine(f"pe{n}", PeArraySpec(2, 3)) for n in range(3))
STAGES = (KEEP, *(StageMapping(f"fc{n}", f"pe{n}", lanes) for n, lanes in enumerate((2, 1, 1))))
GOOD = Mapping(3, ENGINES, STAGES)


def with_stage(stage: StageMapping) -> Mapping:
    """The good mapping with another stage for one node."""
    return replace(GOOD, stages=tuple(stage if s.node == stage.node else s for s in STAGES))


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        (
            with_stage(StageMapping("fc0", "pe0", 4)),
            ["lanes of fc0", "found 4", "a divisor of the 2 rows", "plan again"],
        ),
        (
            with_stage(StageMapping("fc0", "pe9", 2)),
            ["engine of fc0", "found pe9", "one of ['pe0', 'pe1', 'pe2']", "plan again"],
        ),
        (
            with_stage(StageMapping("fc0", None, 2)),
            ["engine of fc0", "found none", "an engine for 'linear' layers", "plan again"],
        ),
        (
            with_stage(StageMapping("keep", "pe0", 2)),
            ["engine of keep", "a PE array", "an engine for 'select' layers", "another engine"],
        ),
        (
            replace(GOOD, stages=STAGES[:-1]),
            ["stages", "'fc1']", "one for each of", "'fc2']", "plan again"],
        ),
        (
            replace(GOOD, stages=STAGES[::-1]),
            ["stages", "found ['fc2'", "one for each of ['keep'", "plan again"],
        ),
        (
            replace(GOOD, engines=(ENGINES[0], *ENGINES)),
            ["engines", "['pe0', 'pe0', 'pe1', 'pe2']", "unique names", "rename one"],
        ),
        (
            with_stage(StageMapping("fc1", "pe0", 2)),
            ["engines", "several nodes on pe0", "an engine of its own", "plan again"],
        ),
    ],
    ids=["lanes", "engine", "none", "kind", "missing", "order", "names", "shared"],
)
def test_a_mapping_that_does_not_fit_is_refused_by_name(mapping: Mapping, words) -> None:
    with pytest.raises(BadInput) as caught:
        Accelerator(example_network(), mapping)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "mapped", "expected"),
    [
        *((kind, False, "an engine for") for kind in ("conv", "depth", "fc")),
        *((kind, True, "an engine for") for kind in ("sum", "top", "mean", "few")),
        ("conv", True, "dense or block-sparse weights"),
        ("depth", True, "a lane array, for the convolution is depthwise"),
    ],
)
def test_a_layer_on_what_does_not_compute_it_is_refused_by_name(
    kind: str, mapped: bool, expected: str
) -> None:
    whole = image_network()
    node = replace(whole[kind], inputs=("x",) * len(whole[kind].inputs))
    (edge, *_) = whole[kind].inputs
    network = Network("one", InputSpec("x", whole.shape(edge), whole.format(edge), 1.0), (node,))
    engines = (Engine("pe", PeArraySpec(1, 1)),) if mapped else ()
    mapping = Mapping(1, engines, (StageMapping(kind, "pe" if mapped else None, 1),))
    with pytest.raises(BadInput) as caught:
        Accelerator(network, mapping)
    assert kind in caught.value.thing
    assert expected in caught.value.expected
    if expected == "an engine for":
        assert f"{node.spec.kind!r} layers" in caught.value.expected


def one_layer(weight_format, in_format=None) -> Network:
    """Five inputs, one layer of two outputs."""
    middle = CodebookFormat((-1, 2)) if in_format is None else in_format
    spec = LinearSpec(
        5, 2, middle, weight_format, RequantizeSpec(UniformFormat(8, True), 0, "one", 0, 4)
    )
    node = Node("fc", spec, ("x",), 1.0, {"weight": np.zeros((2, 5), int), "b": np.zeros(2, int)})
    entry = InputSpec("x", (5,), UniformFormat(1, False), 1.0)
    if (
        in_format is None
    ):  # no network carries such codes yet: only the check of the engine is asked
        return node
    return Network("one", entry, (node,))


def test_padding_without_a_zero_on_either_side_is_refused() -> None:
    node = one_layer(BipolarFormat())
    with pytest.raises(BadInput) as caught:
        PeArraySpec(2, 2).check(node, 1)
    for word in ("columns of the PE array of fc", "found 2", "words without padding", "plan again"):
        assert word in str(caught.value)
    PeArraySpec(2, 5).check(node, 1)


@pytest.mark.parametrize("weight_format", [BipolarFormat(), CodebookFormat((1, 0))])
def test_padding_with_a_zero_on_one_side_is_taken(weight_format) -> None:
    network = one_layer(weight_format, UniformFormat(1, False))
    mapping = Mapping(1, (Engine("pe", PeArraySpec(2, 2)),), (StageMapping("fc", "pe", 1),))
    Accelerator(network, mapping)


def test_names_of_nodes_cannot_collide_with_those_of_ports() -> None:
    network = example_network()
    first = replace(network.nodes[0], name="valid")
    second = replace(network.nodes[1], name="valid_moves", inputs=("valid",))
    network = replace(network, nodes=(first, second))
    stages = (replace(STAGES[0], node="valid"), replace(STAGES[1], node="valid_moves"))
    ports = Accelerator(network, Mapping(3, ENGINES[:1], stages), taps=True).signature.members
    assert {"tap_valid", "moves_valid", "tap_valid_moves", "moves_valid_moves"} <= set(ports)


def test_memories_have_the_bits_of_the_formulas() -> None:
    network = example_network()
    for rows, cols, lanes in ((2, 3, 1), (4, 4, 4), (1, 1, 1), (6, 5, 3)):
        engines = tuple(Engine(f"pe{n}", PeArraySpec(rows, cols)) for n in range(3))
        stages = (KEEP, *(StageMapping(f"fc{n}", f"pe{n}", lanes) for n in range(3)))
        mapping = Mapping(5, engines, stages)
        verilog = generate_accelerator(Accelerator(network, mapping)).verilog
        roms = re.findall(r"\.DEPTH\(32'd(\d+)\),.*?\.WIDTH\(32'd(\d+)\)", verilog, re.S)
        assert len(roms) == 1 + 3 * 2 + 1  # mask; weights and channels; an m of a layer
        costs = [cost for _, cost in mapping.costs(network)]
        stated = sum(cost.weight_bits + cost.parameter_bits for cost in costs)
        assert sum(int(depth) * int(width) for depth, width in roms) == stated
        buffers = re.findall(r"^  reg \[(\d+):0\] \S+ \[(\d+):0\];", verilog, re.M)
        assert sum((int(a) + 1) * (int(b) + 1) for a, b in buffers) == sum(
            cost.buffer_bits for cost in costs
        )


def test_every_file_holds_as_many_words_as_its_memory() -> None:
    network = example_network()
    accelerator = Accelerator(network, GOOD)
    verilog = generate_accelerator(accelerator).verilog
    roms = re.findall(
        r"\.DEPTH\(32'd(\d+)\),\s+\.FILE\(\"(\S+)\"\),\s+\.WIDTH\(32'd(\d+)\)", verilog
    )
    assert {name for _, name, _ in roms} == set(accelerator.files())
    for depth, name, width in roms:
        lines = accelerator.files()[name].splitlines()
        assert len(lines) == int(depth), name
        assert {len(line) for line in lines} == {-(-int(width) // 4)}, name


def test_multipliers_are_those_of_the_formula() -> None:
    network = example_network()
    verilog = generate_accelerator(Accelerator(network, GOOD)).verilog
    stated = 0
    for node, cost in GOOD.costs(network):
        stated += cost.multiplier_count
        weight = node.spec.weight_format if isinstance(node.spec, MatrixSpec) else None
        if isinstance(weight, UniformFormat | BipolarFormat) and weight.bits <= SHIFT_ADD_BITS:
            stated -= cost.multipliers[0][0]  # sums of shifted activations instead
    text = dict(re.findall(r"^module (\S+) ?\(.*?\);(.*?)^endmodule", verilog, re.M | re.S))
    placed = re.findall(r"^  (pe_\S+|requantize_\S+) \S+ \(", verilog, re.M)
    assert sum(text[name].count(" * ") for name in placed) == stated


def branches() -> tuple[Network, Mapping]:
    """An image to a layer, past it to a sum, and the sum past another layer to the next sum."""
    rng = np.random.default_rng(3)
    format, weight = UniformFormat(4, False), UniformFormat(3, True)
    rule = RequantizeSpec(format, 4, "one", 0, 8)
    nodes, engines, stages = [], [], []
    for layer, sum_, source, (rows, cols) in (
        ("a", "first", "x", (4, 3)),
        ("b", "second", "first", (8, 6)),
    ):
        spec = LinearSpec(24, 24, format, weight, rule)
        tensors = {
            "weight": codes_of(weight.codes, rng, 24, 24),
            "b": rng.integers(-50, 90, 24),
        }
        factors = {"mx": np.array([3]), "my": np.array([-2])}
        nodes.append(Node(layer, spec, (source,), 1.0, tensors))
        add = AddSpec((24,), format, format, format, 1, 4)
        nodes.append(Node(sum_, add, (layer, source), 1.0, factors))
        engines.append(Engine(f"pe_{layer}", PeArraySpec(rows, cols)))
        stages += [StageMapping(layer, f"pe_{layer}", 2), StageMapping(sum_, None, 2)]
    network = Network("branches", InputSpec("x", (24,), format, 1.0), tuple(nodes))
    return network, Mapping(2, tuple(engines), tuple(stages))


def ran(network: Network, mapping: Mapping, codes: np.ndarray):
    """The mapping in the simulator, its outputs those of the golden model."""
    require_tools("g++")
    entry = torch.from_numpy(codes)
    simulator = Simulator(Accelerator(network, mapping))
    results = [simulator.run(entry, stall=s) for s in (Stall(), Stall(True, True, 3))]
    expected = golden.run(network, entry)
    assert all(torch.equal(result.outputs, expected) for result in results)
    for fifo in mapping.fifos:
        for result in results:
            assert result.counters[f"fill_{fifo.node}_{fifo.input}"] <= fifo.depth
    return results[0]


@pytest.mark.rtl
def test_branches_keep_the_rate_of_the_slowest_stage_with_the_fifos_of_the_schedule() -> None:
    network, mapping = branches()
    mapping = with_fifos(mapping, network)
    assert [(fifo.node, fifo.input) for fifo in mapping.fifos] == [("first", 1), ("second", 1)]
    codes = codes_of(network.input.format.codes, np.random.default_rng(1), 20, 24)
    result = ran(network, mapping, codes)
    assert result.cycles_per_frame == max(cost.cycles for _, cost in mapping.costs(network))


@pytest.mark.rtl
def test_the_least_depths_do_and_three_beats_less_wait_for_ever(monkeypatch) -> None:
    """The slice at the input of the sum holds two beats more than the least depth counts on."""
    network, bare = branches()
    codes = codes_of(network.input.format.codes, np.random.default_rng(1), 6, 24)
    least = {place: depth for place, depth in least_depths(bare, network).items() if depth}
    assert least == {("first", 1): 11, ("second", 1): 11}
    fifos = tuple(FifoMapping(*place, depth) for place, depth in least.items())
    ran(network, replace(bare, fifos=fifos), codes)
    monkeypatch.setattr(Mapping, "check", lambda mapping, network: mapping)
    shallow = replace(bare, fifos=(fifos[0], replace(fifos[1], depth=8)))
    with pytest.raises(SimulationError, match="frame 0 never came: 0 of"):
        Simulator(Accelerator(network, shallow)).run(torch.from_numpy(codes))


def test_a_graph_that_would_wait_for_ever_is_not_built() -> None:
    network, mapping = branches()
    with pytest.raises(BadInput) as caught:
        Accelerator(network, mapping)
    for word in ("input 1 of first", "from 'x'", "a depth of 0 beats", "at least 11"):
        assert word in str(caught.value)


def test_memories_of_fifos_have_the_bits_of_the_formulas() -> None:
    network, mapping = branches()
    mapping = with_fifos(mapping, network)
    verilog = generate_accelerator(Accelerator(network, mapping)).verilog
    buffers = re.findall(r"^  reg \[(\d+):0\] \S+ \[(\d+):0\];", verilog, re.M)
    stated = sum(cost.buffer_bits for _, cost in mapping.costs(network))
    assert sum((int(a) + 1) * (int(b) + 1) for a, b in buffers) == stated
