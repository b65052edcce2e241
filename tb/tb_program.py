"""Writes rows of cells through the programming port of an AXI shell, as a driver does.

The job is a JSON file named by ``GYRE_JOB``: ``frames`` (as tb_axi has them), ``layers`` (as the
manifest has them), ``before`` and ``after`` (all rows of the network whose cells are there at the
start, and of the one that is written: ``layer``, ``macro``, ``row``, ``words``, whether it
``fails``, its ``pulses`` and ``cycles``), ``pauses``, ``seed``, ``latency`` of a frame,
``max_cycles`` without one and ``result``.
"""

import json
import os
from pathlib import Path

import cocotb
from cocotb.triggers import ClockCycles, with_timeout

from model.ir.axi import OKAY, PROGRAM, PROGRAM_REGISTERS, register
from tb.tb_axi import Client, Driver, client, packed, pauses, reset
from tb.tb_frames import PERIOD_NS

FLAGS = ("range", "in_flight", "overrun")
COUNTS = ("program_written", "program_failures", "program_pulses", "program_cycles")


def mask(name: str) -> int:
    """The bit of a field of the port's status."""
    return register("program_status").field(name).mask


async def status(driver: Driver) -> set[str]:
    """Names of the fields of the status that are 1."""
    word = await driver.read("program_status")
    return {field.name for field in register("program_status").fields if word & field.mask}


async def data(driver: Driver, words: list[int]) -> None:
    """The levels of a row."""
    for n, word in enumerate(words):
        offset = register("program_data").offset + 4 * n
        answer = await driver.lite.write(offset, word.to_bytes(4, "little"))
        assert int(answer.resp) == OKAY, f"word {n} answered {int(answer.resp)}"


async def choose(driver: Driver, row: dict) -> None:
    """Say which row is meant, and its levels."""
    for name in ("layer", "macro", "row"):
        await driver.write(f"program_{name}", row[name])
    await data(driver, row["words"])


async def start(driver: Driver) -> None:
    """Begin to write."""
    await driver.write("program_control", 1)


async def clear(driver: Driver, *names: str) -> None:
    """Clear flags, which must be those that are set."""
    assert (await status(driver)) & set(FLAGS) == set(names)
    await driver.write("program_status", sum(mask(name) for name in names))
    assert not (await status(driver)) & set(FLAGS)


async def ended(driver: Driver, row: dict) -> None:
    """Wait until a row is written, for good or not as it must be."""
    while "busy" in (found := await status(driver)):
        assert "done" not in found
    assert ("failed" in found) == row["fails"], row
    assert "done" in found


class Frames:
    """Frames in turn, and what came out, by whose cells were there."""

    def __init__(self, ends: Client, job: dict) -> None:
        self.ends, self.job, self.sent, self.got = ends, job, 0, []

    async def send(self) -> None:
        """One frame in."""
        await self.ends.source.send(packed(self.job["frames"][self.sent % len(self.job["frames"])]))
        self.sent += 1

    async def receive(self, cells: str) -> None:
        """One frame out, of the one sent first of those that are inside."""
        sink, limit = self.ends.sink, self.job["max_cycles"] * PERIOD_NS
        frame = await with_timeout(sink.recv(), limit, "ns")
        number = len(self.got) % len(self.job["frames"])
        self.got.append({"cells": cells, "frame": number, "bytes": bytes(frame.tdata).hex()})

    async def several(self, cells: str, count: int) -> None:
        """So many frames in and out."""
        for _ in range(count):
            await self.send()
        for _ in range(count):
            await self.receive(cells)


async def sizes(driver: Driver, layers: list[dict]) -> None:
    """The port says what can be written, and answers nothing else."""
    assert (await driver.read("features")) & register("features").field("program").mask
    assert await driver.read("program_layers") == len(layers)
    for n, layer in enumerate(layers):
        await driver.write("program_layer", n)
        for name in ("macros", "rows", "columns", "level_bits"):
            assert await driver.read(f"program_{name}") == layer[name], (layer["node"], name)
    await driver.write("program_layer", len(layers))
    assert await driver.read("program_macros") == 0
    words = max(layer["words"] for layer in layers)
    taken = {
        one.offset + 4 * n
        for one in PROGRAM_REGISTERS
        for n in range(words if one.name == "program_data" else one.words)
    }
    beyond = register("program_data").offset + 4 * words
    holes = set(range(PROGRAM[0], PROGRAM[0] + 64, 4)) - taken
    await driver.refuses(holes | {beyond, PROGRAM[-4]}, PROGRAM_REGISTERS)
    assert await driver.word(register("program_data").offset) == (0, OKAY)
    # A byte that is not strobed stays.
    await driver.write("program_row", 0x01020304)
    await driver.lite.write(register("program_row").offset + 2, b"\x07")
    assert await driver.read("program_row") == 0x01070304


