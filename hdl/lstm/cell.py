"""The element-wise part of the LSTM: gates to the new state and what leaves of it."""

from amaranth.hdl import Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.hexfile import hex_text, to_bits
from hdl.lib.numerics import code_shape, range_shape
from hdl.lib.rom import Rom, address_bits
from hdl.lib.stream import beat_stream
from hdl.lstm.activation import Piecewise
from hdl.target import place
from model.ir.lstm import GATES, PEEPHOLES, LSTMSpec
from model.ir.lstm_array import ACTIVATION_LATENCY, LSTMArraySpec
from model.ir.network import Node
from model.ir.numerics import FixedPointFormat, IntRange
from model.ir.requantize import rounding


class CellLane(wiring.Component):
    """One cell a cycle: its gates, its state and its peepholes to the new state and ``h``.

    ::

        a_i, a_f --[+ p ∘ c]--> [sigmoid] --.
        a_g -------------------> [g] -------+--> f·c + i·g --[round]--> state --[tanh]--.
        c ----------------------------------'                             |             +--> h
        a_o ------------------------------------------------[+ p ∘ c]--> [sigmoid] -----'

    Latency: ``state`` after ``state_latency - 1`` cycles of ``en``, ``h`` after ``cell_latency -
    1`` (LSTMArraySpec; the cycle that is missing is the memory's in front). One cell a cycle.

    Members
    -------
    en : In(1)
        Advance.
    a : In(4 pre-activations)
        Of i, f, g, o.
    c : In(state)
    p : In(3 peepholes)
        Of i, f, o; only if there are any.
    state : Out(state)
    h : Out(code)
        ``o ∘ tanh c``.
    """

    def __init__(self, layer: LSTMSpec, name: str) -> None:
        self.layer, self.name = layer, name
        gate, state = code_shape(layer.gates.out_format), code_shape(layer.state_format)
        ports = {
            "en": In(1),
            "a": In(data.ArrayLayout(gate, GATES)),
            "c": In(state),
            "state": Out(state),
            "h": Out(code_shape(layer.hidden_format)),
        }
        if layer.peephole_format is not None:
            ports["p"] = In(data.ArrayLayout(code_shape(layer.peephole_format), PEEPHOLES))
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        layer, spans = self.layer, self.layer.intermediates()
        c = self._next(m, self.c, "c")
        i, f, g, o = (self._next(m, self.a[n], f"a_{n}") for n in range(GATES))
        p_o = None
        if layer.peephole_format is not None:
            p_i, p_f, p_o = (self._next(m, self.p[n], f"p_{n}") for n in range(PEEPHOLES))
            i, f = self._peeped(m, i, p_i, c, "i"), self._peeped(m, f, p_f, c, "f")
            g, c = self._delay(m, g, 2, "g"), self._delay(m, c, 2, "c")
            o, p_o = self._delay(m, o, 2, "o"), self._delay(m, p_o, 2, "p")
        i = self._function(m, platform, "sigmoid", i, "i")
        f = self._function(m, platform, "sigmoid", f, "f")
        g = self._function(m, platform, "g", g, "g")
        c = self._delay(m, c, ACTIVATION_LATENCY, "c_old")

        keep, new = layer.state_aligns
        kept = self._product(m, f, c, layer.sigmoid.outputs, layer.state_format.codes, "f_c")
        come = self._product(m, i, g, layer.sigmoid.outputs, layer.g.outputs, "i_g")
        total = Signal(range_shape(spans["c"]), reset_less=True)
        with m.If(self.en):
            m.d.sync += total.eq((kept << keep) + (come << new) + rounding(layer.state_shift))
        state = self._rounded(m, total, layer.state_shift, layer.state_format, "state")
        m.d.comb += self.state.eq(state)

        o = self._delay(m, o, ACTIVATION_LATENCY + 3, "o_late")
        if p_o is not None:
            p_o = self._delay(m, p_o, ACTIVATION_LATENCY + 3, "p_late")
            o = self._peeped(m, o, p_o, state, "o")
            state = self._delay(m, state, 2, "state_late")
        o = self._function(m, platform, "sigmoid", o, "o")
        t = self._function(m, platform, "tanh", state, "t")
        hidden = self._product(m, o, t, layer.sigmoid.outputs, layer.tanh.outputs, "o_t")
        total = Signal(range_shape(spans["o * tanh c"]))
        m.d.comb += total.eq(hidden + rounding(layer.hidden_shift))
        m.d.comb += self.h.eq(
            self._rounded(m, total, layer.hidden_shift, layer.hidden_format, "h_code")
        )
        return m

    def _next(self, m: Module, value, name: str) -> Signal:
        value = Value.cast(value)
        register = Signal(value.shape(), name=name, reset_less=True)
        with m.If(self.en):
            m.d.sync += register.eq(value)
        return register

    def _delay(self, m: Module, value, cycles: int, name: str) -> Signal:
        for cycle in range(cycles):
            value = self._next(m, value, f"{name}_{cycle}")
        return value

    def _product(self, m: Module, a, b, a_span: IntRange, b_span: IntRange, name: str) -> Signal:
        product = Signal(range_shape(a_span * b_span), name=name, reset_less=True)
        with m.If(self.en):
            m.d.sync += product.eq(a * b)
        return product

    def _peeped(self, m: Module, a, p, c, name: str) -> Signal:
        """``clamp(((a << s) + p * c + r) >> s)``, two cycles later."""
        layer, shift = self.layer, self.layer.peephole_shift
        spans = layer.peephole_format.codes, layer.state_format.codes
        product = self._product(m, p, c, *spans, f"p_{name}_c")
        a = self._next(m, a, f"a_{name}_late")
        total = Signal(range_shape(layer.intermediates()["a + p * c"]), name=f"total_{name}")
        m.d.comb += total.eq((a << shift) + product + rounding(shift))
        return self._rounded(m, total, shift, layer.gates.out_format, f"peeped_{name}")

    def _rounded(self, m: Module, total, shift: int, format: FixedPointFormat, name: str):
        """``clamp(total >> shift)``, a cycle later; the rounding constant is in the sum."""
        span = format.codes
        code = Signal(code_shape(format), name=name, reset_less=True)
        result = Signal(total.shape(), name=f"{name}_exact")
        m.d.comb += result.eq(total >> shift)
        with m.If(self.en):
            with m.If(result < span.low):
                m.d.sync += code.eq(span.low)
            with m.Elif(result > span.high):
                m.d.sync += code.eq(span.high)
            with m.Else():
                m.d.sync += code.eq(result)
        return code

    def _function(self, m: Module, platform, function: str, x, name: str) -> Signal:
        spec = getattr(self.layer, function)
        unit = place(m, platform, f"{function}_{name}", f"{self.name}_{function}", Piecewise, spec)
        m.d.comb += [unit.en.eq(self.en), unit.x.eq(x)]
        return unit.o


