"""Pooling, depthwise convolution and residual addition in one network: every layer compared."""

import numpy as np
import pytest
import torch

from hdl.accelerator import Accelerator
from model import golden
from model.ir.add import AddSpec
from model.ir.conv import ConvSpec
from model.ir.lane_array import LaneArraySpec
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pool import AveragePoolSpec, MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from model.ir.schedule import with_fifos
from sim import Simulator, Stall, first_difference
from sim.harness import Capacity
from tests.examples import codes_of
from tests.strategies import requantize_tensors
from tests.tools import require_tools

pytestmark = pytest.mark.rtl

U4, S4 = UniformFormat(4, False), UniformFormat(4, True)
RULE = RequantizeSpec(U4, 6, "channel", 6, 9)


def network() -> Network:
    """A depthwise convolution beside a short cut, two poolings and a global one."""
    rng = np.random.default_rng(3)

    def parameters(channels: int) -> dict[str, np.ndarray]:
        return requantize_tensors(RULE, channels, rng)

    depthwise = ConvSpec(7, 8, 5, 5, 3, 3, 1, 1, 5, U4, S4, RULE)
    factors = {"mx": np.array([13]), "my": np.array([-7])}
    weight = {"weight": codes_of(S4.codes, rng, 5, 9)}
    nodes = (
        Node("depth", depthwise, ("x",), 0.5, weight | parameters(5)),
        Node("sum", AddSpec((7, 8, 5), U4, U4, U4, 4, 6), ("x", "depth"), 0.5, factors),
        Node("top", MaxPoolSpec(7, 8, 5, 2, 2, 2, U4), ("sum",), 0.5, {}),
        Node("mean", AveragePoolSpec(3, 4, 5, 2, 3, 1, U4, RULE), ("top",), 0.5, parameters(5)),
        Node("all", AveragePoolSpec(2, 2, 5, 2, 2, 1, U4, RULE), ("mean",), 0.5, parameters(5)),
    )
    return Network("lanes", InputSpec("x", (7, 8, 5), U4, 1.0), nodes)


def test_every_layer_equals_golden_also_with_stalls_and_after_a_reset() -> None:
    require_tools("g++")
    net = network()
    stages = (("depth", 2), ("sum", 2), ("top", 2), ("mean", 3), ("all", 1))
    mapping = with_fifos(
        Mapping(
            2,
            (Engine("lanes", LaneArraySpec(2)),),
            tuple(StageMapping(n, "lanes" if n == "depth" else None, w) for n, w in stages),
        ),
        net,
    )
    assert [(fifo.node, fifo.input) for fifo in mapping.fifos] == [("sum", 0)]
    codes = torch.from_numpy(codes_of(U4.codes, np.random.default_rng(1), 40, 7, 8, 5))
    simulator = Simulator(
        Accelerator(net, mapping, taps=True), capacity=Capacity(source=8192, sink=4096)
    )
    edges = golden.trace(net, codes)
    cycles = max(cost.cycles for _, cost in mapping.costs(net))
    for stall, reset_after in ((Stall(), None), (Stall(True, True, 5), None), (Stall(), 333)):
        result = simulator.run(codes, stall=stall, reset_after=reset_after)
        assert first_difference("all", edges["all"], result.outputs) is None
        for name, found in result.taps.items():
            assert first_difference(name, edges[name][: len(found)], found) is None
        if stall == Stall():
            assert result.cycles_per_frame == cycles
            busy = result.counters["steps_depth"] / result.counters["span_depth"]
            assert busy >= 0.95  # it sets the pace