async def out_of_range(driver: Driver, layers: list[dict]) -> None:
    """What does not exist is refused, also if its number would fit once bits are left out."""
    for n, layer in enumerate(layers):
        good = {"layer": n, "macro": 0, "row": 0}
        for name, value in good.items():
            await driver.write(f"program_{name}", value)
        for name, limit in (
            ("layer", len(layers)),
            ("macro", layer["macros"]),
            ("row", layer["rows"]),
        ):
            for wrong in (limit, 1 << 16):
                await driver.write(f"program_{name}", wrong)
                await start(driver)
                await clear(driver, "range")
            await driver.write(f"program_{name}", good[name])
    assert [await driver.read(name) for name in COUNTS] == [0] * len(COUNTS)
    assert not await status(driver)


async def in_flight(dut, ends: Client, frames: Frames, row: dict) -> None:
    """While a frame is inside nothing is written, and the frame is right."""
    driver, sink = ends.driver, ends.sink
    sink.clear_pause_generator()
    sink.pause = True
    await frames.send()
    while not (await driver.read("status")) & register("status").field("busy").mask:
        pass
    await choose(driver, row)
    await start(driver)
    await clear(driver, "in_flight")
    assert [await driver.read(name) for name in COUNTS] == [0] * len(COUNTS)
    sink.pause = False
    job = frames.job
    if job["pauses"]:
        sink.set_pause_generator(pauses(job["pauses"], f"{job['seed']}/again"))
    await frames.receive("before")


async def write_all(driver: Driver, rows: list[dict]) -> dict[str, int]:
    """Write every row; the counters tell of all so far."""
    total = dict.fromkeys(COUNTS, 0)
    for n, row in enumerate(rows):
        await choose(driver, row)
        await start(driver)
        await ended(driver, row)
        total["program_written"] += 1
        total["program_failures"] += row["fails"]
        total["program_pulses"] += row["pulses"]
        total["program_cycles"] += row["cycles"]
        if n % 8 == 7 or n == len(rows) - 1:
            assert {name: await driver.read(name) for name in COUNTS} == total, row
    return total


async def overrun(dut, ends: Client, frames: Frames, row: dict, other: dict) -> None:
    """While a row is written the port takes nothing, and a frame waits; both are right after it."""
    driver = ends.driver
    await choose(driver, row)
    await start(driver)
    await frames.send()
    await start(driver)
    found = await status(driver)
    assert {"busy", "overrun"} <= found, found
    await driver.write("program_status", mask("overrun"))
    assert await status(driver) == {"busy"}
    await choose(driver, other)
    for name in ("layer", "macro", "row"):
        assert await driver.read(f"program_{name}") == row[name]
    await ClockCycles(dut.aclk, frames.job["latency"])
    assert not ends.sink.count(), "a frame passed while a row was written"
    assert "busy" in await status(driver), "the row was written too soon for this test"
    await ended(driver, row)
    await frames.receive("after")
    await clear(driver, "overrun")
    await start(driver)  # the levels are still those that were given before
    await ended(driver, row)


async def broken_off(dut, ends: Client, frames: Frames, row: dict, other: dict) -> None:
    """A reset in the first pulse leaves the row as it was."""
    driver = ends.driver
    await choose(driver, other)
    await start(driver)
    assert await status(driver) == {"busy"}
    await reset(dut)
    assert not await status(driver)
    assert [await driver.read(name) for name in COUNTS] == [0] * len(COUNTS)
    await frames.several("after", 3)
    await choose(driver, other)
    await start(driver)
    await ended(driver, other)
    await choose(driver, row)
    await start(driver)
    await ended(driver, row)
    assert await driver.read("program_written") == 2
    both = register("control").field("enable").mask | register("control").field("clear").mask
    await driver.write("control", both)
    assert [await driver.read(name) for name in COUNTS] == [0] * len(COUNTS)


@cocotb.test()
async def run_program(dut):
    """Frames are those of the cells that are there, whatever is tried at the port."""
    job = json.loads(Path(os.environ["GYRE_JOB"]).read_text())
    ends = client(dut, job)
    driver, frames = ends.driver, Frames(ends, job)
    before, after = job["before"], job["after"]
    await reset(dut)
    await sizes(driver, job["layers"])
    await frames.several("before", 3)
    await out_of_range(driver, job["layers"])
    await in_flight(dut, ends, frames, after[0])
    await frames.several("before", 2)
    counts = await write_all(driver, after)
    await frames.several("after", 5)
    await overrun(dut, ends, frames, after[0], before[0])
    await frames.several("after", 2)
    await broken_off(dut, ends, frames, after[0], before[0])
    await frames.several("after", 3)
    await ClockCycles(dut.aclk, 500)  # in which a surplus frame would show
    assert ends.sink.empty(), "a surplus frame"
    assert ends.sink.idle(), "a surplus beat"
    Path(job["result"]).write_text(json.dumps({"outputs": frames.got, "counts": counts}))
