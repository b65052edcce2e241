"""Probe: a small circulant engine in RTL against the golden model and its cycles by formula."""

import sys
from pathlib import Path

import numpy as np

import hdl
from hdl.engine import engine_files, make_engine
from sim.bench import SimulationError
from sim.block import Block, run_blocks
from tests.hdl.benches import evaluated
from tests.hdl.test_circulant import Case
from tests.mutations.probe_rtl import PATTERNS, SMOOTH, mismatch

CASE = Case(8, 61, 45, 4, 16)
"""Eight block rows of six blocks: two groups, each of two sets of two lanes; a real twiddle."""


def main() -> None:
    if not Path(hdl.__file__).is_relative_to(Path.cwd()):
        sys.exit(f"the probe runs in {Path.cwd()} but imports {hdl.__file__}")
    node, frames = CASE.node(1), CASE.frames(1)
    engine, files = make_engine(CASE.spec, node, CASE.out), engine_files(CASE.spec, node)
    block = Block("circulant", engine, frames, CASE.rows, files)
    expected = evaluated(node, CASE.shape, frames)[0]
    try:
        traces = run_blocks([block], PATTERNS)
    except SimulationError as error:
        if "did not run" in str(error):
            raise
        mismatch(error)
    for pattern in PATTERNS:
        wrong = np.argwhere(traces[block.name, pattern].codes != expected)
        if len(wrong):
            mismatch(f"sum {wrong[0][1]} of frame {wrong[0][0]} under {pattern}")
    gaps, steps = traces[block.name, SMOOTH].gaps[2:], CASE.spec.steps(CASE.layer())
    if gaps != [steps] * len(gaps):
        mismatch(f"cycles per frame: {gaps}, not {steps}")
    print("no difference")


if __name__ == "__main__":
    main()
