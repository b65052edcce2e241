import dataclasses
import json
import math
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from gyre import pim_compare
from gyre.flow import ZOO
from gyre.pim_compare import ALEXNET, LENET5, LENET5_POINTS, NETWORKS, VGG16
from gyre.pim_energy import placed_layer
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.conv import ConvSpec
from model.ir.network import Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pim_arithmetic import PIMArithmetic
from model.ir.pim_array import PimArraySpec
from model.ir.placement import place
from model.ir.requantize import RequantizeSpec
from model.ir.storage import DenseStorage
from sim import technology
from sim.pim_events import MacroShape, programming
from tests.tools import refused

SOT, CMOS = technology.load_cell("sot_mram"), technology.load_cmos()
MEMRISTOR = technology.load_cell("memristor")


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return pim_compare.pruned(MEMRISTOR, CMOS)


def test_shapes_are_those_of_the_published_networks() -> None:
    assert sum(matrix.macs for matrix in LENET5[:2]) == 24 * 24 * 500 + 8 * 8 * 25_000
    assert sum(m.inputs * m.outputs for m in LENET5) == 430_500
    assert [matrix.macs for matrix in ALEXNET] == [
        *(105_415_200, 223_948_800, 149_520_384, 112_140_288, 74_760_192)
    ]
    assert len(VGG16) == 13
    assert sum(matrix.macs for matrix in VGG16) == 15_346_630_656
    assert sum(matrix.inputs * matrix.outputs for matrix in VGG16) == 14_710_464


def test_published_efficiency_of_eyeriss_is_consistent() -> None:
    """AlexNet: 34.7 frames/s of 666 M multiply-accumulates, of a peak of 33.6 G."""
    _, matrices, eyeriss = NETWORKS[0]
    macs = sum(matrix.macs for matrix in matrices)
    assert eyeriss.pes * eyeriss.clock == pytest.approx(33.6e9)
    assert eyeriss.energy == pytest.approx(8.01e-3, rel=1e-3)
    assert eyeriss.macs_per_pe_cycle(macs) == pytest.approx(0.688, abs=1e-3)


def test_the_published_point_is_reproduced_within_its_band() -> None:
    joules, area, time = pim_compare.reproduce(SOT, CMOS)
    point = LENET5_POINTS[0]
    for found, published in (
        (joules.total, point.energy),
        (area.total, point.area),
        (time, point.time),
    ):
        assert found.low <= published <= found.high
        assert found.typical == pytest.approx(published, rel=0.25)


def test_the_published_point_is_beaten_at_typical() -> None:
    point = LENET5_POINTS[0]
    best = pim_compare.lenet5(SOT, CMOS, None)[-1]
    assert best.energy.total.typical < point.energy / 2
    assert best.latency.typical < point.time
    assert best.area.total.typical < point.area


def test_ours_takes_less_energy_than_the_digital_reading_at_equal_constants() -> None:
    joules, _, _ = pim_compare.reproduce(SOT, CMOS)
    for found in pim_compare.lenet5(SOT, CMOS, None):
        for level in technology.LEVELS:
            assert getattr(found.energy.total, level) < getattr(joules.total, level)


def test_activity_lowers_energy_alone() -> None:
    full = pim_compare.lenet5(SOT, CMOS, None)[-1]
    low = pim_compare.lenet5(SOT, CMOS, [0.2, 0.2])[-1]
    assert low.energy.total.typical < full.energy.total.typical
    assert (low.area.total, low.latency) == (full.area.total, full.latency)


def test_activity_counts_the_bits_that_are_one_in_each_window() -> None:
    network = Network.load(ZOO / "lenet5_crossbar" / "network")
    codes = torch.zeros((2, 28, 28, 1), dtype=torch.int64)
    codes[:, 14, 14] = 255  # in 25 of 576 windows of 25
    found = pim_compare.activity_of(network, codes)
    assert list(found) == ["conv1", "conv2", "fc1", "fc2"]
    assert found["conv1"] == pytest.approx(25 / (576 * 25))
    assert all(0 <= share <= 1 for share in found.values())


def test_a_pace_is_kept_by_the_fewest_copies_and_macros() -> None:
    macro = pim_compare.MacroShape(256, 256, columns_per_converter=4)
    (layer,) = pim_compare.placed(ALEXNET[2], macro, 8, 8)
    for cycles in (100, 1000, layer.cycles, 10 * layer.cycles):
        found = pim_compare.paced(layer, cycles)
        assert found.cycles <= cycles
        if found.copies > 1:
            fewer = dataclasses.replace(found, copies=found.copies - 1, macros=0)
            assert fewer.cycles > cycles
        elif found.macros > 1:
            assert dataclasses.replace(found, macros=found.macros - 1).cycles > cycles


def test_power_efficiency_against_eyeriss_is_above_the_claim_at_8_bits() -> None:
    _, matrices, eyeriss = NETWORKS[0]
    macs = sum(matrix.macs for matrix in matrices)
    cell, cmos = SOT.scaled(65), CMOS.scaled(65)
    found = pim_compare.on_macros(matrices, pim_compare.EYERISS_FORMS[1], cell, cmos, eyeriss.area)
    against = pim_compare.ratios(found, macs, eyeriss)
    assert found.area.total.typical <= eyeriss.area
    assert against["energy_ratio"]["low"] > 2
    assert against["energy_ratio"]["typical"] == pytest.approx(
        eyeriss.energy / found.energy.total.typical
    )
    rate = macs / (found.interval.typical * found.area.total.typical)
    assert against["density_ratio"]["typical"] == pytest.approx(rate / eyeriss.density(macs))
    assert math.isclose(
        against["macs_per_pe_cycle"] * found.cycles * found.converters, macs, rel_tol=1e-9
    )


