"""The accelerator: mappings that do not fit, its ports, its memories against the formulas."""

import re
from dataclasses import replace

import numpy as np
import pytest

from hdl.accelerator import Accelerator
from hdl.verilog import generate_accelerator
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import BipolarFormat, CodebookFormat, UniformFormat
from model.ir.pe_array import PeArraySpec
from model.ir.requantize import RequantizeSpec
from tests.examples import example_network, image_network

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
    ("kind", "mapped"),
    [
        *((kind, False) for kind in ("conv", "depth", "fc")),
        *((kind, True) for kind in ("conv", "depth", "sum", "top", "mean", "few", "fc")),
    ],
)
def test_a_layer_without_hardware_is_refused_by_name(kind: str, mapped: bool) -> None:
    whole = image_network()
    node = replace(whole[kind], inputs=("x",) * len(whole[kind].inputs))
    (edge, *_) = whole[kind].inputs
    network = Network("one", InputSpec("x", whole.shape(edge), whole.format(edge), 1.0), (node,))
    engines = (Engine("pe", PeArraySpec(1, 1)),) if mapped else ()
    mapping = Mapping(1, engines, (StageMapping(kind, "pe" if mapped else None, 1),))
    with pytest.raises(BadInput) as caught:
        Accelerator(network, mapping)
    assert kind in caught.value.thing
    if kind != "fc":
        assert f"an engine for {node.spec.kind!r} layers" in caught.value.expected
    elif mapped:
        assert "found block-sparse weights; expected dense weights" in str(caught.value)


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
    for word in ("columns of the PE array of fc", "found 2", "a divisor of 5", "plan again"):
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
    costs = [cost for _, cost in GOOD.costs(network)]
    text = dict(re.findall(r"^module (\S+) ?\(.*?\);(.*?)^endmodule", verilog, re.M | re.S))
    placed = re.findall(r"^  (pe_\S+|requantize_\S+) \S+ \(", verilog, re.M)
    assert sum(text[name].count(" * ") for name in placed) == sum(c.multiplier_count for c in costs)
