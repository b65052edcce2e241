"""The real FFT in gates: forward and inverse, pipelined and folded, with one signature."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.numerics import range_shape
from model.ir.fft_unit import FFTUnitSpec
from model.ir.numerics import IntRange
from model.ir.real_fft import union
from model.ir.requantize import rounding


class RealFFT(wiring.Component):
    """The transform of a block of k words, every ``spec.interval`` cycles of ``en``.

    Every register advances with ``en``. A block enters in a cycle with ``en``, ``valid`` and
    ``ready``, and leaves ``spec.latency`` cycles of ``en`` later.

    Latency, interval and multipliers: see FFTUnitSpec. Registers follow each operand of a
    multiplication, each choice between operands, each product and each rounding.

    Parameters
    ----------
    spec : FFTUnitSpec

    Members
    -------
    en : In(1)
        Advance.
    valid : In(1)
        There is a block at ``x``.
    ready : Out(1)
        The unit can take it; always, if it is pipelined. From a register.
    x : In(k words)
        Points in natural order, or packed bins if the transform is an inverse.
    done : Out(1)
        A block is at ``y``. High for one cycle of ``en`` a block.
    y : Out(k words)
        Holds for ``interval`` cycles of ``en`` from ``done`` on.
    """

    def __init__(self, spec: FFTUnitSpec) -> None:
        self.spec, transform = spec, spec.transform
        super().__init__(
            {
                "en": In(1),
                "valid": In(1),
                "ready": Out(1),
                "x": In(range_shape(transform.inputs)).array(transform.k),
                "done": Out(1),
                "y": Out(range_shape(transform.outputs)).array(transform.k),
            }
        )

    def elaborate(self, platform):
        m = Module()
        spec, transform = self.spec, self.spec.transform
        if spec.interval == 1:
            m.d.comb += self.ready.eq(1)
        else:
            pause = Signal(range(spec.interval))
            m.d.comb += self.ready.eq(pause == 0)
            with m.If(self.en & (self.valid | ~self.ready)):
                m.d.sync += pause.eq(pause - 1)
                with m.If(self.ready):
                    m.d.sync += pause.eq(spec.interval - 1)

        line = _Line(m, spec, self.en, self.valid & self.ready)
        words = [
            _Word(line, x, form, 0, 0) for x, form in zip(self.x, transform.forms(), strict=True)
        ]
        walk = transform.walk(words, line.rounded, line.product)
        words = next(walk)
        for stage in transform.stages():
            line.begin(spec.slots(stage), spec.stage_latency(stage))
            words = next(walk)
            line.end()
        m.d.comb += self.done.eq(line.mark(spec.latency))
        m.d.comb += [
            y.eq(word.value) for y, word in zip(self.y, transform.arranged(words), strict=True)
        ]
        line.connect()
        return m


def fft_name(spec: FFTUnitSpec) -> str:
    """Name of the module of a unit."""
    transform = spec.transform
    numbers = (transform.low, transform.high, transform.up, *transform.shifts)
    return "_".join(
        [
            f"{'inverse' if transform.inverse else 'forward'}_fft_{transform.k}",
            *(str(number).replace("-", "n") for number in numbers),
            f"t{transform.twiddle_bits}_m{spec.form}_i{spec.interval}",
        ]
    )


@dataclass(frozen=True, eq=False)
class _Word:
    """``value << up`` of a block, there from cycle ``first`` to ``last`` of its way.

    Parameters
    ----------
    line : _Line
    value : Value
    form : linear form
        The word as the range analysis knows it, with its ``range``.
    first, last : int
        Cycles of ``en`` since the block entered.
    up : int
        Left shift that is still to come.
    """

    line: "_Line"
    value: Value
    form: Any
    first: int
    last: int
    up: int = 0

    def __add__(self, other: "_Word") -> "_Word":
        return self._with(other, Value.__add__, self.form + other.form)

    def __sub__(self, other: "_Word") -> "_Word":
        return self._with(other, Value.__sub__, self.form - other.form)

    def __neg__(self) -> "_Word":
        return replace(self, value=-self.value, form=-self.form)

    def __mul__(self, factor: int) -> "_Word":
        """Times a power of two or the negative of one."""
        up = abs(factor).bit_length() - 1
        if abs(factor) != 1 << up:
            raise ValueError(f"a factor outside of a product must be a power of 2, not {factor}")
        word = -self if factor < 0 else self
        return replace(word, form=self.form * factor, up=self.up + up)

    @property
    def span(self) -> IntRange:
        """Range of ``value``."""
        span = self.form.range
        return IntRange(span.low >> self.up, span.high >> self.up)

    def _with(self, other: "_Word", operation: Callable[[Value, Value], Value], form: Any):
        cycle, up = max(self.first, other.first), min(self.up, other.up)
        one, two = self.line.until(self, cycle), self.line.until(other, cycle)
        value = operation(one.value << (one.up - up), two.value << (two.up - up))
        first, last = max(one.first, two.first), min(one.last, two.last)
        return _Word(self.line, value, form, first, last, up)


class _Line:
    """The registers of a unit, each of them loaded in one cycle of a block's way.

    A register that is loaded in cycle t holds its word from t + 1 to t + interval. Stage by stage:
    ``begin``, then the stage's own calls of ``product`` and ``rounded``, then ``end``.
    """

    def __init__(self, m: Module, spec: FFTUnitSpec, en: Value, enter: Value) -> None:
        self.m, self.spec, self.en = m, spec, en
        self.marks = [Signal(name="enter")]
        m.d.comb += self.marks[0].eq(enter)
        self.loads: dict[int, list] = {}
        self.held: dict[tuple[int, int], _Word] = {}
        self.finish = 0

    def begin(self, slots: int, latency: int) -> None:
        """A stage follows: the words that enter it are there from the last one's finish on."""
        self.slots = slots
        self.start, self.finish = self.finish, self.finish + latency
        self.shared: list[tuple[_Word, int, Signal]] = []

    def mark(self, cycle: int) -> Signal:
        """High while a block is in that cycle of its way."""
        while len(self.marks) <= cycle:
            later = Signal(name=f"mark_{len(self.marks)}")
            with self.m.If(self.en):
                self.m.d.sync += later.eq(self.marks[-1])
            self.marks.append(later)
        return self.marks[cycle]

    def register(self, word: _Word, cycle: int) -> _Word:
        """The word in a register that is loaded in a cycle."""
        key = id(word.value), cycle
        if key not in self.held:
            name = f"word_{cycle + 1}_{len(self.held)}"
            value = Signal(range_shape(word.span), name=name, reset_less=True)
            self.loads.setdefault(cycle, []).append(value.eq(word.value))
            self.held[key] = word, value
        return replace(
            word, value=self.held[key][1], first=cycle + 1, last=cycle + self.spec.interval
        )

    def until(self, word: _Word, cycle: int) -> _Word:
        """The word, there in a cycle."""
        while word.last < cycle:
            word = self.register(word, word.last)
        return word

    def since(self, word: _Word, cycle: int) -> _Word:
        """The word, there from a cycle on for a whole interval."""
        while word.first != cycle:
            word = self.register(word, min(word.last, cycle - 1))
        return word

    def rounded(self, total: _Word, shift: int) -> _Word:
        """``(total + r) >> shift`` at the finish of the stage."""
        form, right = total.form.rounded(shift), max(shift - total.up, 0)
        value = (total.value + rounding(right)) >> right << max(total.up - shift, 0)
        word = replace(total, value=value, form=form, up=0)
        word = self.register(word, min(total.last, self.finish - 1))
        return self.since(word, self.finish)

    def product(self, a: _Word, b: _Word, c: int, s: int) -> tuple[_Word, _Word]:
        """``(a + jb)(c + js)``, there in the last cycle of the stage."""
        if s == c:
            real, imaginary = self.multiply(a - b, c), self.multiply(a + b, c)
        elif s == -c:
            real, imaginary = self.multiply(a + b, c), self.multiply(b - a, c)
        elif self.spec.form == 3:
            both = self.multiply(a + b, c)
            real, imaginary = both - self.multiply(b, c + s), both + self.multiply(a, s - c)
        else:
            real = self.multiply(a, c) - self.multiply(b, s)
            imaginary = self.multiply(b, c) + self.multiply(a, s)
        cycle = self.finish - 1
        return tuple(replace(word, first=cycle, last=cycle) for word in (real, imaginary))

    def multiply(self, word: _Word, factor: int) -> _Word:
        """One real multiplication, by an integer."""
        operand = self.register(word, self.start)
        result = replace(operand, form=operand.form * factor)
        if self.slots == 1:
            return self.register(replace(result, value=operand.value * factor), self.start + 1)
        cycle = self.start + 3 + len(self.shared) % self.slots
        name = f"product_{cycle}_{len(self.shared)}"
        value = Signal(range_shape(result.span), name=name, reset_less=True)
        self.shared.append((operand, factor, value))
        return replace(result, value=value, first=cycle, last=cycle + self.spec.interval - 1)

    def end(self) -> None:
        """The stage's multiplications are known: share the multipliers between them."""
        for at in range(0, len(self.shared), self.slots or 1):
            self._share(self.shared[at : at + self.slots], at // self.slots)

    def _share(self, tasks: list[tuple[_Word, int, Signal]], n: int) -> None:
        """One multiplier: choose the operands, multiply, keep each product in its register."""
        name, factors = f"{self.start}_{n}", [factor for _, factor, _ in tasks]
        a = Signal(
            range_shape(union([operand.span for operand, _, _ in tasks])),
            name=f"operand_{name}",
            reset_less=True,
        )
        c = Signal(
            range_shape(IntRange(min(factors), max(factors))),
            name=f"factor_{name}",
            reset_less=True,
        )
        result = Signal((a * c).shape(), name=f"result_{name}")
        self.m.d.comb += result.eq(a * c)
        for slot, (operand, factor, product) in enumerate(tasks):
            cycle = self.start + 1 + slot
            self.loads.setdefault(cycle, []).extend([a.eq(operand.value), c.eq(factor)])
            self.loads.setdefault(cycle + 1, []).append(product.eq(result))

    def connect(self) -> None:
        """Make every register load in its cycle."""
        for cycle, statements in sorted(self.loads.items()):
            enable = self.en if self.spec.interval == 1 else self.en & self.mark(cycle)
            with self.m.If(enable):
                self.m.d.sync += statements
