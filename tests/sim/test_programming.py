"""Rows written by pulses in a whole network: what is counted, in RTL, and what it costs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gyre.pim_energy import count
from hdl.accelerator import Accelerator
from model import golden
from model.export import to_pim
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pim_options import PIMOptions
from model.ir.pim_planner import PimBudget
from model.ir.planner import Budget, plan
from model.ir.requantize import RequantizeSpec
from sim import simulate
from tests.examples import codes_of
from tests.tools import require_tools

pytestmark = pytest.mark.rtl

U4, S4 = UniformFormat(4, False), UniformFormat(4, True)
RULE = RequantizeSpec(U4, 4, "one", 0, 12)
OPTIONS = PIMOptions(rows=8, columns=16, stuck_low=0.02, stuck_high=0.02, seed=3)
ATTEMPTS = 3


def network(options: PIMOptions = OPTIONS) -> Network:
    """Two layers of 12 and 5 inputs, some of whose cells are stuck."""
    rng, nodes, edge = np.random.default_rng(1), [], "x"
    for name, inputs, outputs in (("a", 12, 5), ("b", 5, 6)):
        spec = LinearSpec(inputs, outputs, U4, S4, RULE)
        tensors = {"weight": codes_of(S4.codes, rng, outputs, inputs), "b": np.zeros(outputs, int)}
        nodes.append(Node(name, spec, (edge,), 1.0, tensors))
        edge = name
    plain = Network("two", InputSpec("x", (12,), U4, 1.0), tuple(nodes))
    return to_pim(plain, options).network


def test_pulses_and_failed_rows_are_counted_and_priced() -> None:
    """A row takes a pulse, and all attempts where a cell is stuck at another level than wanted."""
    require_tools("g++")
    net = network()
    budget = PimBudget(16, programs=True, attempts=ATTEMPTS, faults=OPTIONS.faults())
    mapping = plan(net, Budget(64, pim=budget))
    codes = torch.from_numpy(codes_of(U4.codes, np.random.default_rng(2), 5, 12))
    result = simulate(Accelerator(net, mapping), codes)
    assert torch.equal(result.outputs, golden.run(net, codes))
    pulses = {}
    for node in net.nodes:
        levels, stuck = mapping.engine(f"pe_{node.name}").contents(node)
        wrong = ((stuck >= 0) & (stuck != levels)).any(axis=2)
        pulses[node.name] = wrong.size + (ATTEMPTS - 1) * int(wrong.sum())
        assert result.counters[f"pulses_{node.name}"] == pulses[node.name]
        assert result.counters[f"failures_{node.name}"] == wrong.sum()
    assert any(result.counters[f"failures_{node.name}"] for node in net.nodes)

    steps = {node.name: 4 for node in net.nodes}
    for name, (_, _, writes) in count(net, mapping, codes, steps, pulses).items():
        assert (writes.word_lines, writes.cell_writes) == (pulses[name], pulses[name] * 16)
    once = count(net, mapping, codes, steps)
    assert all(writes.cell_writes < pulses[name] * 16 for name, (_, _, writes) in once.items())


def test_rows_that_are_there_from_the_start_count_nothing() -> None:
    net = network()
    mapping = plan(net, Budget(64, pim=PimBudget(16, faults=OPTIONS.faults())))
    ports = Accelerator(net, mapping).signature.members
    assert not [name for name in ports if name.startswith(("pulses", "failures"))]
    written = replace(PimBudget(16, faults=OPTIONS.faults()), programs=True)
    ports = Accelerator(net, plan(net, Budget(64, pim=written))).signature.members
    assert {"pulses_a", "failures_a", "pulses_b", "failures_b"} <= set(ports)
