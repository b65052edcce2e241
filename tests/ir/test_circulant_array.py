"""Costs of the circulant array, by examples worked out by hand; what it refuses."""

from fractions import Fraction

import numpy as np
import pytest

from model.ir.beats import Beats
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.circulant_array import CirculantArraySpec
from model.ir.conv import ConvSpec
from model.ir.fft_arithmetic import FFTArithmetic
from model.ir.linear import LinearSpec
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.network import Node
from model.ir.numerics import UniformFormat
from model.ir.requantize import RequantizeSpec
from tests.examples import vector
from tests.tools import refused

S8 = UniformFormat(8, True)
RULE = RequantizeSpec(S8, 4, "channel", 6, 12)


def arithmetic(k: int) -> FFTArithmetic:
    levels = k.bit_length() - 1
    return FFTArithmetic(0, (1,) * levels, 0, 2, (1,) * levels)


def layer(k: int, rows: int, columns: int) -> LinearSpec:
    storage = BlockCirculantStorage(k)
    return LinearSpec(columns, rows, S8, S8, RULE, arithmetic(k), storage)


def conv(k: int, shape: tuple[int, int, int], out_channels: int) -> ConvSpec:
    storage = BlockCirculantStorage(k, 9)
    return ConvSpec(*shape, out_channels, 3, 3, 1, 1, 1, S8, S8, RULE, arithmetic(k), storage)


def node(spec: LinearSpec | ConvSpec) -> Node:
    shapes = spec.tensor_shapes()
    return Node("fc", spec, ("x",), 1.0, {k: np.zeros(s, np.int64) for k, s in shapes.items()})


GATES = layer(8, 4096, 672)  # p = 512, q = 84


def test_the_gate_matrix_of_c_lstm_on_171_lanes() -> None:
    """3 groups of 84 steps; each group's 171 blocks leave three a cycle, in 57 cycles."""
    engine = CirculantArraySpec(8, 171)
    lanes = engine.drain_lanes(GATES)
    cost = engine.cost(GATES, vector(672, 8), lanes)
    assert lanes == 24
    assert engine.blocks_per_beat(lanes) == 3
    assert engine.sets(lanes) == 57
    assert engine.last_sets(GATES, lanes) == 57  # 170 blocks
    assert cost.cycles == cost.steps == 252
    assert cost.ideal_cycles == Fraction(84 * 512, 171)
    assert cost.input_beats == 84
    assert cost.output_beats == 171
    bits = GATES.arithmetic.spectrum_bits(GATES)
    assert cost.weight_bits == 512 * 84 * 8 * bits == GATES.chip_bits()
    words = GATES.arithmetic.word_bits(GATES)
    assert cost.buffer_bits == 2 * 84 * 8 * words  # the drain needs none


@pytest.mark.parametrize(("k", "form", "each"), [(8, 3, 11), (8, 4, 14), (16, 3, 23), (16, 4, 30)])
def test_multipliers(k: int, form: int, each: int) -> None:
    """Lanes, one forward unit, three inverse units, 3 k requantizers."""
    spec = layer(k, 512 * k, 84 * k)
    engine = CirculantArraySpec(k, 171, form=form)
    unit = engine.forward_unit(spec).multiplier_count
    assert unit == {8: 2, 16: 6 + 2 * form}[k]
    found = engine.cost(spec, vector(84 * k, k), 3 * k).multiplier_count
    assert found == 171 * each + unit + 3 * unit + 3 * k


@pytest.mark.parametrize(
    ("lanes", "least"),
    [(1, 1), (2, 1), (10, 1), (11, 2), (21, 2), (42, 4), (84, 8), (85, 40), (171, 24), (512, 64)],
)
def test_the_fewest_output_lanes_that_drain_a_group(lanes: int, least: int) -> None:
    """84 cycles: up to 84 / 8 lanes a code a cycle, 84 lanes a block; 85 lanes in fives."""
    assert CirculantArraySpec(8, lanes).drain_lanes(GATES) == least


