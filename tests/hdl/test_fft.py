"""The real FFT units against golden; their latency, interval and multipliers by formula."""

import re
from functools import cache

import numpy as np
import pytest
import torch
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.circulant.fft import RealFFT, fft_name
from hdl.lib.numerics import range_shape
from hdl.lib.stream import beat_stream
from hdl.target import place
from model.golden.real_fft import transform
from model.ir.fft_unit import FFTUnitSpec
from model.ir.numerics import IntRange
from model.ir.real_fft import SIZES, RealFFTSpec
from sim.block import FULL_SPEED, Block, run_blocks
from tests.examples import codes_of
from tests.hdl.benches import check_all

pytestmark = pytest.mark.rtl

FRAMES = 20
FULL = (1 << 15) - 1


class Unit(wiring.Component):
    """A unit between two streams, a block a beat: it waits while its block cannot leave."""

    def __init__(self, spec: FFTUnitSpec) -> None:
        self.spec, k = spec, spec.transform.k
        super().__init__(
            {
                "i": In(beat_stream(range_shape(spec.transform.inputs), k)),
                "o": Out(beat_stream(range_shape(spec.transform.outputs), k)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        unit = place(m, platform, "unit", fft_name(self.spec), RealFFT, self.spec)
        en = ~unit.done | self.o.ready
        m.d.comb += [
            unit.en.eq(en),
            unit.valid.eq(self.i.valid),
            self.i.ready.eq(unit.ready & en),
            self.o.valid.eq(unit.done),
            self.o.p.first.eq(1),
            self.o.p.last.eq(1),
        ]
        for n in range(self.spec.transform.k):
            m.d.comb += [unit.x[n].eq(self.i.p.codes[n]), self.o.p.codes[n].eq(unit.y[n])]
        return m


def transform_of(k: int, inverse: bool, n: int) -> RealFFTSpec:
    """Transforms of several widths and shifts; the first are those of 16 bits at full scale."""
    levels = k.bit_length() - 1
    if n == 0:
        return RealFFTSpec(k, inverse, -FULL, FULL, 0, (0 if inverse else 1,) * levels)
    if n == 1:
        return RealFFTSpec(k, inverse, -128, 127, 4, (0, 2, 1, 3, 0)[:levels], 12)
    if n == 2:
        return RealFFTSpec(k, inverse, 0, 255, 0, (1, 0, 2, 0, 1)[:levels], 10)
    return RealFFTSpec(k, inverse, -(1 << 22), (1 << 23) - 1, 1, (2, 1, 0, 1, 2)[:levels], 18)


def cases() -> list[FFTUnitSpec]:
    """Every size, direction, body and form; with 32 points and below 16 (where a form makes no
    difference) every two of them. Interval 1 is the pipelined body."""
    found = []
    for k in SIZES:
        for inverse in (False, True):
            for n, interval in enumerate((1, 2, 5) if k == 16 else (1, 3)):
                forms = (3, 4) if k == 16 else (3 + (inverse ^ n),)
                spec = transform_of(k, inverse, (n + inverse) % 4)
                found += [FFTUnitSpec(spec, form, interval) for form in forms]
    for n in range(4):
        found += [FFTUnitSpec(transform_of(8, n % 2 == 0, n), 3, i) for i in (1, 2, 9)]
    return found


CASES = cases()


def words_of(spec: RealFFTSpec) -> np.ndarray:
    """Words of the whole range, and those that drive each word that leaves to its ends."""
    rng = np.random.default_rng(spec.k)
    signs = np.array([form.coefficients > 0 for form in forms_of(spec)])
    worst = np.where(np.concatenate([signs, ~signs]), spec.high, spec.low)
    ends = np.array([[spec.low] * spec.k, [spec.high] * spec.k])
    random = codes_of(IntRange(spec.low, spec.high), rng, FRAMES, spec.k)
    return np.concatenate([ends, worst[:: max(1, spec.k // 8)], random])


def forms_of(spec: RealFFTSpec) -> list:
    return spec.transform(spec.forms(), lambda total, shift: total.rounded(shift))


@cache
def bench():
    """Units, what should leave them, and what they did."""
    blocks, expected = [], []
    for n, spec in enumerate(CASES):
        codes = words_of(spec.transform)
        blocks.append(Block(f"unit {n}", Unit(spec), codes, spec.transform.k))
        expected.append(transform(spec.transform, torch.from_numpy(codes)).numpy())
    return blocks, expected, run_blocks(blocks)


def test_equals_golden_under_every_stall_pattern() -> None:
    check_all(*bench())


def test_the_words_drive_what_leaves_to_the_ends_of_its_range() -> None:
    """But for the roundings, which cannot all be at their worst at once."""
    _, expected, _ = bench()
    for spec, codes in zip(CASES, expected, strict=True):
        if spec.transform.k <= 8:
            ends = spec.transform.outputs
            assert codes.max() >= ends.high - 4, spec
            assert codes.min() <= ends.low + 4, spec


def test_latency_and_interval_are_those_of_the_formulas() -> None:
    blocks, _, traces = bench()
    for block, spec in zip(blocks, CASES, strict=True):
        trace = traces[block.name, FULL_SPEED]
        assert trace.latency == spec.latency + 1, spec
        assert trace.gaps == [spec.interval] * (len(block.codes) - 1), spec


@pytest.mark.parametrize("interval", [1, 2, 5])
@pytest.mark.parametrize("form", [3, 4])
def test_multipliers_counted_in_the_design_equal_the_formula(form: int, interval: int) -> None:
    for k in SIZES[:4]:
        for inverse in (False, True):
            spec = FFTUnitSpec(transform_of(k, inverse, 0), form, interval)
            design = rtlil.convert(RealFFT(spec), emit_src=False)
            assert design.count("cell $mul ") == spec.multiplier_count, spec


def test_32_points_have_44_or_54_multipliers() -> None:
    for form, stated in ((3, 44), (4, 54)):
        design = rtlil.convert(RealFFT(FFTUnitSpec(transform_of(32, False, 0), form)))
        assert design.count("cell $mul ") == stated


def test_names_of_units_differ_as_their_specifications_do() -> None:
    assert len({fft_name(spec) for spec in CASES}) == len(set(CASES))
    assert all(re.fullmatch(r"\w+", fft_name(spec)) for spec in CASES)
