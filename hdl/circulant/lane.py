"""A lane with ports of whole words: hundreds of them stand side by side."""

from amaranth.hdl import Cat, Module, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.circulant.spectral_mac import SpectralMac, mac_name
from hdl.lib.numerics import range_shape
from hdl.target import place
from model.ir.numerics import IntRange


def operands_of(side) -> Cat:
    """The operands of lanes as one word, from the ports of SpectralOperands or of a lane."""
    words = list(side.x)
    if hasattr(side, "plus"):
        words += [*side.plus, *side.minus]
    return Cat(words)


class Lane(wiring.Component):
    """A SpectralMac whose ports are one word each, which keeps the text of the design short.

    Parameters: those of SpectralMac.

    Members
    -------
    en, first : In(1)
        As of SpectralMac.
    x : In(operands)
        What SpectralOperands gives, by ``operands_of``.
    w : In(k weight words)
    o : Out(k accumulators)
    """

    def __init__(self, k: int, form: int, x_bits: int, w_bits: int, acc: IntRange) -> None:
        self.args = k, form, x_bits, w_bits, acc
        sums = 2 * (k // 2 - 1) * (x_bits + 1) if form == 3 else 0
        super().__init__(
            {
                "en": In(1),
                "first": In(1),
                "x": In(unsigned(k * x_bits + sums)),
                "w": In(unsigned(k * w_bits)),
                "o": Out(unsigned(k * range_shape(acc).width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        mac = place(m, platform, "mac", mac_name(*self.args), SpectralMac, *self.args)
        m.d.comb += [
            mac.en.eq(self.en),
            mac.first.eq(self.first),
            operands_of(mac).eq(self.x),
            Cat(mac.w).eq(self.w),
            self.o.eq(Cat(mac.o)),
        ]
        return m


def lane_name(k: int, form: int, x_bits: int, w_bits: int, acc: IntRange) -> str:
    """Name of the module of a lane."""
    return mac_name(k, form, x_bits, w_bits, acc).replace("spectral_mac", "lane")
