"""Drives an AXI shell with cocotbext-axi's masters and sinks, an independent client.

The job is a JSON file named by ``GYRE_JOB``: ``frames`` (each ``beats``, ``bytes`` of a beat and
``user``), ``pauses`` (share of the cycles in which each channel pauses), ``expected`` (frames that
must come out), ``max_cycles`` without a frame, ``scripts`` (whether to try what a driver does with
the registers), ``seed`` and ``result`` (the file to write).
"""

import json
import logging
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)

from model.ir.axi import OKAY, PROGRAM, REGISTERS, SLVERR, Register, register
from tb.tb_frames import PERIOD_NS


def pauses(share: float, seed: str):
    """An endless pattern of pauses."""
    random_bits = random.Random(seed)
    while True:
        yield random_bits.random() < share


class Driver:
    """Registers by their names."""

    def __init__(self, lite: AxiLiteMaster) -> None:
        self.lite = lite

    async def read(self, name: str) -> int:
        """The word of a register; of a counter in two words, both."""
        value, answer = await self.word(register(name).offset)
        assert answer == OKAY, f"{name}: read answered {answer}"
        if any(one.name == f"{name}_high" for one in REGISTERS):
            value |= (await self.read(f"{name}_high")) << 32
        return value

    async def write(self, name: str, value: int) -> None:
        """Write the word of a register."""
        answer = await self.lite.write(register(name).offset, value.to_bytes(4, "little"))
        assert int(answer.resp) == OKAY, f"{name}: write answered {int(answer.resp)}"

    async def word(self, offset: int) -> tuple[int, int]:
        """A word and its response."""
        answer = await self.lite.read(offset, 4)
        return int.from_bytes(answer.data, "little"), int(answer.resp)

    async def all(self) -> dict[str, int]:
        """All registers, the hash as one number."""
        found = {}
        for one in REGISTERS:
            if one.words > 1:
                words = [(await self.word(one.offset + 4 * n))[0] for n in range(one.words)]
                found[one.name] = int("".join(f"{word:08x}" for word in words), 16)
            elif not one.name.endswith("_high"):
                found[one.name] = await self.read(one.name)
        return found

    async def refuses(self, holes: Iterable[int], registers: Iterable[Register]) -> None:
        """Holes are neither read nor written, and registers that are only read are not written."""
        names = {offset: f"{offset:#x}" for offset in holes}
        for offset, name in names.items():
            assert (await self.word(offset))[1] == SLVERR, f"read of {name}"
        names |= {one.offset: one.name for one in registers if not one.writable}
        for offset, name in names.items():
            answer = await self.lite.write(offset, b"\xff" * 4)
            assert int(answer.resp) == SLVERR, f"write of {name}"


async def refused(driver: Driver) -> None:
    """What is no register, or only read, is answered with SLVERR and changes nothing."""
    before = await driver.all()
    used = {one.offset + 4 * n for one in REGISTERS for n in range(one.words)}
    holes = [offset for offset in range(0, 0x80, 4) if offset not in used]
    await driver.refuses([*holes, PROGRAM[0], PROGRAM[-4]], REGISTERS)
    assert await driver.all() == before


async def strobes(driver: Driver) -> None:
    """A byte that is not strobed stays."""
    control = register("control")
    await driver.write("control", control.field("interrupt").mask)
    # cocotbext-axi strobes just the bytes that are written: here the second of the word.
    await driver.lite.write(control.offset + 1, b"\x00")
    assert await driver.read("control") == control.field("interrupt").mask
    await driver.lite.write(control.offset, b"\x01")
    assert await driver.read("control") == control.field("enable").mask


async def disabled(dut, driver: Driver, source: AxiStreamSource, frame: AxiStreamFrame) -> None:
    """Without ``enable`` no frame is taken, and none is lost."""
    await driver.write("control", 0)
    before = await driver.read("frames_in")
    await source.send(frame)
    await ClockCycles(dut.aclk, 200)
    assert await driver.read("frames_in") == before
    assert await driver.read("stalls_in") > 0
    await driver.write("control", register("control").field("enable").mask)


