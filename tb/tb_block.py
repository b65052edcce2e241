"""Drives many blocks at once under stall patterns, and holds the rules of the handshake.

The job is a JSON file named by ``GYRE_JOB``: ``blocks`` (each with ``name``, the input payloads
``beats``, the payload's ``bits``, the number of output beats ``expected`` and the names of its
``taps``, ``steps`` and ``fills``), ``patterns`` (a run each: ``source`` and ``sink`` pause or not,
``seed``, ``reset_after``), ``patience`` (cycles without a beat that make a hang), ``settle``
(cycles after the last beat) and ``result`` (the file to write: a list of runs, each a list of
blocks with ``words``, ``i_cycles``, ``o_cycles``, ``steps``, the words of the ``taps`` and the
highest ``fills``).
"""

import json
import os
import random
from pathlib import Path

import cocotb
from cocotb.triggers import Timer

from tb.tb_frames import PERIOD_NS, reset

PAUSE = 0.5
"""Probability that a pause goes on for another cycle: pauses are geometric, of any length."""


RESULTS = ("words", "i_cycles", "o_cycles", "steps", "taps", "fills")


class Lane:
    """Source, sink and monitor of one block."""

    def __init__(self, dut, number: int, block: dict, pattern: dict) -> None:
        self.name, self.beats, self.expected = block["name"], block["beats"], block["expected"]
        self.bits = block["bits"]
        self.i_payload = getattr(dut, f"i_payload_{number}")
        self.o_payload = getattr(dut, f"o_payload_{number}")
        self.moves = getattr(dut, f"moves_{number}") if block["taps"] else None
        self.tap_payloads = {
            name: getattr(dut, f"tap_{number}_{k}") for k, name in enumerate(block["taps"])
        }
        self.taps: dict[str, list[int]] = {name: [] for name in block["taps"]}
        self.random = random.Random(f"{pattern['seed']}/{self.name}")
        self.pauses = {"source": pattern["source"], "sink": pattern["sink"]}
        self.sent, self.source_pause, self.offered = 0, self.pause("source"), False
        self.sink_pause, self.sink_waits, self.ready = self.pause("sink"), False, False
        self.words: list[int] = []
        self.i_cycles: list[int] = []
        self.o_cycles: list[int] = []
        self.stepping = getattr(dut, f"steps_{number}") if block["steps"] else None
        self.steps = dict.fromkeys(block["steps"], 0)
        self.most = {
            name: getattr(dut, f"fill_{number}_{k}") for k, name in enumerate(block["fills"])
        }
        self.fills: dict[str, int] = {}
        self.idle = 0
        self.held: int | None = None

    def pause(self, side: str) -> int:
        """Length of the next pause of a side."""
        length = 0
        while self.pauses[side] and self.random.random() < PAUSE:
            length += 1
        return length

    def drive(self) -> tuple[bool, bool]:
        """Set the input payload for this cycle; give the input's valid and the output's ready."""
        offer = self.sent < len(self.beats) and not self.source_pause
        if offer and not self.offered:
            self.i_payload.value = self.beats[self.sent]
        elif not offer:  # without valid a payload means nothing
            self.i_payload.value = self.random.getrandbits(self.bits)
            self.source_pause = max(self.source_pause - 1, 0)
        self.offered = offer
        self.ready = not self.sink_pause and not self.sink_waits
        self.sink_pause = max(self.sink_pause - 1, 0)
        return offer, self.ready

    def sample(self, cycle: int, i_ready: bool, o_valid: bool) -> None:
        """Look at the settled signals of this cycle."""
        if self.stepping is not None and (stepping := int(self.stepping.value)):
            for k, name in enumerate(self.steps):
                self.steps[name] += stepping >> k & 1
        self.idle += 1
        if self.moves is not None and (moves := int(self.moves.value)):
            for k, (name, payload) in enumerate(self.tap_payloads.items()):
                if moves >> k & 1:
                    self.taps[name].append(int(payload.value))
        if self.held is not None:
            assert o_valid, f"{self.name}: valid fell before the beat moved, cycle {cycle}"
        if o_valid:
            word = int(self.o_payload.value)
            assert self.held in (None, word), f"{self.name}: payload not held, cycle {cycle}"
            self.held = None if self.ready else word
            self.sink_waits = False
            if self.ready:
                self.words.append(word)
                self.o_cycles.append(cycle)
                self.idle = 0
                self.sink_pause = self.pause("sink")
                # Now and then the sink asks to see a beat first: valid must not wait for ready.
                self.sink_waits = self.pauses["sink"] and self.random.random() < PAUSE
        if self.offered and i_ready:
            self.i_cycles.append(cycle)
            self.sent += 1
            self.offered = False
            self.idle = 0
            self.source_pause = self.pause("source")

    @property
    def done(self) -> bool:
        """Every beat in, and as many out as must come."""
        return self.sent == len(self.beats) and len(self.words) >= self.expected


async def run(dut, job: dict, pattern: dict, cycles: int | None) -> list[Lane]:
    """All blocks from a reset to their end, or for some cycles."""
    lanes = [Lane(dut, number, block, pattern) for number, block in enumerate(job["blocks"])]
    dut.i_valid.value = dut.o_ready.value = 0
    await reset(dut)
    cycle, quiet = 0, 0
    while quiet <= job["settle"] and (cycles is None or cycle < cycles):
        driven = [lane.drive() for lane in lanes]
        dut.i_valid.value = sum(valid << n for n, (valid, _) in enumerate(driven))
        dut.o_ready.value = sum(ready << n for n, (_, ready) in enumerate(driven))
        await Timer(2, "ns")
        i_ready, o_valid = int(dut.i_ready.value), int(dut.o_valid.value)
        for n, lane in enumerate(lanes):
            lane.sample(cycle, i_ready >> n & 1, o_valid >> n & 1)
            assert lane.done or lane.idle <= job["patience"], (
                f"{lane.name}: hung at cycle {cycle}: {lane.sent} of {len(lane.beats)} beats in, "
                f"{len(lane.words)} of {lane.expected} out"
            )
        await Timer(PERIOD_NS - 2, "ns")
        cycle += 1
        quiet = quiet + 1 if all(lane.done for lane in lanes) else 0
    for lane in lanes:
        lane.fills = {name: int(most.value) for name, most in lane.most.items()}
    return lanes


@cocotb.test()
async def run_blocks(dut):
    """Every block gives as many beats as it must under every pattern, by the rules."""
    job = json.loads(Path(os.environ["GYRE_JOB"]).read_text())
    # Signals change 1 ns after the clock has fallen, and are sampled 2 ns later.
    dut.rst.value = 1
    await Timer(PERIOD_NS + 1, "ns")
    results = []
    for pattern in job["patterns"]:
        if pattern["reset_after"] is not None:
            await run(dut, job, pattern, pattern["reset_after"])
        lanes = await run(dut, job, pattern, None)
        results.append([{name: getattr(lane, name) for name in RESULTS} for lane in lanes])
    Path(job["result"]).write_text(json.dumps(results))
