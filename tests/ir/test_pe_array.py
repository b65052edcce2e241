"""Costs of the PE array, by examples worked out by hand."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from model.ir.beats import Beats
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.block_sparse import BlockSparseStorage
from model.ir.conv import ConvSpec
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import BipolarFormat, CodebookFormat, UniformFormat
from model.ir.pe_array import PeArraySpec
from model.ir.planner import Budget, plan
from model.ir.requantize import RequantizeSpec
from model.ir.select import SelectSpec
from tests.examples import vector
from tests.tools import refused

UNSIGNED, SIGNED = UniformFormat(4, False), UniformFormat(3, True)


def layer(out: int, features: int, per: str = "layer") -> LinearSpec:
    m_bits = 0 if per == "one" else 6
    requantize = RequantizeSpec(UNSIGNED, 4, per, m_bits, 12)
    return LinearSpec(features, out, UNSIGNED, SIGNED, requantize)


@pytest.mark.parametrize(
    ("out", "features", "rows", "cols", "lanes", "cycles"),
    [
        (6, 8, 6, 8, 6, 1),  # all at once
        (6, 8, 3, 4, 3, 4),  # 2 row folds of 2 steps
        (6, 8, 3, 4, 1, 6),  # the same, but each fold takes 3 cycles to drain
        (6, 8, 3, 2, 1, 8),  # 2 row folds of 4 steps, which hide the drain
        (5, 7, 2, 3, 1, 9),  # 3 row folds of 3 steps, the last half empty
        (7, 2, 4, 2, 1, 7),  # one step a fold: 4 cycles drain the first fold, 3 the second
        (7, 2, 4, 2, 2, 4),  # 2 and 2 cycles
        (6, 2, 6, 2, 2, 3),  # one step, 3 cycles to drain
        (1, 9, 1, 2, 1, 5),  # 9 columns in pairs
        (10, 40, 1, 8, 1, 50),  # the last layer of the MNIST network
    ],
)
def test_cycles(out: int, features: int, rows: int, cols: int, lanes: int, cycles: int) -> None:
    cost = PeArraySpec(rows, cols).cost(layer(out, features), vector(features, cols), lanes)
    assert cost.cycles == cycles


@pytest.mark.parametrize(("in_lanes", "cycles"), [(8, 4), (2, 4), (1, 8)])
def test_a_narrow_input_stream_holds_the_array_up(in_lanes: int, cycles: int) -> None:
    """6x8 on 3x4 takes 4 cycles; 8 inputs one at a time take 8."""
    cost = PeArraySpec(3, 4).cost(layer(6, 8), vector(8, in_lanes), 3)
    assert cost.cycles == cycles


def test_work_that_divides_evenly() -> None:
    cost = PeArraySpec(3, 4).cost(layer(6, 8), vector(8, 4), 3)
    assert cost.macs == 48
    assert cost.ideal_cycles == 4
    assert cost.bound_cycles == 4
    assert cost.steps == 4
    assert cost.weight_words == 48  # 4 words of 12 codes: each weight once
    assert cost.activation_words == 16  # 4 words of 4 codes: each of 8 activations twice
    assert (cost.input_beats, cost.output_beats) == (2, 2)


def test_work_that_does_not_divide() -> None:
    """5x7 on 2x3: 3 folds of 3 steps are 9 words of 6 codes, of which 35 count."""
    cost = PeArraySpec(2, 3).cost(layer(5, 7), vector(7, 2), 1)
    assert cost.macs == 35
    assert cost.ideal_cycles == Fraction(35, 6)
    assert cost.bound_cycles == 6
    assert cost.steps == 9
    assert cost.weight_words == 54
    assert cost.activation_words == 27
    assert (cost.input_beats, cost.output_beats) == (4, 5)


def test_memory_bits() -> None:
    """6x8 on 3x4: 48 weights of 3 bits; two vectors of 8 codes of 4 bits."""
    cost = PeArraySpec(3, 4).cost(layer(6, 8), vector(8, 4), 3)
    assert cost.weight_bits == 144
    assert cost.buffer_bits == 64
    assert cost.parameter_bits == 6 * 12 + 6  # a bias for each of 6 rows, one m
    assert cost.memory_bits == 144 + 64 + 78


@pytest.mark.parametrize(("per", "bits"), [("one", 72), ("layer", 78), ("channel", 108)])
def test_requantization_parameters(per: str, bits: int) -> None:
    assert PeArraySpec(3, 4).cost(layer(6, 8, per), vector(8, 4), 3).parameter_bits == bits


def test_padded_weights_take_memory() -> None:
    """5x7 on 2x3 is stored as 6x9."""
    cost = PeArraySpec(2, 3).cost(layer(5, 7), vector(7, 3), 1)
    assert cost.weight_bits == 54 * 3
    assert cost.buffer_bits == 2 * 9 * 4


def test_multipliers() -> None:
    """A product is -60..45 and a sum of 8 of them -480..360: 10 bits, times 6 bits of m."""
    array = (12, 4, 3)
    cost = PeArraySpec(3, 4).cost(layer(6, 8), vector(8, 4), 3)
    assert cost.multipliers == (array, (3, 10, 6))
    assert cost.multiplier_count == 15
    assert cost.multiplier_bits == 12 * 12 + 3 * 60
    assert PeArraySpec(3, 4).cost(layer(6, 8, "one"), vector(8, 4), 3).multipliers == (array,)


@pytest.mark.parametrize(
    ("out", "features", "rows", "cols", "lanes"),
    [(6, 8, 6, 8, 6), (6, 8, 6, 4, 3), (6, 8, 6, 2, 2), (6, 8, 6, 1, 1), (5, 9, 5, 3, 5)],
)
def test_fewest_lanes_that_hide_the_drain(
    out: int, features: int, rows: int, cols: int, lanes: int
) -> None:
    assert PeArraySpec(rows, cols).drain_lanes(layer(out, features)) == lanes


@pytest.mark.parametrize(
    ("cols", "stages"), [(1, 0), (2, 0), (3, 1), (4, 1), (8, 1), (9, 2), (32, 2), (33, 3)]
)
def test_register_stages_of_the_adder_tree(cols: int, stages: int) -> None:
    """A stage sums four terms; the accumulator adds the last two."""
    assert PeArraySpec(1, cols).tree_stages() == stages


@pytest.mark.parametrize(
    ("in_format", "weight", "cols", "fits"),
    [
        (BipolarFormat(), BipolarFormat(), 4, True),
        (BipolarFormat(), BipolarFormat(), 5, False),
        (BipolarFormat(), CodebookFormat((1, 0, -1)), 5, False),
        (BipolarFormat(), CodebookFormat((0, 1, -1)), 5, True),
        (UNSIGNED, BipolarFormat(), 5, True),
        (BipolarFormat(), SIGNED, 5, True),
    ],
)
def test_padding_needs_a_zero(in_format, weight, cols: int, fits: bool) -> None:
    requantize = RequantizeSpec(UNSIGNED, 0, "one", 0, 12)
    assert PeArraySpec(2, cols).fits(LinearSpec(8, 2, in_format, weight, requantize)) is fits


def test_selection_costs_its_beats_and_a_padded_mask() -> None:
    """12 codes, 5 at once, are 3 beats; the 9 that stay leave in 5 pairs; the mask is 3x5."""
    cost = SelectSpec(12, 9, UNSIGNED).stage_cost(vector(12, 5), 2)
    assert (cost.input_beats, cost.output_beats, cost.cycles) == (3, 5, 5)
    assert cost.parameter_bits == cost.memory_bits == 15
    assert cost.multiplier_count == cost.macs == 0


def conv(channels: int, out: int, kernel: tuple[int, int], groups: int = 1, **more) -> ConvSpec:
    """A convolution over a frame of 4 × 5 pixels: stride 1, no padding."""
    rule = RequantizeSpec(UNSIGNED, 4, "one", 0, 12)
    formats = more.pop("formats", (UNSIGNED, SIGNED))
    return ConvSpec(4, 5, channels, out, *kernel, 1, 0, groups, *formats, rule, **more)


def node(spec, mask=None, sizes=None) -> Node:
    """A node whose weights are all code 1, or those of the kept blocks of a mask."""
    codes = np.ones((spec.matrix_rows, spec.matrix_columns), dtype=np.int64)
    tensors = {"weight": codes}
    if mask is not None:
        storage, tensors = BlockSparseStorage.pack(codes, mask, *map(np.array, sizes))
        spec = replace(spec, storage=storage)
    return Node("layer", spec, ("x",), 1.0, tensors | parameters(spec))


def parameters(spec) -> dict[str, np.ndarray]:
    """Requantization parameters, all of them 1."""
    shapes = spec.requantize.tensor_shapes(spec.matrix_rows)
    return {name: np.ones(shape, dtype=np.int64) for name, shape in shapes.items()}


def test_words_of_a_fully_connected_layer_are_its_columns_in_order() -> None:
    assert PeArraySpec(1, 3).words(layer(2, 5)).tolist() == [[0, 1, 2], [3, 4, -1]]


def test_words_of_a_dense_convolution_hold_every_kernel_row() -> None:
    """Kernel 2 × 2 on 3 channels, 2 lanes: columns are (kernel row, kernel column, channel)."""
    assert PeArraySpec(1, 4).words(conv(3, 2, (2, 2))).tolist() == [
        [0, 1, 6, 7],
        [2, -1, 8, -1],
        [3, 4, 9, 10],
        [5, -1, 11, -1],
    ]


def test_words_of_a_block_sparse_convolution_hold_one_kernel_row() -> None:
    words = PeArraySpec(1, 2, 1, 1).words(conv(3, 2, (2, 2)))
    assert words[:5].tolist() == [[0, 1], [2, -1], [3, 4], [5, -1], [6, 7]]
    assert len(words) == 8


@pytest.mark.parametrize("tiles", [None, 1])
def test_words_hold_every_column_once(tiles: int | None) -> None:
    spec = conv(5, 2, (3, 2))
    words = PeArraySpec(1, 6 if tiles is None else 2, 1, tiles).words(spec)
    assert sorted(words[words >= 0]) == list(range(spec.matrix_columns))
    assert len(words) == PeArraySpec(1, 6 if tiles is None else 2, 1, tiles).col_folds(spec)


def test_cost_of_a_convolution() -> None:
    """Kernel 2 × 2, 3 to 9 channels at 12 positions; 3 × 4 is 3 folds of 4 steps, 2 pixels."""
    spec, source = conv(3, 9, (2, 2)), Beats((4, 5, 3), 2)
    cost = PeArraySpec(3, 4, 2).cost(spec, (source,), 3)
    assert cost.steps == cost.cycles == 6 * 12
    assert (cost.input_beats, cost.output_beats) == (40, 36)
    assert cost.macs == cost.kept_macs == 12 * 9 * 12
    assert cost.ideal_cycles == Fraction(1296, 24)
    assert cost.multipliers == ((24, 4, 3),)
    assert cost.weight_words == 72 * 12
    assert cost.activation_words == 72 * 4 * 2
    assert cost.weight_bits == 12 * 12 * 3
    window = 2 * 5 * 2 * 2 * 4  # two rows of five pixels, two words of two codes of 4 bits each
    results = 2 * 2 * 9 * spec.accumulator().bits
    assert cost.buffer_bits == 2 * 2 * 16 * 4 + results + window


def test_cost_of_tiles() -> None:
    """4 × 6 on tiles of 2 × 2: 3 of 6 are stored, one of them in a fold without a weight."""
    sparse = node(layer(4, 6), [[1, 0, 1], [0, 0, 0]], ([2, 2], [2, 2, 2]))
    spec = PeArraySpec(2, 2, 1, 3)
    assert spec.kept_tiles(sparse) == 3
    assert spec.stored(sparse).tolist() == [[True, False, True], [True, False, False]]
    cost = spec.cost(sparse.spec, vector(6, 2), 2)
    assert (cost.steps, cost.cycles) == (3, 3)
    assert (cost.macs, cost.kept_macs) == (24, 8)
    assert cost.ideal_cycles == Fraction(8, 4)
    assert cost.weight_bits == 3 * 4 * 3
    assert cost.parameter_bits == 4 * 12 + 6 + 3 * 3  # b and m; a word number and a mark a tile
    assert cost.buffer_bits == 2 * 6 * 4
    narrow = spec.cost(sparse.spec, vector(6, 2), 1)
    assert narrow.buffer_bits == 2 * 6 * 4 + 2 * 2 * 2 * sparse.spec.accumulator().bits
    assert narrow.cycles == 4  # four sums leave one by one


def test_a_weight_of_value_0_is_kept() -> None:
    sparse = node(layer(2, 4), [[1, 1]], ([2], [2, 2]))
    zeros = replace(sparse, tensors={**sparse.tensors, "weight": np.zeros(8, dtype=np.int64)})
    assert PeArraySpec(2, 2).kept_tiles(zeros) == 2


def test_crossbar_columns_of_the_zoo_are_skipped() -> None:
    """Steps of the pruned LeNet-5, counted in blocks of 1 × 32 and of its channels."""
    folder = Path(__file__).parents[2] / "zoo" / "lenet5_crossbar" / "network"
    network = Network.load(folder)
    fc, conv2 = network["fc1"], network["conv2"]
    assert PeArraySpec(1, 32).kept_tiles(fc) == 500  # of 2500: each tile is a block
    assert PeArraySpec(1, 20, 8).kept_tiles(conv2) == 396  # of 1250
    spec = PeArraySpec(1, 20, 8, 396)
    spec.check(conv2, 1)
    assert spec.cost(conv2.spec, (Beats((12, 12, 20), 20),), 1).steps == 8 * 396


SPARSE = node(layer(4, 6), [[1, 0, 1], [0, 1, 0]], ([2, 2], [2, 2, 2]))
NO_ZERO = node(
    LinearSpec(6, 4, UNSIGNED, BipolarFormat(), RequantizeSpec(UNSIGNED, 4, "one", 0, 12)),
    [[1, 0, 1], [0, 1, 0]],
    ([2, 2], [2, 2, 2]),
)
DEPTHWISE = node(conv(3, 3, (2, 2), groups=3))
CIRCULANT = replace(layer(4, 6), storage=BlockCirculantStorage(2))
CIRCULANT = Node(
    "layer",
    CIRCULANT,
    ("x",),
    1.0,
    {"weight": np.ones((2, 3, 2), dtype=np.int64)} | parameters(CIRCULANT),
)


@pytest.mark.parametrize(
    ("spec", "bad", "lanes", "words"),
    [
        (PeArraySpec(2, 4), DEPTHWISE, 1, ["engine of layer", "a lane array", "depthwise"]),
        (PeArraySpec(2, 5), node(conv(3, 4, (2, 2))), 1, ["found 5", "2 (the kernel's rows)"]),
        (PeArraySpec(2, 8), node(conv(3, 4, (2, 2))), 1, ["found 8", "at most the 3 channels"]),
        (PeArraySpec(2, 4, 1, 9), node(conv(3, 4, (2, 2))), 1, ["found 4", "at most the 3"]),
        (PeArraySpec(2, 2, 2), node(layer(4, 6)), 1, ["pixels", "found 2", "at most 1"]),
        (PeArraySpec(2, 2, 13), node(conv(1, 4, (2, 2))), 1, ["pixels", "found 13", "at most 12"]),
        (PeArraySpec(2, 2, 1, 6), node(layer(4, 6)), 1, ["tiles", "found 6", "dense weights"]),
        (PeArraySpec(2, 2, 1, 4), SPARSE, 1, ["tiles", "found 4", "the 3 tiles of 2 × 2"]),
        (PeArraySpec(2, 2), NO_ZERO, 1, ["12 weights in them that are not kept", "no zero"]),
        (PeArraySpec(2, 3, 1, 4), NO_ZERO, 1, ["not kept", "divide the blocks"]),
        (PeArraySpec(3, 2), node(layer(4, 6)), 2, ["lanes", "found 2", "divisor of the 3 rows"]),
        (PeArraySpec(2, 2), node(layer(4, 6)), 4, ["lanes", "found 4", "divisor of the 2 rows"]),
        (PeArraySpec(2, 2, 1, 3), SPARSE, 3, ["found 3", "a divisor, or a multiple, of the 2"]),
        (PeArraySpec(2, 2), CIRCULANT, 1, ["block-circulant weights", "dense or block-sparse"]),
    ],
)
def test_an_array_that_does_not_fit_is_refused(spec, bad: Node, lanes: int, words) -> None:
    with pytest.raises(BadInput) as caught:
        spec.check(bad, lanes)
    for word in words:
        assert word in str(caught.value)


def test_tiles_of_kept_weights_need_no_zero() -> None:
    PeArraySpec(2, 2, 1, 3).check(NO_ZERO, 1)


@pytest.mark.parametrize(("per", "m", "fits"), [("channel", 0, True), ("channel", 1, False)])
def test_a_row_that_keeps_nothing_needs_no_zero_where_its_multiplier_is_0(per, m, fits) -> None:
    spec = replace(layer(3, 4, per), weight_format=BipolarFormat())
    bad = node(spec, [[1, 0], [0, 0], [1, 1]], ([1, 1, 1], [2, 2]))
    bad = replace(bad, tensors=bad.tensors | {"m": np.array([1, m, 1])})
    engine = PeArraySpec(1, 2, 1, 4)  # the empty row has a tile too
    if fits:
        engine.check(bad, 1)
        assert plan_of(bad).stages
    else:
        assert "not kept" in str(refused(lambda: engine.check(bad, 1)))
        assert "fit no array: a row keeps none" in refused(lambda: plan_of(bad)).found


def plan_of(one: Node):
    """The mapping of a network of one layer."""
    entry = InputSpec("x", (one.spec.in_features,), one.spec.in_format, 1.0)
    return plan(Network("net", entry, (one,)), Budget(8))


@pytest.mark.parametrize("sizes", [(0, 1, 1, None), (1, 1, 0, None), (1, 1, 1, 0)])
def test_sizes_are_at_least_1(sizes) -> None:
    with pytest.raises(ValueError, match="must be"):
        PeArraySpec(*sizes)