async def flags(dut, driver: Driver, broken: str) -> None:
    """A broken frame is flagged and raises the interrupt until the flag is cleared."""
    control, status = register("control"), register("status")
    mask = status.field(broken).mask
    assert await driver.read("status") & mask
    assert not dut.irq.value
    both = control.field("enable").mask | control.field("interrupt").mask
    await driver.write("control", both)
    await ClockCycles(dut.aclk, 2)
    assert dut.irq.value
    await driver.write("status", status.field("short").mask | status.field("long").mask)
    await ClockCycles(dut.aclk, 2)
    assert not dut.irq.value
    assert not await driver.read("status") & mask
    await driver.write("control", both & ~control.field("interrupt").mask)


async def cleared(driver: Driver) -> None:
    """``clear`` sets the counters to 0 and reads as 0."""
    control = register("control")
    await driver.write("control", control.field("enable").mask | control.field("clear").mask)
    assert await driver.read("control") == control.field("enable").mask
    found = await driver.all()
    names = ("frames_in", "frames_out", "short_frames", "long_frames", "cycles", "stalls_in")
    assert [found[name] for name in names] == [0] * len(names)


async def poll(driver: Driver, stop: list) -> None:
    """Read the status over and over while frames pass, as a driver would."""
    while not stop:
        assert await driver.read("frames_out") <= await driver.read("frames_in")


@dataclass(frozen=True)
class Client:
    """The masters and sinks at a shell."""

    source: AxiStreamSource
    sink: AxiStreamSink
    driver: Driver


def client(dut, job: dict) -> Client:
    """Masters and sinks at the ports of the shell, which pause as the job says."""
    logging.getLogger("cocotb").setLevel(logging.WARNING)
    source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.aclk, dut.aresetn, False)
    sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.aclk, dut.aresetn, False)
    lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.aclk, dut.aresetn, False)
    for part in (source, sink, lite.write_if, lite.read_if):
        part.log.setLevel(logging.WARNING)
    for name, channel in {
        "source": source,
        "sink": sink,
        "aw": lite.write_if.aw_channel,
        "w": lite.write_if.w_channel,
        "b": lite.write_if.b_channel,
        "ar": lite.read_if.ar_channel,
        "r": lite.read_if.r_channel,
    }.items():
        if job["pauses"]:
            channel.set_pause_generator(pauses(job["pauses"], f"{job['seed']}/{name}"))
    return Client(source, sink, Driver(lite))


async def reset(dut) -> None:
    """A reset of four cycles."""
    dut.aresetn.value = 0
    await ClockCycles(dut.aclk, 4)
    dut.aresetn.value = 1
    await RisingEdge(dut.aclk)


def packed(frame: dict) -> AxiStreamFrame:
    """A frame of a job as the stream source takes it."""
    data = b"".join(beat.to_bytes(frame["bytes"], "little") for beat in frame["beats"])
    user = frame["user"]
    return AxiStreamFrame(data, **({} if user is None else {"tuser": user}))


@cocotb.test()
async def run_axi(dut):
    """Every good frame comes out in order, and every broken one is counted."""
    job = json.loads(Path(os.environ["GYRE_JOB"]).read_text())
    ends = client(dut, job)
    source, sink, driver = ends.source, ends.sink, ends.driver
    await reset(dut)
    first = await driver.all()
    if job["scripts"]:
        await refused(driver)
        await strobes(driver)
    stop: list = []
    polling = cocotb.start_soon(poll(driver, stop))
    for frame in job["frames"]:
        await source.send(packed(frame))
    outputs = []
    for _ in range(job["expected"]):
        frame = await with_timeout(sink.recv(), job["max_cycles"] * PERIOD_NS, "ns")
        outputs.append(bytes(frame.tdata).hex())
    await source.wait()
    await ClockCycles(dut.aclk, 500)  # in which a surplus frame, or the end of one, would show
    stop.append(True)
    await polling
    assert sink.empty(), "a surplus frame"
    assert sink.idle(), "a surplus beat"
    last = await driver.all()
    if job["scripts"]:
        for broken in job["scripts"]:
            await flags(dut, driver, broken)
            break
        await disabled(dut, driver, source, packed(job["frames"][0]))
        frame = await with_timeout(sink.recv(), job["max_cycles"] * PERIOD_NS, "ns")
        outputs.append(bytes(frame.tdata).hex())
        await cleared(driver)
    Path(job["result"]).write_text(json.dumps({"outputs": outputs, "first": first, "last": last}))
