"""Probe: small PIM arrays in RTL against the golden model and their cycles by formula."""

import sys
from pathlib import Path

import numpy as np

import hdl
from hdl.engine import make_engine
from hdl.stage import make_stage, stage_files
from model.ir.beats import Beats
from model.ir.faults import Faults
from sim.bench import SimulationError
from sim.block import Block, Pattern, run_blocks
from tests.hdl.benches import evaluated, stage_block
from tests.hdl.test_pim_array import DATA, DEVICE, S4, Case, Loaded
from tests.mutations.probe_rtl import SMOOTH, mismatch

PATTERNS = [SMOOTH, Pattern(True, True, 2)]
STAGE = Case(
    8,
    0,
    4,
    4,
    DEVICE | {"adc_bits": 4, "step": 8, "cell_bits": 4},
    entry=S4,
    frame=(3, 3, 3),
    kernel=(2, 2, 1, 0),
    engine={"copies": 2, "faults": Faults(0.05, 0.05, 4, repair=True)},
)
"""Row tiles, copies, converters, a reference column, moved rows and columns, signed codes."""

CIRCULANT = Case(6, 7, 4, 2, DATA, k=4, entry=S4, engine={"faults": Faults(0.05, 0.05, 7)})
"""Stuck cells that nothing is moved around."""


def main() -> None:
    if not Path(hdl.__file__).is_relative_to(Path.cwd()):
        sys.exit(f"the probe runs in {Path.cwd()} but imports {hdl.__file__}")
    node, frames = STAGE.node(1), STAGE.frames(1)
    spec, source = STAGE.spec(node), Beats(STAGE.shape, 2)
    args = node.spec, node, spec, (source,), STAGE.lanes
    stage = Loaded(make_stage(*args))
    stage = stage_block("stage", stage, node, STAGE.shape, frames, stage_files(*args))
    rule = {stage.name: evaluated(node, STAGE.shape, frames)[1]}
    rates = {stage.name: spec.cost(node.spec, (source,), STAGE.lanes).cycles}
    node, frames = CIRCULANT.node(2), CIRCULANT.frames(2)
    spec = CIRCULANT.spec(node)
    engine = make_engine(spec, node, CIRCULANT.lanes)
    array = Block("array", engine, frames, CIRCULANT.outputs, engine.wires.files(node))
    rule[array.name] = evaluated(node, CIRCULANT.shape, frames)[0]
    rates[array.name] = spec.rate(node.spec, CIRCULANT.lanes)
    try:
        traces = run_blocks([stage, array], PATTERNS)
    except SimulationError as error:
        if "did not run" in str(error):
            raise
        mismatch(error)
    for name, expected in rule.items():
        for pattern in PATTERNS:
            wrong = np.argwhere(traces[name, pattern].codes != expected)
            if len(wrong):
                mismatch(f"{name}: code {wrong[0][1]} of frame {wrong[0][0]} under {pattern}")
        gaps = traces[name, SMOOTH].gaps[2:]
        if gaps != [rates[name]] * len(gaps):
            mismatch(f"cycles per frame of {name}: {gaps}, not {rates[name]}")
    print("no difference")


if __name__ == "__main__":
    main()
