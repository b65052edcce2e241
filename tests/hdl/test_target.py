"""The Verilog target: shared modules, and text that depends on nothing but the design."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.accelerator import Accelerator
from hdl.target import VerilogTarget, place
from hdl.verilog import generate, generate_accelerator
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import FixedPointFormat, UniformFormat
from model.ir.pe_array import PeArraySpec
from tests.examples import example_network, scale_of

ROOT = Path(__file__).resolve().parents[2]


class Adder(wiring.Component):
    """Adds a constant."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__({"i": In(8), "o": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.i + self.number)
        return m


class Pair(wiring.Component):
    """Two adders, each under a module name of its choice."""

    def __init__(self, *adders: tuple[str, int]) -> None:
        self.adders = adders
        super().__init__({"i": In(8), "o": Out(8)})

    def elaborate(self, platform):
        m = Module()
        value = self.i
        for n, (name, number) in enumerate(self.adders):
            adder = place(m, platform, f"adder_{n}", name, Adder, number)
            m.d.comb += adder.i.eq(value)
            value = adder.o
        m.d.comb += self.o.eq(value)
        return m


def example_mapping(network: Network, rows: int = 2, cols: int = 3) -> Mapping:
    """Every layer on an array of its own, one lane everywhere."""
    layers = [node.name for node in network.nodes if node.spec.kind == "linear"]
    engines = tuple(Engine(f"pe_{name}", PeArraySpec(rows, cols)) for name in layers)
    stages = tuple(
        StageMapping(node.name, f"pe_{node.name}" if node.name in layers else None, 1)
        for node in network.nodes
    )
    return Mapping(1, engines, stages)


def modules(verilog: str) -> list[str]:
    """Names of the modules that a source defines."""
    return re.findall(r"^module (\w+)", verilog, re.M)


def test_a_component_that_is_placed_twice_is_one_module() -> None:
    verilog = generate(Pair(("add_3", 3), ("add_3", 3)), "pair", {}).verilog
    assert modules(verilog) == ["pair", "add_3"]
    assert len(re.findall(r"^  add_3 \S+ \(", verilog, re.M)) == 2


def test_a_name_cannot_stand_for_two_components() -> None:
    with pytest.raises(ValueError, match=r"module name 'add' stands for .*\(3,\).*, not .*\(4,\)"):
        generate(Pair(("add", 3), ("add", 4)), "pair", {})


def test_without_a_target_a_component_is_placed_as_it_is() -> None:
    m = Module()
    assert isinstance(place(m, None, "adder", "add_3", Adder, 3), Adder)


def test_every_module_of_an_accelerator_is_defined_once() -> None:
    network = example_network()
    found = modules(generate_accelerator(Accelerator(network, example_mapping(network))).verilog)
    assert len(found) == len(set(found))
    assert len([name for name in found if name.startswith("pe_")]) == 3


def test_layers_that_differ_in_scale_or_in_the_place_of_m_share_their_lanes() -> None:
    network = example_network()
    first = network.nodes[1]
    format = UniformFormat(4, True)
    requantize = replace(first.spec.requantize, out_format=format, per="channel")
    spec = replace(first.spec, in_features=7, in_format=format, requantize=requantize)
    other = replace(
        spec,
        in_format=format,
        requantize=replace(requantize, out_format=FixedPointFormat(4, True, 3), per="layer"),
    )
    tensors = dict(first.tensors) | {"weight": first.tensors["weight"][:, :7]}
    nodes = (
        Node("a", spec, ("x",), scale_of(spec.out_format), tensors),
        Node("b", other, ("a",), scale_of(other.out_format), tensors | {"m": tensors["m"][:1]}),
    )
    pair = Network("pair", InputSpec("x", (7,), format, scale_of(format)), nodes)
    found = modules(generate_accelerator(Accelerator(pair, example_mapping(pair))).verilog)
    assert len([name for name in found if name.startswith("pe_")]) == 1
    assert len([name for name in found if name.startswith("requantize_")]) == 1


SCRIPT = """
from hdl.accelerator import Accelerator
from hdl.verilog import generate_accelerator
from tests.examples import example_network
from tests.hdl.test_target import example_mapping
network = example_network()
design = generate_accelerator(Accelerator(network, example_mapping(network), taps=True))
print(design.verilog, sorted(design.files.items()))
"""


def test_the_text_is_the_same_in_every_process() -> None:
    texts = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_the_text_is_the_same_twice_in_one_process() -> None:
    network = example_network()
    accelerators = [Accelerator(network, example_mapping(network)) for _ in range(2)]
    first, second = (generate_accelerator(accelerator) for accelerator in accelerators)
    assert first == second


def test_the_text_names_neither_a_path_nor_a_tool_version() -> None:
    target = VerilogTarget()
    target.convert(Adder(1), "adder")
    assert str(ROOT) not in target.text()
    assert "Generated by" not in target.text()


def test_no_vector_is_without_bits() -> None:
    """``[-1:0]`` has two bits in Verilog."""
    network = example_network()
    for rows, cols in ((8, 12), (1, 1)):
        mapping = example_mapping(network, rows, cols)
        verilog = generate_accelerator(Accelerator(network, mapping, taps=True)).verilog
        assert "[-1:0]" not in verilog
