"""Costs of pooling, residual addition and depthwise convolution, by examples worked out by hand."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from model.ir.add import AddSpec
from model.ir.beats import Beats
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.conv import ConvSpec
from model.ir.errors import BadInput
from model.ir.lane_array import LaneArraySpec
from model.ir.linear import LinearSpec
from model.ir.network import Node
from model.ir.numerics import UniformFormat
from model.ir.pool import AveragePoolSpec, MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from model.ir.tree import tree_stages

U4, S3 = UniformFormat(4, False), UniformFormat(3, True)
RULE = RequantizeSpec(U4, 4, "channel", 6, 10)
MEAN = AveragePoolSpec(6, 8, 5, 2, 2, 2, U4, RULE)
WHOLE = AveragePoolSpec(4, 4, 6, 4, 4, 1, U4, RULE)
DEPTHWISE = ConvSpec(6, 8, 5, 5, 3, 3, 1, 1, 5, U4, S3, RULE)


def pool_cost(spec: MaxPoolSpec | AveragePoolSpec, lanes: int):
    return spec.stage_cost((Beats((spec.rows, spec.columns, spec.channels), lanes),), lanes)


def test_pooling() -> None:
    """5 channels by twos are 3 groups: 48 pixels enter as 144 beats, 12 positions leave as 36."""
    cost = pool_cost(MEAN, 2)
    assert (cost.input_beats, cost.output_beats) == (144, 36)
    assert cost.ideal_cycles == Fraction(12 * 2 * 5, 2)  # two kernel columns of 2 channels a cycle
    assert cost.bound_cycles == 144
    assert cost.multipliers == ((2, 6, 6),)  # sums are 0..60
    assert cost.parameter_bits == 3 * 2 * (6 + 10)
    assert cost.buffer_bits == 2 * 8 * 3 * 2 * 4  # two rows of 8 pixels


def test_the_largest_code_needs_neither_multipliers_nor_parameters() -> None:
    cost = pool_cost(MaxPoolSpec(6, 8, 5, 2, 2, 2, U4), 5)
    assert (cost.input_beats, cost.output_beats) == (48, 12)
    assert cost.multiplier_count == cost.parameter_bits == 0
    assert cost.buffer_bits == 2 * 8 * 5 * 4


def test_global_pooling_keeps_a_sum_for_each_channel() -> None:
    """6 channels by fours: 32 beats in, 2 out; sums of 16 codes are 0..240."""
    cost = pool_cost(WHOLE, 4)
    assert (cost.input_beats, cost.output_beats, cost.cycles) == (32, 2, 32)
    assert cost.buffer_bits == 2 * 4 * 8
    assert cost.latency == 32 + 2 + 1 + 3  # operands, results, slice, requantizer
    assert pool_cost(WHOLE, 6).buffer_bits == 0  # a single group stays in registers


def test_residual_addition() -> None:
    spec = AddSpec((3, 2, 5), U4, S3, U4, 4, 6)
    cost = spec.stage_cost((Beats(spec.shape, 2), Beats(spec.shape, 2)), 2)
    assert cost.input_beats == cost.output_beats == cost.cycles == 18
    assert cost.ideal_cycles == 15
    assert cost.multipliers == ((2, 4, 6), (2, 3, 6))
    assert cost.parameter_bits == 12
    assert cost.buffer_bits == 0


def test_depthwise_convolution() -> None:
    """48 positions of 3 kernel columns of 3 groups of 2 channels."""
    cost = LaneArraySpec(2).cost(DEPTHWISE, (Beats((6, 8, 5), 2),), 2)
    assert cost.macs == 48 * 9 * 5
    assert cost.steps == 48 * 3 * 3
    assert cost.ideal_cycles == Fraction(cost.macs, 6)
    assert cost.weight_words == cost.activation_words == cost.steps * 6
    assert cost.weight_bits == 3 * 3 * 2 * 3 * 3
    assert cost.multipliers[0] == (6, 4, 3)
    assert cost.multipliers[1] == (2, DEPTHWISE.accumulator().bits, 6)
    assert cost.buffer_bits == 3 * 8 * 3 * 2 * 4


@pytest.mark.parametrize("spec", [MEAN, WHOLE, DEPTHWISE])
def test_lanes_beyond_the_channels_are_refused(spec) -> None:
    lanes = spec.channels + 1
    with pytest.raises(BadInput) as error:
        check_stage(spec, lanes)
    for words in ("lanes of layer", f"found {lanes}", f"at most its {spec.channels} channels"):
        assert words in str(error.value)


@pytest.mark.parametrize("spec", [MEAN, WHOLE, DEPTHWISE])
def test_as_many_lanes_as_channels_are_accepted(spec) -> None:
    check_stage(spec, spec.channels)


def check_stage(spec, lanes: int) -> None:
    if isinstance(spec, ConvSpec):
        LaneArraySpec(lanes).check(node(spec), lanes)
    else:
        spec.check_stage("layer", lanes)


def test_an_adder_takes_any_lanes() -> None:
    AddSpec((3, 2, 5), U4, S3, U4, 4, 6).check_stage("sum", 1000)


def node(spec) -> Node:
    shapes = spec.tensor_shapes()
    return Node("layer", spec, ("x",), 1.0, {k: np.zeros(v, int) for k, v in shapes.items()})


@pytest.mark.parametrize(
    ("spec", "lanes", "words"),
    [
        (LinearSpec(4, 4, U4, S3, RULE), 2, ["lane array for linear", "depthwise convolution"]),
        (replace(DEPTHWISE, groups=1), 2, ["a convolution over all channels"]),
        (replace(DEPTHWISE, out_channels=10), 2, ["10 output channels of 5", "1 × 1 convolution"]),
        (
            replace(DEPTHWISE, storage=BlockCirculantStorage(1, 9)),
            2,
            ["dense weights, which are all that a lane array reads"],
        ),
        (DEPTHWISE, 3, ["lanes of layer", "found 3", "the 2 of its lane array"]),
    ],
)
def test_what_a_lane_array_cannot_compute_is_refused(spec, lanes: int, words: list[str]) -> None:
    with pytest.raises(BadInput) as error:
        LaneArraySpec(2).check(node(spec), lanes)
    for word in words:
        assert word in str(error.value)


def test_a_lane_array_computes_a_depthwise_convolution() -> None:
    LaneArraySpec(2).check(node(DEPTHWISE), 2)


@pytest.mark.parametrize(
    ("terms", "stages"), [(1, 0), (2, 0), (3, 1), (8, 1), (9, 2), (32, 2), (33, 3)]
)
def test_register_stages_of_a_tree(terms: int, stages: int) -> None:
    assert tree_stages(terms) == stages
