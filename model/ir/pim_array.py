"""The PIM engine: a layer's matrix in the cells of macros, all of which work at once.

The bits of a vector stand on the word lines of all macros, the top bit first; each evaluation gives
the count of every column, which is converted, and the codes of a weight's slices are shifted and
added beside their macro. Doubling that sum from bit to bit gives the share of a macro's word lines
in each of its outputs; when the last bit is in, the shares of the row tiles are added up, ``lanes``
outputs a cycle, while the next vector is evaluated. Rows and columns that keep no weight are
absent: they have no word line and no column.

In the circulant flow a block stores its one defining vector; in each of k steps all bits are
evaluated once and give one output of every block row, then the activations of a block move on by a
word line. So a cell is used k times a vector, and the cells are k times fewer.

Copies hold the same weights and take the vectors in turn, where a layer has many positions.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from model.ir.beats import Beats
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.conv import ConvSpec
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.faults import Faults
from model.ir.layer import LayerSpec
from model.ir.linear import LinearSpec
from model.ir.macro import MacroSpec
from model.ir.mapping import MAX_LANES, EngineSpec
from model.ir.matrix import MatrixSpec
from model.ir.network import Node
from model.ir.pe_array import SLICE_LATENCY, requantize_latency
from model.ir.pim_arithmetic import PIMArithmetic
from model.ir.placement import COLUMNS_MAX, Placement, place, repair
from model.ir.programming import CellRows
from model.ir.repack import repack_cost, repacks
from model.ir.spec import check_int
from model.ir.tree import tree_stages
from model.ir.window_buffer import WindowBuffer
from model.ir.window_feed import frame_cycles, vector_ends

COPIES_MAX = 64
MACROS_MAX = 4096

LINE_LATENCY = 1
"""The register of the word lines' bits, between the planes and the macros; one more if moved."""

ADD_LATENCY = 2
"""Registers behind a macro: the slices of a weight added up, then the bits of the activations."""

PICK_LATENCY = 2
"""Registers around the adder tree of the row tiles: the outputs picked, and their sums."""

COLLECT_LATENCY = 3
"""Cycles from a block row's last sums through the result memory of the circulant flow."""


