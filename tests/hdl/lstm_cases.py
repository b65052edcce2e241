"""LSTM stages under engines, benches of many of them, and what each of them must give."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from amaranth.hdl import Module, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.frames import FrameSource
from hdl.lib.hexfile import hex_text, to_bits
from hdl.lib.numerics import code_shape
from hdl.lib.stream import beat_stream, connect
from hdl.lstm.pipeline import LSTMStage
from hdl.stage import make_stage, stage_files
from model import golden
from model.export.fft import with_fft
from model.ir.beats import Beats
from model.ir.circulant_array import CirculantArraySpec
from model.ir.interleave import frame_marks, interleave
from model.ir.lstm_array import LSTMArraySpec
from model.ir.mapping import EngineSpec
from model.ir.network import Node
from sim.block import FULL_SPEED, RESETS, STALLS, Block, check_values, run_blocks
from tests.lstms import lstm_network, lstm_spec

PATTERNS = [*STALLS[::3], *RESETS]
"""Each of the four once, and the resets."""


@dataclass(frozen=True)
class Case:
    """An LSTM of ``shape`` (the arguments of lstm_spec) under engines, with so many lanes."""

    shape: dict
    gates: EngineSpec
    gate_lanes: int
    cell_lanes: int
    project: EngineSpec | None = None
    sequences: int = 1
    in_lanes: int = 1
    lanes: int = 1
    lengths: tuple[int, ...] = (4, 1, 3)
    pauses: bool = False
    """Whether the marks come at random."""
    holes: bool = False
    """Whether slots are idle in the middle of their sequences too."""

    @property
    def engine(self) -> LSTMArraySpec:
        return LSTMArraySpec(
            self.gates, self.gate_lanes, self.cell_lanes, self.project, self.sequences
        )

    @property
    def ins(self) -> tuple[Beats, ...]:
        return (Beats((self.shape["features"],), self.in_lanes),)

    def node(self, n: int) -> Node:
        spec = lstm_spec(**self.shape)
        network = lstm_network(spec, n, 0.6 if n % 2 else 1.0)
        if isinstance(self.gates, CirculantArraySpec):
            network = with_fft(network)
        return replace(network["lstm"], name=f"lstm{n}")

    def frames(self) -> np.ndarray:
        """Sequence and step of each frame, -1 of an idle one."""
        frames = interleave(self.lengths, self.sequences)
        return with_holes(frames, self.sequences) if self.holes else frames


def with_holes(frames: np.ndarray, slots: int) -> np.ndarray:
    """The frames with further idle ones between those of each slot, at random."""
    rng, own = np.random.default_rng(5), []
    for slot in range(slots):
        own.append([])
        for frame in frames[slot::slots].tolist():
            own[-1] += [[-1, -1]] * int(rng.integers(0, 3)) + [frame]
    rounds = max(map(len, own))
    filled = [steps + [[-1, -1]] * (rounds - len(steps)) for steps in own]
    flat = np.array(filled).swapaxes(0, 1).reshape(-1, 2)
    return flat[: np.flatnonzero(flat[:, 0] >= 0)[-1] + 1]


class Marked(wiring.Component):
    """A stage with its marks from a memory, which may come at random."""

    def __init__(self, stage: LSTMStage, marks: int, file: str, pauses: bool) -> None:
        self.stage, self.marks, self.file, self.pauses = stage, marks, file, pauses
        layer = stage.node.spec
        ports = {
            "i": In(beat_stream(code_shape(layer.in_format), stage.source.lanes)),
            "o": Out(beat_stream(code_shape(layer.out_format), stage.lanes)),
            "step": Out(1),
        }
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        m.submodules.stage = stage = self.stage
        m.submodules.source = source = FrameSource(
            unsigned(2), lanes=1, beats=1, depth=self.marks, file=self.file
        )
        m.d.comb += [
            source.words.eq(self.marks),
            source.stall.eq(self.pauses),
            source.seed.eq(77),
            stage.marks.valid.eq(source.o.valid),
            stage.marks.p.as_value().eq(source.o.p.codes[0]),
            source.o.ready.eq(stage.marks.ready),
            self.step.eq(stage.step),
        ]
        connect(m, wiring.flipped(self.i), stage.i)
        connect(m, stage.o, wiring.flipped(self.o))
        return m


def codes_of_frames(case: Case, node: Node, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Input codes int64 [frames, features] and golden outputs [frames, outputs]."""
    rng, frames, span = np.random.default_rng(seed), case.frames(), node.spec.in_format.codes
    shape = (len(case.lengths), max(case.lengths), node.spec.features)
    steps = rng.integers(span.low, span.high + 1, shape)
    keep: dict[str, torch.Tensor] = {}
    y = golden.evaluate(node.spec, node, [torch.from_numpy(steps)], keep).numpy()
    sequence, step = frames.T
    idle = sequence < 0
    entering = rng.integers(span.low, span.high + 1, (len(frames), shape[-1]))
    entering[~idle] = steps[sequence[~idle], step[~idle]]  # idle frames hold anything
    expected = np.where(idle[:, None], 0, y[sequence, step])
    return entering, expected


