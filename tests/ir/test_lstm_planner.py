"""Planned LSTMs: every option fits, and a larger budget is never slower."""

import pytest

from model.export.fft import with_fft
from model.ir.errors import BadInput
from model.ir.network import Network
from model.ir.planner import Budget, options, plan
from tests.lstms import lstm_network, lstm_spec

SHAPE = {"features": 5, "cells": 8, "projection": 8, "peephole": True, "weight_bits": 12, "k": 4}
PLAIN = {"features": 3, "cells": 6}


def network(fft: bool, shape: dict) -> Network:
    net = lstm_network(lstm_spec(**shape), 1)
    return with_fft(net) if fft else net


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