def test_folded_units_take_a_block_as_often_as_the_rate_asks() -> None:
    engine = CirculantArraySpec(8, 32, "folded")  # 16 groups of 84 steps
    assert engine.forward_unit(GATES).interval == 16
    assert engine.inverse_unit(GATES, 8).interval == 2  # 32 blocks in 84 cycles
    assert engine.inverse_unit(GATES, 4).interval == 1  # two beats each
    assert engine.inverse_unit(GATES, 16).interval == 5  # 16 pairs
    assert engine.queue_depth(GATES, 8) == 34
    pipelined = CirculantArraySpec(8, 32)
    assert pipelined.queue_depth(GATES, 8) == 0
    assert engine.cost(GATES, vector(672, 8), 8).cycles == 16 * 84
    assert (
        engine.cost(GATES, vector(672, 8), 16).multiplier_count
        < pipelined.cost(GATES, vector(672, 8), 16).multiplier_count
    )


def test_a_convolution_takes_its_vectors_one_by_one() -> None:
    spec = conv(4, (6, 5, 10), 13)  # p = 4, q = 27; 30 positions
    cost = CirculantArraySpec(4, 2).cost(spec, (Beats((6, 5, 10), 4),), 4)
    assert cost.steps == 30 * 2 * 27
    assert cost.cycles >= cost.steps
    assert cost.output_beats == 30 * 4
    assert cost.buffer_bits > 2 * 27 * 4 * spec.arithmetic.word_bits(spec)


def test_survives_saving_as_part_of_a_mapping() -> None:
    engine = Engine("circ", CirculantArraySpec(8, 171, "folded", 4))
    mapping = Mapping(8, (engine,), (StageMapping("fc", "circ", 24),))
    assert Mapping.from_json(mapping.to_json(), "mapping") == mapping


def test_refuses_a_body_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="body must be one of pipelined, folded, not 'flat'"):
        CirculantArraySpec(8, 2, "flat")


def test_refuses_a_size_without_a_transform() -> None:
    with pytest.raises(ValueError, match="k must be one of 2, 4, 8, 16, 32, not 12"):
        CirculantArraySpec(12, 2)


def test_refuses_a_layer_of_exact_arithmetic() -> None:
    spec = LinearSpec(16, 16, S8, S8, RULE, storage=BlockCirculantStorage(8))
    error = refused(lambda: CirculantArraySpec(8, 2).check(node(spec), 8))
    assert "exact arithmetic" in error.expected


@pytest.mark.parametrize(
    ("engine", "lanes", "thing", "expected"),
    [
        (CirculantArraySpec(4, 2), 4, "k of the circulant array of fc", "the 8 of the layer's"),
        (CirculantArraySpec(8, 513), 8, "lanes of the circulant array of fc", "at most the 512"),
        (CirculantArraySpec(8, 6), 3, "lanes of fc", "a divisor of k = 8, or k times a divisor"),
        (CirculantArraySpec(8, 6), 32, "lanes of fc", "divisor of the 6 lanes"),
        (CirculantArraySpec(8, 171), 8, "lanes of fc", "at least 24, so that a group of block"),
    ],
)
def test_refuses_what_does_not_fit_the_layer(engine, lanes, thing, expected) -> None:
    error = refused(lambda: engine.check(node(GATES), lanes))
    assert error.thing == f"mapping: {thing}"
    assert expected in error.expected


def test_refuses_beats_of_two_vectors() -> None:
    spec = conv(4, (3, 3, 4), 13)
    error = refused(lambda: CirculantArraySpec(4, 4).check(node(spec), 16))
    assert "one of [1, 2, 4, 8]" in error.expected


def test_says_when_no_output_lanes_could_drain_a_group() -> None:
    spec = layer(8, 8 * 607, 16)  # q = 2, and a prime number of lanes: one block a beat, or all
    error = refused(lambda: CirculantArraySpec(8, 607).check(node(spec), 8))
    assert error.expected == "a circulant array of fewer than 607 lanes"
