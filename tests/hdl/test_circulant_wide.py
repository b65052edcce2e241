"""The circulant engine with blocks of 32, the largest: both bodies, both forms."""

import pytest

from hdl.engine import engine_files, make_engine
from sim.block import FULL_SPEED, Block, check_values, run_blocks
from tests.hdl.benches import evaluated
from tests.hdl.test_circulant import Case
from tests.tools import require_tools

pytestmark = pytest.mark.rtl

ARRAYS = [
    Case(32, 70, 70, 2, 32, "folded", form=4),  # p = 3, q = 3
    Case(32, 40, 64, 1, 16),  # p = 2, q = 2: two beats a block
]


def test_blocks_of_32_equal_golden_at_the_cycles_and_the_latency_of_the_formula() -> None:
    require_tools("g++")
    blocks, expected = [], []
    for n, case in enumerate(ARRAYS):
        node, frames = case.node(n), case.frames(n)
        engine, files = make_engine(case.spec, node, case.out), engine_files(case.spec, node)
        blocks.append(Block(f"array {n}", engine, frames, case.rows, files))
        expected.append(evaluated(node, case.shape, frames)[0])
    traces = run_blocks(blocks)
    for case, block, sums in zip(ARRAYS, blocks, expected, strict=True):
        check_values(traces, block, sums)
        trace, layer = traces[block.name, FULL_SPEED], case.layer()
        assert trace.gaps[2:] == [case.spec.steps(layer)] * len(trace.gaps[2:]), case
        assert trace.latency == case.spec.latency(layer, case.out), case
