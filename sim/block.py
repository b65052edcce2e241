"""Blocks on the bench: many components with streams ``i`` and ``o`` in one simulator.

Each block gets frames and gives frames, under every stall pattern at once with all the others. The
bench (``tb/tb_block.py``) holds the rules of the handshake; what the frames contain and when they
come is for the caller to compare. No block may depend on what a memory gives for a word that is
written as it is read: here that is wrong in every bit.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.hexfile import hex_text, read_hex
from hdl.lib.stream import beat_shape
from model.ir.beats import Beats
from sim.beats import marks, pack, unpack
from sim.bench import SimulationError, run_bench
from sim.build import build
from sim.harness import port_names, with_clock, with_collisions
from sim.run import new_run_folder, write_files

TOP = "gyre_blocks"
PATIENCE = 2000
"""Cycles without a single beat after which a block counts as hung."""

SETTLE = 100
"""Cycles after the last expected beat in which a surplus one would show."""


@dataclass(frozen=True)
class Pattern:
    """Which side pauses at random, the seed of the pauses, and when to reset once more."""

    source: bool = False
    sink: bool = False
    seed: int = 1
    reset_after: int | None = None


STALLS = [
    Pattern(source, sink, seed)
    for source, sink in ((False, False), (True, False), (False, True), (True, True))
    for seed in ((1, 2, 3) if source or sink else (1,))
]
RESETS = [Pattern(True, True, 4, reset_after) for reset_after in (9, 40)]
FULL_SPEED = STALLS[0]


@dataclass(frozen=True)
class Block:
    """A component under test.

    Parameters
    ----------
    name : str
        Unique among the blocks of a bench.
    component : wiring.Component
        Has beat streams ``i`` and ``o``, and perhaps outputs ``step...`` of one bit and ``fill...``
        with the fill of a FIFO.
    codes : int64 array [frames, length]
        What enters.
    out_length : int
        Codes per frame that leave.
    files : mapping
        Contents of its .hex files, by names that no other block uses.
    taps : mapping
        Inner streams to look at: the component shows the beats of ``name`` at ``tap_<name>`` and
        their moves at ``moves_<name>``; the value is the shape of a frame, or its codes.
    shape, out_shape : tuple of int, optional
        Shapes of the frames that enter and leave; by default they are vectors.
    """

    name: str
    component: wiring.Component
    codes: np.ndarray
    out_length: int
    files: Mapping[str, str] = field(default_factory=dict)
    taps: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    out_shape: tuple[int, ...] | None = None

    def port(self, side: str) -> tuple[int, int, bool]:
        """Lanes of a stream, and bits and sign of its codes."""
        return _port(getattr(self.component, side).payload)

    def tap_beats(self, name: str) -> Beats:
        """How frames travel on an inner stream."""
        shape = self.taps[name]
        return Beats((shape,) if isinstance(shape, int) else shape, self.tap(name)[0])

    def tap(self, name: str) -> tuple[int, int, bool]:
        """The same of an inner stream."""
        return _port(getattr(self.component, f"tap_{name}"))

    @property
    def steps(self) -> list[str]:
        """Names of the outputs that show an engine's steps."""
        return [name for name in self.component.signature.members if name.startswith("step")]

    @property
    def fills(self) -> list[str]:
        """Names of the outputs that show the fill of a FIFO."""
        return [name for name in self.component.signature.members if name.startswith("fill")]

    def beats(self, side: str) -> Beats:
        """How frames travel on a stream."""
        length = self.codes.shape[1] if side == "i" else self.out_length
        shape = self.shape if side == "i" else self.out_shape
        return Beats((length,) if shape is None else shape, self.port(side)[0])


def _port(payload: data.View) -> tuple[int, int, bool]:
    lanes, shape = beat_shape(payload.shape())
    return lanes, shape.width, shape.signed


@dataclass(frozen=True)
class Trace:
    """What a block did in one run.

    Parameters
    ----------
    codes : int64 array [frames, out_length]
        What left.
    i_cycles, o_cycles : int64 arrays [frames, beats]
        Cycle of every beat.
    steps : dict of str to int
        Cycles in which each output ``step...`` was high.
    taps : dict of str to int64 array [frames, length]
        What passed on the inner streams.
    fills : dict of str to int
        The highest value of each output ``fill...``.
    """

    codes: np.ndarray
    i_cycles: np.ndarray
    o_cycles: np.ndarray
    steps: Mapping[str, int]
    taps: Mapping[str, np.ndarray]
    fills: Mapping[str, int]

    @property
    def latency(self) -> int:
        """Cycles from the first frame's first input beat to its last output beat, both counted."""
        return int(self.o_cycles[0, -1] - self.i_cycles[0, 0]) + 1

    @property
    def gaps(self) -> list[int]:
        """Cycles between the ends of successive output frames."""
        return np.diff(self.o_cycles[:, -1]).tolist()


