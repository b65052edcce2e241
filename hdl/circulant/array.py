"""The circulant engine: blocks of activations in, blocks of accumulators out."""

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out

from hdl.circulant.fft import RealFFT, fft_name
from hdl.circulant.spectral_mac import SpectralMac, SpectralOperands, mac_name
from hdl.engine import engine_files, make_engine
from hdl.lib.hexfile import hex_text, to_bits
from hdl.lib.numerics import code_shape, decode, range_shape
from hdl.lib.rom import Rom, address_bits
from hdl.lib.stream import beat_stream, transfer
from hdl.pe.buffer import ActivationBuffer
from hdl.pe.sequencer import DenseSequencer
from hdl.target import place
from model.ir.circulant_array import MAC_LATENCY, CirculantArraySpec
from model.ir.fft_arithmetic import FFTArithmetic
from model.ir.matrix import MatrixSpec
from model.ir.network import Node
from model.ir.real_fft import union
from model.ir.requantize import rounding


class CirculantArray(wiring.Component):
    """Matrix-vector products of one layer of circulant blocks.

    ::

        i -> [padding: 0] -> [forward FFT] -> [spectrum buffer, 2 vectors]
                                                    |
             [sequencer] --address--> set 0: [weights] -> [lanes] --.
                                        |   register       |        |
                                      set 1: [weights] -> [lanes] --+-> [the set whose turn it is]
                                        |   ...                     |        |
                                                                    |   [shift, half up]
                              o <- [beats] <- [inverse FFT units] <-+-- [drain buffer]

    The next vector is transformed while one is computed, and a group of block rows leaves while the
    next one accumulates. Set n works n steps behind set 0, so the sums of the sets leave one a
    cycle, with no register to wait in. All lanes wait if their sums cannot leave.

    Cycles, latency, memory and multipliers of the array: CirculantArraySpec.

    Parameters
    ----------
    spec : CirculantArraySpec
    layer : MatrixSpec
        Of fft arithmetic.
    lanes : int
        Accumulators per output beat: one of ``spec.out_lanes(layer)``, and enough to drain.
    weight_files : sequence of str
        .hex file of each lane: group by group, block by block, a word of k numbers of a spectrum.

    Members
    -------
    i : In(stream of k activation codes)
        The frame's vectors, q beats each. The lanes beyond a kernel position's channels may hold
        anything.
    o : Out(stream of ``lanes`` accumulators)
        The vectors in order; each begins with a new beat.
    step : Out(1)
        The array performs a step in this cycle (it reads one word of the spectrum buffer).
    """

    def __init__(
        self,
        spec: CirculantArraySpec,
        layer: MatrixSpec,
        *,
        lanes: int,
        weight_files: tuple[str, ...],
    ) -> None:
        if lanes not in spec.out_lanes(layer) or not spec.drains(layer, lanes):
            raise ValueError(f"a group of {spec.lanes} lanes cannot leave {lanes} codes a beat")
        if len(weight_files) != spec.lanes:
            raise ValueError(f"weight_files must be {spec.lanes}, not {len(weight_files)}")
        self.spec, self.layer, self.lanes = spec, layer, lanes
        self.weight_files = weight_files
        super().__init__(
            {
                "i": In(beat_stream(code_shape(layer.in_format), spec.k)),
                "o": Out(beat_stream(range_shape(layer.accumulator()), lanes)),
                "step": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        spec, layer = self.spec, self.layer
        groups, (_, q) = spec.groups(layer), layer.arithmetic.grid(layer)

        buffer = self._forward(m, platform)
        m.submodules.sequencer = sequencer = DenseSequencer(groups, q)
        en, issue = Signal(), Signal()
        m.d.comb += [
            issue.eq(en & buffer.full),
            self.step.eq(issue),
            sequencer.go.eq(issue),
            buffer.used.eq(sequencer.used),
            buffer.en.eq(issue),
            buffer.addr.eq(sequencer.index),
        ]
        sums = self._lanes(m, platform, en, issue, sequencer, buffer.x[0])
        valid, blocks = self._drain(m, en, issue & sequencer.last, sums)
        ready = Signal()
        m.d.comb += en.eq(~valid | ready)
        if depth := spec.queue_depth(layer, self.lanes):
            m.submodules.queue = queue = fifo.SyncFIFOBuffered(
                width=len(blocks.as_value()), depth=depth
            )
            m.d.comb += [
                queue.w_data.eq(blocks.as_value()),
                queue.w_en.eq(valid),
                ready.eq(queue.w_rdy),
            ]
            valid, ready, blocks = queue.r_rdy, queue.r_en, data.View(blocks.shape(), queue.r_data)
        self._inverse(m, platform, valid, ready, blocks)
        return m

    def _forward(self, m: Module, platform) -> ActivationBuffer:
        """Blocks of the input stream to spectra in the buffer."""
        spec, layer = self.spec, self.layer
        arithmetic: FFTArithmetic = layer.arithmetic
        unit = spec.forward_unit(layer)
        forward = place(m, platform, "forward", fft_name(unit), RealFFT, unit)
        m.submodules.buffer = buffer = ActivationBuffer(
            signed(arithmetic.word_bits(layer)),
            cols=spec.k,
            words=arithmetic.grid(layer)[1],
            pixels=1,
        )
        m.d.comb += [
            forward.en.eq(~forward.done | buffer.i.ready),
            forward.valid.eq(self.i.valid),
            self.i.ready.eq(forward.en & forward.ready),
            buffer.i.valid.eq(forward.done),
            buffer.i.p.codes.as_value().eq(Cat(forward.y)),
        ]
        # The last block of a kernel position may be part padding, which counts as 0.
        channels = layer.matrix_columns // layer.storage.positions
        blocks = -(-channels // spec.k)
        tail, last = channels - (blocks - 1) * spec.k, Signal()
        if blocks == 1:
            m.d.comb += last.eq(1)
        elif tail < spec.k:
            block = Signal(range(blocks))
            m.d.comb += last.eq(block == blocks - 1)
            with m.If(transfer(self.i)):
                m.d.sync += block.eq(Mux(last, 0, block + 1))
        for n, x in enumerate(forward.x):
            value = decode(layer.in_format, self.i.p.codes[n])
            m.d.comb += x.eq(value if n < tail else Mux(last, 0, value))
        return buffer

    def _lanes(self, m: Module, platform, en, issue, sequencer, spectrum) -> list:
        """The lanes, set by set; gives the sums of each set, k words of each of its lanes."""
        spec, layer = self.spec, self.layer
        arithmetic: FFTArithmetic = layer.arithmetic
        x_bits, w_bits = arithmetic.word_bits(layer), arithmetic.spectrum_bits(layer)
        groups, (_, q) = spec.groups(layer), arithmetic.grid(layer)
        per_set = spec.blocks_per_beat(self.lanes)
        args = spec.k, spec.form, x_bits, w_bits, union(arithmetic.sums(layer))
        name = mac_name(*args)
        m.submodules.operands = source = SpectralOperands(*args[:3])
        m.d.comb += [source.en.eq(en), Cat(source.i).eq(spectrum)]
        # What a set reads: whether a step does so, whether in a group that every lane has, and the
        # address of the weights. Their operands follow two cycles later, the mark of a group's
        # first sum three.
        partial = spec.lane_groups(layer, spec.lanes - 1) < groups
        inside = sequencer.word < (groups - 1) * q if partial else Const(1)
        reads = Cat(issue, inside, sequencer.word)
        operands, first = _operands(source), issue & sequencer.first
        for stage in range(MAC_LATENCY):
            first = self._next(m, en, first, f"first_{stage}")
        sums = []
        for at in range(spec.sets(self.lanes)):
            if at:
                reads = self._next(m, en, reads, f"reads_{at}")
                first = self._next(m, en, first, f"first_of_{at}")
                operands = [
                    self._next(m, en, word, f"operand_{at}_{n}") for n, word in enumerate(operands)
                ]
            words = []
            for lane in range(at * per_set, (at + 1) * per_set):
                depth = spec.lane_groups(layer, lane) * q
                weights = Rom(spec.k * w_bits, depth, self.weight_files[lane])
                m.submodules[f"weights_{lane}"] = weights
                mac = place(m, platform, f"lane_{lane}", name, SpectralMac, *args)
                whole = depth == groups * q
                m.d.comb += [
                    weights.en.eq(en & reads[0] if whole else en & reads[0] & reads[1]),
                    weights.addr.eq(reads[2:]),
                    mac.en.eq(en),
                    mac.first.eq(first),
                    Cat(mac.w).eq(weights.data),
                ]
                m.d.comb += [
                    port.eq(word) for port, word in zip(_operands(mac), operands, strict=True)
                ]
                words += mac.o
            sums.append(words)
        return sums

    def _drain(self, m: Module, en, ended, sums) -> tuple[Signal, data.View]:
        """Set after set of the sums of a group, shifted: valid, and the blocks of a set."""
        spec, layer = self.spec, self.layer
        arithmetic: FFTArithmetic = layer.arithmetic
        groups, sets = spec.groups(layer), spec.sets(self.lanes)
        for stage in range(MAC_LATENCY):
            ended = self._next(m, en, ended, f"ended_{stage}", reset=True)
        run, which, limit = Signal(), Signal(address_bits(sets)), Signal(address_bits(sets))
        group = Signal(address_bits(groups))
        final = group == groups - 1
        with m.If(en & ended):
            m.d.sync += [
                run.eq(1),
                which.eq(0),
                limit.eq(Mux(final, spec.last_sets(layer, self.lanes) - 1, sets - 1)),
                group.eq(Mux(final, 0, group + 1)),
            ]
        with m.Elif(en):
            m.d.sync += [run.eq(run & (which != limit)), which.eq(which + 1)]
        acc = range_shape(union(arithmetic.sums(layer)))
        count = spec.blocks_per_beat(self.lanes) * spec.k
        picked = Signal(data.ArrayLayout(acc, count), reset_less=True)
        shape = range_shape(arithmetic.inverse(layer).inputs)
        blocks = Signal(data.ArrayLayout(shape, count), reset_less=True)
        shift = arithmetic.acc_shift
        with m.If(en):
            m.d.sync += [
                word.eq(Array(choice)[which])
                for word, choice in zip(picked, zip(*sums, strict=True), strict=True)
            ]
            m.d.sync += [
                block.eq((total + rounding(shift)) >> shift)
                for block, total in zip(blocks, picked, strict=True)
            ]
        valid = self._next(m, en, self._next(m, en, run, "taken", reset=True), "valid", reset=True)
        return valid, blocks

    def _inverse(self, m: Module, platform, valid, ready, blocks) -> None:
        """Blocks of sums to beats of accumulators."""
        spec, layer, lanes = self.spec, self.layer, self.lanes
        unit, en = spec.inverse_unit(layer, lanes), Signal()
        units = []
        for n in range(spec.blocks_per_beat(lanes)):
            inverse = place(m, platform, f"inverse_{n}", fft_name(unit), RealFFT, unit)
            m.d.comb += [inverse.en.eq(en), inverse.valid.eq(valid)]
            m.d.comb += [x.eq(blocks[n * spec.k + t]) for t, x in enumerate(inverse.x)]
            units.append(inverse)
        beats, parts = -(-layer.matrix_rows // lanes), spec.beats_per_block(lanes)
        beat, vector = Signal(address_bits(beats)), Signal(address_bits(layer.vectors))
        leave, end, whole = transfer(self.o), Signal(), Signal()
        words = [y for inverse in units for y in inverse.y]
        if parts > 1:
            part = Signal(range(parts))
            words = [Array(words[lane::lanes])[part] for lane in range(lanes)]
            m.d.comb += whole.eq((part == parts - 1) | (beat == beats - 1))
            with m.If(leave):
                m.d.sync += part.eq(Mux(whole, 0, part + 1))
        else:
            m.d.comb += whole.eq(1)
        m.d.comb += [
            ready.eq(en & units[0].ready),
            en.eq(~units[0].done | (self.o.ready & whole)),
            self.o.valid.eq(units[0].done),
            self.o.p.first.eq((beat == 0) & (vector == 0)),
            self.o.p.last.eq((beat == beats - 1) & (vector == layer.vectors - 1)),
            end.eq(leave & (beat == beats - 1)),
        ]
        # The rows that fill up the last block have sums of their own; on the stream they are 0.
        tail = layer.matrix_rows - (beats - 1) * lanes
        for n, word in enumerate(words):
            code = word if n < tail else Mux(beat == beats - 1, 0, word)
            m.d.comb += self.o.p.codes[n].eq(code)
        with m.If(leave):
            m.d.sync += beat.eq(Mux(end, 0, beat + 1))
        with m.If(end):
            m.d.sync += vector.eq(Mux(self.o.p.last, 0, vector + 1))

    def _next(self, m: Module, en, value, name: str, reset: bool = False) -> Signal:
        """A register behind a value."""
        register = Signal(value.shape(), name=name, reset_less=not reset)
        with m.If(en):
            m.d.sync += register.eq(value)
        return register


def _operands(side: SpectralMac | SpectralOperands) -> list:
    """The operands of a lane, as they leave their source and enter it."""
    return [*side.x, *getattr(side, "plus", ()), *getattr(side, "minus", ())]


def _weight_files(spec: CirculantArraySpec, node: Node) -> tuple[str, ...]:
    return tuple(f"{node.name}_spectra_{lane}.hex" for lane in range(spec.lanes))


@make_engine.register
def _(spec: CirculantArraySpec, node: Node, lanes: int) -> CirculantArray:
    files = _weight_files(spec, node)
    return CirculantArray(spec, node.spec, lanes=lanes, weight_files=files)


@engine_files.register
def _(spec: CirculantArraySpec, node: Node) -> dict[str, str]:
    layer: MatrixSpec = node.spec
    spectra = layer.arithmetic.spectra(layer, np.asarray(node.tensors["weight"]))
    bits = layer.arithmetic.spectrum_bits(layer)
    return {
        name: hex_text(to_bits(spectra[lane :: spec.lanes].reshape(-1, spec.k), bits))
        for lane, name in enumerate(_weight_files(spec, node))
    }
