"""Spectral multiply-accumulators against exact integer sums; multipliers by formula."""

from functools import cache

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.circulant.spectral_mac import SpectralMac, SpectralOperands, mac_name
from hdl.lib.numerics import range_shape
from hdl.lib.stream import beat_stream
from hdl.target import place
from model.ir.circulant_array import MAC_LATENCY
from model.ir.complex_product import complex_product
from model.ir.numerics import IntRange
from model.ir.real_fft import SIZES
from sim.block import FULL_SPEED, Block, run_blocks
from tests.examples import codes_of
from tests.hdl.benches import check_all

pytestmark = pytest.mark.rtl

FRAMES = 12
# Bits of a word of the block and of the weights, blocks.
WIDTHS = [(16, 16, 5), (9, 14, 3), (18, 12, 1)]
CASES = [
    (k, form, *WIDTHS[(n + form) % 3])
    for n, k in enumerate(SIZES)
    for form in (3, 4)
] + [(8, form, *widths) for form in (3, 4) for widths in WIDTHS]  # fmt: skip


def accumulator(x_bits: int, w_bits: int, blocks: int) -> IntRange:
    """Range of the sums of blocks, where any word meets any weight."""
    product = IntRange.of_bits(x_bits, True) * IntRange.of_bits(w_bits, True)
    return (product + IntRange(-product.high, -product.low)).sum_of(blocks)


class Lane(wiring.Component):
    """One lane between two streams: blocks and weights enter, the sums of a frame leave."""

    def __init__(self, k: int, form: int, x_bits: int, w_bits: int, blocks: int) -> None:
        self.operands = k, form, x_bits
        self.args = k, form, x_bits, w_bits, accumulator(x_bits, w_bits, blocks)
        super().__init__(
            {
                "i": In(beat_stream(signed(max(x_bits, w_bits)), 2 * k)),
                "o": Out(beat_stream(range_shape(self.args[-1]), k)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        k = self.args[0]
        m.submodules.operands = operands = SpectralOperands(*self.operands)
        mac = place(m, platform, "mac", mac_name(*self.args), SpectralMac, *self.args)
        for name in operands.signature.members:
            if name not in ("en", "i"):
                pairs = zip(getattr(mac, name), getattr(operands, name), strict=True)
                m.d.comb += [port.eq(word) for port, word in pairs]
        # A pause in a frame halts the lane; between frames it goes on, so that sums can leave.
        en, go, inside = Signal(), Signal(), Signal()
        marks = [Cat(self.i.valid & self.i.p.first, self.i.valid & self.i.p.last)]
        for cycle in range(MAC_LATENCY):
            marks.append(Signal(2, name=f"marks_{cycle}"))
            with m.If(en):
                m.d.sync += marks[-1].eq(marks[-2])
        done = marks[-1][1]
        with m.If(en & self.i.valid):
            m.d.sync += inside.eq(~self.i.p.last)
        m.d.comb += [
            go.eq(self.i.valid | ~inside),
            en.eq(go & (~done | self.o.ready)),
            self.i.ready.eq(~done | self.o.ready),
            self.o.valid.eq(done & go),
            self.o.p.first.eq(1),
            self.o.p.last.eq(1),
            operands.en.eq(en),
            mac.en.eq(en),
            mac.first.eq(marks[-2][0]),
        ]
        for n in range(k):
            m.d.comb += [
                operands.i[n].eq(self.i.p.codes[n]),
                mac.w[n].eq(self.i.p.codes[k + n]),
                self.o.p.codes[n].eq(mac.o[n]),
            ]
        return m


def sums(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Packed spectra int64 [..., blocks, k] to their products' sums [..., k]."""
    out = x * w
    out[..., 2::2], out[..., 3::2] = complex_product(
        x[..., 2::2], x[..., 3::2], w[..., 2::2], w[..., 3::2]
    )
    return out.sum(-2)


@cache
def bench():
    """Lanes, what should leave them, and what they did."""
    blocks, expected = [], []
    for n, case in enumerate(CASES):
        k, _, x_bits, w_bits, q = case
        rng = np.random.default_rng(n)
        x = codes_of(IntRange.of_bits(x_bits, True), rng, FRAMES, q, k)
        w = codes_of(IntRange.of_bits(w_bits, True), rng, FRAMES, q, k)
        x[0], w[0] = -(1 << (x_bits - 1)), -(1 << (w_bits - 1))
        w[0, :, 3::2] = (1 << (w_bits - 1)) - 1  # the real part's end, or nearly
        codes = np.concatenate([x, w], -1).reshape(FRAMES, -1)
        blocks.append(Block(f"lane {n}", Lane(*case), codes, k))
        expected.append(sums(x, w))
    return blocks, expected, run_blocks(blocks)


def test_sums_are_exact_under_every_stall_pattern() -> None:
    check_all(*bench())


def test_the_first_sums_are_within_a_part_in_a_thousand_of_the_end() -> None:
    _, expected, _ = bench()
    for (k, _, x_bits, w_bits, q), codes in zip(CASES, expected, strict=True):
        assert codes[0, 0] == q << (x_bits + w_bits - 2)
        if k > 2:
            assert codes[0, 2] >= 0.999 * accumulator(x_bits, w_bits, q).high


def test_a_block_a_cycle_at_the_stated_latency() -> None:
    blocks, _, traces = bench()
    for block, (*_, q) in zip(blocks, CASES, strict=True):
        trace = traces[block.name, FULL_SPEED]
        assert trace.latency == q + MAC_LATENCY
        assert trace.gaps == [q] * (FRAMES - 1)


@pytest.mark.parametrize(
    ("k", "form", "stated"),
    [(2, 3, 2), (4, 3, 5), (8, 3, 11), (16, 3, 23), (32, 3, 47), (8, 4, 14), (16, 4, 30)],
)
def test_multipliers_counted_in_the_design_equal_the_formula(
    k: int, form: int, stated: int
) -> None:
    mac = SpectralMac(k, form, 12, 16, accumulator(12, 16, 9))
    found = rtlil.convert(mac, emit_src=False).count("cell $mul ")
    assert found == stated == 2 + form * (k // 2 - 1)


def test_refuses_another_size_and_another_form() -> None:
    acc = IntRange(-9, 9)
    for component, args in ((SpectralMac, (8, 8, acc)), (SpectralOperands, (8,))):
        with pytest.raises(ValueError, match="k must be one of 2, 4, 8, 16, 32, not 6"):
            component(6, 3, *args)
        with pytest.raises(ValueError, match="must be from 3 to 4, not 2"):
            component(8, 2, *args)


def test_lanes_of_other_sums_have_other_names() -> None:
    """Layers of one accelerator may differ in the range of their sums alone."""
    names = {mac_name(4, 3, 11, 10, IntRange(-high, high)) for high in (70_000, 100_000)}
    assert len(names) == 2
