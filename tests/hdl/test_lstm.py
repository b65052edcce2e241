"""The LSTM stage against golden, step for step; its cycles and latency by formula."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
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
from model.ir.pe_array import PeArraySpec
from sim.block import FULL_SPEED, RESETS, STALLS, Block, check_values, run_blocks
from tests.lstms import lstm_network, lstm_spec
from tests.tools import require_tools

pytestmark = [pytest.mark.rtl, pytest.mark.timeout(600)]  # one build of eight stages

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
        return interleave(self.lengths, self.sequences)


FULL = {"features": 5, "cells": 6, "projection": 3, "peephole": True}
BLOCKS = {"features": 6, "cells": 8, "projection": 5, "peephole": True, "k": 4, "weight_bits": 12}
CASES = [
    Case(FULL, PeArraySpec(4, 2), 2, 1, PeArraySpec(3, 2), lanes=1),
    Case(
        FULL | {"g": "sigmoid", "in_frac": 9},
        PeArraySpec(6, 4),
        3,
        3,
        PeArraySpec(1, 1),
        3,
        pauses=True,
    ),
    Case({"features": 3, "cells": 4, "in_frac": 14}, PeArraySpec(4, 5), 4, 2, None, 2, lanes=2),
    Case(
        {"features": 3, "cells": 1, "peephole": True, "bits": 8}, PeArraySpec(2, 4), 1, 1, lanes=3
    ),
    Case(BLOCKS, CirculantArraySpec(4, 2), 4, 2, CirculantArraySpec(4, 1), 1, 4, 4, (5, 2)),
    Case(
        BLOCKS | {"g": "sigmoid", "peephole": False},
        CirculantArraySpec(4, 2, "folded"),
        2,
        4,
        CirculantArraySpec(4, 1, "folded"),
        3,
        in_lanes=3,
        lanes=2,
        lengths=(3, 5, 1, 2, 4),
    ),
    Case(BLOCKS, PeArraySpec(8, 4), 8, 4, PeArraySpec(5, 4), 2, 2, 5, (6, 7), True),
    Case(FULL, PeArraySpec(8, 6), 8, 3, PeArraySpec(3, 3), 5, 5, 3, (6,) * 5),
]


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


@cache
def bench():
    blocks, expected = {}, {}
    for n, case in enumerate(CASES):
        node = case.node(n)
        case.engine.check(node, case.lanes)
        args = node.spec, node, case.engine, case.ins, case.lanes
        codes, expected[n] = codes_of_frames(case, node, n)
        file = f"{node.name}_marks.hex"
        marks = to_bits(frame_marks(case.frames())[:, None], 2)
        blocks[n] = Block(
            f"lstm {n}",
            Marked(make_stage(*args), len(codes), file, case.pauses),
            codes,
            node.spec.outputs,
            stage_files(*args) | {file: hex_text(marks)},
        )
    return blocks, expected, run_blocks(list(blocks.values()), PATTERNS)


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_tools("g++")


def test_equals_golden_at_every_step_under_every_stall_pattern() -> None:
    blocks, expected, traces = bench()
    for n, block in blocks.items():
        check_values(traces, block, expected[n])


def test_takes_the_cycles_and_the_latency_of_its_formulas() -> None:
    _, _, traces = bench()
    for n, case in enumerate(CASES):
        if case.pauses:
            continue
        layer, trace, slots = case.node(n).spec, traces[f"lstm {n}", FULL_SPEED], case.sequences
        cost = case.engine.cost(layer, case.ins, case.lanes)
        pace = case.engine.pace(layer, case.ins, case.lanes)
        loop = case.engine.loop(layer, case.lanes)
        rounds = [sum(trace.gaps[k : k + slots]) for k in range(len(trace.gaps) - slots + 1)]
        assert cost.cycles == max(pace, -(-loop // slots))
        assert max(rounds) <= max(pace * slots, loop), (n, rounds)
        assert trace.latency <= cost.latency, n
        if case.engine.exact(layer, case.lanes):
            assert set(rounds) == {max(pace * slots, loop)}, (n, rounds)
            assert trace.latency == cost.latency, n
        assert trace.i_cycles.shape[1] == cost.input_beats
        assert trace.o_cycles.shape[1] == cost.output_beats


def test_steps_are_those_of_the_formula() -> None:
    blocks, _, traces = bench()
    for n, case in enumerate(CASES):
        cost = case.engine.cost(case.node(n).spec, case.ins, case.lanes)
        for (name, pattern), trace in traces.items():
            if name == f"lstm {n}":
                assert trace.steps == {"step": len(blocks[n].codes) * cost.steps}, pattern
