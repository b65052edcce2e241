"""Costs of the PIM array, by examples worked out by hand; what it and its planner refuse."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from model.export import to_pim
from model.ir.beats import Beats
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.conv import ConvSpec
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pim_arithmetic import PIMArithmetic
from model.ir.pim_array import PimArraySpec
from model.ir.pim_options import PIMOptions
from model.ir.pim_planner import PimBudget, pim_engines
from model.ir.planner import Budget, plan
from model.ir.requantize import RequantizeSpec
from tests.examples import vector
from tests.tools import refused

S8, U8 = UniformFormat(8, True), UniformFormat(8, False)
RULE = RequantizeSpec(U8, 4, "channel", 6, 12)
PIM = PIMArithmetic(32, 1, "twos_complement")


def node(spec: LinearSpec | ConvSpec, name: str = "fc", source: str = "x") -> Node:
    shapes = spec.tensor_shapes()
    return Node(name, spec, (source,), 1.0, {k: np.ones(s, np.int64) for k, s in shapes.items()})


CONV1 = ConvSpec(28, 28, 1, 20, 5, 5, 1, 0, 1, U8, S8, RULE, PIM)
FC = LinearSpec(100, 60, U8, S8, RULE, PIM)
BLOCKS = BlockCirculantStorage(4)
CIRCULANT = LinearSpec(100, 60, U8, S8, RULE, PIM, BLOCKS)


def test_the_first_layer_of_lenet5_on_macros_of_32_columns() -> None:
    """8 slices of 20 outputs take 5 macros of 4 outputs; 576 positions of 8 cycles each."""
    engine = PimArraySpec(5, 32, macros=5, tiles=1)
    engine.check(node(CONV1), 3)
    cost = engine.cost(CONV1, (Beats((28, 28, 1), 1),), 3)
    assert engine.vector_cycles(CONV1) == 8
    assert cost.cycles == cost.steps == 576 * 8
    assert cost.ideal_cycles == 576 * 8
    assert cost.macros == 5
    assert cost.multipliers == ((3, CONV1.accumulator().bits, 6),)
    assert cost.weight_bits == 20 * 25 * 8


def test_copies_share_the_vectors_as_far_as_the_window_feeds_them() -> None:
    """A position takes 5 beats of the window, so that copies save no more than 3 of 8 cycles."""
    two = PimArraySpec(5, 32, macros=5, tiles=1, copies=2)
    cost = two.cost(CONV1, (Beats((28, 28, 1), 1),), 4)
    assert cost.ideal_cycles == Fraction(576 * 8, 2)
    assert cost.cycles == 576 * 5
    assert cost.macros == 10


def test_circulant_blocks_take_k_steps_and_a_kth_of_the_cells() -> None:
    """15 block rows and 25 blocks: 4 tiles of 8 blocks, 4 macros of 4 block rows each."""
    engine = PimArraySpec(4, 32, macros=16, tiles=4)
    engine.check(node(CIRCULANT), 4)
    cost = engine.cost(CIRCULANT, vector(100, 4), 4)
    dense = PimArraySpec(13, 32, macros=60, tiles=4)
    dense.check(node(FC), 8)
    assert cost.cycles == engine.vector_cycles(CIRCULANT) == 4 * dense.vector_cycles(FC) == 32
    assert cost.weight_bits * 4 == dense.cost(FC, vector(100, 13), 8).weight_bits
    assert Fraction(cost.kept_macs, cost.weight_words) == 4


def test_results_that_share_a_converter_take_turns() -> None:
    engine = PimArraySpec(13, 32, macros=60, tiles=4, share=8)
    assert engine.vector_cycles(FC) == 8 * 8
    assert engine.macro(FC).converters == 4


@pytest.mark.parametrize(
    ("changes", "lanes", "text"),
    [
        ({"macros": 59}, 8, "macros of the PIM array of fc: found 59; expected the 60 on which"),
        ({"tiles": 3}, 8, "tiles of the PIM array of fc: found 3; expected the 4 on which"),
        ({"copies": 2}, 8, "copies of the PIM array of fc: found 2; expected at most 1"),
        ({}, 61, "lanes of fc: found 61; expected at most the 60 outputs"),
    ],
)
def test_refuses_what_does_not_fit_the_layer(changes, lanes, text) -> None:
    engine = replace(PimArraySpec(13, 32, macros=60, tiles=4), **changes)
    assert text in str(refused(lambda: engine.check(node(FC), lanes)))


def test_refuses_input_beats_that_split_a_circulant_block() -> None:
    engine = PimArraySpec(6, 32, macros=16, tiles=4)
    found = refused(lambda: engine.check(node(CIRCULANT), 4))
    assert (found.thing, found.found) == ("mapping: columns of the PIM array of fc", "6")
    assert "whole blocks" in found.expected


def test_refuses_a_layer_of_another_arithmetic() -> None:
    plain = LinearSpec(4, 4, U8, S8, RULE)
    found = refused(lambda: PimArraySpec(4, 32, 1, 1).check(node(plain), 4))
    assert (found.thing, found.found) == ("mapping: engine of fc", "a PIM array")
    assert "layers of exact arithmetic" in found.expected


def test_refuses_a_step_beyond_every_count() -> None:
    far = LinearSpec(4, 4, U8, S8, RULE, replace(PIM, adc_bits=2, step=100))
    found = refused(lambda: PimArraySpec(4, 32, 1, 1).check(node(far), 4))
    assert found.thing == "mapping: engine of fc"
    assert "step must be from 1 to 33, not 100" in found.found


def network() -> Network:
    exact = replace(CONV1, arithmetic=type(FC)(4, 4, U8, S8, RULE).arithmetic)
    nodes = (
        node(exact, "conv", "x"),
        node(LinearSpec(24 * 24 * 20, 10, U8, S8, RULE), "fc", "conv"),
    )
    plain = Network("two", InputSpec("x", (28, 28, 1), U8, 1.0), nodes)
    return to_pim(plain, PIMOptions(rows=32, columns=32)).network


def test_the_planner_takes_the_copies_that_the_macros_allow() -> None:
    """The first layer's 5 macros once or, within the budget, twice; a third copy saves nothing."""
    net = network()
    least = sum(engine.macros for engine in pim_engines(net, PimBudget(32)).values())
    for macros, copies in ((None, 1), (least, 1), (least + 4, 1), (least + 5, 2), (least + 99, 2)):
        found = pim_engines(net, PimBudget(32, macros=macros))
        assert found["conv"].copies == copies
        assert found["fc"].copies == 1
    found = refused(lambda: pim_engines(net, PimBudget(32, macros=least - 1)))
    assert (found.thing, found.found) == ("mapping.macros", str(least - 1))
    assert found.expected.startswith(f"at least the {least} macros")


def test_a_plan_has_arrays_whose_ports_keep_up() -> None:
    net = network()
    mapping = plan(net, Budget(64, pim=PimBudget(32)))
    assert mapping.check(net) is mapping
    costs = {found.name: cost for found, cost in mapping.costs(net)}
    assert costs["conv"].cycles == 576 * 8
    for stage, found in zip(mapping.stages, net.nodes, strict=True):
        engine, layer = mapping.engine(stage.engine), found.spec
        assert engine.beats(layer, stage.lanes) <= engine.vector_cycles(layer) * 2


def test_refuses_to_plan_macros_for_another_engine() -> None:
    found = refused(lambda: plan(network(), Budget(64)))
    assert found.thing == "mapping.engine"
    assert found.found == "no macros, with conv, fc of pim arithmetic"
