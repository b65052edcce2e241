"""Block-sparse arrays of few bits against golden: counted tiles, lean pipelines, two-level blocks.

Blocks are equally many in each block row, so the index memory holds no marks; weights of up to 3
bits are added and shifted, bipolar ones added or subtracted.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from hdl.engine import engine_files, make_engine
from hdl.lib.hexfile import read_hex
from model import golden
from model.ir.block_sparse import BlockSparseStorage
from model.ir.linear import LinearSpec
from model.ir.network import Node
from model.ir.numerics import BipolarFormat, Format, UniformFormat
from model.ir.pe_array import PeArraySpec
from model.ir.requantize import RequantizeSpec
from sim.block import FULL_SPEED, Block, check_values, run_blocks
from tests.examples import codes_of
from tests.strategies import requantize_tensors
from tests.tools import refused, require_tools

pytestmark = pytest.mark.rtl

FRAMES = 6
BLOCK_ROWS, BLOCK_COLUMNS, SIZE, PER_ROW = 3, 6, 4, 2
U, B = UniformFormat, BipolarFormat()
# Weights, activations, rows and columns of the array, lean.
CASES: list[tuple[Format, Format, int, int, bool]] = [
    (B, U(1, False), 4, 4, False),
    (B, U(4, False), 4, 4, True),
    (B, U(3, True), 2, 4, True),
    (U(1, True), U(4, False), 4, 4, False),
    (U(1, False), U(8, True), 4, 2, True),
    (U(2, True), U(2, False), 4, 4, False),
    (U(2, True), U(5, True), 4, 4, True),
    (U(2, False), U(6, False), 2, 2, True),
    (U(3, True), U(4, False), 4, 4, False),
    (U(3, True), U(4, False), 4, 4, True),
    (U(3, False), U(7, True), 4, 1, True),
    (U(4, True), U(3, False), 4, 4, True),
    (U(8, True), U(8, False), 4, 4, True),
    (U(8, True), B, 4, 4, False),
]
BANKS = {6: 4, 9: 2, 12: 2}  # case: words of a bank


def node_of(n: int, per_row: int = PER_ROW) -> Node:
    """A layer of 12 × 24 weights in blocks of 4 × 4, of which some of each block row are kept."""
    weight, entry = CASES[n][:2]
    rng = np.random.default_rng(n)
    mask = np.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=np.int64)
    for row in mask:
        row[rng.choice(BLOCK_COLUMNS, per_row, replace=False)] = 1
    rows, columns = BLOCK_ROWS * SIZE, BLOCK_COLUMNS * SIZE
    codes = codes_of(weight.codes, rng, rows, columns)
    sizes = [SIZE] * BLOCK_ROWS, [SIZE] * BLOCK_COLUMNS
    storage, tensors = BlockSparseStorage.pack(codes, mask, *sizes)
    rule = RequantizeSpec(U(6, True), 3, "layer", 5, 12)
    layer = LinearSpec(columns, rows, entry, weight, rule, storage=storage)
    return Node(f"fc{n}", layer, ("x",), 1.0, tensors | requantize_tensors(rule, rows, rng))


def spec_of(n: int, node: Node) -> PeArraySpec:
    spec = PeArraySpec(*CASES[n][2:4], 1, 1, CASES[n][4])
    spec = replace(spec, tiles=spec.kept_tiles(node), bank_words=BANKS.get(n))
    spec.check(node, CASES[n][2])
    return spec


@cache
def bench():
    require_tools("g++")
    blocks, expected = {}, {}
    for n, case in enumerate(CASES):
        node = node_of(n)
        spec, lanes = spec_of(n, node), case[2]
        codes = codes_of(case[1].codes, np.random.default_rng(n), FRAMES, node.spec.in_features)
        keep: dict[str, torch.Tensor] = {}
        golden.evaluate(node.spec, node, [torch.from_numpy(codes)], keep)
        name = f"array {n}"
        blocks[name] = Block(
            name,
            make_engine(spec, node, lanes),
            codes,
            node.spec.out_features,
            engine_files(spec, node),
        )
        expected[name] = keep[f"{node.name}.acc"].numpy()
    return blocks, expected, run_blocks(list(blocks.values()))


def test_equals_golden_under_every_stall_pattern() -> None:
    blocks, expected, traces = bench()
    for name, block in blocks.items():
        check_values(traces, block, expected[name])


def test_cycles_latency_and_steps_are_those_stated() -> None:
    _, _, traces = bench()
    for n in range(len(CASES)):
        node = node_of(n)
        spec, trace = spec_of(n, node), traces[f"array {n}", FULL_SPEED]
        lanes = CASES[n][2]
        assert trace.gaps[2:] == [spec.cycles(node.spec, lanes)] * len(trace.gaps[2:]), n
        assert trace.latency == spec.latency(node.spec, lanes), n
        assert trace.steps == {"step": FRAMES * spec.steps(node.spec)}, n


def test_cycles_fall_with_the_density() -> None:
    for n, (_, _, rows, cols, _) in enumerate(CASES):
        node = node_of(n)
        spec = spec_of(n, node)
        dense = PeArraySpec(rows, cols)
        whole = dense.row_folds(node.spec) * dense.col_folds(node.spec)
        assert spec.cycles(node.spec, rows) <= 1.02 * PER_ROW / BLOCK_COLUMNS * whole


def test_the_index_memory_holds_a_block_column_and_nothing_else() -> None:
    node = node_of(8)
    spec = spec_of(8, node)
    assert spec.per_fold(node.spec) == PER_ROW
    entries = read_hex(engine_files(spec, node)["fc8_index.hex"], 3)  # log2 of 6 columns
    numbers = entries @ (1 << np.arange(3))
    _, column = np.nonzero(node.tensors["mask"])
    assert numbers.tolist() == column.tolist()


def test_a_lean_array_is_two_cycles_quicker() -> None:
    node = node_of(8)
    spec = spec_of(8, node)
    lean = replace(spec, lean=True)
    assert lean.latency(node.spec, 4) == spec.latency(node.spec, 4) - 2
    assert lean.cycles(node.spec, 4) == spec.cycles(node.spec, 4)


def test_block_rows_of_unequal_counts_are_refused() -> None:
    node = node_of(8)
    mask = node.tensors["mask"].copy()
    row, column = np.argwhere(mask)[0]
    mask[row, column] = 0
    other = next(r for r in range(BLOCK_ROWS) if r != row)
    mask[other, np.flatnonzero(mask[other] == 0)[0]] = 1
    tensors = node.tensors | {"mask": mask}
    storage = node.spec.storage
    error = refused(lambda: storage.check(tensors, 12, 24, node.spec.weight_format, "node fc8"))
    assert "blocks in every block row" in error.expected


def test_tiles_that_blocks_do_not_divide_lose_the_count_and_are_still_right() -> None:
    node = node_of(8)
    spec = replace(PeArraySpec(3, 4), tiles=1)
    spec = replace(spec, tiles=spec.kept_tiles(node))
    assert spec.per_fold(node.spec) is None
    assert spec.tiles > BLOCK_ROWS * PER_ROW
    wrong = replace(spec, tiles=spec.tiles - 1)
    assert "tiles of 3 × 4" in refused(lambda: wrong.check(node, 3)).expected


def test_banks_hold_the_tiles_one_after_the_other() -> None:
    node = node_of(9)
    spec = spec_of(9, node)
    assert spec.banks_of(node.spec) == 3
    files = engine_files(spec, node)
    whole = engine_files(replace(spec, bank_words=None), node)
    banks = "".join(files[f"fc9_weight_{n}.hex"] for n in range(3))
    assert banks == whole["fc9_weight.hex"]


@pytest.mark.parametrize("words", [3, 1, 0])
def test_banks_of_other_than_a_power_of_two_are_refused(words: int) -> None:
    with pytest.raises(ValueError, match="bank_words"):
        PeArraySpec(4, 4, bank_words=words)
