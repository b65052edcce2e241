"""Spectral multiply-accumulate: the bins of one block row, summed over the blocks of a vector."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.numerics import range_shape, range_tag
from model.ir.complex_product import check_form
from model.ir.numerics import IntRange
from model.ir.real_fft import check_size


class SpectralOperands(wiring.Component):
    """A packed spectrum as the operands of all lanes; there is one for any number of lanes.

    Where a complex product takes three multipliers, two of its factors are sums of the spectrum's
    parts; they are the same in every lane. Latency: 1 cycle of ``en``.

    Parameters
    ----------
    k : int
        Words of a spectrum.
    form : int
        Real multipliers of a complex product: 3 or 4.
    x_bits : int
        Bits of a word, signed.

    Members
    -------
    en : In(1)
        Advance.
    i : In(k words)
        A packed spectrum.
    x : Out(k words)
        The same, a cycle later.
    plus, minus : Out(k/2 - 1 sums)
        ``re + im`` and ``im - re`` of each complex bin. Only with form 3 and k > 2.
    """

    def __init__(self, k: int, form: int, x_bits: int) -> None:
        check_size("k", k)
        check_form(form)
        self.k, self.form, self.x_bits = k, form, x_bits
        super().__init__(
            {"en": In(1), "i": In(signed(x_bits)).array(k), **_operands(k, form, x_bits, Out)}
        )

    def elaborate(self, platform):
        m = Module()
        later = [(x, i) for x, i in zip(self.x, self.i, strict=True)]
        if hasattr(self, "plus"):
            for n, (re, im) in enumerate(_pairs(self.i)):
                later += [(self.plus[n], re + im), (self.minus[n], im - re)]
        for port, value in later:
            word = Signal.like(port, name=f"{port.name}_word", reset_less=True)
            with m.If(self.en):
                m.d.sync += word.eq(value)
            m.d.comb += port.eq(word)
        return m


class SpectralMac(wiring.Component):
    """``o = (first ? 0 : o) + x * w`` in each bin of a packed spectrum, exact: one lane.

    Bins 0 and k/2 are real, the k/2 - 1 others complex: ``2 + form (k/2 - 1)`` multipliers (with
    form 3, 11 at k = 8 and 23 at k = 16). Form 3 is, for ``(a + jb)(c + js)``::

        t = a (c + s),   re = t - s (a + b),   im = t + c (b - a)

    whose sums of a and b come from SpectralOperands, so that a lane adds only c + s.

    A block a cycle of ``en``. Latency: ``MAC_LATENCY``, 3 cycles from ``w`` to ``o``: a register
    after the weights and their sums, one after the products, and the accumulators. The block that
    belongs to a weight word enters SpectralOperands in the same cycle as the word enters here.

    Parameters
    ----------
    k : int
        Words of a spectrum.
    form : int
        Real multipliers of a complex product: 3 or 4.
    x_bits, w_bits : int
        Bits of a word of the block's and of the weights' spectrum, signed.
    acc : IntRange
        Range of every sum, those of only some of the blocks included.

    Members
    -------
    en : In(1)
        Advance.
    first : In(1)
        The block that reaches the accumulators in this cycle begins a new sum: that whose weights
        entered two cycles before.
    x, plus, minus : In
        From SpectralOperands.
    w : In(k weight words)
        A packed spectrum.
    o : Out(k accumulators)
    """

    def __init__(self, k: int, form: int, x_bits: int, w_bits: int, acc: IntRange) -> None:
        check_size("k", k)
        check_form(form)
        self.k, self.form, self.w_bits = k, form, w_bits
        super().__init__(
            {
                "en": In(1),
                "first": In(1),
                **_operands(k, form, x_bits, In),
                "w": In(signed(w_bits)).array(k),
                "o": Out(range_shape(acc)).array(k),
            }
        )

    def elaborate(self, platform):
        m = Module()
        weights = [self._register(m, w, f"weight_{n}") for n, w in enumerate(self.w)]
        terms = [[self._product(m, x, w)] for x, w in zip(self.x[:2], weights[:2], strict=True)]
        for n, ((a, b), (c, s)) in enumerate(
            zip(_pairs(self.x), _pairs(weights), strict=True),
        ):
            if self.form == 4:
                terms.append([self._product(m, a, c), -self._product(m, b, s)])
                terms.append([self._product(m, b, c), self._product(m, a, s)])
            else:
                c_in, s_in = self.w[2 * n + 2], self.w[2 * n + 3]
                both = self._product(m, a, self._register(m, c_in + s_in, f"weight_sum_{n}"))
                terms.append([both, -self._product(m, s, self.plus[n])])
                terms.append([both, self._product(m, c, self.minus[n])])
        for n, (o, parts) in enumerate(zip(self.o, terms, strict=True)):
            acc = Signal.like(o, name=f"acc_{n}", reset_less=True)
            with m.If(self.en):
                m.d.sync += acc.eq(Mux(self.first, 0, acc) + sum(parts[1:], parts[0]))
            m.d.comb += o.eq(acc)
        return m

    def _register(self, m, value, name):
        later = Signal(value.shape(), name=name, reset_less=True)
        with m.If(self.en):
            m.d.sync += later.eq(value)
        return later

    def _product(self, m, a, b):
        return self._register(m, a * b, "product")


def mac_name(k: int, form: int, x_bits: int, w_bits: int, acc: IntRange) -> str:
    """Name of the module of a lane."""
    return f"spectral_mac_{k}_m{form}_x{x_bits}_w{w_bits}_{range_tag(acc)}"


def _operands(k: int, form: int, x_bits: int, flow: type) -> dict[str, wiring.Member]:
    """Ports of the operands, as they leave SpectralOperands and enter a lane."""
    ports = {"x": flow(signed(x_bits)).array(k)}
    if form == 3 and k > 2:
        sums = flow(signed(x_bits + 1)).array(k // 2 - 1)
        ports |= {"plus": sums, "minus": sums}
    return ports


def _pairs(words) -> list[tuple]:
    """Real and imaginary part of each complex bin of a packed spectrum."""
    return list(zip(words[2::2], words[3::2], strict=True))
