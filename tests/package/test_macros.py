"""The package of a network on macros: its tables and stuck cells are files like all others."""

from dataclasses import replace
from pathlib import Path

import pytest

from hdl.accelerator import Accelerator
from hdl.package import read_package, write_package
from hdl.verilog import generate_accelerator
from model.ir.pim_planner import PimBudget
from model.ir.planner import Budget, plan
from sim.golden_frames import golden_frames
from tests.sim.test_programming import OPTIONS, network

TABLES = {f"{node}_{what}_0.hex" for node in "ab" for what in ("stuck", "mask", "rows", "columns")}


def test_stuck_cells_and_moves_are_packaged_and_read(tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"repair": True})
    net = network(options)
    mapping = plan(net, Budget(64, pim=PimBudget(16, faults=options.faults())))
    accelerator = Accelerator(net, mapping)
    design = generate_accelerator(accelerator)
    frames = golden_frames(accelerator)
    write_package(accelerator, design, tmp_path / "package", frames, "accelerator")
    found, _ = read_package(tmp_path / "package")
    assert set(found.files) >= TABLES
    surplus = replace(design, files=design.files | {"a_other_0.hex": "0\n"})
    with pytest.raises(ValueError, match=r"which \['a_other_0.hex'\] are not"):
        write_package(accelerator, surplus, tmp_path / "other", frames, "accelerator")
