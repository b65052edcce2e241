"""Runs the frames that lie in the harness's memories and writes its counters to a file.

The job is a JSON file named by ``GYRE_JOB``: ``controls`` (values of the harness's inputs),
``counters`` (outputs to read), ``max_cycles`` (a watchdog), ``reset_after`` (cycles after which the
design is reset once more in the middle of its work, or null), ``stop`` (a file whose appearance
ends the run, or null) and ``result`` (the file to write).
"""

import json
import os
import time
from pathlib import Path

import cocotb
from cocotb.triggers import Timer

PERIOD_NS = 10
POLL_CYCLES = 1000


async def reset(dut) -> None:
    """Hold the reset for some cycles; it changes between the clock's edges."""
    dut.rst.value = 1
    await Timer(4 * PERIOD_NS, "ns")
    dut.rst.value = 0


@cocotb.test()
async def run_frames(dut):
    """All frames come out, before the watchdog ends the run."""
    job = json.loads(Path(os.environ["GYRE_JOB"]).read_text())
    dut.rst.value = 1
    for name, value in job["controls"].items():
        getattr(dut, name).value = value
    await Timer(PERIOD_NS // 2 + 2, "ns")
    await reset(dut)
    if job["reset_after"] is not None:
        await Timer(job["reset_after"] * PERIOD_NS, "ns")
        await reset(dut)
    begin, cpu_begin = time.perf_counter(), time.process_time()
    # A look now and then: waiting for an edge would cost the simulator a check at every event.
    while not (done := int(dut.done.value)) and int(dut.cycle.value) < job["max_cycles"]:
        assert job["stop"] is None or not Path(job["stop"]).exists(), "stopped from outside"
        await Timer(POLL_CYCLES * PERIOD_NS, "ns")
    hung = not done
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    counters = {name: int(getattr(dut, name).value) for name in job["counters"]}
    result = {"hung": hung, "seconds": seconds, "cpu_seconds": cpu_seconds, "counters": counters}
    Path(job["result"]).write_text(json.dumps(result))
    assert not hung, f"no end after {job['max_cycles']} cycles: {counters}"
