"""Level 3 of what counts as proven: whole networks in RTL, and runs that must fail."""

import json
from functools import cache

import numpy as np
import pytest
import torch

import sim.run
from hdl.accelerator import Accelerator
from hdl.lib.hexfile import hex_text, read_hex
from model import golden
from model.ir.errors import BadInput
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.pe_array import PeArraySpec
from sim import Simulator, Stall, first_difference, simulate
from sim.bench import SimulationError
from sim.harness import TAP_FRAMES, Capacity
from tests.examples import codes_of, example_network
from tests.tools import require_tools

pytestmark = pytest.mark.rtl

NETWORK = example_network()
MAPPING = Mapping(
    5,
    tuple(Engine(f"pe{n}", PeArraySpec(2, 3)) for n in range(3)),
    (
        StageMapping("keep", None, 3),
        *(StageMapping(f"fc{n}", f"pe{n}", lanes) for n, lanes in enumerate((2, 1, 1))),
    ),
)
CAPACITY = Capacity(source=4096, sink=8192)


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_tools("g++")


@cache
def simulator() -> Simulator:
    """The example network with taps, built once."""
    return Simulator(Accelerator(NETWORK, MAPPING, taps=True), capacity=CAPACITY)


def frames(count: int, seed: int = 1) -> torch.Tensor:
    """Full-range codes in which the ends are common."""
    shape = (count, *NETWORK.input.shape)
    span = NETWORK.input.format.codes
    return torch.from_numpy(codes_of(span, np.random.default_rng(seed), *shape))


def test_every_layer_of_the_first_frames_and_every_output_equal_golden() -> None:
    codes = frames(200)
    result, edges = simulator().run(codes), golden.trace(NETWORK, codes)
    assert first_difference("fc2", edges["fc2"], result.outputs) is None
    assert set(result.taps) == {node.name for node in NETWORK.nodes}
    for name, found in result.taps.items():
        assert len(found) == TAP_FRAMES
        assert first_difference(name, edges[name][:TAP_FRAMES], found) is None


@pytest.mark.parametrize("seed", [0, 1, 77])
def test_random_stalls_at_both_ends_change_no_code(seed: int) -> None:
    codes = frames(120, seed)
    expected = golden.run(NETWORK, codes)
    free = simulator().run(codes)
    for stall in (Stall(True, True, seed), Stall(source=True, seed=seed), Stall(sink=True)):
        result = simulator().run(codes, stall=stall)
        assert first_difference("fc2", expected, result.outputs) is None
        assert result.cycles_per_frame >= free.cycles_per_frame
    assert result.cycles_per_frame > free.cycles_per_frame


def test_a_thousand_frames_of_full_range_codes_equal_golden() -> None:
    codes = frames(1000, 3)
    result = simulator().run(codes)
    assert first_difference("fc2", golden.run(NETWORK, codes), result.outputs) is None


def test_frames_beyond_the_memories_run_in_parts() -> None:
    codes = frames(1700, 4)  # 4096 source words are 1365 frames of 3 beats
    result = simulator().run(codes)
    assert first_difference("fc2", golden.run(NETWORK, codes), result.outputs) is None
    assert result.frames == 1700
    assert result.counters["count"] == 1700 * MAPPING.beats(NETWORK, "fc2").count


@pytest.mark.parametrize("processes", [2, 3])
def test_frames_split_over_processes_give_what_one_process_gives(
    processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = frames(150, 4)
    alone = simulator().run(codes, processes=1)
    monkeypatch.setattr(sim.run, "SHARE_CYCLES", 1)
    run_bench, folders = sim.run.run_bench, []

    def noted(folder, top, module, run, **kwargs) -> None:
        folders.append(run)
        run_bench(folder, top, module, run, **kwargs)

    monkeypatch.setattr(sim.run, "run_bench", noted)
    split = simulator().run(codes, processes=processes)
    assert len(set(folders)) == processes
    assert torch.equal(split.outputs, alone.outputs)
    assert all(torch.equal(split.taps[name], alone.taps[name]) for name in alone.taps)
    assert split.cycles_per_frame == alone.cycles_per_frame
    assert split.latency_cycles == alone.latency_cycles
    assert split.frames == alone.frames
    work = ["count", "left", *(f"steps_fc{n}" for n in range(3))]
    assert [split.counters[name] for name in work] == [alone.counters[name] for name in work]


def test_short_runs_take_one_process_and_every_process_gets_two_frames() -> None:
    cycles = max(cost.cycles for _, cost in MAPPING.costs(NETWORK))
    enough = 2 * sim.run.SHARE_CYCLES // cycles + 1
    assert simulator()._shares(10, 8) == 1
    assert simulator()._shares(enough, 8) == 2
    assert simulator()._shares(enough, 1) == 1
    assert simulator()._shares(10**9, 8) == 8
    with pytest.raises(BadInput, match="simulation: processes: found 0; expected at least 1"):
        simulator().run(frames(2), processes=0)


def test_taps_show_the_first_frames_also_where_a_process_has_fewer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sim.run, "SHARE_CYCLES", 1)
    codes = frames(50, 4)
    split, edges = simulator().run(codes, processes=4), golden.trace(NETWORK, codes)
    for name, found in split.taps.items():
        assert torch.equal(found, edges[name])


