"""The macro: equal to sums written out, whatever its shape, its converters and its contents."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdl.pim.macro import Macro, contents, stuck_cells
from hdl.target import VerilogTarget
from model.ir.errors import BadInput
from model.ir.macro import MacroSpec
from sim.block import FULL_SPEED, Block, Pattern, check_values, run_blocks
from tests.hdl.macro_blocks import Evaluated, Programmed, Twins
from tests.tools import require_tools

SHAPES = {
    "bits": MacroSpec(64, 128),
    "one cell": MacroSpec(1, 1),
    "ragged": MacroSpec(13, 70),
    "many rows": MacroSpec(257, 5),
    "nibbles": MacroSpec(16, 66, 4),
    "grid": MacroSpec(20, 9, 7),
    "shared": MacroSpec(40, 37, share=5),
    "shared by all": MacroSpec(9, 8, 2, share=8),
    "reference": MacroSpec(17, 64, 4, reference=True),
    "pairs": MacroSpec(17, 40, 4, pairs=True),
    "converter": MacroSpec(24, 30, 4, adc_bits=5, step=7),
    "fine converter": MacroSpec(40, 30, 1, adc_bits=8, step=1),
    "converter of pairs": MacroSpec(15, 20, 3, pairs=True, adc_bits=6, step=5, share=4),
    "converter of the net": MacroSpec(16, 31, 3, reference=True, adc_bits=4, step=12, share=3),
    "wide": MacroSpec(10, 6, 15, pairs=True, adc_bits=16, step=11),
}
PRODUCTS = 8
"""Drawn macros that are built."""


PATTERNS = [
    FULL_SPEED,
    Pattern(True, False, 1),
    Pattern(False, True, 2),
    Pattern(True, True, 3),
    Pattern(True, True, 4, 9),
    Pattern(True, True, 5, 31),
]


@dataclass(frozen=True)
class Product:
    """Weights in slices of cells, and activations one bit after the other.

    Parameters
    ----------
    spec : MacroSpec
        An ideal macro: it counts exactly, or its converters never saturate at a step of 1.
    levels : int64 array [rows, columns]
        What its cells hold.
    x : int64 array [vectors · bits, rows]
        Bits of the activations, the lowest first.
    factors, places : int64 arrays
        Worth of a weight's columns, and of an activation's bits.
    expected : int64 array [vectors, outputs]
        The plain integer product.
    """

    spec: MacroSpec
    levels: np.ndarray
    x: np.ndarray
    factors: np.ndarray
    places: np.ndarray
    expected: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """Any shape, bits, cells, form, off level and converter."""
        rows, outputs = int(rng.integers(1, 48)), int(rng.integers(1, 7))
        cell, width, bits = (int(rng.integers(low, high)) for low, high in ((1, 5), (2, 9), (1, 9)))
        pairs, off = bool(rng.integers(2)), int(rng.integers(0, 4))
        top = (1 << (width - 1)) - 1
        weights = rng.integers(-top if pairs else -top - 1, top + 1, (outputs, rows))
        slices, mask = -(-(width - 1) // cell), (1 << cell) - 1
        shifts = cell * np.arange(slices)
        if pairs:
            sides = np.stack([weights, -weights]).clip(0)[..., None] >> shifts & mask
            columns = sides.transpose(1, 3, 0, 2).reshape(-1, rows)
            factors = 1 << shifts
        else:
            codes = weights & top
            low = codes[..., None] >> shifts & mask
            sign = (weights < 0)[..., None].astype(np.int64)
            columns = np.concatenate([low, sign], axis=2).transpose(0, 2, 1).reshape(-1, rows)
            factors = np.append(1 << shifts, -(top + 1))
        levels = columns.T + off
        reference = off > 0 and not pairs
        if reference:
            levels = np.concatenate([levels, np.full((rows, 1), off)], axis=1)
        signed = bool(rng.integers(2))
        vectors = rng.integers(0, 1 << bits, (3, rows))
        places = 1 << np.arange(bits)
        x = (vectors[:, None] >> np.arange(bits)[:, None] & 1).reshape(-1, rows)
        if signed:
            places[-1] = -places[-1]
            vectors -= (vectors >> (bits - 1)) << bits
        cols = len(columns)
        span = rows * mask
        adc = (span.bit_length() + pairs) if rng.integers(2) else None
        spec = MacroSpec(
            rows,
            cols,
            int(mask + off).bit_length(),
            reference=reference,
            pairs=pairs,
            share=int(rng.integers(1, min(6, cols // (1 + pairs)) + 1)),
            adc_bits=adc,
        )
        return cls(spec, levels, x, factors, places, vectors @ weights.T)

    def accumulate(self, found: np.ndarray) -> np.ndarray:
        """Accumulators [vectors, outputs] of results [vectors · bits, results]."""
        found = found[:, : self.spec.results]
        parts = found.reshape(len(self.expected), len(self.places), -1, len(self.factors))
        return np.einsum("vbos,b,s->vo", parts, self.places, self.factors)


@given(st.integers(0, 2**32 - 1))
def test_an_ideal_macro_gives_the_plain_integer_product(seed: int) -> None:
    product = Product.draw(np.random.default_rng(seed))
    found = product.spec.evaluate(product.levels, product.x)
    assert (product.accumulate(found) == product.expected).all()


def results(spec: MacroSpec, levels: np.ndarray, x: np.ndarray) -> list[int]:
    """What one evaluation must give, in plain integers."""
    counts = [sum(int(levels[r, c]) for r in range(spec.rows) if x[r]) for c in range(spec.columns)]
    if spec.reference:
        counts = [count - counts[-1] for count in counts[:-1]]
    if spec.pairs:
        counts = [a - b for a, b in zip(counts[0::2], counts[1::2], strict=True)]
    if spec.adc_bits is not None:
        low = -(1 << (spec.adc_bits - 1)) if spec.pairs else 0
        high = low + (1 << spec.adc_bits) - 1
        counts = [min(max((n + spec.step // 2) // spec.step, low), high) for n in counts]
    return counts + [0] * (spec.share * spec.converters - len(counts))


def test_the_specification_evaluates_as_sums_written_out() -> None:
    rng = np.random.default_rng(2)
    for spec in SHAPES.values():
        levels = rng.integers(0, 1 << spec.level_bits, (spec.rows, spec.columns))
        x = rng.integers(0, 2, (3, spec.rows))
        found = spec.evaluate(levels, x)
        for bits, codes in zip(x, found, strict=True):
            assert codes.tolist() == results(spec, levels, bits)[: spec.results]


def test_division_by_a_step_is_exact_in_gates() -> None:
    for step in (1, 2, 3, 7, 12, 64, 100, 255):
        spec = MacroSpec(64, 2, 4, pairs=True, adc_bits=8, step=step)
        m, shift = spec.reciprocal
        v = np.arange(-spec.count_top, spec.count_top + 1)
        biased = v + step // 2 + spec.offset * step
        assert (biased >= 0).all()
        assert ((biased * m >> shift) - spec.offset == (v + step // 2) // step).all()


@pytest.mark.rtl
def test_every_shape_gives_the_exact_results_on_time() -> None:
    require_tools("g++")
    rng = np.random.default_rng(1)
    blocks, expected = [], []
    for n, (name, spec) in enumerate(SHAPES.items()):
        levels = rng.integers(0, 1 << spec.level_bits, (spec.rows, spec.columns))
        if name in ("nibbles", "wide"):  # the highest counts there are
            levels[:, ::2] = (1 << spec.level_bits) - 1
        x = rng.integers(0, 2, (8, spec.rows))
        x[1], x[2] = 1, 0
        file = f"cells_{n}.hex"
        blocks.append(
            Block(
                name,
                Evaluated(spec, file),
                x,
                spec.share * spec.converters,
                {file: contents(spec, levels)},
            )
        )
        expected.append(np.array([results(spec, levels, bits) for bits in x]))
    products = [Product.draw(np.random.default_rng(seed)) for seed in range(PRODUCTS)]
    for n, product in enumerate(products):
        spec, file = product.spec, f"product_{n}.hex"
        length = spec.share * spec.converters
        files = {file: contents(spec, product.levels)}
        blocks.append(Block(f"product {n}", Evaluated(spec, file), product.x, length, files))
    traces = run_blocks(blocks, PATTERNS)
    for n, product in enumerate(products):
        for pattern in PATTERNS:
            found = traces[f"product {n}", pattern].codes
            assert (product.accumulate(found) == product.expected).all(), (n, pattern)
    blocks = blocks[: len(SHAPES)]
    for block, codes, spec in zip(blocks, expected, SHAPES.values(), strict=True):
        check_values(traces, block, codes)
        trace = traces[block.name, FULL_SPEED]
        assert trace.latency == spec.latency + spec.share - 1
        assert trace.gaps == [spec.interval] * 7
        assert not any(traces[block.name, p].steps["step_error"] for p in PATTERNS)


class Device:
    """A macro's cells and its programmer, in plain integers."""

    def __init__(self, spec: MacroSpec, seed: int, levels: np.ndarray, stuck: np.ndarray) -> None:
        self.spec, self.seed, self.levels, self.stuck = spec, seed, levels.copy(), stuck
        self.wear, self.blank = [0] * spec.rows, True
        self.reset()

    def reset(self) -> None:
        """Nothing but counters and errors, and the beginning of the failures."""
        self.random = self.seed or 1
        self.failures = self.failed_row = self.rows = self.pulses = self.worn = self.stray = 0
        self.attempts: list[int] = []

    def pulse(self, row: int, wanted: np.ndarray) -> None:
        """One pulse."""
        r = self.random
        r = (r ^ r << 13) & 0xFFFFFFFF
        r ^= r >> 17
        self.random = r = (r ^ r << 5) & 0xFFFFFFFF
        self.pulses += 1
        worn = self.spec.endurance and self.wear[row] >= self.spec.endurance
        self.worn |= bool(worn)
        self.wear[row] += 1
        for c in range(self.spec.columns):
            misses = r % 65536 < self.spec.failures and r >> (16 + c % 16) & 1
            if not (worn or misses or self.stuck[row, c]):
                self.levels[row, c] = wanted[c]

    def write(self, row: int, wanted: np.ndarray) -> int:
        """Pulses until the row holds what is wanted, or as many as there may be; how many."""
        self.rows += 1
        for pulse in range(self.spec.attempts):
            self.pulse(row, wanted)
            if (self.levels[row] == wanted).all():
                return pulse + 1
        self.failures, self.failed_row = self.failures + 1, row
        return self.spec.attempts

    def frame(self, wanted: np.ndarray, loads: bool) -> list[int]:
        """What the bench gives for rows that are written."""
        spec, before, blank = self.spec, self.levels.copy(), self.blank
        self.stray |= blank
        for row in range(spec.rows):
            if loads:
                free = self.stuck[row] == 0
                self.levels[row, free] = wanted[row, free]
                continue
            self.attempts.append(self.write(row, wanted[row]))
        self.blank = False
        counts = self.levels.sum(axis=0)
        status = [self.failures, self.failed_row, self.rows, self.pulses]
        status += [self.stray, self.worn, 0, blank, 0]
        return [*before.ravel(), *self.levels.ravel(), *counts, *status]