class Cells(wiring.Component):
    """The element-wise part: a stream of gates in, a stream of ``o ∘ tanh c`` out.

    c of every slot is in a memory, of ``sequences · cells`` codes; each frame is a step of the next
    slot. A group of cells that has come is taken ``lanes`` at a time.

    Latency: ``LSTMArraySpec.cell_latency`` from a word's entrance. One word a cycle.

    Parameters
    ----------
    node : Node
    engine : LSTMArraySpec

    Members
    -------
    i : In(stream of gates)
        ``engine.groups``: i, f, g, o of the cells of each group.
    o : Out(stream of ``o ∘ tanh c``)
        ``engine.hidden``.
    slot : Out
        Slot of the frame whose words enter.
    begin, idle : In(1)
        Marks of that frame: c(t-1) is 0; c is not changed.
    """

    def __init__(self, node: Node, engine: LSTMArraySpec) -> None:
        self.node, self.engine = node, engine
        layer: LSTMSpec = node.spec
        super().__init__(
            {
                "i": In(
                    beat_stream(code_shape(layer.gates.out_format), engine.groups(layer).lanes)
                ),
                "o": Out(beat_stream(code_shape(layer.hidden_format), engine.cell_lanes)),
                "slot": Out(address_bits(engine.sequences)),
                "begin": In(1),
                "idle": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        node, engine = self.node, self.engine
        layer: LSTMSpec = node.spec
        lanes, unit = engine.cell_lanes, engine.unit(layer)
        words, parts = layer.cells // lanes, unit // lanes
        state_bits = layer.state_format.bits
        en, enter = Signal(), Signal()
        word, last = Signal(address_bits(words)), Signal()
        base = Signal(address_bits(max(2, engine.sequences * words)))  # first word of the slot
        address = Signal.like(base)
        part = Signal(address_bits(parts))
        m.d.comb += [
            en.eq(~self.o.valid | self.o.ready),
            enter.eq(en & self.i.valid),
            self.i.ready.eq(en & (part == parts - 1)),
            last.eq(word == words - 1),
            address.eq(base + word),
        ]
        with m.If(enter):
            m.d.sync += [
                word.eq(Mux(last, 0, word + 1)),
                part.eq(Mux(part == parts - 1, 0, part + 1)),
            ]
            with m.If(last):
                final = self.slot == engine.sequences - 1
                m.d.sync += [
                    self.slot.eq(Mux(final, 0, self.slot + 1)),
                    base.eq(Mux(final, 0, base + words)),
                ]

        # A word's marks and address travel beside it: `ahead` is what enters the memories' output.
        m.submodules.store = store = memory.Memory(
            shape=unsigned(lanes * state_bits), depth=max(2, engine.sequences * words), init=[]
        )
        read, write = store.read_port(), store.write_port()
        m.d.comb += [read.en.eq(en), read.addr.eq(address)]
        a = Signal(
            data.ArrayLayout(data.ArrayLayout(code_shape(layer.gates.out_format), GATES), lanes)
        )
        taken = Signal.like(a.as_value(), reset_less=True)
        for lane in range(lanes):
            for gate in range(GATES):
                choices = [self.i.p.codes[gate * unit + n * lanes + lane] for n in range(parts)]
                code = choices[0]
                for n, choice in enumerate(choices[1:], start=1):
                    code = Mux(part == n, choice, code)
                m.d.comb += a[lane][gate].eq(code)
        begin = Signal(reset_less=True)
        with m.If(en):
            m.d.sync += [taken.eq(a.as_value()), begin.eq(self.begin)]
        peepholes = None
        if layer.peephole_format is not None:
            width = PEEPHOLES * lanes * layer.peephole_format.bits
            m.submodules.peepholes = peepholes = Rom(width, words, f"{node.name}_peephole.hex")
            m.d.comb += [peepholes.en.eq(en), peepholes.addr.eq(word)]

        marks = [(enter, ~self.idle, address, word == 0, last)]
        total = engine.cell_latency(layer)
        for stage in range(total):
            before = marks[-1]
            valid = Signal(name=f"valid_{stage}")
            rest = [
                Signal(Value.cast(value).shape(), name=f"{name}_{stage}", reset_less=True)
                for name, value in zip(
                    ("keeps", "address", "first", "last"), before[1:], strict=True
                )
            ]
            with m.If(en):
                m.d.sync += valid.eq(before[0])
                m.d.sync += [new.eq(old) for new, old in zip(rest, before[1:], strict=True)]
            marks.append((valid, *rest))

        inside = data.View(a.shape(), taken)
        states = Signal(data.ArrayLayout(code_shape(layer.state_format), lanes))
        for lane in range(lanes):
            cell = place(
                m, platform, f"cell_{lane}", f"{node.name}_cell", CellLane, layer, node.name
            )
            old = read.data.word_select(lane, state_bits)
            m.d.comb += [
                cell.en.eq(en),
                cell.a.as_value().eq(inside[lane].as_value()),
                cell.c.eq(Mux(begin, 0, old)),
                states[lane].eq(cell.state),
                self.o.p.codes[lane].eq(cell.h),
            ]
            if peepholes is not None:
                bits = PEEPHOLES * layer.peephole_format.bits
                m.d.comb += cell.p.as_value().eq(peepholes.data.word_select(lane, bits))
        kept = marks[engine.state_latency(layer)]
        m.d.comb += [
            write.en.eq(en & kept[0] & kept[1]),
            write.addr.eq(kept[2]),
            write.data.eq(states.as_value()),
            self.o.valid.eq(marks[-1][0]),
            self.o.p.first.eq(marks[-1][3]),
            self.o.p.last.eq(marks[-1][4]),
        ]
        return m


def cell_files(node: Node, engine: LSTMArraySpec) -> dict[str, str]:
    """Contents of the .hex file of the peepholes: for each word, of each lane, i, f and o."""
    layer: LSTMSpec = node.spec
    if layer.peephole_format is None:
        return {}
    codes = node.tensors["peephole"].T.reshape(-1, engine.cell_lanes * PEEPHOLES)
    return {f"{node.name}_peephole.hex": hex_text(to_bits(codes, layer.peephole_format.bits))}