def run_blocks(
    blocks: Sequence[Block],
    patterns: Sequence[Pattern] = (*STALLS, *RESETS),
    *,
    patience: int = PATIENCE,
    settle: int = SETTLE,
) -> dict[tuple[str, Pattern], Trace]:
    """Build one simulator with all the blocks and run it under every pattern.

    Slow blocks need more ``patience``, and those of which inner streams are looked at more time to
    ``settle``: what the last output does not need comes after it.

    Raises
    ------
    SimulationError
        If a block breaks a rule of the handshake, hangs, gives a surplus beat or wrong marks.
    """
    verilog = with_collisions(with_clock(_Bench(blocks), "blocks", TOP))
    folder, _ = build(verilog, TOP, port_names(verilog, TOP), quick=True)
    run = new_run_folder()
    job = {
        "patterns": [asdict(pattern) for pattern in patterns],
        "blocks": [
            {
                "name": block.name,
                "beats": _words(block),
                "bits": len(block.component.i.payload.as_value()),
                "expected": len(block.codes) * block.beats("o").count,
                "taps": list(block.taps),
                "steps": block.steps,
                "fills": block.fills,
            }
            for block in blocks
        ],
        "patience": patience,
        "settle": settle,
        "result": "result.json",
    }
    (run / "job.json").write_text(json.dumps(job))
    for block in blocks:
        write_files(run, block.files)
    run_bench(folder, TOP, "tb.tb_block", run, env={"GYRE_JOB": "job.json"})
    found = json.loads((run / "result.json").read_text())
    traces = {
        (block.name, pattern): _trace(block, pattern, part)
        for pattern, parts in zip(patterns, found, strict=True)
        for block, part in zip(blocks, parts, strict=True)
    }
    shutil.rmtree(run)
    return traces


def check_values(
    traces: Mapping[tuple[str, Pattern], Trace], block: Block, expected: np.ndarray
) -> None:
    """Raise SimulationError, with the first difference, unless a block always gave ``expected``."""
    for (name, pattern), trace in traces.items():
        if name != block.name:
            continue
        wrong = np.argwhere(trace.codes != expected)
        if len(wrong):
            frame, element = wrong[0]
            raise SimulationError(
                f"{name} under {pattern}: frame {frame}, element {element}: expected "
                f"{expected[frame, element]}, found {trace.codes[frame, element]}"
            )


def _words(block: Block) -> list[int]:
    """Payloads of all input beats, as integers."""
    _, bits, _ = block.port("i")
    matrix = pack(block.codes, block.beats("i"), bits)
    matrix = np.concatenate([matrix, marks(len(block.codes), block.beats("i"))], axis=1)
    return [int(line, 16) for line in hex_text(matrix).split()]


def _trace(block: Block, pattern: Pattern, part: dict) -> Trace:
    frames, thing = len(block.codes), f"{block.name} under {pattern}"
    return Trace(
        codes=_codes(part["words"], block.port("o"), frames, block.beats("o"), thing),
        i_cycles=np.array(part["i_cycles"]).reshape(frames, -1),
        o_cycles=np.array(part["o_cycles"]).reshape(frames, -1),
        steps=part["steps"],
        taps={
            name: _codes(
                words,
                block.tap(name),
                frames,
                block.tap_beats(name),
                f"{name} of {thing}",
            )
            for name, words in part["taps"].items()
        },
        fills=part["fills"],
    )


def _codes(words: list[int], port: tuple[int, int, bool], frames: int, beats: Beats, thing: str):
    """Codes [frames, length] of payloads given as integers."""
    lanes, bits, signed = port
    width = lanes * bits + 2
    matrix = read_hex("\n".join(f"{word:0{-(-width // 4)}x}" for word in words), width)
    return unpack(matrix, frames, beats, bits, signed, thing)


class _Bench(wiring.Component):
    """All the blocks side by side, their handshakes in buses: bit n belongs to block n."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks, width = blocks, len(blocks)
        ports = {"i_valid": In(width), "i_ready": Out(width), "o_valid": Out(width)}
        ports |= {"o_ready": In(width)}
        for n, block in enumerate(blocks):
            for side, flow in (("i", In), ("o", Out)):
                payload = getattr(block.component, side).payload.as_value()
                ports[f"{side}_payload_{n}"] = flow(len(payload))
            for k, name in enumerate(block.taps):
                ports[f"tap_{n}_{k}"] = Out(len(getattr(block.component, f"tap_{name}").as_value()))
            for k, name in enumerate(block.fills):
                ports[f"fill_{n}_{k}"] = Out(len(getattr(block.component, name)))
            ports[f"steps_{n}"] = Out(max(len(block.steps), 1))
            ports[f"moves_{n}"] = Out(max(len(block.taps), 1))
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        for n, block in enumerate(self.blocks):
            m.submodules[f"block_{n}"] = component = block.component
            m.d.comb += [
                component.i.payload.as_value().eq(getattr(self, f"i_payload_{n}")),
                component.i.valid.eq(self.i_valid[n]),
                self.i_ready[n].eq(component.i.ready),
                getattr(self, f"o_payload_{n}").eq(component.o.payload.as_value()),
                self.o_valid[n].eq(component.o.valid),
                component.o.ready.eq(self.o_ready[n]),
            ]
            for k, name in enumerate(block.taps):
                m.d.comb += [
                    getattr(self, f"tap_{n}_{k}").eq(getattr(component, f"tap_{name}").as_value()),
                    getattr(self, f"moves_{n}")[k].eq(getattr(component, f"moves_{name}")),
                ]
            for k, name in enumerate(block.fills):
                most, fill = getattr(self, f"fill_{n}_{k}"), getattr(component, name)
                with m.If(fill > most):
                    m.d.sync += most.eq(fill)
            for k, name in enumerate(block.steps):
                m.d.comb += getattr(self, f"steps_{n}")[k].eq(getattr(component, name))
        return m