WRITES = {  # spec, seed, faults, whether rows are loaded
    "never fails": (MacroSpec(8, 10, 2, write_cycles=3), 1, 0.0, False),
    "loaded": (MacroSpec(8, 10, 2), 1, 0.0, True),
    "loaded around faults": (MacroSpec(9, 12, 2), 1, 0.2, True),
    "fails at times": (
        MacroSpec(13, 70, write_cycles=4, attempts=8, failures=30000),
        1,
        0.0,
        False,
    ),
    "another seed": (MacroSpec(13, 70, write_cycles=4, attempts=8, failures=30000), 77, 0.0, False),
    "seed 0": (MacroSpec(13, 70, write_cycles=4, attempts=8, failures=30000), 0, 0.0, False),
    "fails often": (MacroSpec(16, 20, 4, attempts=2, failures=60000), 5, 0.0, False),
    "stuck": (MacroSpec(10, 66, 3, write_cycles=2, attempts=3, failures=20000), 9, 0.05, False),
    "wears out": (MacroSpec(9, 9, 2, attempts=4, failures=40000, endurance=5), 3, 0.0, False),
}


TWINS = {
    "nibbles": MacroSpec(12, 66, 4, write_cycles=2, attempts=8, failures=20000),
    "converter and reference": MacroSpec(
        9, 10, 3, reference=True, adc_bits=4, step=3, share=3, attempts=9, failures=9000
    ),
    "converter of pairs": MacroSpec(17, 12, 2, pairs=True, adc_bits=5, step=2, share=2),
}
CUT = "never fails"
"""The case that is also reset in the middle of writing."""

