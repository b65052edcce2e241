"""The frame gate in Amaranth's simulator: whole frames pass in order, all others are dropped."""

import random

import pytest
from amaranth.sim import Simulator

from hdl.axi.frames import FrameGate

WIDTH = 12


def run(
    beats: int, frames: list[list[int]], stalls: tuple[float, float], seed: int = 1
) -> tuple[list[tuple[int, int, int, int]], list[int], dict[str, int]]:
    """Send frames; what leaves as (cycle, data, first, last), the cycles of what entered, and how
    often each event was seen. The payload must hold while it is stalled."""
    gate, chance = FrameGate(WIDTH, beats), random.Random(seed)
    sent = [(word, n == len(frame) - 1) for frame in frames for n, word in enumerate(frame)]
    left: list[tuple[int, int, int, int]] = []
    entered: list[int] = []
    events = dict.fromkeys(("taken", "short", "long"), 0)

    async def bench(ctx) -> None:
        ctx.set(gate.enable, 1)
        place, offering, held, quiet, cycle = 0, False, None, 0, 0
        while quiet < 4 * beats + 20:
            if not offering:
                offering = place < len(sent) and chance.random() >= stalls[0]
            ctx.set(gate.i_valid, offering)
            data, last = sent[place] if offering else (chance.getrandbits(WIDTH), 1)
            ctx.set(gate.i_data, data)
            ctx.set(gate.i_last, last)
            ready = chance.random() >= stalls[1]
            ctx.set(gate.o_ready, ready)
            if held is not None:
                assert ctx.get(gate.o_valid)
            quiet += 1
            if ctx.get(gate.o_valid):
                word = ctx.get(gate.o_data), ctx.get(gate.o_first), ctx.get(gate.o_last)
                assert held in (None, word), "the payload must hold"
                held = None if ready else word
                if ready:
                    left.append((cycle, *word))
                    quiet = 0
            if offering and ctx.get(gate.i_ready):
                entered.append(cycle)
                place, offering, quiet = place + 1, False, 0
            for name in events:
                events[name] += ctx.get(getattr(gate, name))
            await ctx.tick()
            cycle += 1
            assert cycle < 100_000, "hung"

    simulator = Simulator(gate)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(entered) == len(sent)
    return left, entered, events


def words(count: int, chance: random.Random) -> list[int]:
    return [chance.getrandbits(WIDTH) for _ in range(count)]


@pytest.mark.parametrize("beats", [1, 2, 3, 8])
@pytest.mark.parametrize("stalls", [(0, 0), (0.5, 0), (0, 0.5), (0.5, 0.5)])
def test_whole_frames_pass_in_order_and_broken_ones_leave_nothing(
    beats: int, stalls: tuple[float, float]
) -> None:
    chance = random.Random(f"{beats}/{stalls}")
    frames, wanted, broken = [], [], {"short": 0, "long": 0}
    for _ in range(60):
        kind = chance.choice(["good", "good", "short", "long"])
        length = beats
        if kind == "short" and beats > 1:
            length = chance.randrange(1, beats)
        elif kind == "long":
            length = beats + chance.randrange(1, 2 * beats + 2)
        frames.append(words(length, chance))
        if length == beats:
            wanted.append(frames[-1])
        else:
            broken["short" if length < beats else "long"] += 1
    left, _, events = run(beats, frames, stalls)
    marked = [
        (word, int(n == 0), int(n == beats - 1)) for frame in wanted for n, word in enumerate(frame)
    ]
    assert [beat[1:] for beat in left] == marked
    assert events == {"taken": len(wanted)} | broken


@pytest.mark.parametrize("beats", [1, 2, 5, 8])
def test_frames_pass_at_a_beat_a_cycle_after_the_stated_latency(beats: int) -> None:
    chance = random.Random(beats)
    left, entered, _ = run(beats, [words(beats, chance) for _ in range(20)], (0, 0))
    delays = {there[0] - here for there, here in zip(left, entered, strict=True)}
    assert delays == {beats + 1}
    assert entered == list(range(entered[0], entered[0] + 20 * beats))


def test_disabled_gate_takes_no_new_frame() -> None:
    gate = FrameGate(WIDTH, 2)

    async def bench(ctx) -> None:
        ctx.set(gate.o_ready, 1)
        ctx.set(gate.i_valid, 1)
        assert not ctx.get(gate.i_ready)
        ctx.set(gate.enable, 1)
        assert ctx.get(gate.i_ready)
        await ctx.tick()
        ctx.set(gate.enable, 0)  # a frame that has begun is taken to its end
        assert ctx.get(gate.i_ready)
        ctx.set(gate.i_last, 1)
        assert ctx.get(gate.taken)
        await ctx.tick()
        assert not ctx.get(gate.i_ready)

    simulator = Simulator(gate)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