def test_a_failure_in_one_process_names_its_frames_and_stops_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sim.run, "SHARE_CYCLES", 1)
    broken = controlled(  # the second process lacks a beat and hangs; the first would run on
        monkeypatch,
        words=lambda c: c["words"] - (c["expected"] == 10 * 5),
        settle=lambda c: c["settle"] if c["expected"] == 10 * 5 else 1 << 31,
    )
    monkeypatch.setattr(sim.run, "pairwise", lambda _: [(0, 4000), (4000, 4010)])
    text = r"run of the frames 4000 to 4009: frame 9 never came: 45 of 50 output beats"
    with pytest.raises(SimulationError, match=text):
        broken.run(frames(4010, 5), processes=2)


@pytest.mark.parametrize("cycles", [1, 23, 61, 150])
def test_after_a_reset_in_mid_frame_everything_is_right(cycles: int) -> None:
    codes = frames(30, 5)
    for stall in (Stall(), Stall(True, True, 9)):
        result = simulator().run(codes, stall=stall, reset_after=cycles)
        assert first_difference("fc2", golden.run(NETWORK, codes), result.outputs) is None


def test_no_output_depends_on_what_registers_hold_before_reset() -> None:
    codes = frames(50, 6)
    first, second = (simulator().run(codes, init_seed=seed) for seed in (1, 2))
    assert torch.equal(first.outputs, second.outputs)
    assert all(torch.equal(first.taps[name], second.taps[name]) for name in first.taps)
    assert first.counters == second.counters


def test_cycles_steps_and_latency_are_those_of_the_formulas() -> None:
    costs = {node.name: cost for node, cost in MAPPING.costs(NETWORK)}
    result = simulator().run(frames(100, 7))
    assert result.cycles_per_frame == max(cost.cycles for cost in costs.values())
    for name in ("fc0", "fc1", "fc2"):
        assert result.counters[f"steps_{name}"] == 100 * costs[name].steps
        # Nearly all frames at the network's pace: the first ones run ahead into the buffers.
        frames_spanned = result.counters[f"span_{name}"] / result.cycles_per_frame
        assert 95 <= frames_spanned <= 101
    assert result.latency_cycles <= sum(cost.latency for cost in costs.values())


def test_a_flipped_weight_bit_is_found_and_located() -> None:
    codes = frames(100, 8)
    edges = golden.trace(NETWORK, codes)
    files = dict(simulator().design.files)
    width = 6 * 1  # bipolar weights: a word is 2 x 3 bits
    matrix = read_hex(files["fc1_weight.hex"], width).copy()
    matrix[0, 0] ^= 1
    files["fc1_weight.hex"] = hex_text(matrix)
    result = simulator().run(codes, files=files)
    assert first_difference("fc0", edges["fc0"][:TAP_FRAMES], result.taps["fc0"]) is None
    difference = first_difference("fc1", edges["fc1"][:TAP_FRAMES], result.taps["fc1"])
    assert difference is not None
    assert difference.element == 0  # the first word belongs to the first output
    wrong = np.argwhere((edges["fc1"][:TAP_FRAMES] != result.taps["fc1"]).any(dim=1).numpy())
    assert difference.frame == wrong[0][0]
    assert difference.found == result.taps["fc1"][difference.frame, 0]


def controlled(monkeypatch: pytest.MonkeyPatch, **changes) -> Simulator:
    """The simulator with other values on the harness's controls."""
    found = simulator()
    controls = found.controls
    monkeypatch.setattr(
        found, "controls", lambda n: controls(n) | {k: f(controls(n)) for k, f in changes.items()}
    )
    return found


def test_an_input_beat_left_over_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    # All outputs are there, and the entry reports beats that nobody has taken.
    run_bench = sim.run.run_bench

    def stuck(folder, top, module, run, **kwargs) -> None:
        run_bench(folder, top, module, run, **kwargs)
        result = json.loads((run / "result.json").read_text())
        result["counters"]["left"] = 2
        (run / "result.json").write_text(json.dumps(result))

    monkeypatch.setattr(sim.run, "run_bench", stuck)
    with pytest.raises(SimulationError, match="2 input beats left over after the last output"):
        simulator().run(frames(10))


def test_a_surplus_output_beat_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = controlled(monkeypatch, words=lambda c: c["words"] + 3)  # a frame too many
    with pytest.raises(SimulationError, match="5 beats after the last expected one"):
        broken.run(frames(10))


def test_a_hang_ends_with_the_frame_that_never_came(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = controlled(monkeypatch, words=lambda c: c["words"] - 3)
    with pytest.raises(SimulationError, match=r"frame 9 never came: 45 of 50 output beats after"):
        broken.run(frames(10))


def test_wrong_marks_fail_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    unpack = sim.run.unpack

    def turned(matrix, *args):
        matrix = matrix.copy()
        matrix[7, -1] ^= 1
        return unpack(matrix, *args)

    monkeypatch.setattr(sim.run, "unpack", turned)
    with pytest.raises(SimulationError, match="fc2: frame marks of frame 1 are wrong"):
        simulator().run(frames(10))


def test_codes_that_do_not_fit_the_input_are_refused() -> None:
    with pytest.raises(BadInput, match=r"image: found codes from 0 to 16; expected .* 0 to 15"):
        simulator().run(torch.arange(17).repeat(12)[: 12 * 17].reshape(17, 4, 3))


def test_a_run_without_frames_is_refused() -> None:
    with pytest.raises(BadInput, match="simulation: found 0 frames"):
        simulator().run(frames(1)[:0])


def test_simulate_builds_and_runs_at_once() -> None:
    codes = frames(20)
    accelerator = Accelerator(NETWORK, MAPPING)
    result = simulate(accelerator, codes, stall=Stall(True, True))
    assert torch.equal(result.outputs, golden.run(NETWORK, codes))
    assert result.taps == {}
