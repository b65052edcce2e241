"""The sliding window against padding and slicing by hand; its schedule, cycle by cycle."""

import re
from dataclasses import dataclass
from functools import cache
from itertools import islice

import numpy as np
import pytest
from amaranth.back import verilog
from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import wiring

from hdl.conv.window import Window
from model.ir.numerics import IntRange
from model.ir.window import Windowed
from model.ir.window_buffer import WindowBuffer
from sim.block import FULL_SPEED, RESETS, STALLS, Block, run_blocks
from tests.examples import codes_of
from tests.hdl.benches import check_all

pytestmark = pytest.mark.rtl

FRAMES = 5


@dataclass(frozen=True)
class Sizes(Windowed):
    """A window without a layer around it."""

    rows: int
    columns: int
    channels: int
    kernel_rows: int
    kernel_columns: int
    stride: int = 1
    padding: int = 0


# Sizes, lanes, one bank (else kernel_rows), order, rows ahead.
CASES = [
    (Sizes(5, 6, 3, 1, 1), 1, True, "vector", 0),
    (Sizes(5, 6, 3, 1, 1, 2), 2, True, "vector", 0),
    (Sizes(7, 4, 1, 1, 1, 3), 1, True, "channel", 0),
    (Sizes(1, 5, 2, 1, 1, 2), 1, True, "channel", 0),
    (Sizes(4, 6, 2, 2, 2, 2), 1, False, "channel", 0),
    (Sizes(5, 7, 3, 2, 2, 2), 2, False, "channel", 0),
    (Sizes(5, 7, 3, 2, 2, 2), 2, True, "channel", 0),
    (Sizes(5, 5, 2, 2, 2, 1, 1), 1, True, "vector", 0),
    (Sizes(6, 5, 4, 3, 3, 1, 1), 2, False, "vector", 0),
    (Sizes(6, 5, 4, 3, 3, 1, 1), 2, True, "vector", 0),
    (Sizes(6, 5, 3, 3, 3, 1, 0), 2, False, "vector", 0),
    (Sizes(6, 5, 3, 3, 3, 1, 0), 2, True, "channel", 0),
    (Sizes(7, 8, 2, 3, 3, 2, 1), 2, False, "vector", 0),
    (Sizes(7, 8, 2, 3, 3, 2, 1), 1, True, "vector", 0),
    (Sizes(8, 9, 2, 3, 3, 3, 2), 1, False, "channel", 0),
    (Sizes(8, 10, 2, 3, 3, 3, 0), 1, True, "vector", 0),
    (Sizes(8, 10, 2, 3, 3, 3, 0), 1, True, "vector", 1),
    (Sizes(8, 10, 2, 3, 3, 3, 1), 2, False, "vector", 2),
    (Sizes(7, 7, 1, 5, 5, 1, 2), 1, False, "vector", 0),
    (Sizes(7, 7, 3, 5, 5, 2, 2), 2, False, "vector", 1),
    (Sizes(8, 7, 1, 5, 5, 1, 0), 1, False, "vector", 3),
    (Sizes(6, 6, 1, 5, 5, 3, 1), 1, True, "vector", 0),
    (Sizes(7, 4, 2, 3, 1, 1), 1, False, "vector", 0),
    (Sizes(7, 4, 3, 3, 1, 1), 2, True, "channel", 0),
    (Sizes(3, 9, 3, 1, 4, 1), 2, True, "vector", 0),
    (Sizes(3, 9, 2, 1, 4, 1), 1, True, "channel", 0),
    (Sizes(4, 3, 3, 4, 3, 1), 2, False, "vector", 0),
    (Sizes(4, 3, 3, 4, 3, 1), 1, False, "channel", 0),
    (Sizes(3, 4, 2, 3, 4, 3), 1, True, "vector", 0),
    (Sizes(1, 1, 3, 3, 3, 1, 1), 2, False, "vector", 0),
    (Sizes(2, 1, 2, 3, 3, 1, 2), 1, True, "vector", 0),
    (Sizes(3, 3, 5, 2, 2, 3), 2, False, "vector", 0),
]

PACED = {10: 11, 12: 9, 15: 20, 18: 7, 20: 8}  # case to cycles a position


def title(case) -> str:
    sizes, lanes, single, order, ahead = case
    kernel = f"{sizes.kernel_rows}x{sizes.kernel_columns}"
    return (
        f"{sizes.rows}x{sizes.columns}x{sizes.channels} kernel {kernel} stride {sizes.stride} "
        f"padding {sizes.padding} lanes {lanes} {'one bank' if single else 'banks'} {order} {ahead}"
    )


def buffer(case) -> WindowBuffer:
    sizes, lanes, single, order, ahead = case
    return WindowBuffer(sizes, lanes, 1 if single else sizes.kernel_rows, order, ahead)


