"""The PIM engine: activations in, accumulators out, the products in the cells of macros."""

from dataclasses import dataclass
from operator import add
from pathlib import Path

import numpy as np
from amaranth.hdl import (
    Cat,
    ClockSignal,
    Const,
    Instance,
    Module,
    Mux,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.engine import engine_files, make_engine
from hdl.lib.halves import mark_halves
from hdl.lib.hexfile import hex_text, to_bits
from hdl.lib.numerics import code_shape, decode, range_shape
from hdl.lib.padding import without_padding
from hdl.lib.rom import Rom, address_bits
from hdl.lib.stream import beat_stream, transfer
from hdl.lib.tree import joined, joined_but_two
from hdl.pim.bank import MacroBank, stride
from hdl.pim.block_rows import BlockRows
from hdl.pim.program import Programmer, row_stream
from hdl.target import place
from model.ir.beats import Beats
from model.ir.conv import ConvSpec
from model.ir.macro import MacroSpec
from model.ir.matrix import MatrixSpec
from model.ir.network import Node
from model.ir.pim_array import LINE_LATENCY, PimArraySpec, pim_of
from model.ir.tree import tree_stages

PLANES = Path(__file__).with_name("gyre_planes.v")
MOVES = Path(__file__).with_name("gyre_moves.v")
SHIFT_ADD = Path(__file__).with_name("gyre_shift_add.v")
BANK_BITS = 1 << 15
"""Most bits that leave a bank: Amaranth has no wider instances than twice that."""

SUM_BITS = (32, 64)
"""Widths in which sums stand side by side."""


@dataclass(frozen=True, eq=False)
class Wires:
    """How an array is wired: its specification, and what follows from the placement.

    Parameters
    ----------
    spec : PimArraySpec
    layer : MatrixSpec
    name : str
        The node's, with which its files' names begin.
    lanes : int
    lines : tuple of int64 arrays
        Of each row tile, the places in the buffer of its word lines.
    tile : tuple of int
        The row tile of each macro.
    outputs : tuple of int64 arrays
        The outputs (block rows where blocks are circulant) of each macro, in their order.
    rows, columns : int64 arrays [macros, R] and [macros, codes of a macro], or None
        Where rows are moved, of each the row whose bit it takes, and where each code of the slices
        of its outputs is: its number among the macro's results.
    bank_bits : int
        Most bits of results, or of sums, that leave a bank.
    """

    spec: PimArraySpec
    layer: MatrixSpec
    name: str
    lanes: int
    lines: tuple[np.ndarray, ...]
    tile: tuple[int, ...]
    outputs: tuple[np.ndarray, ...]
    rows: np.ndarray | None = None
    columns: np.ndarray | None = None
    bank_bits: int = BANK_BITS

    @classmethod
    def of(cls, spec: PimArraySpec, node: Node, lanes: int) -> "Wires":
        """The wires of a node's array; raises BadInput if it does not fit its macros."""
        layer, placed = node.spec, spec.packed(node)
        where, pim = spec.place_of(layer), pim_of(layer)
        columns = pim.columns_per_weight(layer)
        ends = spec.outputs(layer) * columns
        outputs = tuple(row[:ends:columns] for row in placed.output)
        moves: tuple[np.ndarray, ...] = ()
        if spec.faults is not None and spec.faults.repair:
            rows, results = spec.placement(node).moves(placed, pim.sides)
            moves = rows, results[:, : ends // pim.sides]
        return cls(
            spec,
            layer,
            node.name,
            lanes,
            tuple(where[lines] for lines in pim.tiles(layer, dict(node.tensors))),
            tuple(placed.tile.tolist()),
            tuple(row[row >= 0] for row in outputs),
            *moves,
        )

    @property
    def macro(self) -> MacroSpec:
        """Each of the macros."""
        return self.spec.macro(self.layer)

    def banks(self) -> list[tuple[int, int]]:
        """Macros of each bank, from one up to another."""
        each = max(stride(self.macro), self.sum_bits * self.spec.outputs(self.layer))
        count, most = len(self.tile), max(1, self.bank_bits // each)
        return [(begin, min(begin + most, count)) for begin in range(0, count, most)]

    def moves(self, begin: int, end: int) -> np.ndarray:
        """Moved rows of the macros from one up to another: int64 [macros, moves, 3].

        Each is (1, row, the row whose bit it takes), or (0, 0, 0); of all banks as many.
        """
        assert self.rows is not None
        moved = self.rows != np.arange(self.rows.shape[1])
        most = max(1, int(moved.sum(axis=1).max()))
        found = np.zeros((end - begin, most, 3), dtype=np.int64)
        for macro in range(begin, end):
            to = np.flatnonzero(moved[macro])
            found[macro - begin, : len(to)] = np.stack(
                [np.ones_like(to), to, self.rows[macro, to]], axis=1
            )
        return found

    def file(self, what: str, bank: int | None = None) -> str:
        """Name of a file of the array, or of one of its banks."""
        return f"{self.name}_{what}{'' if bank is None else f'_{bank}'}.hex"

    def files(self, node: Node) -> dict[str, str]:
        """The .hex files: what is written, and of each bank its stuck cells and its moves."""
        macro, (levels, stuck) = self.macro, self.spec.contents(node)
        for number, cells in enumerate(levels):
            macro.check_levels(cells, f"{node.name}: macro {number}")
        rows = levels.reshape(-1, macro.columns)
        found = {self.file("cells"): hex_text(to_bits(rows, macro.level_bits))}
        for bank, (begin, end) in enumerate(self.banks()):
            if self.spec.faults is not None:
                at = [np.maximum(cells, 0) for cells in stuck[begin:end]]
                mask = [(cells >= 0).astype(np.int64) for cells in stuck[begin:end]]
                words = np.concatenate([macro.words(cells) for cells in at])
                found[self.file("stuck", bank)] = hex_text(words)
                words = np.concatenate([macro.stuck_words(cells) for cells in mask])
                found[self.file("mask", bank)] = hex_text(words)
            if self.rows is not None and self.columns is not None:
                rows = self.moves(begin, end).reshape(-1, 3)
                wide = address_bits(macro.rows)
                found[self.file("rows", bank)] = _fields(rows[:, ::-1], (wide, wide, 1))
                places = np.divmod(self.columns[begin:end].reshape(-1), macro.converters)
                wide = address_bits(macro.converters), address_bits(macro.share)
                found[self.file("columns", bank)] = _fields(np.stack(places[::-1], axis=1), wide)
        return found

    @property
    def sum_bits(self) -> int:
        """Bits of the field of a sum."""
        return next(bits for bits in SUM_BITS if self.layer.accumulator().bits <= bits)


class PimUnit(wiring.Component):
    """A copy of an array: its buffer of activations, its macros, and what adds up their results.

    ::

        i -> [bit planes, 2 vectors] -x-> [macros] -> [shift, add] -> [outputs picked]
                  ^ bit                                                      |
             [sequencer]                                            [sum of row tiles]
                                                                             |
                                         circulant blocks only: [result memory] -> o

    The macros work in lock step and wait together if their sums cannot leave.

    Parameters
    ----------
    wires : Wires

    Members
    -------
    i : In(stream of ``cols`` activation codes)
    o : Out(stream of ``lanes`` accumulators)
        Marks are those of a vector.
    step : Out(1)
        An evaluation begins.
    number, load, write, verify, row, levels, match, blank :
        Ports of the macros: see MacroBank.
    """

    def __init__(self, wires: Wires) -> None:
        self.wires = wires
        spec, layer, macro = wires.spec, wires.layer, wires.macro
        levels = data.ArrayLayout(macro.level_bits, macro.columns)
        super().__init__(
            {
                "i": In(beat_stream(code_shape(layer.in_format), spec.cols)),
                "o": Out(beat_stream(range_shape(layer.accumulator()), wires.lanes)),
                "step": Out(1),
                "number": In(address_bits(len(wires.tile))),
                "load": In(1),
                "write": In(1),
                "verify": In(1),
                "row": In(address_bits(macro.rows)),
                "levels": In(levels),
                "match": Out(1),
                "blank": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        en = Signal()
        x, issue, marks = self._evaluations(m, platform, en)
        sums, done = self._macros(m, platform, en, x, issue, marks)
        words, valid, ready, free = self._sums(m, en, sums, done)
        m.d.comb += [en.eq(~done | free), self.step.eq(issue)]
        if self.wires.spec.steps(self.wires.layer) > 1:
            self._block_rows(m, words, valid, ready)
        else:
            beats = self.wires.spec.beats(self.wires.layer, self.wires.lanes)
            beat = Signal(address_bits(beats))
            m.d.comb += [
                self.o.valid.eq(valid),
                ready.eq(self.o.ready),
                Cat(self.o.p.codes).eq(Cat(words)),
                self.o.p.first.eq(beat == 0),
                self.o.p.last.eq(beat == beats - 1),
            ]
            with m.If(transfer(self.o)):
                m.d.sync += beat.eq(Mux(self.o.p.last, 0, beat + 1))
        return m

    def _evaluations(self, m: Module, platform, en):
        """The buffer and the sequencer: the bits of a vector, one evaluation after another.

        Gives the bits at their places, the mark of an evaluation, and with it the marks that its
        bit is the first, counts negative, is the last.
        """
        spec, layer = self.wires.spec, self.wires.layer
        bits, words, k = layer.in_format.values.bits, spec.words(layer), spec.steps(layer)
        full, load_half, half = Signal(2), Signal(), Signal()
        word = Signal(address_bits(words))
        load, loaded, used = transfer(self.i), Signal(), Signal()
        issue, last = Signal(), Signal()
        bit, turn = Signal(address_bits(bits), init=bits - 1), Signal(address_bits(spec.share))
        step = Signal(address_bits(k))
        x = Signal(spec.plane_bits(layer))
        platform.include(PLANES)
        m.submodules.planes = Instance(
            "gyre_planes",
            p_BITS=bits,
            p_BANKS=spec.banks(layer),
            p_WORDS=words,
            p_LANES=spec.plane_lanes(layer),
            p_K=k,
            p_WORD_BITS=len(word),
            p_PLANE_BITS=len(bit),
            i_clk=ClockSignal(),
            i_load=load,
            i_load_half=load_half,
            i_word=word,
            i_d=self._planes(m, load),
            i_read=issue,
            i_read_half=half,
            i_plane=bit,
            o_x=x,
        )
        m.d.comb += [
            self.i.ready.eq(~full.bit_select(load_half, 1)),
            loaded.eq(load & (word == words - 1)),
            issue.eq(en & full.bit_select(half, 1) & (turn == 0)),
            last.eq(bit == 0),
            used.eq(issue & last & (step == k - 1)),
        ]
        with m.If(load):
            m.d.sync += word.eq(Mux(loaded, 0, word + 1))
        with m.If(loaded):
            m.d.sync += load_half.eq(~load_half)
        with m.If(used):
            m.d.sync += half.eq(~half)
        mark_halves(m, full, (loaded, load_half), (used, half))
        with m.If(issue):
            m.d.sync += [bit.eq(Mux(last, bits - 1, bit - 1)), turn.eq(spec.share - 1)]
            with m.If(last):
                m.d.sync += step.eq(Mux(step == k - 1, 0, step + 1))
        with m.Elif(en & (turn != 0)):
            m.d.sync += turn.eq(turn - 1)
        first = bit == bits - 1
        negative = first if layer.in_format.values.signed else Const(0)
        return x, issue, (first, negative, last)

    def _planes(self, m: Module, moves):
        """The bits of a beat, the lowest of all codes first, at their places in step 0.

        Of circulant blocks line t gets activation -t mod k; lanes without an activation hold 0.
        """
        spec, layer = self.wires.spec, self.wires.layer
        k, lanes, wide = spec.steps(layer), spec.window_lanes(layer), spec.plane_lanes(layer)
        shape = (layer.matrix_columns,)
        if isinstance(layer, ConvSpec):
            shape = (layer.rows, layer.columns, layer.channels)
        placed = []
        for bank in range(spec.banks(layer)):
            codes = [self.i.p.codes[bank * lanes + n] for n in range(lanes)]
            values = [decode(layer.in_format, code) for code in codes]
            if k > 1:
                values = without_padding(m, moves, Beats(shape, lanes), values)
                values += [Const(0)] * (wide - lanes)
                values = [values[n - n % k + -n % k] for n in range(wide)]
            placed += values
        bits = layer.in_format.values.bits
        shape = range_shape(layer.in_format.values)
        whole = [Signal(shape, name=f"value_{n}") for n in range(len(placed))]
        m.d.comb += [signal.eq(value) for signal, value in zip(whole, placed, strict=True)]
        return Cat(signal[bit] for bit in range(bits) for signal in whole)

    def _macros(self, m: Module, platform, en, x, issue, marks):
        """The macros and what adds up behind each; gives the sums, and that they are there next."""
        wires, spec = self.wires, self.wires.macro
        lines = wires.spec.line_latency
        start = self._later(m, en, issue, lines, "start")
        ready = self._later(m, en, issue, LINE_LATENCY, "lines") if lines > LINE_LATENCY else start
        # The marks of a bit are there when the codes of its slices are added up.
        depth = lines + spec.latency - 1 + spec.share
        first, negative, last = (
            self._later(m, en, mark & issue, depth, f"{name}_bit")
            for name, mark in zip(("first", "negative", "last"), marks, strict=True)
        )
        sums, banks = [], wires.banks()
        for n, (begin, end) in enumerate(banks):
            bank = self._bank(m, platform, en, x, (ready, start), n)
            total = Signal(wires.sum_bits * wires.spec.outputs(wires.layer) * (end - begin))
            m.submodules[f"shift_add{n or ''}"] = Instance(
                "gyre_shift_add",
                **self._shift_add(n),
                i_clk=ClockSignal(),
                i_rst=ResetSignal(),
                i_en=en,
                i_valid=bank.valid,
                i_phase=bank.phase,
                i_o=bank.o,
                i_first=first,
                i_negative=negative,
                i_last=last,
                o_sums=total,
            )
            sums.append((bank, total))
        platform.include(SHIFT_ADD)
        m.d.comb += self.blank.eq(Cat(bank.blank for bank, _ in sums).any())
        for (begin, end), (bank, _) in zip(banks, sums, strict=True):
            mine = Const(1)
            if begin:
                mine = mine & (self.number >= begin)
            if end < len(wires.tile):
                mine = mine & (self.number < end)
            with m.If(mine):
                m.d.comb += self.match.eq(bank.match)
            m.d.comb += bank.number.eq(self.number - begin)
            m.d.comb += [
                getattr(bank, name).eq(getattr(self, name) & mine)
                for name in ("load", "write", "verify")
            ]
        return Cat(total for _, total in sums), last

    def _bank(self, m: Module, platform, en, x, marks, number: int) -> MacroBank:
        """A bank of macros on the word lines of their row tiles.

        ``marks`` are the begin of an evaluation at the word lines and at the macros.
        """
        wires, spec, name = self.wires, self.wires.macro, f"{number or ''}"
        begin, end = wires.banks()[number]
        own = sorted(set(wires.tile[begin:end]))
        tiles = tuple(own.index(tile) for tile in wires.tile[begin:end])
        lines = Signal(len(own) * spec.rows, name=f"lines{name}")
        for n, tile in enumerate(own):
            bits = Cat(*(x[first:last] for first, last in _runs(wires.lines[tile])))
            m.d.comb += lines[n * spec.rows : (n + 1) * spec.rows].eq(bits)
        files = {}
        if wires.spec.faults is not None:
            files = {"file": wires.file("stuck", number), "stuck": wires.file("mask", number)}
        if wires.rows is not None:
            moved = Signal((end - begin) * spec.rows, name=f"moved{name}")
            tile_bits = address_bits(len(own))
            places = sum(tile << n * tile_bits for n, tile in enumerate(tiles))
            platform.include(MOVES)
            m.submodules[f"moves{name}"] = Instance(
                "gyre_moves",
                p_ROWS=spec.rows,
                p_ROW_BITS=address_bits(spec.rows),
                p_MACROS=end - begin,
                p_TILES=len(own),
                p_TILE_BITS=tile_bits,
                p_TILE_OF=Const(places, tile_bits * (end - begin)),
                p_MOVES=wires.moves(begin, end).shape[1],
                p_FILE=wires.file("rows", number),
                i_clk=ClockSignal(),
                i_en=en,
                i_start=marks[0],
                i_lines=lines,
                o_x=moved,
            )
            lines, tiles = moved, tuple(range(end - begin))
        bank = MacroBank(spec, tiles, wires.spec.body, **files)
        m.submodules[f"bank{name}"] = bank
        m.d.comb += [
            bank.en.eq(en),
            bank.start.eq(marks[1]),
            bank.x.eq(lines),
            bank.row.eq(self.row),
            bank.levels.as_value().eq(self.levels.as_value()),
            bank.seed.eq(begin + 1),
        ]
        return bank

    def _shift_add(self, number: int) -> dict[str, int | str]:
        spec, layer, macro = self.wires.spec, self.wires.layer, self.wires.macro
        begin, end = self.wires.banks()[number]
        factors = pim_of(layer).factors(layer)
        sign = factors[-1] < 0
        moved = {}
        if self.wires.columns is not None:
            moved = {"p_COLUMNS": self.wires.file("columns", number)}
        return moved | {
            "p_MACROS": end - begin,
            "p_O_STRIDE": stride(macro),
            "p_CONVERTERS": macro.converters,
            "p_SHARE": macro.share,
            "p_PHASE_BITS": address_bits(macro.share),
            "p_O_LANE": macro.result_lane,
            "p_SIGNED": int(macro.result.signed),
            "p_OUTPUTS": spec.outputs(layer),
            "p_SLICES": len(factors),
            "p_STEP": factors[1].bit_length() - 1 if len(factors) > 1 + sign else 1,
            "p_SIGN": int(sign),
            "p_SIGN_STEP": (-factors[-1]).bit_length() - 1 if sign else 0,
            "p_WIDTH": self.wires.sum_bits,
            "p_CODE_BITS": address_bits(macro.converters),
        }

    def _sums(self, m: Module, en, sums, done):
        """The outputs picked, a group a cycle, and their row tiles added up.

        Gives the sums of a group, valid, ready for the next, and whether ``done`` finds room.
        """
        wires, spec, layer = self.wires, self.wires.spec, self.wires.layer
        shape, width = range_shape(layer.accumulator()), wires.sum_bits
        group, count = spec.group(layer, wires.lanes), spec.group_words(layer, wires.lanes)
        shares: dict[tuple[int, int], Value] = {}
        for macro, (tile, outputs) in enumerate(zip(wires.tile, wires.outputs, strict=True)):
            begin = macro * spec.outputs(layer)
            for n, output in enumerate(outputs.tolist(), start=begin):
                shares[tile, output] = sums[n * width : n * width + shape.width]
        busy, go, valid, ready, free = (
            Signal(name=name) for name in ("busy", "go", "sums_valid", "sums_ready", "sums_free")
        )
        at = Signal(address_bits(count), name="at")
        final = at == count - 1
        m.d.comb += [go.eq(~valid | ready), free.eq(~busy | (go & final))]
        with m.If(en & done):
            m.d.sync += [busy.eq(1), at.eq(0)]
        with m.Elif(go & busy):
            m.d.sync += [busy.eq(~final), at.eq(at + 1)]
        tiles = len(wires.lines)
        picked = [
            Signal(data.ArrayLayout(shape, group), name=f"picked_{t}", reset_less=True)
            for t in range(tiles)
        ]
        with m.If(go & busy), m.Switch(at):
            for n in range(count):
                with m.Case(n):
                    for t, part in enumerate(picked):
                        here = [shares.get((t, n * group + lane)) for lane in range(group)]
                        zero = Const(0, shape.width)
                        parts = Cat(zero if one is None else one for one in here)
                        m.d.sync += part.as_value().eq(parts)
        moving = self._later(m, go, busy, 1, "picked_valid")
        words = []
        for lane in range(group):
            terms = [part[lane] for part in picked]
            terms = joined_but_two(m, go, add, lambda n: shape, terms)
            word = Signal(shape, name=f"sum_{lane}", reset_less=True)
            with m.If(go):
                m.d.sync += word.eq(joined(add, terms))
            words.append(word)
        moving = self._later(m, go, moving, tree_stages(tiles), "joined_valid")
        with m.If(go):
            m.d.sync += valid.eq(moving)
        return words, valid, ready, free

    def _block_rows(self, m: Module, words, valid, ready) -> None:
        """The way out of circulant blocks: step after step in, outputs in their order out."""
        wires, spec, layer = self.wires, self.wires.spec, self.wires.layer
        m.submodules.rows = rows = BlockRows(
            range_shape(layer.accumulator()),
            k=spec.steps(layer),
            group=spec.group(layer, wires.lanes),
            words=spec.group_words(layer, wires.lanes),
            lanes=wires.lanes,
            outputs=layer.matrix_rows,
        )
        m.d.comb += [
            Cat(rows.sums).eq(Cat(words)),
            rows.valid.eq(valid),
            ready.eq(rows.free),
        ]
        wiring.connect(m, rows.o, wiring.flipped(self.o))

    def _later(self, m: Module, en, mark, cycles: int, name: str):
        """A mark so many cycles of ``en`` later."""
        for cycle in range(cycles):
            later = Signal(name=f"{name}_{cycle}")
            with m.If(en):
                m.d.sync += later.eq(mark)
            mark = later
        return mark


class PimArray(wiring.Component):
    """Matrix-vector products of one layer in the cells of macros.

    ::

                   .-> [copy 0: macros] -.
        i -> [next copy]   ...           [next copy] -> o
                   '-> [copy n: macros] -'
        [rows of all macros] -> [writing] -> macros, before the first vector

    Vectors go to the copies in turn, and their sums leave in the same order. Before anything is
    evaluated every row is written, if there is one that never was: cells keep what they hold, so a
    reset later on costs nothing. Other rows come through ``program``, which are written by pulses,
    with read-back and retry, in all copies.

    Cycles, latency, memory and macros of the array: PimArraySpec.

    Parameters
    ----------
    wires : Wires

    Members
    -------
    i : In(stream of ``cols`` activation codes)
        The frame's vectors, ``words`` beats each.
    o : Out(stream of ``lanes`` accumulators)
        The vectors in order; each begins with a new beat.
    step : Out
        Copies that begin an evaluation in this cycle.
    loaded : Out(1)
        Every row is written, and none is being written.
    pulses, failures : Out(32)
        Pulses given, and rows that failed for good, since the reset.
    program : In(row_stream)
        A row to write while no vector is inside; it transfers when it is written in all copies,
        after ``copies · row_write_cycles(pulses)`` cycles (MacroSpec) where all take as many.
    program_failed : Out(1)
        In the cycle of that transfer: in a copy it differs from what was wanted.
    program_pulse : Out(1)
        A pulse to such a row ends in this cycle.
    """

    def __init__(self, wires: Wires) -> None:
        self.wires = wires
        spec, layer = wires.spec, wires.layer
        super().__init__(
            {
                "i": In(beat_stream(code_shape(layer.in_format), spec.cols)),
                "o": Out(beat_stream(range_shape(layer.accumulator()), wires.lanes)),
                "step": Out(spec.step_bits),
                "loaded": Out(1),
                "pulses": Out(32),
                "failures": Out(32),
                "program": In(row_stream(spec.cell_rows(wires.name, layer))),
                "program_failed": Out(1),
                "program_pulse": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        spec, layer = self.wires.spec, self.wires.layer
        units = [
            place(m, platform, f"copy_{n}", f"pim_{self.wires.name}", PimUnit, self.wires)
            for n in range(spec.copies)
        ]
        self._write(m, units)
        words = spec.words(layer)
        enter, leave = Signal(address_bits(spec.copies)), Signal(address_bits(spec.copies))
        word, vector = Signal(address_bits(words)), Signal(address_bits(layer.vectors))
        for n, unit in enumerate(units):
            m.d.comb += [
                unit.i.valid.eq(self.i.valid & self.loaded & (enter == n)),
                unit.i.p.eq(self.i.p),
                unit.o.ready.eq(self.o.ready & (leave == n)),
            ]
        with m.Switch(enter):
            for n, unit in enumerate(units):
                with m.Case(n):
                    m.d.comb += self.i.ready.eq(unit.i.ready & self.loaded)
        opens, ends = Signal(), Signal()
        with m.Switch(leave):
            for n, unit in enumerate(units):
                with m.Case(n):
                    m.d.comb += [
                        self.o.valid.eq(unit.o.valid),
                        self.o.p.codes.eq(unit.o.p.codes),
                        opens.eq(unit.o.p.first),
                        ends.eq(unit.o.p.last),
                    ]
        final = vector == layer.vectors - 1
        m.d.comb += [
            self.step.eq(sum(unit.step for unit in units)),
            self.o.p.first.eq(opens & (vector == 0)),
            self.o.p.last.eq(ends & final),
        ]

        def turned(which):
            return Mux(which == spec.copies - 1, 0, which + 1)

        with m.If(transfer(self.i)):
            m.d.sync += word.eq(Mux(word == words - 1, 0, word + 1))
            with m.If(word == words - 1):
                m.d.sync += enter.eq(turned(enter))
        with m.If(transfer(self.o) & ends):
            m.d.sync += [leave.eq(turned(leave)), vector.eq(Mux(final, 0, vector + 1))]
        return m

    def _write(self, m: Module, units) -> None:
        """Rows into the cells: those of all macros one after another, later those from outside."""
        macro, count = self.wires.macro, len(self.wires.tile)
        width, pulsed = macro.columns * macro.level_bits, self.wires.spec.programs
        m.submodules.rows = rows = Rom(width, count * macro.rows, self.wires.file("cells"))
        blank, running, writing = Signal(), Signal(), Signal()
        address, number = Signal(address_bits(count * macro.rows)), Signal(address_bits(count))
        row, copy = Signal(address_bits(macro.rows)), Signal(address_bits(len(units)))
        written, final, last_copy = Signal(), Signal(), Signal()
        outside, levels = Signal(), Signal(width, name="levels")
        m.d.comb += [
            blank.eq(Cat(unit.blank for unit in units).any()),
            outside.eq(self.program.valid & ~blank & ~running),
            self.loaded.eq(~blank & ~running & ~self.program.valid),
            rows.addr.eq(address),
            final.eq((number == count - 1) & (row == macro.rows - 1)),
            levels.eq(Mux(outside, self.program.p.levels, rows.data)),
        ]
        # A row is fetched, then written; the address is one ahead of the row.
        with m.If(~running):
            with m.If(blank):
                m.d.comb += rows.en.eq(1)
                m.d.sync += [running.eq(1), address.eq(1), number.eq(0), row.eq(0)]
            with m.Else():
                m.d.sync += address.eq(0)
        with m.Elif(written):
            m.d.comb += rows.en.eq(1)
            m.d.sync += [address.eq(address + 1), row.eq(row + 1)]
            with m.If(row == macro.rows - 1):
                m.d.sync += [row.eq(0), number.eq(number + 1)]
            with m.If(final):
                m.d.sync += [running.eq(0), address.eq(0)]
        for unit in units:
            m.d.comb += [
                unit.number.eq(Mux(outside, self.program.p.macro, number)),
                unit.row.eq(Mux(outside, self.program.p.row, row)),
                unit.levels.as_value().eq(levels),
                unit.load.eq(0 if pulsed else running),
            ]
        m.submodules.programmer = programmer = Programmer(macro)
        ended, earlier = Signal(), Signal()  # in the last copy; it failed in one before
        m.d.comb += [
            last_copy.eq(copy == len(units) - 1),
            programmer.i.valid.eq((outside | (running if pulsed else 0)) & ~writing),
            programmer.i.p.row.eq(units[0].row),
            programmer.i.p.levels.as_value().eq(levels),
            ended.eq(programmer.done & last_copy),
            written.eq(running & ended if pulsed else running),
            self.pulses.eq(programmer.pulses),
            self.failures.eq(programmer.failures),
            self.program.ready.eq(outside & ended),
            self.program_failed.eq(programmer.failed | earlier),
            self.program_pulse.eq(outside & programmer.pulse),
        ]
        with m.Switch(copy):
            for n, unit in enumerate(units):
                with m.Case(n):
                    m.d.comb += [
                        unit.write.eq(programmer.write),
                        unit.verify.eq(programmer.verify),
                        programmer.match.eq(unit.match),
                    ]
        with m.If(transfer(programmer.i)):
            m.d.sync += writing.eq(1)
        with m.If(programmer.done):
            m.d.sync += [
                writing.eq(0),
                copy.eq(Mux(last_copy, 0, copy + 1)),
                earlier.eq(self.program_failed & ~last_copy),
            ]


def _fields(values: np.ndarray, bits: tuple[int, ...]) -> str:
    """A .hex file of words [words, fields], the lowest field first, each of so many bits."""
    columns = zip(values.T, bits, strict=True)
    return hex_text(np.concatenate([to_bits(v[:, None], wide) for v, wide in columns], axis=1))


def _runs(places: np.ndarray) -> list[tuple[int, int]]:
    """Places as runs of neighbours, from one up to another."""
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    parts = np.split(places, breaks)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]


@make_engine.register
def _(spec: PimArraySpec, node: Node, lanes: int) -> PimArray:
    return PimArray(Wires.of(spec, node, lanes))


@engine_files.register
def _(spec: PimArraySpec, node: Node) -> dict[str, str]:
    return Wires.of(spec, node, 1).files(node)
