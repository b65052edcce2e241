"""Sequences of different lengths through accelerators with LSTMs, against golden at every step."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hdl.accelerator import Accelerator
from model import golden
from model.ir.errors import BadInput
from model.ir.interleave import interleave, slots_of
from model.ir.lstm_array import LSTMArraySpec
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.network import Network
from model.ir.pe_array import PeArraySpec
from sim.harness import Capacity
from sim.run import Simulator, Stall
from sim.sequences import frames_of, lengths_of, parts_of, sequences_of
from sim.verify import verify
from tests.lstms import lstm_network, lstm_spec
from tests.tools import require_tools

LENGTHS = [4, 1, 6, 2, 3]


def stacked() -> Network:
    """Two LSTMs, with and without projection, and an output layer."""
    first = lstm_network(lstm_spec(5, 6, 4, True), 1, 0.7)
    second = lstm_network(lstm_spec(4, 3, 0, False, "sigmoid", in_frac=12), 2, 0.7)
    nodes = (
        first["lstm"],
        replace(second["lstm"], name="upper", inputs=("lstm",)),
        replace(second["fc"], inputs=("upper",)),
    )
    return replace(first, nodes=nodes)


def mapping(sequences: tuple[int, int]) -> Mapping:
    pe = PeArraySpec(4, 2)
    engines = (
        Engine("e0", LSTMArraySpec(pe, 4, 2, PeArraySpec(2, 2), sequences[0])),
        Engine("e1", LSTMArraySpec(pe, 2, 1, None, sequences[1])),
        Engine("e2", PeArraySpec(1, 1)),
    )
    stages = (
        StageMapping("lstm", "e0", 2),
        StageMapping("upper", "e1", 3),
        StageMapping("fc", "e2", 1),
    )
    return Mapping(2, engines, stages)


def sequences(network: Network, count: int, steps: int, seed: int = 1) -> torch.Tensor:
    span = network.input.format.codes
    rng = np.random.default_rng(seed)
    shape = (count, steps, *network.input.shape)
    return torch.from_numpy(rng.integers(span.low, span.high + 1, shape))


@pytest.mark.rtl
def test_stacked_layers_equal_golden_at_every_step() -> None:
    require_tools("g++")
    network, slots = stacked(), 3
    accelerator = Accelerator(network, mapping((slots, slots)))
    codes = sequences(network, len(LENGTHS), max(LENGTHS))
    verdict = verify(accelerator, codes, lengths=LENGTHS)
    assert verdict.equal, verdict.differences
    assert verdict.mismatches == 0
    assert verdict.frames == sum(LENGTHS)
    costs = [cost for _, cost in accelerator.mapping.costs(network)]
    frames = len(interleave(LENGTHS, slots))
    assert verdict.result.frames == frames
    assert verdict.result.cycles_per_frame <= max(cost.cycles for cost in costs)
    for node, cost in zip(network.nodes, costs, strict=True):
        assert verdict.result.counters[f"steps_{node.name}"] == frames * cost.steps


@pytest.mark.rtl
def test_runs_of_one_slot_that_are_split_give_the_same() -> None:
    require_tools("g++")
    network = stacked()
    accelerator = Accelerator(network, mapping((1, 1)))
    codes = sequences(network, len(LENGTHS), max(LENGTHS))
    simulator = Simulator(accelerator, capacity=Capacity(source=32, sink=32))
    result = simulator.run(codes, lengths=LENGTHS, stall=Stall(True, True))
    expected = golden.run(network, codes)
    steps = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    assert (result.outputs == torch.where(steps[..., None], expected, 0)).all()
    assert result.frames == sum(LENGTHS)  # with one slot none is idle


def test_refuses_layers_that_interleave_differently() -> None:
    with pytest.raises(BadInput, match="2 in lstm, 3 in upper"):
        Accelerator(stacked(), mapping((2, 3)))
    assert slots_of(mapping((2, 2)), stacked()) == 2


def test_frames_and_back_are_the_same_sequences() -> None:
    codes = torch.arange(5 * 6 * 2).reshape(5, 6, 2)
    lengths = np.array(LENGTHS)
    for slots in (1, 2, 4):
        frames = frames_of(codes, lengths, slots)
        again = sequences_of(frames.codes, frames.order, 5, 6)
        steps = torch.arange(6) < torch.tensor(LENGTHS)[:, None]
        assert (again == torch.where(steps[..., None], codes, 0)).all()
        for shares, most in ((1, 100), (2, 24), (3, 24)):
            runs = [run for share in parts_of(codes, lengths, slots, shares, most) for run in share]
            assert all(len(run) <= most for _, run in runs)
            order = np.concatenate([run.order for _, run in runs])
            joined = torch.cat([run.codes for _, run in runs])
            assert (sequences_of(joined, order, 5, 6) == again).all()
            ends = np.cumsum([len(run) for _, run in runs])
            assert [first for first, _ in runs] == [0, *ends[:-1]]


def test_refuses_lengths_that_do_not_fit_and_runs_that_are_too_long() -> None:
    codes = torch.zeros(3, 4, 2, dtype=torch.int64)
    for lengths in ([1, 2], [0, 1, 2], [5, 1, 1]):
        with pytest.raises(BadInput, match="lengths"):
            lengths_of(codes, lengths)
    with pytest.raises(BadInput, match="sequence 0 of 4 steps"):
        parts_of(codes, lengths_of(codes, None), 2, 1, 3)
