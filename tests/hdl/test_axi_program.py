"""The programming port of the AXI shell: rows by AXI4-Lite, then frames of the other network."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from hdl.accelerator import Accelerator
from model import golden
from model.export import to_pim
from model.ir.conv import ConvSpec
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pim_array import PimArraySpec
from model.ir.pim_options import PIMOptions
from model.ir.pim_planner import PimBudget
from model.ir.planner import Budget, plan
from model.ir.requantize import RequantizeSpec
from sim.program import Programmed, rows_of, run_programmed
from tests.examples import codes_of
from tests.tools import require_tools

U4, S4 = UniformFormat(4, False), UniformFormat(4, True)
OPTIONS = PIMOptions(
    rows=8, columns=16, on_off=4.0, grid_bits=1, stuck_low=0.01, stuck_high=0.01, seed=3
)
PULSES = {"a": {"write_cycles": 400}, "b": {"write_cycles": 2, "attempts": 3, "programs": True}}
"""Rows that are there from the start, and rows that are written by pulses at the start too."""


def network(seed: int) -> Network:
    """A convolution and a layer behind it, whose weights are of the seed alone.

    Row tiles, a reference column, and cells some of which are stuck at the same places.
    """
    rng = np.random.default_rng(seed)
    conv = ConvSpec(3, 3, 2, 3, 2, 2, 1, 0, 1, U4, S4, RequantizeSpec(U4, 4, "one", 0, 12))
    dense = LinearSpec(12, 5, U4, S4, RequantizeSpec(UniformFormat(12, True), 0, "one", 0, 12))
    nodes = []
    for name, spec, entry in (("a", conv, "x"), ("b", dense, "a")):
        weight = codes_of(S4.codes, rng, spec.matrix_rows, spec.matrix_columns)
        tensors = {"weight": weight, "b": np.zeros(spec.matrix_rows, dtype=np.int64)}
        nodes.append(Node(name, spec, (entry,), 1.0, tensors))
    plain = Network("two", InputSpec("x", (3, 3, 2), U4, 1.0), tuple(nodes))
    return to_pim(plain, OPTIONS).network


def accelerator() -> Accelerator:
    """The first network, with two copies of its convolution."""
    net = network(1)
    mapping = plan(net, Budget(64, pim=PimBudget(16, faults=OPTIONS.faults())))
    engines = []
    for engine, name in zip(mapping.engines, PULSES, strict=True):
        assert isinstance(engine.spec, PimArraySpec)
        own = replace(engine.spec, copies=2 if name == "a" else 1, **PULSES[name])
        engines.append(replace(engine, spec=own))
    return Accelerator(net, replace(mapping, engines=tuple(engines)))


@cache
def run() -> tuple[Accelerator, Network, Programmed]:
    """One run, of which all tests tell."""
    require_tools("g++")
    made, after = accelerator(), network(2)
    codes = torch.from_numpy(codes_of(U4.codes, np.random.default_rng(3), 24, 3, 3, 2))
    return made, after, run_programmed(made, after, codes)


@pytest.mark.rtl
def test_frames_are_those_of_the_network_whose_rows_were_written() -> None:
    _, _, result = run()
    assert len(result.outputs["before"]) == 6
    assert len(result.outputs["after"]) == 14
    for name, outputs in result.outputs.items():
        assert outputs.shape == result.expected[name].shape
        assert (outputs == result.expected[name]).all(), name
    assert len(np.unique(result.expected["after"], axis=0)) > 8


@pytest.mark.rtl
def test_rows_pulses_cycles_and_failures_are_those_of_the_formulas() -> None:
    made, after, result = run()
    rows = rows_of(made, after)
    assert result.rows == len(rows) == sum(cells.macros * cells.rows for cells in made.cells)
    assert result.failures == sum(row["fails"] for row in rows)
    assert 0 < result.failures < result.rows
    assert result.pulses == sum(row["pulses"] for row in rows)
    assert result.cycles == sum(row["cycles"] for row in rows)


def test_the_two_networks_differ_in_their_weights_alone() -> None:
    first, second = network(1), network(2)
    assert [node.spec for node in first.nodes] == [node.spec for node in second.nodes]
    codes = torch.from_numpy(codes_of(U4.codes, np.random.default_rng(3), 24, 3, 3, 2))
    assert (golden.run(first, codes) != golden.run(second, codes)).float().mean() > 0.5