class Bench:
    """Stages that are built together, and their traces under every pattern."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = list(cases)
        self.nodes = [case.node(n) for n, case in enumerate(cases)]
        self.blocks, self.expected = [], []
        for n, (case, node) in enumerate(zip(cases, self.nodes, strict=True)):
            case.engine.check(node, case.lanes)
            args = node.spec, node, case.engine, case.ins, case.lanes
            codes, expected = codes_of_frames(case, node, n)
            file = f"{node.name}_marks.hex"
            marks = hex_text(to_bits(frame_marks(case.frames())[:, None], 2))
            stage = Marked(make_stage(*args), len(codes), file, case.pauses)
            files = stage_files(*args) | {file: marks}
            self.blocks.append(Block(f"lstm {n}", stage, codes, node.spec.outputs, files))
            self.expected.append(expected)
        self.traces = run_blocks(self.blocks, PATTERNS)

    def check_values(self) -> None:
        """Every code of every step, under every pattern."""
        for block, expected in zip(self.blocks, self.expected, strict=True):
            check_values(self.traces, block, expected)

    def check_cycles(self) -> None:
        """Cycles, latency and beats at full speed, by formula."""
        for n, (case, node) in enumerate(zip(self.cases, self.nodes, strict=True)):
            if case.pauses:
                continue
            layer, slots, trace = node.spec, case.sequences, self.traces[f"lstm {n}", FULL_SPEED]
            cost = case.engine.cost(layer, case.ins, case.lanes)
            pace = case.engine.pace(layer, case.ins, case.lanes)
            loop = case.engine.loop(layer, case.lanes)
            rounds = [sum(trace.gaps[k : k + slots]) for k in range(len(trace.gaps) - slots + 1)]
            assert cost.cycles == max(pace, -(-loop // slots)), case
            most = max(pace * slots, loop + case.engine.waits(layer, case.lanes))
            assert max(rounds, default=0) <= most, (case, rounds)
            assert trace.latency <= cost.latency, case
            if case.engine.exact(layer, case.ins, case.lanes):
                assert set(rounds) <= {max(pace * slots, loop)}, (case, rounds)
                assert trace.latency == cost.latency, case
            assert trace.i_cycles.shape[1] == cost.input_beats, case
            assert trace.o_cycles.shape[1] == cost.output_beats, case

    def check_steps(self) -> None:
        """The steps of the engine of the gates, under every pattern."""
        for n, (case, node) in enumerate(zip(self.cases, self.nodes, strict=True)):
            cost = case.engine.cost(node.spec, case.ins, case.lanes)
            steps = {"step": len(self.blocks[n].codes) * cost.steps}
            for (name, pattern), trace in self.traces.items():
                if name == f"lstm {n}":
                    assert trace.steps == steps, (case, pattern)
