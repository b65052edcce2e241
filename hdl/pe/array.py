"""The dense PE array as an engine: activations in, accumulators out."""

import numpy as np
from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.engine import engine_files, make_engine
from hdl.lib.hexfile import hex_text, to_bits
from hdl.lib.numerics import code_shape, format_tag, range_shape, without_scale
from hdl.lib.rom import Rom, address_bits
from hdl.lib.stream import beat_stream, transfer
from hdl.pe.processing_element import ProcessingElement
from hdl.target import place
from model.ir.linear import LinearSpec
from model.ir.network import Node
from model.ir.pe_array import PeArraySpec


class PeArray(wiring.Component):
    """Matrix-vector product of one layer, folded over ``rows × cols`` multipliers.

    ::

        i -> [activation buffer, 2 vectors] --x--> [operands] -> rows × PE -> [holding] -> o
             [weight memory] --------------w--------^

    A vector is computed while the next one loads. The row folds follow each other, and the vectors
    too, without an idle step: ``Fm · Fn`` cycles a vector (see PeArraySpec). If the sums of
    a fold cannot leave, the whole array waits.

    Latency: from the last beat of a vector to the first sums, ``Fn + tree stages + 5`` cycles.

    Parameters
    ----------
    spec : PeArraySpec
    layer : LinearSpec
    lanes : int
        Sums per output beat; divides ``rows``.
    weight_file : str
        .hex file of ``Fm · Fn`` words: fold by fold, step by step, row by row, column by column.

    Members
    -------
    i : In(stream of ``cols`` activation codes)
    o : Out(stream of ``lanes`` accumulators)
    step : Out(1)
        The array performs a step in this cycle (it reads one weight and one activation word).
    """

    def __init__(
        self, spec: PeArraySpec, layer: LinearSpec, *, lanes: int, weight_file: str
    ) -> None:
        if spec.rows % lanes:
            raise ValueError(f"lanes must divide {spec.rows} rows, not {lanes}")
        self.spec, self.layer, self.lanes, self.weight_file = spec, layer, lanes, weight_file
        super().__init__(
            {
                "i": In(beat_stream(code_shape(layer.in_format), spec.cols)),
                "o": Out(beat_stream(range_shape(layer.accumulator()), lanes)),
                "step": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        spec, layer, lanes = self.spec, self.layer, self.lanes
        folds, steps = spec.row_folds(layer), spec.col_folds(layer)
        acc = layer.accumulator()
        x_bits, w_bits = layer.in_format.bits, layer.weight_format.bits
        en = Signal()

        # Activation buffer: two vectors of `steps` words. `full[n]` says that vector n is loaded.
        m.submodules.buffer = buffer = memory.Memory(
            shape=unsigned(spec.cols * x_bits), depth=2 * steps, init=[]
        )
        write, read = buffer.write_port(), buffer.read_port()
        full = Signal(2)
        load_half, load_index = Signal(), Signal(address_bits(steps))
        m.d.comb += [
            self.i.ready.eq(~full.bit_select(load_half, 1)),
            write.en.eq(transfer(self.i)),
            write.addr.eq(Mux(load_half, load_index + steps, load_index)),
            write.data.eq(self.i.p.codes.as_value()),
        ]
        loaded = Signal()
        m.d.comb += loaded.eq(transfer(self.i) & (load_index == steps - 1))
        with m.If(transfer(self.i)):
            m.d.sync += load_index.eq(load_index + 1)
        with m.If(loaded):
            m.d.sync += [load_index.eq(0), load_half.eq(~load_half)]

        # Sequencer: one step a cycle while a vector is there.
        half, index = Signal(), Signal(address_bits(steps))
        fold, word = Signal(address_bits(folds)), Signal(address_bits(folds * steps))
        issue, used = Signal(), Signal()
        m.submodules.weights = weights = Rom(
            spec.rows * spec.cols * w_bits, folds * steps, self.weight_file
        )
        m.d.comb += [
            issue.eq(en & full.bit_select(half, 1)),
            used.eq(issue & (index == steps - 1) & (fold == folds - 1)),
            self.step.eq(issue),
            read.en.eq(en),
            read.addr.eq(Mux(half, index + steps, index)),
            weights.en.eq(en),
            weights.addr.eq(word),
        ]
        with m.If(issue):
            m.d.sync += [index.eq(index + 1), word.eq(word + 1)]
            with m.If(index == steps - 1):
                m.d.sync += [index.eq(0), fold.eq(fold + 1)]
        with m.If(used):
            m.d.sync += [fold.eq(0), word.eq(0), half.eq(~half)]
        for side in range(2):
            with m.If(loaded & (load_half == side)):
                m.d.sync += full[side].eq(1)
            with m.Elif(used & (half == side)):
                m.d.sync += full[side].eq(0)

        # Operand registers, then the processing elements; the marks of a step travel beside it.
        x = Signal(spec.cols * x_bits, reset_less=True)
        w = Signal(data.ArrayLayout(spec.cols * w_bits, spec.rows), reset_less=True)
        with m.If(en):
            m.d.sync += [x.eq(read.data), w.as_value().eq(weights.data)]
        first = self._delay(m, en, issue & (index == 0), 3 + spec.tree_stages(), "first")
        done = self._delay(m, en, issue & (index == steps - 1), 4 + spec.tree_stages(), "done")
        sums = Signal(data.ArrayLayout(range_shape(acc), spec.rows))
        formats = without_scale(layer.in_format), without_scale(layer.weight_format)
        args = *formats, range_shape(acc), spec.cols
        name = "pe_" + "_".join(
            (format_tag(args[0]), format_tag(args[1]), f"{acc.bits}", f"{spec.cols}")
        )
        for row in range(spec.rows):
            pe = place(m, platform, f"pe_{row}", name, ProcessingElement, *args)
            m.d.comb += [
                pe.en.eq(en),
                pe.first.eq(first),
                pe.x.as_value().eq(x),
                pe.w.as_value().eq(w[row]),
                sums[row].eq(pe.o),
            ]

        # Holding register: takes the sums of a fold and lets them leave `lanes` at a time.
        drains, beats = spec.rows // lanes, -(-layer.out_features // lanes)
        last_drains = beats - (folds - 1) * drains
        holding = Signal(spec.rows * acc.bits, reset_less=True)
        left = Signal(range(drains + 1))
        beat, free = Signal(address_bits(beats)), Signal()
        leave, end = transfer(self.o), Signal()
        m.d.comb += [
            self.o.valid.eq(left != 0),
            self.o.p.codes.as_value().eq(holding[: lanes * acc.bits]),
            self.o.p.first.eq(beat == 0),
            self.o.p.last.eq(beat == beats - 1),
            end.eq(leave & (beat == beats - 1)),
            free.eq((left == 0) | ((left == 1) & self.o.ready)),
            en.eq(~done | free),
        ]
        with m.If(leave):
            m.d.sync += [
                left.eq(left - 1),
                holding.eq(holding >> (lanes * acc.bits)),
                beat.eq(Mux(end, 0, beat + 1)),
            ]
        taken = Signal(address_bits(folds))
        final = taken == folds - 1
        entering = Signal.like(sums)
        m.d.comb += entering.eq(sums)
        if not layer.weight_format.has_zero:  # the rows beyond the matrix are not 0 by themselves
            for row in range(layer.out_features - (folds - 1) * spec.rows, spec.rows):
                m.d.comb += entering[row].eq(Mux(final, 0, sums[row]))
        with m.If(done & en):
            m.d.sync += [
                holding.eq(entering.as_value()),
                left.eq(Mux(final, last_drains, drains)),
                taken.eq(Mux(final, 0, taken + 1)),
            ]
        return m

    def _delay(self, m, en, mark, cycles, name):
        for cycle in range(cycles):
            later = Signal(name=f"{name}_{cycle}")
            with m.If(en):
                m.d.sync += later.eq(mark)
            mark = later
        return mark


@make_engine.register
def _(spec: PeArraySpec, node: Node, lanes: int) -> PeArray:
    return PeArray(spec, node.spec, lanes=lanes, weight_file=f"{node.name}_weight.hex")


@engine_files.register
def _(spec: PeArraySpec, node: Node) -> dict[str, str]:
    layer: LinearSpec = node.spec
    folds, steps = spec.row_folds(layer), spec.col_folds(layer)
    padded = np.zeros((folds * spec.rows, steps * spec.cols), dtype=np.int64)
    padded[: layer.out_features, : layer.in_features] = node.tensors["weight"]
    tiles = padded.reshape(folds, spec.rows, steps, spec.cols).swapaxes(1, 2)
    words = tiles.reshape(folds * steps, spec.rows * spec.cols)
    return {f"{node.name}_weight.hex": hex_text(to_bits(words, layer.weight_format.bits))}