@dataclass(frozen=True)
class PimArraySpec(EngineSpec, kind="pim_array"):
    """An array of macros.

    Parameters
    ----------
    cols : int
        Codes of an input beat. A layer convolves with ``cols = kernel_rows · l``, ``l`` being the
        lanes of the stream into its window; of circulant blocks that are ``k`` wide, ``l`` fills
        whole blocks.
    columns : int
        Columns of a macro; its rows are those of the arithmetic.
    macros, tiles : int
        Macros of a copy, as the layer is placed (:func:`model.ir.placement.place`), and row tiles.
    copies : int
        Copies, at most as many as a frame has vectors.
    share : int
        Results that one converter gives, one a cycle: columns per converter.
    spare : int
        Columns of each macro that are kept free.
    programs : bool
        Whether the cells are written by pulses, with read-back and retry, as ``write_cycles``,
        ``attempts``, ``failures`` and ``endurance`` say (see MacroSpec); otherwise a row is there
        in a cycle, which is no more than a fast start of a simulation.
    body : str
        Name of a hard macro in place of the behavioural body.
    faults : Faults or None
        Stuck cells of each copy's macros, alike in all copies. Where they are repaired, a register
        more stands before the macros, behind what puts moved word lines on their rows.

    With V vectors a frame, M outputs, activations of b bits, k steps (1 unless the blocks are
    circulant), W words a vector, ``E = b · k · share`` and ``B = ceil(M / lanes)`` output beats:

    ==================  =======================================================================
    cycles per frame    ``V · max(E, B) / copies``, or ``V · W`` or ``V · B`` if they are more; a
                        window may add its fill
    evaluations         ``V · b · k``, of each macro of a copy
    weight memory       the cells that hold weights (``chip_bits`` of the arithmetic), ``copies``
                        times
    activation buffer   ``2 · copies`` vectors, by bits
    result memory       ``2 · copies · ceil(p / g) · g · k`` accumulators of circulant blocks, p
                        block rows, ``g = group(...)`` of them a word; else none
    macros              ``copies · macros``
    writing             ``1 + rows of all macros`` cycles before the first vector; by pulses that
                        of MacroSpec for each of them, ``copies`` times
    multipliers         none, but ``lanes`` of the requantizer where it multiplies
    ==================  =======================================================================

    Cycles are exact where V is a multiple of ``copies``; else two frames may differ by one
    evaluation. Sources: see PIMArithmetic.
    """

    cols: int
    columns: int
    macros: int
    tiles: int
    copies: int = 1
    share: int = 1
    spare: int = 0
    programs: bool = False
    write_cycles: int = 1
    attempts: int = 1
    failures: int = 0
    endurance: int = 0
    body: str = ""
    faults: Faults | None = None

    def __post_init__(self) -> None:
        check_int("cols", self.cols, 1, MAX_LANES)
        check_int("columns", self.columns, 1, COLUMNS_MAX)
        check_int("macros", self.macros, 1, MACROS_MAX)
        check_int("tiles", self.tiles, 1, self.macros)
        check_int("copies", self.copies, 1, COPIES_MAX)
        check_int("share", self.share, 1, 64)
        check_int("spare", self.spare, 0, self.columns - 1)

    @property
    def step_bits(self) -> int:
        return self.copies.bit_length()

    @property
    def loads(self) -> bool:
        return True

    @property
    def counts(self) -> tuple[str, ...]:
        return ("pulses", "failures") if self.programs else ()

    def cell_rows(self, name: str, layer: MatrixSpec) -> CellRows:
        macro = self.macro(layer)
        return CellRows(name, self.macros, macro.rows, macro.columns, macro.level_bits, self.copies)

    # -- the macros

    def macro(self, layer: MatrixSpec) -> MacroSpec:
        """Each of the macros."""
        pim = pim_of(layer)
        return MacroSpec(
            rows=pim.rows,
            cols=self.columns,
            level_bits=pim.level_bits,
            reference=pim.off > 0 and pim.sides == 1,
            pairs=pim.sides == 2,
            share=self.share,
            adc_bits=pim.adc_bits,
            step=pim.step,
            write_cycles=self.write_cycles,
            attempts=self.attempts,
            failures=self.failures,
            endurance=self.endurance,
        )

    def outputs(self, layer: MatrixSpec) -> int:
        """Outputs that a macro can have."""
        return (self.columns - self.spare) // pim_of(layer).columns_per_weight(layer)

    def packed(self, node: Node) -> Placement:
        """Where the cells lie before anything is moved; raises BadInput if they do not fit."""
        return place(node.spec, dict(node.tensors), self.columns, self.spare, thing=node.name)

    def placement(self, node: Node) -> Placement:
        """Where the cells lie, moved around stuck cells if they are repaired."""
        return self._located(node)[0]

    def _located(self, node: Node) -> tuple[Placement, np.ndarray]:
        """Where the cells lie, and of those that hold weights the stuck ones: levels, or -1."""
        placed, layer = self.packed(node), node.spec
        if self.faults is None:
            return placed, np.full(placed.weight.shape, -1)
        drawn = self.faults.drawn(layer, placed)
        if self.faults.repair:
            placed, _ = repair(placed, layer, dict(node.tensors), drawn)
        return placed, np.where(placed.weight >= 0, drawn, -1)

    def contents(self, node: Node) -> tuple[np.ndarray, np.ndarray]:
        """What is written into the cells, and the levels at which some are stuck, -1 elsewhere.

        Both int64 [macros, rows, columns], the reference column included. A stuck cell is written
        its nominal level; one where no weight is kept is not connected and does not count as stuck.
        Raises BadInput if the network's cells are not those of these faults.
        """
        layer, tensors = node.spec, dict(node.tensors)
        placed, stuck = self._located(node)
        levels, pim = placed.levels(layer, tensors), pim_of(layer)
        if ((stuck >= 0) & (stuck != levels)).any():
            raise BadInput(
                f"mapping: faults of the PIM array of {node.name}",
                "stuck cells at other levels than the network's cells have there",
                "the faults with which the network was converted",
                "plan with the options of the conversion",
            )
        nominal = placed.spread_out(pim.nominal(layer, tensors), pim.off)
        levels = np.where(stuck >= 0, nominal, levels)
        if not self.macro(layer).reference:
            return levels, stuck
        wide = ((0, 0), (0, 0), (0, 1))
        return np.pad(levels, wide, constant_values=pim.off), np.pad(
            stuck, wide, constant_values=-1
        )

    @property
    def line_latency(self) -> int:
        """Registers between the planes and the macros."""
        moves = self.faults is not None and self.faults.repair
        return LINE_LATENCY + moves

    # -- steps and words

    def steps(self, layer: MatrixSpec) -> int:
        """Steps of a vector: k of circulant blocks."""
        return layer.storage.k if isinstance(layer.storage, BlockCirculantStorage) else 1

    def step_cycles(self, layer: MatrixSpec) -> int:
        """Cycles of a step: activation bits, times the results that share a converter."""
        return len(pim_of(layer).places(layer)) * self.share

    def vector_cycles(self, layer: MatrixSpec) -> int:
        """Cycles of a vector on its macros, ``E``."""
        return self.steps(layer) * self.step_cycles(layer)

    def block_rows(self, layer: MatrixSpec) -> int:
        """Outputs of a step: block rows of circulant blocks, else all."""
        return -(-layer.matrix_rows // self.steps(layer))

    def banks(self, layer: MatrixSpec) -> int:
        """Kernel rows in an input beat."""
        return layer.kernel_rows if isinstance(layer, ConvSpec) else 1

    def window_lanes(self, layer: MatrixSpec) -> int:
        """Codes of a kernel row in an input beat."""
        return self.cols // self.banks(layer)

    def words(self, layer: MatrixSpec) -> int:
        """Input beats of a vector, ``W``."""
        if isinstance(layer, ConvSpec):
            return layer.kernel_columns * -(-layer.channels // self.window_lanes(layer))
        return -(-layer.matrix_columns // self.cols)

    def plane_lanes(self, layer: MatrixSpec) -> int:
        """Places of a kernel row's codes of a beat in the buffer: lanes, up to whole blocks."""
        k = self.steps(layer)
        return -(-self.window_lanes(layer) // k) * k

    def plane_bits(self, layer: MatrixSpec) -> int:
        """Places of a vector in the buffer."""
        return self.banks(layer) * self.words(layer) * self.plane_lanes(layer)

    def place_of(self, layer: MatrixSpec) -> np.ndarray:
        """The place in the buffer of each word line, int64 [lines]."""
        wide, positions = self.plane_lanes(layer), self.area(layer)
        groups = self.words(layer) * self.banks(layer) // positions
        lines = len(pim_of(layer).line_inputs(layer))
        position, line = np.divmod(np.arange(lines), lines // positions)
        group, lane = np.divmod(line, wide)
        return (position * groups + group) * wide + lane

    def beats(self, layer: MatrixSpec, lanes: int) -> int:
        """Output beats of a vector, ``B``."""
        return -(-layer.matrix_rows // lanes)

    def group(self, layer: MatrixSpec, lanes: int) -> int:
        """Outputs of a step whose row tiles are added up at once, ``g``."""
        k = self.steps(layer)
        if k == 1:
            return lanes
        least, blocks = -(-self.block_rows(layer) // self.step_cycles(layer)), max(1, lanes // k)
        return -(-least // blocks) * blocks

    def group_words(self, layer: MatrixSpec, lanes: int) -> int:
        """Groups of a step."""
        return -(-self.block_rows(layer) // self.group(layer, lanes))

    def out_lanes(self, layer: MatrixSpec) -> list[int]:
        """Output lanes that fit, ascending: of circulant blocks whole ones or divisors."""
        k, most = self.steps(layer), min(MAX_LANES, layer.matrix_rows)
        if k == 1:
            return list(range(1, most + 1))
        parts = [n for n in range(1, k) if k % n == 0]
        return [n for n in parts + list(range(k, most + k, k)) if n <= MAX_LANES]

    def writing_cycles(self, layer: MatrixSpec, pulses: int = 1) -> int:
        """Cycles from a reset to the first vector, if every row takes so many pulses.

        The copies are preloaded at once, and written by pulses one after another.
        """
        rows = self.macros * pim_of(layer).rows
        if not self.programs:
            return 1 + rows
        return 1 + self.copies * rows * self.macro(layer).row_write_cycles(pulses)

    # -- what it computes

    def check(self, node: Node, lanes: int) -> None:
        layer, thing = node.spec, f"mapping: engine of {node.name}"
        if not isinstance(layer, LinearSpec | ConvSpec) or not isinstance(
            layer.arithmetic, PIMArithmetic
        ):
            arithmetic = getattr(getattr(layer, "arithmetic", None), "kind", "no")
            raise BadInput(
                thing,
                "a PIM array",
                f"an engine for {layer.kind!r} layers of {arithmetic} arithmetic",
                "map the layer to another engine, or export it with arithmetic = 'pim'",
            )
        try:
            self.macro(layer)
        except ValueError as error:
            raise BadInput(
                thing,
                f"macros that cannot be ({error})",
                "macros as MacroSpec has them",
                "change it",
            ) from error
        placed = self.packed(node)
        tiles = len(pim_of(layer).tiles(layer, dict(node.tensors)))
        for name, found, wanted in (
            ("macros", self.macros, placed.macros),
            ("tiles", self.tiles, tiles),
        ):
            if found != wanted:
                raise BadInput(
                    f"mapping: {name} of the PIM array of {node.name}",
                    found,
                    f"the {wanted} on which the layer is placed",
                    "plan again",
                )
        if self.copies > layer.vectors:
            raise BadInput(
                f"mapping: copies of the PIM array of {node.name}",
                self.copies,
                f"at most {layer.vectors}, the vectors in a frame of a {layer.kind!r} layer",
                "plan again",
            )
        if not self.takes(layer):
            raise BadInput(
                f"mapping: columns of the PIM array of {node.name}",
                self.cols,
                "kernel rows times at most the channels, in whole blocks where they are circulant",
                "plan again",
            )
        if lanes not in self.out_lanes(layer):
            raise BadInput(
                f"mapping: lanes of {node.name}",
                lanes,
                f"at most the {layer.matrix_rows} outputs, and whole circulant blocks or divisors",
                "plan again",
            )

    def takes(self, layer: MatrixSpec) -> bool:
        """Whether the input beats fit the layer."""
        banks, wide, k = self.banks(layer), self.window_lanes(layer), self.steps(layer)
        channels = layer.channels if isinstance(layer, ConvSpec) else layer.matrix_columns
        if self.cols % banks or not wide or (isinstance(layer, ConvSpec) and wide > channels):
            return False
        return wide % k == 0 or wide >= channels

    def area(self, layer: MatrixSpec) -> int:
        """Positions of the kernel."""
        return layer.area if isinstance(layer, ConvSpec) else 1

    # -- costs

    def rate(self, layer: MatrixSpec, lanes: int) -> Fraction:
        """Cycles from a vector to the next."""
        beats = self.beats(layer, lanes)
        alone = Fraction(max(self.vector_cycles(layer), beats), self.copies)
        return max(alone, Fraction(self.words(layer)), Fraction(beats))

    def tail(self, layer: MatrixSpec, lanes: int) -> int:
        """Cycles from the start of a vector's last evaluation to its last beat of sums."""
        ends = self.share + self.line_latency + self.macro(layer).latency - 1 + ADD_LATENCY
        ends += PICK_LATENCY + tree_stages(self.tiles)
        if self.steps(layer) == 1:
            return ends + self.beats(layer, lanes) - 1
        leaves = COLLECT_LATENCY + self.beats(layer, lanes) - 1
        return ends + self.group_words(layer, lanes) - 1 + leaves

    def _ends(self, layer: MatrixSpec, loaded: np.ndarray, lanes: int) -> int:
        """Cycles to the end of a frame's last beat of sums, counted from cycle 0.

        ``loaded`` are the cycles in which the last words of the vectors enter.
        """
        evaluating, beats = self.vector_cycles(layer), self.beats(layer, lanes)
        done = [0] * self.copies  # when the macros of a copy are free
        left = 0  # when the last beat of the vector before has left
        for vector, cycle in enumerate(loaded.tolist()):
            begin = max(cycle + 1, done[vector % self.copies])
            done[vector % self.copies] = begin + max(evaluating, beats)
            last = begin + evaluating - self.share
            left = max(last + self.tail(layer, lanes), left + beats)
        return left

    def latency(self, layer: MatrixSpec, lanes: int) -> int:
        """Cycles from a frame's first beat to its last beat of sums, both counted: the engine's."""
        words = self.words(layer)
        loaded, held = [], []
        for vector in range(layer.vectors):  # a copy loads one vector while it evaluates another
            begin = loaded[-1] + 1 if loaded else 0
            if vector >= 2 * self.copies:
                begin = max(begin, held[vector - 2 * self.copies])
            loaded.append(begin + words - 1)
            before = held[vector - self.copies] if vector >= self.copies else 0
            held.append(max(loaded[-1] + 1, before) + self._pitch(layer, lanes))
        return self._ends(layer, np.array(loaded), lanes)

    def _pitch(self, layer: MatrixSpec, lanes: int) -> int:
        """Cycles from a vector to the next of one copy."""
        return max(self.vector_cycles(layer), self.beats(layer, lanes))

    def pipeline(self, layer: MatrixSpec, lanes: int) -> tuple[int, int]:
        """Cycles that a copy takes for a vector, and from the last of them to its first sums."""
        pitch = self._pitch(layer, lanes)
        last = self.vector_cycles(layer) - self.share + self.tail(layer, lanes)
        return pitch, last - pitch - self.beats(layer, lanes) + 1

    def window(self, layer: ConvSpec) -> WindowBuffer:
        """The window in front of the array, which loads a frame while it reads another."""
        plain = WindowBuffer(layer, self.window_lanes(layer), self.banks(layer), "vector")
        return replace(plain, ahead=plain.seamless)

    def outline(self, layer: LayerSpec, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        return self._cost(layer, ins, lanes, exactly=False)

    def cost(self, layer: LayerSpec, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        return self._cost(layer, ins, lanes, exactly=True)

    def _cost(
        self, layer: LayerSpec, ins: tuple[Beats, ...], lanes: int, exactly: bool
    ) -> StageCost:
        assert isinstance(layer, LinearSpec | ConvSpec)
        (source,) = ins
        cost, after = self._array_cost(layer, lanes), SLICE_LATENCY + requantize_latency(layer)
        cycles = max(cost.cycles, source.count)
        if not isinstance(layer, ConvSpec):
            words = Beats((layer.in_features,), self.cols)
            load = self.words(layer)
            if repacks(source, words):
                load = repack_cost(source, words, masked=False).latency
            latency = self._ends(layer, np.array([load - 1]), lanes) + after
            return replace(cost, cycles=cycles, input_beats=source.count, latency=latency)
        window, latency = self.window(layer), 0
        cycles = max(cycles, window.input_beats, window.output_beats)
        if exactly:
            fed = frame_cycles(window, source, self.copies, self._pitch(layer, lanes))
            cycles = max(cycles, fed)
            latency = self._ends(layer, vector_ends(window, source), lanes) + after
        return replace(
            cost,
            cycles=cycles,
            input_beats=source.count,
            latency=latency,
            buffer_bits=cost.buffer_bits + window.buffer_bits(layer.in_format.bits),
        )

    def _array_cost(self, layer: MatrixSpec, lanes: int) -> StageCost:
        """The array and its requantizer, without what stands before them; no latency."""
        requantize, vectors, k = layer.requantize, layer.vectors, self.steps(layer)
        beats, weights = self.beats(layer, lanes), layer.weights()
        bits = layer.in_format.values.bits
        buffers = 2 * bits * self.plane_bits(layer)
        if k > 1:
            words = self.group_words(layer, lanes) * self.group(layer, lanes) * k
            buffers += 2 * words * layer.accumulator().bits
        multipliers: tuple[tuple[int, int, int], ...] = ()
        if requantize.multiplies:
            multipliers = ((lanes, layer.accumulator().bits, requantize.m_bits),)
        return StageCost(
            cycles=int(-(-vectors * self.rate(layer, lanes) // 1)),
            ideal_cycles=Fraction(vectors * self.vector_cycles(layer), self.copies),
            input_beats=vectors * self.words(layer),
            output_beats=vectors * beats,
            latency=0,
            macs=layer.macs(),
            kept_macs=weights * k * vectors,
            steps=vectors * bits * k,
            weight_words=weights * vectors,
            activation_words=layer.matrix_columns * vectors,
            multipliers=multipliers,
            weight_bits=self.copies * pim_of(layer).chip_bits(layer),
            parameter_bits=beats * lanes * requantize.channel_bits() + requantize.layer_bits(),
            buffer_bits=self.copies * buffers,
            macros=self.copies * self.macros,
        )


def pim_of(layer: Any) -> PIMArithmetic:
    """The arithmetic of a layer on macros."""
    assert isinstance(layer.arithmetic, PIMArithmetic)
    return layer.arithmetic