FIRST_SWITCH = 21
"""Cycles of its bench up to the end of the first pulse: 1, two for each row that it shows, 4."""


@pytest.mark.rtl
def test_rows_are_written_verified_retried_and_reported_and_survive_a_reset() -> None:
    require_tools("g++")
    rng = np.random.default_rng(3)
    blocks, devices = [], {}
    patterns = [FULL_SPEED, Pattern(True, True, 2), Pattern(True, False, 3)]
    for n, (name, (spec, seed, faults, loads)) in enumerate(WRITES.items()):
        size = spec.rows, spec.columns
        stuck = (rng.random(size) < faults).astype(np.int64)
        start = stuck * rng.integers(0, 1 << spec.level_bits, size)
        files = {}
        if faults:
            files[f"start_{n}.hex"] = contents(spec, start)
            files[f"stuck_{n}.hex"] = stuck_cells(spec, stuck)
        file, mask = tuple(files) if files else ("", "")
        wanted = rng.integers(0, 1 << spec.level_bits, (2, *size))
        length = (2 * spec.rows + 2) * spec.columns
        blocks.append(
            Block(
                name,
                Programmed(spec, seed, file, mask, loads),
                wanted.reshape(2, -1),
                length,
                files,
            )
        )
        devices[name] = (Device(spec, seed, start, stuck), wanted, loads)
    twins = {}
    for n, (name, spec) in enumerate(TWINS.items()):
        levels = rng.integers(0, 1 << spec.level_bits, (spec.rows, spec.columns))
        x = rng.integers(0, 2, (10, spec.rows))
        inputs = tuple(int("".join(map(str, bits[::-1])), 2) for bits in x)
        file = f"twin_{n}.hex"
        twins[f"twins {name}"] = np.concatenate([results(spec, levels, bits) for bits in x])
        blocks.append(
            Block(
                f"twins {name}",
                Twins(spec, file, inputs),
                levels.reshape(1, -1),
                len(x) * spec.share * spec.converters,
                {file: contents(spec, levels)},
            )
        )
    # One reset after each number of cycles that a row takes, in each phase of its writing.
    period = WRITES[CUT][0].row_write_cycles(1)
    cuts = [Pattern(reset_after=FIRST_SWITCH + period + n - 1) for n in range(period + 1)]
    traces = run_blocks(blocks, [*patterns, *cuts])

    for name, expected in twins.items():
        for pattern in (*patterns, *cuts):
            trace = traces[name, pattern]
            assert trace.codes[0].tolist() == expected.tolist(), (name, pattern)
            assert trace.steps == {"step_differs": 0, "step_error": 0}, (name, pattern)

    reached = set()
    for name, (device, wanted, loads) in devices.items():
        for pattern in patterns:
            device.reset()
            for frame in range(2):
                expected = device.frame(wanted[frame], loads)
                found = traces[name, pattern].codes[frame].tolist()[: len(expected)]
                assert found == expected, (name, pattern, frame)
                if not device.failures and not device.stuck.any():
                    assert (device.levels == wanted[frame]).all()
                if pattern == FULL_SPEED and not frame and not loads:
                    cycles = np.diff(traces[name, pattern].i_cycles[0]).tolist()
                    pulses = device.attempts[:-1]
                    assert cycles == [device.spec.row_write_cycles(a) for a in pulses], name
            reached |= {"failed"} if device.failures else set()
            reached |= {"worn"} if device.worn else set()
            reached |= {"retried"} if device.pulses > device.rows else set()
    assert reached == {"failed", "worn", "retried"}

    device, wanted, _ = devices[CUT]
    switched = []
    for pattern in cuts:
        rows = (pattern.reset_after - FIRST_SWITCH) // period + 1
        switched.append(rows)
        for row in range(rows):
            device.write(row, wanted[0, row])
        device.reset()
        for frame in range(2):
            expected = device.frame(wanted[frame], False)
            found = traces[CUT, pattern].codes[frame].tolist()[: len(expected)]
            assert found == expected, (pattern, frame)
    assert switched == [1] + period * [2]


