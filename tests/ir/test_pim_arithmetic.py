"""Specification of pim arithmetic: slices, tiles, ranges, and what it refuses."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from model.ir.block_circulant import BlockCirculantStorage
from model.ir.block_sparse import BlockSparseStorage
from model.ir.conv import ConvSpec
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.network import Network, Node
from model.ir.numerics import BipolarFormat, CodebookFormat, UniformFormat
from model.ir.pim_arithmetic import PIMArithmetic
from model.ir.requantize import RequantizeSpec
from tests.pims import pim_networks

U8, S8 = UniformFormat(8, False), UniformFormat(8, True)
RULE = RequantizeSpec(UniformFormat(16, True), 0, "one", 0, 2)


def pim_of(**changes: Any) -> PIMArithmetic:
    return PIMArithmetic(**{"rows": 32, "cell_bits": 4, "form": "twos_complement"} | changes)


def linear(arithmetic: PIMArithmetic, columns: int = 40, rows: int = 3, **changes: Any) -> Any:
    fields = {"in_features": columns, "out_features": rows, "in_format": U8, "weight_format": S8}
    fields |= {"requantize": RULE, "arithmetic": arithmetic}
    return LinearSpec(**fields | changes)


def node(spec: LinearSpec, weight: Any, **tensors: Any) -> Node:
    b = np.zeros(spec.matrix_rows, dtype=np.int64)
    return Node("fc", spec, ("x",), 1.0, {"weight": np.array(weight), "b": b, **tensors})


@pytest.mark.parametrize(
    ("format", "changes", "factors"),
    [
        (S8, {"cell_bits": 1}, (1, 2, 4, 8, 16, 32, 64, -128)),
        (S8, {"cell_bits": 4}, (1, 16, -16)),  # the sign holds level 8
        (UniformFormat(2, True), {"cell_bits": 4}, (1, -1)),  # the sign holds level 2
        (U8, {"cell_bits": 4}, (1, 16)),
        (BipolarFormat(), {"cell_bits": 1}, (1, -2)),
        (BipolarFormat(), {"cell_bits": 1, "form": "pairs"}, (1,)),
        (S8, {"cell_bits": 4, "form": "pairs"}, (1, 16)),
        (S8, {"cell_bits": 3, "form": "pairs"}, (1, 8, 64)),
        (CodebookFormat((5, 8, -8, -5)), {"form": "pairs", "states": (5, 8)}, (1,)),
    ],
)
def test_factors_of_the_slices(format: Any, changes: Any, factors: tuple[int, ...]) -> None:
    spec = linear(pim_of(**changes), weight_format=format)
    assert spec.arithmetic.factors(spec) == factors


@given(pim_networks(device=False))
def test_slices_times_factors_are_the_weights(network: Network) -> None:
    own = network["layer"]
    pim = own.spec.arithmetic
    slices = pim.slice_matrices(own.spec, own.tensors)
    total = np.tensordot(np.array(pim.factors(own.spec)), slices, 1)
    assert (total == own.spec.values(own.tensors) << pim.grid_bits).all()


@given(pim_networks())
def test_tiles_hold_each_line_with_a_weight_once(network: Network) -> None:
    own = network["layer"]
    pim = own.spec.arithmetic
    tiles = pim.tiles(own.spec, own.tensors)
    assert all(1 <= len(tile) <= pim.rows for tile in tiles)
    assert len(tiles) <= pim.tiles_max(own.spec)
    lines = np.concatenate([*tiles, np.array([], dtype=np.int64)])
    assert (np.diff(lines) > 0).all()
    needed = np.flatnonzero(pim.kept(own.spec, own.tensors).any(axis=0))
    assert set(needed) <= set(lines)


@given(pim_networks())
def test_survives_the_file_form(tmp_path_factory: Any, network: Network) -> None:
    folder = tmp_path_factory.mktemp("pim") / "net"
    network.save(folder)
    assert Network.load(folder) == network


def test_groups_stay_together_and_absent_ones_have_no_lines() -> None:
    storage, tensors = BlockSparseStorage.pack(
        np.ones((1, 50), dtype=np.int64),
        np.array([[1, 0, 1, 1, 1]]),
        np.array([1]),
        np.array([10, 10, 10, 10, 10]),
    )
    spec = linear(pim_of(rows=25), 50, 1, storage=storage)
    tiles = spec.arithmetic.tiles(spec, tensors)
    assert [tile.tolist() for tile in tiles] == [
        [*range(10), *range(20, 30)],
        [*range(30, 50)],
    ]


def test_circulant_blocks_keep_their_padding_lines() -> None:
    spec = linear(pim_of(rows=10), 14, 8, storage=BlockCirculantStorage(4))
    tensors = {"weight": np.zeros((2, 4, 4), dtype=np.int64)}
    assert [len(tile) for tile in spec.arithmetic.tiles(spec, tensors)] == [8, 8]
    assert spec.arithmetic.line_inputs(spec).tolist() == [*range(14), -1, -1]
    assert spec.arithmetic.evaluations(spec) == 8 * 4


def test_level_bits_leave_room_for_cells_that_deviate() -> None:
    pim = pim_of(grid_bits=3, off=9)
    assert (pim.top, pim.level_bits, pim.level_top) == (129, 8, 129)
    actual = replace(pim, device=True)
    assert (actual.level_bits, actual.level_top) == (9, 511)


def test_chip_bits_count_the_cells() -> None:
    spec = linear(pim_of())
    assert spec.chip_bits() == 40 * 3 * 3 * 4
    pairs = linear(pim_of(form="pairs"), 40, 4, storage=BlockCirculantStorage(4))
    assert pairs.chip_bits() == 40 * 4 // 4 * 4 * 4


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"rows": 0}, "rows"),
        ({"rows": 1025}, "rows"),
        ({"cell_bits": 5}, "cell_bits"),
        ({"form": "offset"}, "form"),
        ({"adc_bits": 0}, "adc_bits"),
        ({"step": 2}, "step"),  # counts exactly
        ({"adc_bits": 4, "step": 0}, "step"),
        ({"grid_bits": 9}, "grid_bits"),
        ({"off": -1}, "off"),
        ({"states": (1, 2)}, "pairs"),
        ({"form": "pairs", "states": (2, 1)}, "ascend"),
        ({"form": "pairs", "states": (0, 1)}, "state"),
        ({"form": "pairs", "states": (1, 2, 3), "cell_bits": 1}, "number of states"),
        ({"form": "pairs", "states": (1 << 15,)}, "level"),
    ],
)
def test_refuses_options_out_of_range(changes: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        pim_of(**changes)


def test_refuses_blocks_that_are_larger_than_a_macro() -> None:
    with pytest.raises(ValueError, match="k = 8 must fit the 7 word lines"):
        linear(pim_of(rows=7), 16, 8, storage=BlockCirculantStorage(8))


def test_refuses_a_depthwise_convolution() -> None:
    with pytest.raises(ValueError, match="depthwise"):
        ConvSpec(4, 4, 2, 2, 3, 3, 1, 0, 2, U8, S8, RULE, pim_of())


def test_refuses_a_weight_beyond_the_level_table() -> None:
    pim = pim_of(form="pairs", states=(5, 8, 11))
    spec = linear(pim, 3, 1, weight_format=UniformFormat(4, True))
    node(spec, [[5, -8, 0]])
    with pytest.raises(BadInput, match=r"fc\.weight: found a weight of magnitude 6"):
        node(spec, [[5, -8, 6]])


def test_refuses_cells_out_of_their_range() -> None:
    spec = linear(pim_of(device=True), 2, 1)
    cells = np.zeros((3, 1, 2), dtype=np.int64)
    node(spec, [[1, 2]], cells=cells)
    with pytest.raises(BadInput, match=r"fc\.cells: found values from 0 to 32"):
        node(spec, [[1, 2]], cells=cells + np.array([0, 32]))
    with pytest.raises(BadInput, match="expected tensors"):
        node(spec, [[1, 2]])
    with pytest.raises(BadInput, match="shape"):
        node(spec, [[1, 2]], cells=cells[:2])


def test_refuses_accumulators_of_more_than_63_bits() -> None:
    wide = UniformFormat(16, True)
    pim = pim_of(cell_bits=1, adc_bits=16, rows=1)
    with pytest.raises(BadInput, match="accumulators"):
        linear(pim, 1 << 18, 1, in_format=wide, weight_format=wide)


def test_the_macro_s_height_is_all_that_the_codes_know_of_its_size() -> None:
    assert "columns" not in PIMArithmetic.__dataclass_fields__
