"""The pictures of networks on macros show what is placed and what is spent."""

import struct
import zlib

import numpy as np

from gyre.pim_energy import sections
from gyre.pim_pictures import INKS, ROOM, occupancy, png, shares
from model.ir.pim_planner import PimBudget
from model.ir.planner import Budget, plan
from tests.gyre.test_pim_energy import frames, network


def test_a_pixel_is_dark_for_every_cell_that_holds_a_part_of_a_weight() -> None:
    net = network()
    mapping = plan(net, Budget(64, pim=PimBudget(16)))
    picture = occupancy(net, mapping)
    for n, name in enumerate(("conv", "fc")):
        placed = mapping.engine(f"pe_{name}").placement(net[name])
        assert (picture == INKS[n]).all(axis=2).sum() == placed.cells
    macros = sum(mapping.engine(f"pe_{name}").macros for name in ("conv", "fc"))
    cells = sum((picture == colour).all(axis=2).sum() for colour in (ROOM, *INKS[:2]))
    assert cells == macros * 8 * 16


def test_a_png_holds_the_picture() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    data = png(picture)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (7, 5)
    begin = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[begin - 4 : begin])
    lines = zlib.decompress(data[begin + 4 : begin + 4 + length])
    found = np.frombuffer(lines, dtype=np.uint8).reshape(5, 22)
    assert (found[:, 0] == 0).all()
    assert (found[:, 1:].reshape(5, 7, 3) == picture).all()


def test_every_part_of_the_energy_has_its_bar() -> None:
    net = network()
    mapping = plan(net, Budget(64, pim=PimBudget(16)))
    energy, _ = sections(net, mapping, frames(2), {"conv": 48, "fc": 4}, "sot_mram")
    text = shares("small", energy)
    assert all(part["part"] in text for part in energy["parts"])
    assert text.count('fill="#1f4e79"') == len(energy["parts"])
