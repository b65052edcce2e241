"""Probe: rows of cells through the programming port of an AXI shell, and frames around them."""

import sys
from pathlib import Path

import numpy as np
import torch

import hdl
from sim.bench import SimulationError
from sim.program import rows_of, run_programmed
from tests.examples import codes_of
from tests.hdl.test_axi_program import U4, accelerator, network
from tests.mutations.probe_rtl import mismatch


def main() -> None:
    if not Path(hdl.__file__).is_relative_to(Path.cwd()):
        sys.exit(f"the probe runs in {Path.cwd()} but imports {hdl.__file__}")
    made, after = accelerator(), network(2)
    codes = torch.from_numpy(codes_of(U4.codes, np.random.default_rng(3), 8, 3, 3, 2))
    try:
        result = run_programmed(made, after, codes, pauses=0.0)
    except SimulationError as error:
        if "did not run" in str(error):
            raise
        mismatch(error)
    for name, outputs in result.outputs.items():
        wrong = np.argwhere(outputs != result.expected[name])
        if len(wrong):
            mismatch(f"cells {name}: code {wrong[0][1]} of frame {wrong[0][0]}")
    pulses = sum(row["pulses"] for row in rows_of(made, after))
    if result.pulses != pulses:
        mismatch(f"{result.pulses} pulses, not {pulses}")
    print("no difference")


if __name__ == "__main__":
    main()
