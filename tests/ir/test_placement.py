"""Placement of layers on macros, and repair around stuck cells."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import golden
from model.ir.arithmetic import ExactArithmetic
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.block_sparse import BlockSparseStorage
from model.ir.cells import fault_map
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pim_arithmetic import PIMArithmetic
from model.ir.placement import faulty_cells, place, place_network, repair
from model.ir.requantize import RequantizeSpec
from tests.pims import converted, frames_of, pim_networks

U4, S4 = UniformFormat(4, False), UniformFormat(4, True)
RULE = RequantizeSpec(UniformFormat(16, True), 0, "one", 0, 2)


def layer(columns: int = 20, rows: int = 7, **changes: Any) -> tuple[LinearSpec, Any]:
    """A layer on macros of 8 rows, weights of 2 columns, and its tensors."""
    fields = {"rows": 8, "cell_bits": 4, "form": "twos_complement"}
    pim = PIMArithmetic(**fields | changes.pop("pim", {}))
    spec = LinearSpec(columns, rows, U4, S4, RULE, pim, **changes)
    rng = np.random.default_rng(5)
    (shape,) = (spec.storage.tensor_shapes(rows, columns)["weight"],)
    return spec, {"weight": rng.integers(-8, 8, shape)}


@settings(max_examples=60)
@given(pim_networks(), st.integers(12, 24), st.integers(0, 3))
def test_every_part_of_a_kept_weight_lies_in_one_cell_of_its_tile(
    network: Network, columns: int, spare: int
) -> None:
    node = network["layer"]
    spec, tensors, pim = node.spec, dict(node.tensors), node.spec.arithmetic
    n = pim.columns_per_weight(spec)
    if columns - spare < n:
        return
    placed = place(spec, tensors, columns, spare)
    part = np.broadcast_to(placed.part[:, None, :], placed.weight.shape)
    here = placed.weight >= 0
    cells = sorted(zip(part[here].tolist(), placed.weight[here].tolist(), strict=True))
    every = itertools.product(range(n), range(tensors["weight"].size))
    assert cells == sorted(every)
    assert placed.cells == n * spec.weights()
    tiles = pim.tiles(spec, tensors)
    for macro in range(placed.macros):
        lines = placed.line[macro]
        assert lines[lines >= 0].tolist() == tiles[placed.tile[macro]].tolist()
        assert (placed.output[macro, columns - spare :] < 0).all()
        used = placed.output[macro] >= 0
        assert (placed.weight[macro].max(axis=0)[used] >= 0).all()  # no column without a weight
    report = placed.occupancy()
    assert sum(entry["cells"] for entry in report) == placed.cells


@settings(max_examples=80)
@given(pim_networks(), st.integers(0, 2**32 - 1))
def test_the_placed_levels_give_the_accumulators(network: Network, seed: int) -> None:
    """Each macro's columns are counted and converted bit by bit, in step 0 of circulant blocks."""
    node = network["layer"]
    spec, tensors, pim = node.spec, dict(node.tensors), node.spec.arithmetic
    if not isinstance(spec, LinearSpec):
        return
    placed = place(spec, tensors, 64)
    levels = placed.levels(spec, tensors)
    factors, inputs = pim.factors(spec), pim.line_inputs(spec)
    frame = frames_of(network, seed, 1)
    x = spec.in_format.decode(frame).ravel()
    k = spec.storage.k if isinstance(spec.storage, BlockCirculantStorage) else 1
    outputs = np.arange(spec.matrix_rows)
    acc = np.zeros(-(-spec.matrix_rows // k), dtype=np.int64)
    for macro in range(placed.macros):
        on_row = np.zeros(pim.rows, dtype=np.int64)
        for row, line in enumerate(placed.line[macro]):
            if line < 0:
                continue
            block, t = divmod(int(line), k)
            source = inputs[block * k + (-t) % k] if k > 1 else inputs[line]
            on_row[row] = x[source] if source >= 0 else 0
        for bit, place_value in enumerate(pim.places(spec)):
            active = on_row >> bit & 1
            counts = active @ levels[macro]
            if pim.sides == 2:
                counts = np.repeat(counts[0::2] - counts[1::2], 2)
            else:
                counts = counts - pim.off * active.sum()  # the reference column
            for column, (output, part) in enumerate(
                zip(placed.output[macro], placed.part[macro], strict=True)
            ):
                if output < 0 or part % pim.sides:
                    continue
                code = converted(pim, int(counts[column]))
                acc[output] += factors[part // pim.sides] * place_value * code
    found = golden.trace(network, torch.from_numpy(frame))["layer.acc"][0].numpy()
    assert acc.tolist() == found[outputs % k == 0].tolist()


def test_macros_of_a_dense_layer_follow_the_formula() -> None:
    for columns, rows, width, spare in [(20, 7, 8, 0), (8, 4, 8, 0), (9, 5, 9, 2), (1, 1, 2, 0)]:
        spec, tensors = layer(columns, rows)
        n = spec.arithmetic.columns_per_weight(spec)
        placed = place(spec, tensors, width, spare)
        assert placed.macros == -(-columns // 8) * -(-rows // ((width - spare) // n))
        assert placed.share == columns * rows * n / (placed.macros * 8 * width)


def test_pruned_rows_and_columns_have_no_cells() -> None:
    mask = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0]])
    weight = np.ones((4, 24), dtype=np.int64)
    storage, tensors = BlockSparseStorage.pack(weight, mask, np.ones(4), np.array([8, 8, 8]))
    spec, _ = layer(24, 4, storage=storage)
    placed = place(spec, tensors, 4)
    assert placed.tile.tolist() == [0, 1]
    assert placed.line.tolist() == [[*range(8)], [*range(16, 24)]]
    assert placed.output.tolist() == [[0, 0, 3, 3], [2, 2, -1, -1]]
    assert placed.share == 0.75


def test_circulant_blocks_store_their_vector_once() -> None:
    dense, tensors = layer(16, 16)
    circulant, own = layer(16, 16, storage=BlockCirculantStorage(4))
    full, small = place(dense, tensors, 8), place(circulant, own, 8)
    assert small.cells * 4 == full.cells
    assert small.macros * 4 == full.macros
    assert circulant.arithmetic.evaluations(circulant) == 4 * dense.arithmetic.evaluations(dense)


def test_places_all_layers_under_one_budget() -> None:
    spec, tensors = layer()
    tensors["b"] = np.zeros(7, dtype=np.int64)
    node = _node(spec, tensors)
    network = _network(node)
    placed = place_network(network, 8)
    assert placed["layer"].macros == 6
    assert place_network(network, 8, budget=6)["layer"].macros == 6
    with pytest.raises(BadInput, match="layer: found a matrix of 6 macros; expected at most the 5"):
        place_network(network, 8, budget=5)
    plain = replace(spec, arithmetic=ExactArithmetic())
    assert place_network(_network(_node(plain, tensors)), 8) == {}


def _node(spec: LinearSpec, tensors: Any) -> Any:
    return Node("layer", spec, ("x",), 1.0, tensors)


def _network(node: Any) -> Network:
    return Network("net", InputSpec("x", (20,), U4, 1.0), (node,))


def test_refuses_macros_narrower_than_a_weight_and_other_arithmetics() -> None:
    spec, tensors = layer()
    with pytest.raises(BadInput, match="weights of 2 columns"):
        place(spec, tensors, 3, spare=2, thing="fc1")
    with pytest.raises(BadInput, match="exact arithmetic"):
        place(replace(spec, arithmetic=ExactArithmetic()), tensors, 8)
    with pytest.raises(ValueError, match="spare"):
        place(spec, tensors, 8, spare=8)


def test_refuses_a_fault_map_of_another_shape_or_level() -> None:
    spec, tensors = layer()
    placed = place(spec, tensors, 8)
    for call in (faulty_cells, repair):
        with pytest.raises(BadInput, match=r"the shape \(6, 8, 8\) of macros, rows and columns"):
            call(placed, spec, tensors, np.full((6, 8, 9), -1))
        with pytest.raises(BadInput, match="levels from -1 to 16"):
            call(placed, spec, tensors, np.where(placed.weight == 0, 16, -1))


def error_of(placed: Any, spec: Any, tensors: Any, faults: np.ndarray) -> int:
    """The error of stuck cells, from the tensor of cells alone."""
    pim = spec.arithmetic
    cells = faulty_cells(placed, spec, tensors, faults)
    off = np.abs(cells - pim.nominal(spec, tensors)).reshape(len(cells), -1).sum(axis=1)
    return int(off @ np.abs(np.array(pim.factors(spec))).repeat(pim.sides))


@pytest.mark.parametrize("form", ["twos_complement", "pairs"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.4])
def test_repair_never_errs_more_and_reports_what_is_left(form: str, share: float) -> None:
    spec, tensors = layer(40, 9, pim={"form": form, "rows": 16})
    placed = place(spec, tensors, 13, spare=4)
    for seed in range(5):
        faults = fault_map(placed.weight.shape, share, share, (0, 15), seed, 0)
        moved, report = repair(placed, spec, tensors, faults)
        assert report.stuck == (faults >= 0).sum()
        assert report.error == error_of(placed, spec, tensors, faults)
        assert report.error_left == error_of(moved, spec, tensors, faults) <= report.error
        nominal = spec.arithmetic.nominal(spec, tensors)
        for own, wrong in ((placed, report.hit), (moved, report.remaining)):
            assert (faulty_cells(own, spec, tensors, faults) != nominal).sum() == wrong
        if not share:
            assert (report.rows, report.columns, report.repaired) == (0, 0, 0)
            assert (moved.weight == placed.weight).all()
        if share == 0.02:
            assert report.error_left < report.error / 2
        # the same weights, line for line and column for column
        assert moved.cells == placed.cells
        for macro in range(placed.macros):
            assert sorted(moved.line[macro]) == sorted(placed.line[macro])
            pairs = list(zip(moved.output[macro], moved.part[macro], strict=True))
            assert sorted(pairs) == sorted(
                zip(placed.output[macro], placed.part[macro], strict=True)
            )
            if form == "pairs":
                assert all(b[1] == a[1] + 1 for a, b in itertools.pairwise(pairs) if a[1] % 2 == 0)


@pytest.mark.parametrize("form", ["twos_complement", "pairs"])
def test_moves_lead_from_the_packing_to_the_repaired_placement(form: str) -> None:
    spec, tensors = layer(20, 9, pim={"form": form, "rows": 16, "cell_bits": 2})
    placed, unit = place(spec, tensors, 15, spare=3), spec.arithmetic.sides
    for seed in range(4):
        faults = fault_map(placed.weight.shape, 0.1, 0.1, (0, 3), seed, 0)
        moved, report = repair(placed, spec, tensors, faults)
        rows, columns = moved.moves(placed, unit)
        assert (np.sort(rows) == np.arange(16)).all()
        assert (np.sort(columns) == np.arange(15 // unit)).all()
        assert (moved.line == np.take_along_axis(placed.line, rows, 1)).all()
        for side in range(unit):
            for before, after in ((placed.output, moved.output), (placed.part, moved.part)):
                back = np.take_along_axis(after[:, side::unit], columns, 1)
                assert (back == before[:, side : 15 // unit * unit : unit]).all()
        moving = (rows != np.arange(16)) & (moved.line >= 0)
        assert moving.sum() <= report.rows
    still = placed.moves(placed, unit)
    assert all((found == np.arange(found.shape[1])).all() for found in still)


def test_a_dead_column_moves_to_a_spare_one() -> None:
    spec, tensors = layer(8, 3)
    placed = place(spec, tensors, 8, spare=2)
    faults = np.full(placed.weight.shape, -1)
    faults[0, :, 1] = 15
    moved, report = repair(placed, spec, tensors, faults)
    assert report.error_left == 0
    assert report.columns == 1
    assert moved.output[0, 1] < 0
    assert (moved.levels(spec, tensors)[0, :, 1] == 0).all()


def test_one_stuck_cell_is_met_by_a_row_that_wants_its_level() -> None:
    spec, tensors = layer(8, 4)  # all of 8 columns in use
    tensors["weight"] = np.zeros((4, 8), dtype=np.int64)
    tensors["weight"][:, 5] = [-1, -2, -3, -4]
    placed = place(spec, tensors, 8)
    faults = np.full(placed.weight.shape, -1)
    faults[0, 0, 0] = 7  # the low slice of output 0 wants 7 on line 5 alone
    moved, report = repair(placed, spec, tensors, faults)
    assert report.hit == 1
    assert report.error_left == report.remaining == 0
    assert (moved.line[0] == 5).argmax() == 0 or moved.output[0, 0] != 0
