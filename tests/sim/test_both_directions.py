"""Both directions of a layer from one engine: a second run over the sequences backwards."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hdl.accelerator import Accelerator
from model import golden
from model.ir.network import Network
from model.ir.planner import Budget, plan
from model.nets.lstm import LSTM
from sim.run import Simulator
from sim.sequences import backwards
from tests.lstms import lstm_network, lstm_spec
from tests.tools import require_tools

LENGTHS = np.array([4, 1, 6, 3])


def test_backwards_twice_is_the_same_and_padding_stays() -> None:
    codes = torch.arange(4 * 6 * 2).reshape(4, 6, 2)
    turned = backwards(codes, LENGTHS)
    assert (backwards(turned, LENGTHS) == codes).all()
    assert (turned[2] == codes[2].flip(0)).all()
    assert (turned[0] == codes[0][[3, 2, 1, 0, 4, 5]]).all()
    assert (turned[1] == codes[1]).all()


@pytest.mark.parametrize("projection", [None, 3])
def test_two_of_one_direction_are_a_layer_of_both(projection: int | None) -> None:
    torch.manual_seed(1)
    both = LSTM(5, 4, projection, peephole=True, bidirectional=True).double().eval()
    x = torch.randn(4, 6, 5).double()
    x[torch.arange(6) >= torch.from_numpy(LENGTHS)[:, None]] = 0
    expected = both(x, torch.from_numpy(LENGTHS))
    reverse, both.reverse = both.reverse, None
    found = torch.cat([both(x), backwards(reverse(backwards(x, LENGTHS)), LENGTHS)], 2)
    inside = torch.arange(6) < torch.from_numpy(LENGTHS)[:, None]
    assert torch.equal(found[inside], expected[inside])


def layer(seed: int, features: int) -> Network:
    """One direction of a layer, alone."""
    net = lstm_network(lstm_spec(features, 4, in_frac=12), seed, 0.1)
    return replace(net, nodes=(net["lstm"],))


@pytest.mark.rtl
@pytest.mark.timeout(600)
def test_stacked_layers_of_both_directions_equal_golden() -> None:
    """Each layer has one simulator for its two directions, which differ in their weights alone."""
    require_tools("g++")
    rng = np.random.default_rng(1)
    codes = torch.from_numpy(rng.integers(-(2**15), 2**15, (4, 6, 3)))
    wanted = codes
    for number, features in enumerate((3, 8)):  # the second reads both directions of the first
        one, other = layer(2 * number, features), layer(2 * number + 1, features)
        mapping = plan(one, Budget(30), 2)
        simulator = Simulator(Accelerator(one, mapping))
        ran, computed = [], []
        for net, turn in ((one, False), (other, True)):
            files = Accelerator(net, mapping).files()
            entry = backwards(codes, LENGTHS) if turn else codes
            y = simulator.run(entry, lengths=LENGTHS, files=files).outputs
            ran.append(backwards(y, LENGTHS) if turn else y)
            entry = backwards(wanted, LENGTHS) if turn else wanted
            y = golden.run(net, entry)
            computed.append(backwards(y, LENGTHS) if turn else y)
        codes, wanted = torch.cat(ran, 2), torch.cat(computed, 2)
        inside = torch.arange(6) < torch.from_numpy(LENGTHS)[:, None]
        assert torch.equal(codes[inside], wanted[inside])
        assert len(torch.unique(codes[inside])) > 20
        assert not torch.equal(ran[0], ran[1])