def test_unpruned_lenet5_takes_four_cells_a_weight(rows: list[dict]) -> None:
    assert rows[0]["cells"] == 4 * 430_500
    assert rows[0]["crossbars"] == 3 + 16 * 7 + 25 * 63 + 16 * 2
    assert rows[0]["area_saved"].typical == 0


def test_pruned_cells_are_the_weights_that_are_kept(rows: list[dict]) -> None:
    for row in rows[1:]:
        name = f"lenet5_crossbar_{row['name'].split(',')[0]}"
        cells = 2 if ", 5 bit" in row["name"] else 4
        assert row["cells"] == cells * Network.load(ZOO / name / "network").weights()


def test_pruning_saves_more_area_and_power_than_published(rows: list[dict]) -> None:
    row = next(row for row in rows if row["name"] == "conductance, 5 bit")
    for level in technology.LEVELS:
        assert getattr(row["area_saved"], level) > pim_compare.PUBLISHED_AREA
        assert getattr(row["power_saved"], level) > pim_compare.PUBLISHED_POWER


def test_kept_columns_are_those_of_the_mask() -> None:
    network = Network.load(ZOO / "lenet5_crossbar_x231" / "network")
    layers = {layer.name: layer for layer in pim_compare.kept(network, pim_compare.CROSSBAR, 5)}
    tensors = network["fc1"].tensors
    sizes, columns = tensors["column_sizes"], tensors["row_sizes"] @ tensors["mask"]
    tiles = layers["fc1"].tiles
    assert sum(tile.rows * tile.lines for tile in tiles) == int(np.dot(sizes, columns))
    assert programming(layers["fc1"]).cell_writes == 2 * network["fc1"].spec.storage.kept


def test_prints_and_writes_what_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    arguments = ["constants", "lenet5", "pruned", "--json", str(out), "--width", "200"]
    pim_compare.main(arguments)
    text = capsys.readouterr().out
    for expected in ("81.5 F2", "reproduced: digital reading", "93.97 %", "one fitted assumption"):
        assert expected in text
    figures = json.loads(out.read_text())
    assert set(figures) == {"lenet5", "pruned"}
    assert figures["lenet5"]["designs"][0]["energy"]["unit"] == "J"


def test_figures_against_eyeriss_hold_ledgers_and_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pim_compare, "NETWORKS", NETWORKS[:1])
    monkeypatch.setattr(pim_compare, "SHARING", (16,))
    monkeypatch.setattr(pim_compare, "SPEEDS", (1.0,))
    text = StringIO()
    figures = pim_compare.show_eyeriss(Console(file=text, width=200), SOT, CMOS)
    (network,) = figures.values()
    assert len(network["forms"]) == 2 * len(pim_compare.EYERISS_FORMS)
    form = json.loads(json.dumps(network["forms"][0]))
    joules = form["design"]["energy"]["total"]["typical"]
    assert form["ratios"]["energy_ratio"]["typical"] == pytest.approx(
        NETWORKS[0][2].energy / joules
    )
    assert "8.01 mJ a frame" in text.getvalue()
    for matrix in ALEXNET:
        assert f"{matrix.macs:,}" in text.getvalue()


def test_refuses_an_unknown_part_and_an_unknown_technology(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        pim_compare.main(["alexnet"])
    assert "unknown part 'alexnet'" in capsys.readouterr().err
    assert refused(lambda: pim_compare.main(["lenet5", "--sot", "flux"])).found == "'flux'"


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize(("share", "copies"), [(1, 1), (4, 1), (2, 5)])
@pytest.mark.parametrize(
    ("rows", "columns", "weight_bits"), [(16, 24, 8), (32, 9, 4), (256, 256, 8)]
)
def test_convolutions_are_those_of_the_arrays_in_rtl(
    k: int, share: int, copies: int, rows: int, columns: int, weight_bits: int
) -> None:
    """Cycles and tiles; those of arrays are held equal to the simulator by tests of the arrays."""
    weights, entered = UniformFormat(weight_bits, True), UniformFormat(5, False)
    pim = PIMArithmetic(rows, 1, "twos_complement")
    spec = ConvSpec(
        *(7, 6, 6, 10, 3, 2, 1, 0, 1, entered, weights),
        RequantizeSpec(entered, 4, "one", 0, 8),
        arithmetic=pim,
        storage=DenseStorage() if k == 1 else BlockCirculantStorage(k, 6),
    )
    shapes = spec.tensor_shapes()
    rng = np.random.default_rng(1)
    tensors = {name: rng.integers(-7, 8, shape) for name, shape in shapes.items()}
    placement = place(spec, tensors, columns, 0, None, "conv")
    array = PimArraySpec(
        cols=3 * 6,
        columns=columns,
        macros=placement.macros,
        tiles=len(pim.tiles(spec, tensors)),
        copies=copies,
        share=share,
    )
    shape = MacroShape(rows, columns, columns_per_converter=share)
    matrix = pim_compare.Matrix("conv", spec.vectors, spec.matrix_columns, 10, positions=6)
    (found,) = pim_compare.placed(matrix, shape, weight_bits, 5, k)
    found = dataclasses.replace(found, copies=copies)
    counted = placed_layer(Node("conv", spec, ("x",), 1.0, tensors), array)
    assert spec.vectors == 25
    assert found.cycles == counted.cycles == -(-25 // copies) * array.vector_cycles(spec)
    assert sorted(map(dataclasses.astuple, found.tiles)) == sorted(
        map(dataclasses.astuple, counted.tiles)
    )
    assert found.adder_bits == counted.adder_bits
    assert found.macs == counted.macs
