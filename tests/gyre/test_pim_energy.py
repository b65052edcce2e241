"""The ledger of a network on PIM arrays: its counts against slow ones, its report."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gyre.pim_energy import count, placed_layer, pulses, sections
from model.export import to_pim
from model.ir.conv import ConvSpec
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pim_options import PIMOptions
from model.ir.pim_planner import PimBudget
from model.ir.planner import Budget, plan
from model.ir.requantize import RequantizeSpec
from tests.examples import codes_of

S4, U4 = UniformFormat(4, True), UniformFormat(4, False)
RULE = RequantizeSpec(U4, 3, "one", 0, 12)
OPTIONS = PIMOptions(rows=8, columns=16, on_off=3.0)


def network() -> Network:
    rng = np.random.default_rng(3)
    conv = ConvSpec(5, 4, 2, 3, 2, 2, 1, 0, 1, U4, S4, RULE)
    fc = LinearSpec(36, 5, U4, S4, replace(RULE, out_format=UniformFormat(16, True)))
    nodes = [
        Node(
            name,
            spec,
            (source,),
            1.0,
            {"weight": codes_of(S4.codes, rng, spec.matrix_rows, spec.matrix_columns)}
            | {"b": rng.integers(-9, 9, spec.matrix_rows)},
        )
        for name, spec, source in (("conv", conv, "x"), ("fc", fc, "conv"))
    ]
    plain = Network("small", InputSpec("x", (5, 4, 2), U4, 1.0), tuple(nodes))
    return to_pim(plain, OPTIONS).network


def frames(count: int) -> torch.Tensor:
    return torch.from_numpy(codes_of(U4.codes, np.random.default_rng(1), count, 5, 4, 2))


def test_word_lines_are_the_bits_that_are_1_on_the_lines_of_each_macro() -> None:
    net = network()
    mapping, node, x = plan(net, Budget(64, pim=PimBudget(16))), net["conv"], frames(3)
    spec = mapping.engine("pe_conv")
    placed, lines, cells = spec.placement(node), 0, 0
    for frame in x.numpy():
        for row, column in np.ndindex(4, 3):
            vector = frame[row : row + 2, column : column + 2].ravel()
            for macro in range(placed.macros):
                own = placed.line[macro]
                on = sum(int(vector[line]).bit_count() for line in own[own >= 0])
                lines += on
                cells += on * (int((placed.output[macro] >= 0).sum()) + 1)  # and the reference
    assert pulses(node, spec, x) == (lines, cells)


def test_events_follow_from_the_evaluations_that_were_counted() -> None:
    net = network()
    mapping = plan(net, Budget(64, pim=PimBudget(16)))
    steps = {"conv": 12 * 4, "fc": 4}
    found = count(net, mapping, frames(3), steps)
    for name, evaluations in steps.items():
        layer = placed_layer(net[name], mapping.engine(f"pe_{name}"))
        events, parts, writes = found[name]
        assert sum(events.conversions.values()) == evaluations * sum(t.lines for t in layer.tiles)
        assert writes.cell_writes >= net[name].spec.weights() * 4
        assert parts.cells == len(layer.tiles) * 8 * 17
    with pytest.raises(ValueError, match="evaluations of fc must be the 4 of the formula, not 5"):
        count(net, mapping, frames(3), steps | {"fc": 5})


def test_the_report_s_shares_add_up() -> None:
    net = network()
    mapping = plan(net, Budget(64, pim=PimBudget(16)))
    energy, area = sections(net, mapping, frames(2), {"conv": 48, "fc": 4}, "sot_mram")
    for form in (energy, area, energy["programming"]):
        assert sum(part["share"]["typical"] for part in form["parts"]) == pytest.approx(1)
    layers = sum(total["typical"] for total in energy["layers"].values())
    assert energy["total"]["typical"] == pytest.approx(layers)
    assert energy["unit"] == "J"