STATUS = {
    "worn": ({"worn": 1}, "past its endurance; expected at most 7 pulses"),
    "failed": (
        {"failures": 2, "failed_macro": 3, "failed_row": 5},
        "2 rows that failed, the last of them row 5 of macro 3; .* after at most 4 pulses",
    ),
    "unprogrammed": ({"unprogrammed": 1}, "a row that was never programmed"),
    "clash": ({"clash": 1}, "at least 2 cycles apart"),
}


@pytest.mark.parametrize("name", STATUS)
def test_an_error_at_a_port_is_named(name: str) -> None:
    spec = MacroSpec(8, 8, share=2, attempts=4, endurance=7)
    spec.check_status("fc1")
    ports, message = STATUS[name]
    with pytest.raises(BadInput, match=f"fc1: found .*{message}"):
        spec.check_status("fc1", **ports)


def test_a_hard_macro_stands_behind_the_same_ports() -> None:
    spec = MacroSpec(8, 10, 2, reference=True)
    soft, hard = Macro(spec), Macro(spec, body="foundry_macro")
    assert soft.signature == hard.signature
    target = VerilogTarget()
    target.convert(hard, "macro")
    text = target.text()
    assert "foundry_macro" in text
    assert "gyre_macro" not in text
    for port in hard.signature.members:
        assert f".{port}(" in text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rows": 0}, "rows must be from 1 to 1024"),
        ({"cols": 3, "pairs": True}, "pairs must be of an even number"),
        ({"pairs": True, "reference": True}, "without a reference"),
        ({"share": 9}, "share must be from 1 to 8"),
        ({"step": 2}, "step must be from 1 to 1"),
        ({"level_bits": 16}, "level_bits must be from 1 to 15"),
        ({"attempts": 0}, "attempts must be from 1 to 255"),
        ({"failures": 65537}, "failures must be from 0 to 65536"),
    ],
)
def test_refuses_a_macro_that_cannot_be_built(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MacroSpec(**({"rows": 8, "cols": 8} | values))


def test_refuses_contents_that_do_not_fit() -> None:
    spec = MacroSpec(4, 6, 2, reference=True)
    with pytest.raises(BadInput, match="level 4; expected levels from 0 to 3"):
        contents(spec, np.full((4, 7), 4))
    with pytest.raises(BadInput, match=r"shape \[4, 6\]; expected shape \[4, 7\]"):
        contents(spec, np.zeros((4, 6), dtype=np.int64))
    with pytest.raises(BadInput, match=r"fault map: found shape \[7, 4\]"):
        stuck_cells(spec, np.zeros((7, 4), dtype=np.int64))
    with pytest.raises(BadInput, match="0 or 1 for each cell"):
        stuck_cells(spec, np.full((4, 7), 2))
