"""Stuck cells that the mapping knows of: those with which the network was converted."""

import numpy as np
import pytest
import torch

from model.export import to_pim
from model.ir.errors import BadInput
from model.ir.faults import Faults
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pim_options import PIMOptions
from model.ir.pim_planner import PimBudget, pim_engines
from model.ir.requantize import RequantizeSpec
from tests.examples import codes_of

U4, S4 = UniformFormat(4, False), UniformFormat(4, True)
RULE = RequantizeSpec(U4, 4, "one", 0, 12)
OPTIONS = PIMOptions(rows=8, columns=16, stuck_low=0.03, stuck_high=0.02, seed=3, repair=True)


def converted(options: PIMOptions) -> Network:
    """Two layers of 20 and 9 inputs."""
    rng, nodes, edge = np.random.default_rng(1), [], "x"
    for name, inputs, outputs in (("a", 20, 9), ("b", 9, 6)):
        spec = LinearSpec(inputs, outputs, U4, S4, RULE)
        tensors = {"weight": codes_of(S4.codes, rng, outputs, inputs), "b": np.zeros(outputs, int)}
        nodes.append(Node(name, spec, (edge,), 1.0, tensors))
        edge = name
    plain = Network("two", InputSpec("x", (20,), U4, 1.0), tuple(nodes))
    return to_pim(plain, options, torch.zeros(1, 20, dtype=torch.int64)).network


@pytest.mark.parametrize("repair", [False, True])
def test_an_array_has_the_stuck_cells_of_the_conversion(repair: bool) -> None:
    options = OPTIONS.model_copy(update={"repair": repair})
    network = converted(options)
    engines = pim_engines(network, PimBudget(16, faults=options.faults()))
    for node in network.nodes:
        engine = engines[node.name]
        levels, stuck = engine.contents(node)
        assert (stuck >= 0).any()
        placed = engine.placement(node)
        assert (placed.weight[stuck >= 0] >= 0).all()
        # What is written is nominal; what the cells then hold is the tensor of cells.
        nominal = node.spec.arithmetic.nominal(node.spec, dict(node.tensors))
        assert (levels == placed.spread_out(nominal, 0)).all()
        held = np.where(stuck >= 0, stuck, levels)
        assert (held == placed.levels(node.spec, dict(node.tensors))).all()
        assert (held != levels).any() != repair


def test_refuses_faults_that_are_not_those_of_the_network() -> None:
    network = converted(OPTIONS)
    other = OPTIONS.model_copy(update={"repair": False})
    engines = pim_engines(network, PimBudget(16, faults=other.faults()))
    with pytest.raises(BadInput, match="faults of the PIM array of a: found stuck cells at other"):
        engines["a"].contents(network["a"])


@pytest.mark.parametrize("shares", [(-0.1, 0), (0, -0.1), (0.6, 0.5)])
def test_refuses_shares_that_cannot_be(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="shares of at most 1 together"):
        Faults(*shares)