def patches(case, codes: np.ndarray) -> np.ndarray:
    """What must leave, code by code: [frames, rows · columns · channels] to [frames, codes]."""
    sizes, lanes, single, order, _ = case
    pad, groups = sizes.padding, -(-sizes.channels // lanes)
    frames = codes.reshape(-1, sizes.rows, sizes.columns, sizes.channels)
    rest = groups * lanes - sizes.channels
    frames = np.pad(frames, ((0, 0), (pad, pad), (pad, pad), (0, rest)))
    out = []
    for row in range(0, sizes.rows + 2 * pad - sizes.kernel_rows + 1, sizes.stride):
        for column in range(0, sizes.columns + 2 * pad - sizes.kernel_columns + 1, sizes.stride):
            patch = frames[
                :, row : row + sizes.kernel_rows, column : column + sizes.kernel_columns
            ].reshape(len(frames), sizes.kernel_rows, sizes.kernel_columns, groups, lanes)
            axes = {  # of frame, kernel row, kernel column, group, lane
                (True, "vector"): (0, 1, 2, 3, 4),
                (True, "channel"): (0, 3, 1, 2, 4),
                (False, "vector"): (0, 2, 3, 1, 4),
                (False, "channel"): (0, 3, 2, 1, 4),
            }[single, order]
            out.append(patch.transpose(axes).reshape(len(frames), -1))
    return np.concatenate(out, axis=1)


def component(case, shape: Shape) -> Window:
    sizes, lanes, single, order, ahead = case
    banks = 1 if single else sizes.kernel_rows
    return Window(sizes, shape, lanes=lanes, banks=banks, order=order, ahead=ahead)


class Paced(wiring.Component):
    """A window, and behind it something that takes a position every ``pace`` cycles."""

    def __init__(self, window: Window, pace: int) -> None:
        self.window, self.pace = window, pace
        super().__init__(window.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.window = window = self.window
        beats = window.window.position_beats
        beat, wait = Signal(range(beats + 1)), Signal(range(self.pace))
        go = (beat != 0) | (wait == 0)
        wiring.connect(m, wiring.flipped(self.i), window.i)
        m.d.comb += [
            self.o.p.eq(window.o.p),
            self.o.valid.eq(window.o.valid & go),
            window.o.ready.eq(self.o.ready & go),
        ]
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += beat.eq(Mux(beat == beats - 1, 0, beat + 1))
            with m.If(beat == 0):
                m.d.sync += wait.eq(self.pace - 1)
        return m


@cache
def bench():
    """Blocks with the codes expected, and what they did."""
    rng = np.random.default_rng(3)
    blocks, expected = [], []
    for n, case in enumerate(CASES):
        sizes, bits, signed = case[0], (1, 4, 7)[n % 3], n % 2 == 1
        shape = (sizes.rows, sizes.columns, sizes.channels)
        codes = codes_of(IntRange.of_bits(bits, signed), rng, FRAMES, int(np.prod(shape)))
        expected.append(patches(case, codes))
        part, length = component(case, Shape(bits, signed)), expected[-1].shape[1]
        blocks.append(Block(title(case), part, codes, length, shape=shape))
        if n in PACED:
            part = Paced(component(case, Shape(bits, signed)), PACED[n])
            blocks.append(Block(f"paced {title(case)}", part, codes, length, shape=shape))
            expected.append(expected[-1])
    patterns = [pattern for pattern in STALLS if pattern.seed < 3] + RESETS
    return blocks, expected, run_blocks(blocks, patterns)


def test_gives_every_patch_in_order_under_every_stall_pattern_and_after_a_reset() -> None:
    check_all(*bench())


def test_every_beat_moves_in_the_cycle_of_the_schedule() -> None:
    _, _, traces = bench()
    for case in CASES:
        trace = traces[title(case), FULL_SPEED]
        begin = trace.i_cycles[0, 0]
        for frame, (entered, left) in enumerate(islice(buffer(case).schedule(), FRAMES)):
            assert (trace.i_cycles[frame] - begin).tolist() == entered.tolist(), title(case)
            assert (trace.o_cycles[frame] - begin).tolist() == left.tolist(), title(case)


def test_cycles_and_latency_are_those_stated() -> None:
    _, _, traces = bench()
    for case in CASES:
        trace, window = traces[title(case), FULL_SPEED], buffer(case)
        assert trace.latency == window.latency, title(case)
        assert trace.gaps[-2:] == [window.cycles()] * 2, title(case)


def test_behind_it_a_slower_stage_waits_no_longer_than_stated() -> None:
    _, _, traces = bench()
    for n, pace in PACED.items():
        window = buffer(CASES[n])
        least = max(window.input_beats, CASES[n][0].positions * pace)
        gaps = traces[f"paced {title(CASES[n])}", FULL_SPEED].gaps[-2:]
        assert least <= min(gaps) <= max(gaps) <= window.cycles(pace), title(CASES[n])


@pytest.mark.parametrize("case", [CASES[0], CASES[5], CASES[9], CASES[17]], ids=title)
def test_the_memory_bits_are_those_of_the_verilog(case) -> None:
    text = verilog.convert(component(case, Shape(5)), emit_src=False)
    memories = re.findall(r"^ *reg \[(\d+):0\] \S+ \[(\d+):0\];", text, re.M)
    assert sum((int(a) + 1) * (int(b) + 1) for a, b in memories) == buffer(case).buffer_bits(5)
