"""The PE array as an engine: activations in, accumulators out."""

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.engine import engine_files, make_engine
from hdl.lib.hexfile import hex_text, to_bits
from hdl.lib.numerics import code_shape, format_tag, range_shape, without_scale
from hdl.lib.rom import BankedRom, Rom, address_bits
from hdl.lib.stream import beat_stream, connect
from hdl.pe.buffer import ActivationBuffer
from hdl.pe.collect import Drain, Reorder
from hdl.pe.processing_element import ProcessingElement
from hdl.pe.sequencer import DenseSequencer, TileSequencer
from hdl.target import place
from model.ir.matrix import MatrixSpec
from model.ir.network import Node
from model.ir.pe_array import PeArraySpec, weight_codes


class PeArray(wiring.Component):
    """Matrix-vector products of one layer, folded over ``rows × cols × pixels`` multipliers.

    ::

        i -> [activation buffer] --x--> [operands] -> rows × pixels × PE -> [drain] -> o
                  ^ index                  ^
             [sequencer] -> [weight memory] w

    A group of vectors is computed while the next one loads. The row folds follow each other, and
    the groups and frames too, without an idle step. If the sums of a fold cannot leave, the whole
    array waits. With several pixels, or tiles whose folds differ in length, a result memory stands
    before the drain.

    Cycles, latency, memory and multipliers of the array: PeArraySpec.

    Parameters
    ----------
    spec : PeArraySpec
    layer : MatrixSpec
    lanes : int
        Sums per output beat: a divisor of ``rows``, or with a result memory a multiple.
    weight_file : str
        .hex file of the tiles in the order of use, each row by row, column by column; of several
        banks each has one, see :func:`weight_files`.
    index_file : str or None
        .hex file of the index memory, for a block-sparse array.

    Members
    -------
    i : In(stream of ``cols`` activation codes)
        The frame's vectors, ``words`` beats each; padding is code 0.
    o : Out(stream of ``lanes`` accumulators)
        The vectors in order; each begins with a new beat.
    step : Out(1)
        The array performs a step in this cycle (it reads one weight word, and one activation word
        of each pixel).
    """

    def __init__(
        self,
        spec: PeArraySpec,
        layer: MatrixSpec,
        *,
        lanes: int,
        weight_file: str,
        index_file: str | None = None,
    ) -> None:
        if not spec.drains(lanes):
            raise ValueError(f"lanes must divide {spec.rows} rows, not {lanes}")
        if (spec.tiles is None) != (index_file is None):
            raise ValueError("an index file is needed for tiles, and for nothing else")
        self.spec, self.layer, self.lanes = spec, layer, lanes
        self.weight_file, self.index_file = weight_file, index_file
        super().__init__(
            {
                "i": In(beat_stream(code_shape(layer.in_format), spec.cols)),
                "o": Out(beat_stream(range_shape(layer.accumulator()), lanes)),
                "step": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        spec, layer = self.spec, self.layer
        folds, words, steps = spec.row_folds(layer), spec.col_folds(layer), spec.steps(layer)
        acc = layer.accumulator()
        x_bits, w_bits = layer.in_format.bits, layer.weight_format.bits
        en, issue = Signal(), Signal()

        m.submodules.buffer = buffer = ActivationBuffer(
            code_shape(layer.in_format), cols=spec.cols, words=words, pixels=spec.pixels
        )
        m.submodules.sequencer = sequencer = (
            DenseSequencer(folds, words)
            if self.index_file is None
            else TileSequencer(words, steps, self.index_file, spec.per_fold(layer), spec.lean)
        )
        files = weight_files(self.weight_file, spec, layer)
        width = spec.rows * spec.cols * w_bits
        m.submodules.weights = weights = (
            Rom(width, steps, self.weight_file)
            if len(files) == 1
            else BankedRom(width, steps, spec.bank_words, files)
        )
        connect(m, wiring.flipped(self.i), buffer.i)
        m.d.comb += [
            issue.eq(en & buffer.full),
            self.step.eq(issue),
            sequencer.go.eq(issue),
            buffer.used.eq(sequencer.used),
            buffer.en.eq(issue),
            buffer.addr.eq(sequencer.index),
            weights.en.eq(issue),
            weights.addr.eq(sequencer.word),
        ]

        # Operand registers, then the processing elements; the marks of a step travel beside it.
        x = Signal(data.ArrayLayout(spec.cols * x_bits, spec.pixels), reset_less=not spec.lean)
        w = Signal(data.ArrayLayout(spec.cols * w_bits, spec.rows), reset_less=not spec.lean)
        pipeline = spec.sum_stages()
        moving = self._delay(m, en, issue, pipeline - 1, "moving")  # where a step is, by stages
        first = self._delay(m, en, issue & sequencer.first, pipeline - 1, "first")[-1]
        done = self._delay(m, en, issue & sequencer.last, pipeline, "done")[-1]
        if spec.lean:
            m.d.comb += [x.eq(buffer.x), w.as_value().eq(weights.data)]
        else:
            with m.If(en & moving[0]):
                m.d.sync += [x.eq(buffer.x), w.as_value().eq(weights.data)]
            moving = moving[1:]
        advance = Signal(len(moving))
        m.d.comb += advance.eq(Cat(moving) & en.replicate(len(moving)))
        shape = range_shape(acc)
        sums = Signal(data.ArrayLayout(data.ArrayLayout(shape, spec.rows), spec.pixels))
        formats = without_scale(layer.in_format), without_scale(layer.weight_format)
        args = *formats, shape, spec.cols, spec.lean
        name = ("lean_" if spec.lean else "pe_") + "_".join(
            (format_tag(args[0]), format_tag(args[1]), f"{acc.bits}", f"{spec.cols}")
        )
        for pixel in range(spec.pixels):
            for row in range(spec.rows):
                instance = f"pe_{row}" if spec.pixels == 1 else f"pe_{pixel}_{row}"
                pe = place(m, platform, instance, name, ProcessingElement, *args)
                m.d.comb += [
                    pe.en.eq(advance),
                    pe.first.eq(first),
                    pe.x.as_value().eq(x[pixel]),
                    pe.w.as_value().eq(w[row]),
                    sums[pixel][row].eq(pe.o),
                ]

        out = {
            "rows": spec.rows,
            "lanes": self.lanes,
            "outputs": layer.matrix_rows,
            "vectors": layer.vectors,
        }
        if spec.reorders(self.lanes):
            m.submodules.collect = collect = Reorder(shape, **out, pixels=spec.pixels)
        else:
            m.submodules.collect = collect = Drain(shape, **out)
        entering = Signal.like(sums)
        m.d.comb += [
            entering.eq(sums),
            collect.sums.as_value().eq(entering.as_value()),
            collect.valid.eq(done),
            en.eq(~done | collect.free),
        ]
        beyond = range(layer.matrix_rows - (folds - 1) * spec.rows, spec.rows)
        if beyond and not layer.weight_format.has_zero:  # those rows are not 0 by themselves
            fold = Signal(address_bits(folds))
            final = fold == folds - 1
            with m.If(done & en):
                m.d.sync += fold.eq(Mux(final, 0, fold + 1))
            for pixel in range(spec.pixels):
                for row in beyond:
                    m.d.comb += entering[pixel][row].eq(Mux(final, 0, sums[pixel][row]))
        wiring.connect(m, collect.o, wiring.flipped(self.o))
        return m

    def _delay(self, m, en, mark, cycles, name):
        found = []
        for cycle in range(cycles):
            later = Signal(name=f"{name}_{cycle}")
            with m.If(en):
                m.d.sync += later.eq(mark)
            mark = later
            found.append(later)
        return found


def weight_files(name: str, spec: PeArraySpec, layer: MatrixSpec) -> list[str]:
    """The files of the banks of a weight memory: its own name, or one numbered for each bank."""
    count = spec.banks_of(layer)
    stem = name.removesuffix(".hex")
    return [name] if count == 1 else [f"{stem}_{n}.hex" for n in range(count)]


def _names(node: Node, spec: PeArraySpec) -> tuple[str, str | None]:
    """The files of the weight memory and of the index memory, if there is one."""
    return f"{node.name}_weight.hex", None if spec.tiles is None else f"{node.name}_index.hex"


@make_engine.register
def _(spec: PeArraySpec, node: Node, lanes: int) -> PeArray:
    weight, index = _names(node, spec)
    return PeArray(spec, node.spec, lanes=lanes, weight_file=weight, index_file=index)


@engine_files.register
def _(spec: PeArraySpec, node: Node) -> dict[str, str]:
    layer: MatrixSpec = node.spec
    weight_file, index_file = _names(node, spec)
    stored = spec.stored(node)
    tiles = spec.arrange(layer, weight_codes(node))[stored].reshape(-1, spec.rows * spec.cols)
    words = spec.bank_words if spec.banks_of(layer) > 1 else len(tiles)
    files = {
        name: hex_text(to_bits(tiles[n * words : (n + 1) * words], layer.weight_format.bits))
        for n, name in enumerate(weight_files(weight_file, spec, layer))
    }
    if index_file is not None:
        fold, word = np.nonzero(stored)
        last = np.diff(fold, append=-1) != 0
        number = to_bits(word[:, None], address_bits(spec.col_folds(layer)))
        if spec.per_fold(layer) is None:
            number = np.concatenate([last[:, None], number], axis=1)
        files[index_file] = hex_text(number)
    return files
