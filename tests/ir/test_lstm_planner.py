"""Planned LSTMs: every option fits, and a larger budget is never slower."""

from dataclasses import replace

import pytest

from model.export.fft import with_fft
from model.ir.beats import Beats
from model.ir.errors import BadInput
from model.ir.network import Network
from model.ir.planner import Budget, options, plan
from tests.lstms import lstm_network, lstm_spec

SHAPE = {"features": 5, "cells": 8, "projection": 8, "peephole": True, "weight_bits": 12, "k": 4}
PLAIN = {"features": 3, "cells": 6}


def network(fft: bool, shape: dict) -> Network:
    net = lstm_network(lstm_spec(**shape), 1)
    return with_fft(net) if fft else net


def alone(net: Network) -> Network:
    """The network of its LSTM alone."""
    return replace(net, nodes=(net["lstm"],))


@pytest.mark.parametrize(("fft", "shape"), [(False, SHAPE), (True, SHAPE), (False, PLAIN)])
def test_every_option_fits_the_node(fft: bool, shape: dict) -> None:
    node = network(fft, shape)["lstm"]
    found = list(options(node.spec, node))
    assert found
    for option in found:
        option.engine.check(node, option.lanes)


@pytest.mark.parametrize(("fft", "shape"), [(False, SHAPE), (True, SHAPE), (False, PLAIN)])
def test_a_larger_budget_is_kept_and_never_slower(fft: bool, shape: dict) -> None:
    net, before = network(fft, shape), None
    for multipliers in (60, 100, 400):
        mapping = plan(net, Budget(multipliers)).check(net)
        costs = [cost for _, cost in mapping.costs(net)]
        assert sum(cost.multiplier_count for cost in costs) <= multipliers
        cycles = max(cost.cycles for cost in costs)
        assert before is None or cycles <= before
        before = cycles


def test_a_budget_below_one_lane_is_refused() -> None:
    with pytest.raises(BadInput, match=r"at least \d+ multipliers"):
        plan(network(False, SHAPE), Budget(5))


@pytest.mark.parametrize("sequences", [1, 3])
@pytest.mark.parametrize(("fft", "shape"), [(False, SHAPE), (True, SHAPE), (False, PLAIN)])
def test_the_plan_is_the_best_of_all_options(fft: bool, shape: dict, sequences: int) -> None:
    net = alone(network(fft, shape))
    node, ins = net["lstm"], lambda option: (Beats((shape["features"],), option.engine.cols),)
    for multipliers, bits in ((70, None), (150, None), (150, 14_000)):
        figures = []
        for option in options(node.spec, node):
            engine = replace(option.engine, sequences=sequences)
            cost = engine.cost(node.spec, ins(option), option.lanes)
            if cost.multiplier_count <= multipliers and (bits is None or cost.memory_bits <= bits):
                figures.append((cost.cycles, cost.memory_bits, cost.multiplier_count))
        found = plan(net, Budget(multipliers, bits), sequences)
        assert found.engine(found.stages[0].engine).sequences == sequences
        ((_, cost),) = found.costs(net)
        assert (cost.cycles, cost.memory_bits, cost.multiplier_count) == min(figures)


def test_the_stages_of_the_google_layer_are_balanced() -> None:
    shape = {"features": 153, "cells": 1024, "projection": 512, "peephole": True, "k": 8}
    net = alone(network(True, shape | {"weight_bits": 16}))
    found = plan(net, Budget(2676), 3)
    layer, stage = net["lstm"].spec, found.stages[0]
    engine = found.engine(stage.engine)
    parts = engine.parts(layer, stage.lanes)
    assert {name: cost.cycles for name, cost in parts.items()} == {"gates": 252, "project": 256}
    assert engine.loop(layer, stage.lanes) <= 3 * 256
    ((_, cost),) = found.costs(net)
    assert cost.cycles == 256
    ((_, cost),) = plan(net, Budget(2676), 1).costs(net)
    assert cost.cycles < engine.loop(layer, stage.lanes)  # of one sequence: shorter, not wider


def test_sequences_are_for_recurrent_networks_alone() -> None:
    net = network(False, PLAIN)
    entry = replace(net.input, shape=(6,), format=net["fc"].spec.in_format)
    head = replace(net, input=entry, nodes=(replace(net["fc"], inputs=("x",)),))
    with pytest.raises(BadInput, match=r"mapping.sequences: found 2 for a network without"):
        plan(head, Budget(100), 2)
