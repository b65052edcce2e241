"""The processing-element array: ``rows × cols × pixels`` multiply-accumulates a cycle.

A vector of N activations travels as Fn words of ``cols`` codes (:meth:`PeArraySpec.words`), and the
weight matrix, its columns in that order, is cut into tiles of ``rows × cols``: ``Fm = ceil(M /
rows)`` row folds of Fn tiles. A step reads one weight word (a tile) and one activation word of each
of ``pixels`` vectors, which share the weights. At the end of a row fold the sums leave ``lanes`` a
beat while the next fold computes.

A block-sparse array stores, fetches and computes only the tiles in which a weight is kept; an index
memory says which activation word each one needs.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from model.ir.beats import Beats
from model.ir.block_sparse import BlockSparseStorage
from model.ir.conv import ConvSpec
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.layer import LayerSpec
from model.ir.linear import LinearSpec
from model.ir.mapping import MAX_LANES, EngineSpec
from model.ir.matrix import MatrixSpec
from model.ir.network import Node
from model.ir.numerics import UniformFormat
from model.ir.repack import repack_cost, repacks
from model.ir.spec import check_int
from model.ir.storage import DenseStorage
from model.ir.tree import tree_stages
from model.ir.window_buffer import WindowBuffer
from model.ir.window_feed import Sending, frame_cycles, vector_ends

SLICE_LATENCY = 1
"""The register slice between an engine and its requantizer."""

LEAN_STAGES = 2
"""Register stages that a lean array does without: operands and products."""

STEP_LATENCY = 4
"""Register stages from a step to its sums: memories, operands, products, accumulator (and the
adder tree)."""

REORDER_LATENCY = 2
"""Cycles that the result memory adds: a group's last sums are written, then read."""


@dataclass(frozen=True)
class PeArraySpec(EngineSpec, kind="pe_array"):
    """A PE array, dense or block-sparse.

    Parameters
    ----------
    rows : int
        Matrix rows worked on at once.
    cols : int
        Matrix columns per step, and the width of an activation word. A dense array convolves with
        ``cols = kernel_rows · l``, a block-sparse one with ``cols = l``, where ``l`` (at most the
        channels) are the lanes of the stream into its window.
    pixels : int
        Vectors of a frame that one weight word serves at once.
    tiles : int or None
        Tiles that are stored (:meth:`kept_tiles`); None: all of them, without an index memory.
    bank_words : int or None
        Words of each bank of the weight memory, a power of two; None: it is one memory.
    lean : bool
        Without the registers of operands and products: two cycles less of latency, less energy of
        the clock, and longer paths.

    With M rows, N columns and V vectors a frame, ``Fm = ceil(M / rows)``, ``Fn`` words a vector,
    ``K = ceil(V / pixels)`` groups of vectors, ``S`` = tiles or ``Fm · Fn`` steps a group, ``B =
    ceil(M / lanes)`` output beats a vector:

    ==================  =======================================================================
    cycles per frame    the sum over its groups of ``max(S, p · Fn, p · B)`` for ``p`` vectors:
                        computing, loading and sending go on at once. A dense array of one
                        pixel has no result memory and sends fold by fold: ``V · ((Fm - 1) ·
                        max(Fn, rows / lanes) + max(Fn, last))``, ``last`` being the beats of
                        the last fold, ``ceil((M - (Fm - 1) · rows) / lanes)``
    weight memory       ``S · rows · cols`` codes
    index memory        ``tiles`` words: the number of an activation word, and a mark where the
                        row folds may differ in their tiles (:meth:`per_fold`)
    activation buffer   ``2 · pixels · Fn · cols`` codes: one group loads while one is computed
    result memory       ``2 · pixels · ceil(M / n) · n`` accumulators, ``n = max(rows, lanes)``,
                        for more than one pixel, and for tiles where ``lanes`` is not ``rows``;
                        else none
    multipliers         ``rows · cols · pixels`` of activation × weight bits, and ``lanes`` of
                        accumulator × m bits where the requantization multiplies
    ==================  =======================================================================

    The cycles are exact, unless sending limits the groups and the last one of a frame has fewer
    vectors than the others: then they are an upper bound.
    """

    rows: int
    cols: int
    pixels: int = 1
    tiles: int | None = None
    lean: bool = False
    bank_words: int | None = None

    def __post_init__(self) -> None:
        check_int("rows", self.rows, 1, MAX_LANES)
        check_int("cols", self.cols, 1, MAX_LANES)
        check_int("pixels", self.pixels, 1, MAX_LANES)
        if self.tiles is not None:
            check_int("tiles", self.tiles, 1)
        if self.bank_words is not None:
            check_int("bank_words", self.bank_words, 2)
            if self.bank_words & (self.bank_words - 1):
                raise ValueError(f"bank_words must be a power of two, not {self.bank_words}")

    def row_folds(self, layer: MatrixSpec) -> int:
        """Row folds of a layer, ``Fm``."""
        return -(-layer.matrix_rows // self.rows)

    def col_folds(self, layer: MatrixSpec) -> int:
        """Activation words of a vector, ``Fn``: the steps of a row fold, if all tiles are kept."""
        if isinstance(layer, ConvSpec):
            positions = layer.area // self.banks(layer)
            return positions * -(-layer.channels // self.window_lanes(layer))
        return -(-layer.matrix_columns // self.cols)

    def steps(self, layer: MatrixSpec) -> int:
        """Steps of a group of vectors, ``S``."""
        if self.tiles is not None:
            return self.tiles
        return self.row_folds(layer) * self.col_folds(layer)

    def banks_of(self, layer: MatrixSpec) -> int:
        """Banks of the weight memory."""
        return 1 if self.bank_words is None else -(-self.steps(layer) // self.bank_words)

    def groups(self, layer: MatrixSpec) -> int:
        """Groups of vectors of a frame, ``K``; the last may have fewer vectors."""
        return -(-layer.vectors // self.pixels)

    def banks(self, layer: ConvSpec) -> int:
        """Kernel rows in an activation word: all of them, or one if the array is block-sparse."""
        return layer.kernel_rows if self.tiles is None else 1

    def window_lanes(self, layer: ConvSpec) -> int:
        """Lanes of the stream into the window of a convolution, ``l``."""
        return self.cols // self.banks(layer)

    def words(self, layer: MatrixSpec) -> np.ndarray:
        """Matrix column in each lane of each activation word; int64 [Fn, cols], -1 is padding."""
        columns = np.arange(layer.matrix_columns)
        if not isinstance(layer, ConvSpec):
            return _padded(columns, self.cols).reshape(-1, self.cols)
        lanes, banks = self.window_lanes(layer), self.banks(layer)
        pixels = _padded(columns.reshape(layer.area, layer.channels), lanes)
        # [kernel row of another word, of the same word, kernel column, group, lane]
        words = pixels.reshape(layer.kernel_rows // banks, banks, layer.kernel_columns, -1, lanes)
        return words.transpose(0, 2, 3, 1, 4).reshape(-1, self.cols)

    def arrange(self, layer: MatrixSpec, matrix: np.ndarray) -> np.ndarray:
        """A matrix [M, N] as tiles [Fm, Fn, rows, cols], padding 0."""
        folds, words = self.row_folds(layer), self.words(layer)
        padded = np.zeros((folds * self.rows, matrix.shape[1] + 1), dtype=matrix.dtype)
        padded[: len(matrix), :-1] = matrix  # index -1 is the added column
        return padded[:, words].reshape(folds, self.rows, *words.shape).swapaxes(1, 2)

    def stored(self, node: Node, weights: np.ndarray | None = None) -> np.ndarray:
        """Which tiles are stored, bool [Fm, Fn]; a row fold without a weight has its first one.

        ``weights`` are those that the node keeps, where they are at hand.
        """
        weights = kept_weights(node) if weights is None else weights
        kept = self.arrange(node.spec, weights).any(axis=(2, 3))
        if self.tiles is None:
            return np.ones_like(kept)
        kept[:, 0] |= ~kept.any(axis=1)
        return kept

    def per_fold(self, layer: MatrixSpec) -> int | None:
        """Tiles of every row fold where the storage says that they are equally many, else None.

        So it is if every block row keeps equally many blocks, and tiles cut the blocks evenly.
        """
        storage = layer.storage
        even = (
            self.tiles is not None
            and isinstance(layer, LinearSpec)
            and isinstance(storage, BlockSparseStorage)
            and storage.per_row is not None
            and storage.row_size is not None
            and storage.column_size is not None
            and not storage.row_size % self.rows
            and not storage.column_size % self.cols
            and not layer.matrix_columns % storage.column_size
        )
        return storage.per_row * (storage.column_size // self.cols) if even else None

    def kept_tiles(self, node: Node, weights: np.ndarray | None = None) -> int:
        """Tiles that a block-sparse array of this size stores for a node."""
        return int(replace(self, tiles=1).stored(node, weights).sum())

    def tree_stages(self) -> int:
        """Register stages of the adder tree between the products and the accumulator."""
        return tree_stages(self.cols)

    def sum_stages(self) -> int:
        """Register stages from a step to its sums."""
        return STEP_LATENCY - LEAN_STAGES * self.lean + self.tree_stages()

    def drain_lanes(self, layer: MatrixSpec) -> int:
        """Fewest output lanes with which draining a fold never outlasts computing one."""
        steps = self.col_folds(layer)
        rows = range(1, self.rows + 1)
        return next(d for d in rows if self.rows % d == 0 and self.rows <= d * steps)

    def reorders(self, lanes: int) -> bool:
        """Whether a result memory stands behind the array."""
        return self.pixels > 1 or (self.tiles is not None and lanes != self.rows)

    def drains(self, lanes: int) -> bool:
        """Whether sums can leave so many a beat: a whole part or, reordered, a multiple of rows."""
        return self.rows % lanes == 0 or (self.reorders(lanes) and lanes % self.rows == 0)

    def fits(self, layer: MatrixSpec) -> bool:
        """Whether the words have no padding, or one of the formats has a zero to pad with."""
        if layer.in_format.has_zero or layer.weight_format.has_zero:
            return True
        return self.col_folds(layer) * self.cols == layer.matrix_columns

    def check(self, node: Node, lanes: int) -> None:
        layer = node.spec
        if not isinstance(layer, LinearSpec | ConvSpec) or layer.arithmetic.kind != "exact":
            raise BadInput(
                f"mapping: engine of {node.name}",
                "a PE array",
                f"an engine for {layer.kind!r} layers",
                "map the layer to another engine",
            )
        check_storage(node)
        if not self.drains(lanes):
            multiple = ", or a multiple," if self.reorders(lanes) else ""
            raise BadInput(
                f"mapping: lanes of {node.name}",
                lanes,
                f"a divisor{multiple} of the {self.rows} rows of its PE array",
                "plan again",
            )
        if self.pixels > layer.vectors:
            raise BadInput(
                f"mapping: pixels of the PE array of {node.name}",
                self.pixels,
                f"at most {layer.vectors}, the vectors in a frame of a {layer.kind!r} layer",
                "plan again",
            )
        if isinstance(layer, ConvSpec):
            self._check_window(node.name, layer)
        if not self.fits(layer):
            raise BadInput(
                f"mapping: columns of the PE array of {node.name}",
                self.cols,
                "words without padding, for neither format has a zero to pad with",
                "plan again",
            )
        if self.tiles is not None:
            self._check_tiles(node)
        self._check_absent(node)

    def _check_window(self, name: str, layer: ConvSpec) -> None:
        if layer.groups > 1:
            raise BadInput(
                f"mapping: engine of {name}",
                "a PE array",
                "a lane array, for the convolution is depthwise",
                "map the layer to a lane array",
            )
        banks = self.banks(layer)
        if self.cols % banks or not 1 <= self.cols // banks <= layer.channels:
            limit = f"at most the {layer.channels} channels"
            if banks > 1:
                limit = f"{banks} (the kernel's rows) times {limit}"
            raise BadInput(
                f"mapping: columns of the PE array of {name}", self.cols, limit, "plan again"
            )

    def _check_tiles(self, node: Node) -> None:
        layer, thing = node.spec, f"mapping: tiles of the PE array of {node.name}"
        if isinstance(layer.storage, DenseStorage):
            raise BadInput(thing, self.tiles, "none, for the layer has dense weights", "plan again")
        kept = self.kept_tiles(node)
        if self.tiles != kept:
            raise BadInput(
                thing,
                self.tiles,
                f"the {kept} tiles of {self.rows} × {self.cols} in which a weight is kept",
                "plan again",
            )

    def _check_absent(self, node: Node) -> None:
        """Raise BadInput if a weight that is not kept would have to be stored, and cannot be.

        In a row whose multiplier is 0 any weight can: its sum counts for nothing.
        """
        layer = node.spec
        if layer.weight_format.has_zero or isinstance(layer.storage, DenseStorage):
            return
        absent = ~kept_weights(node)
        if layer.requantize.per == "channel":
            absent &= (node.tensors["m"] != 0)[:, None]
        absent = self.arrange(layer, absent)[self.stored(node)].sum()
        if absent:
            raise BadInput(
                f"mapping: tiles of the PE array of {node.name}",
                f"{absent} weights in them that are not kept",
                f"tiles of kept weights alone, for {layer.weight_format.describe()} has no zero",
                "take tiles, of rows and columns that divide the blocks",
            )

    def vector_cycles(self, layer: MatrixSpec, lanes: int) -> int:
        """Cycles per vector of an array of one pixel without a result memory."""
        folds, steps = self.row_folds(layer), self.col_folds(layer)
        if self.tiles is not None:  # a fold leaves in one beat, while the next takes a step or more
            return max(self.tiles, steps)
        return (folds - 1) * max(steps, self.rows // lanes) + max(steps, self._last(layer, lanes))

    def _last(self, layer: MatrixSpec, lanes: int) -> int:
        """Output beats of the last fold of a vector."""
        return -(-(layer.matrix_rows - (self.row_folds(layer) - 1) * self.rows) // lanes)

    def group_cycles(self, layer: MatrixSpec, lanes: int, vectors: int) -> int:
        """Cycles of a group of so many vectors."""
        if not self.reorders(lanes):
            return self.vector_cycles(layer, lanes)
        vector = max(self.col_folds(layer), -(-layer.matrix_rows // lanes))
        return max(self.steps(layer), vectors * vector)

    def cycles(self, layer: MatrixSpec, lanes: int) -> int:
        """Cycles per frame of the array alone."""
        whole = self.group_cycles(layer, lanes, self.pixels)
        last = self.group_cycles(layer, lanes, self._rest(layer))
        loading = self.pixels * self.col_folds(layer)
        if self.tiles is None and self.reorders(lanes) and whole > max(self.steps(layer), loading):
            # Sending is the limit: when it gives room, the last group's first fold waits already.
            rest = self._rest(layer) * max(self.col_folds(layer), -(-layer.matrix_rows // lanes))
            last = max(rest, self.steps(layer) - self.col_folds(layer) + 1)
        return (self.groups(layer) - 1) * whole + last

    def _rest(self, layer: MatrixSpec) -> int:
        """Vectors of a frame's last group."""
        return layer.vectors - (self.groups(layer) - 1) * self.pixels

    def tail(self, layer: MatrixSpec, lanes: int) -> int:
        """Cycles from the last load of a frame's last group to the frame's last beat of sums."""
        folds, pipeline = self.row_folds(layer), self.sum_stages()
        if self.reorders(lanes):
            sending = self._rest(layer) * -(-layer.matrix_rows // lanes)
            return self.steps(layer) + pipeline + REORDER_LATENCY + sending
        computing = self.steps(layer)
        if self.tiles is None:
            steps = self.col_folds(layer)
            computing = (folds - 1) * max(steps, self.rows // lanes) + steps
        return computing + pipeline + self._last(layer, lanes)

    def latency(self, layer: MatrixSpec, lanes: int) -> int:
        """Cycles from a frame's first activation word to its last beat of sums, both counted.

        Of the array alone, exact where ``cycles`` is.
        """
        whole = self.group_cycles(layer, lanes, self.pixels)
        loads = self.pixels * self.col_folds(layer)
        if self.groups(layer) > 1:  # the last group may load faster; those before it have to leave
            last = max(
                self.group_cycles(layer, lanes, self._rest(layer)), self._sending(layer, lanes)
            )
            loads += (self.groups(layer) - 2) * whole + last
        return loads + self.tail(layer, lanes)

    def _sending(self, layer: MatrixSpec, lanes: int) -> int:
        """Beats of a whole group behind a result memory."""
        return self.pixels * -(-layer.matrix_rows // lanes) if self.reorders(lanes) else 0

    def outline(self, layer: LayerSpec, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        if not isinstance(layer, ConvSpec):
            return self.cost(layer, ins, lanes)
        (source,) = ins
        cost, window = self._array_cost(layer, lanes), self.window(layer)
        return replace(
            cost,
            cycles=max(cost.cycles, source.count, window.input_beats, window.output_beats),
            buffer_bits=cost.buffer_bits + window.buffer_bits(layer.in_format.bits),
        )

    def cost(self, layer: LayerSpec, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        assert isinstance(layer, LinearSpec | ConvSpec)
        (source,) = ins
        after = SLICE_LATENCY + requantize_latency(layer)
        cost = self._array_cost(layer, lanes)
        if isinstance(layer, ConvSpec):
            return self._conv_cost(cost, layer, source, lanes)
        load, words = self.col_folds(layer), Beats((layer.in_features,), self.cols)
        if repacks(source, words):
            load = repack_cost(source, words, masked=False).latency
        return replace(
            cost,
            cycles=max(cost.cycles, source.count),
            input_beats=source.count,
            latency=load + self.tail(layer, lanes) + after,
        )

    def needs(self, layer: LayerSpec, ins: tuple[Beats, ...], lanes: int) -> tuple[np.ndarray, ...]:
        """The vectors of a group are computed together."""
        return layer.needs(ins, lanes, self.pixels)

    def window(self, layer: ConvSpec) -> WindowBuffer:
        """The window in front of the array."""
        return WindowBuffer(layer, self.window_lanes(layer), self.banks(layer), "vector")

    def _conv_cost(self, cost: StageCost, layer: ConvSpec, source: Beats, lanes: int) -> StageCost:
        window = self.window(layer)
        computing = max(self.steps(layer), self._sending(layer, lanes))
        if not self.reorders(lanes):
            computing = self.vector_cycles(layer, lanes)
        # When the last word of each group comes, and when the last group is computed from there.
        ends = vector_ends(window, source)
        loaded = np.append(ends[self.pixels - 1 : -1 : self.pixels], ends[-1])
        start = int((loaded + np.arange(len(loaded))[::-1] * computing).max()) + 1
        after = SLICE_LATENCY + requantize_latency(layer)
        fed = frame_cycles(window, source, self.pixels, *self.pipeline(layer, lanes))
        return replace(
            cost,
            cycles=max(cost.cycles, source.count, fed),
            input_beats=source.count,
            latency=start + self.tail(layer, lanes) + after,
            buffer_bits=cost.buffer_bits + window.buffer_bits(layer.in_format.bits),
        )

    def pipeline(self, layer: MatrixSpec, lanes: int) -> tuple[int, Sending | None]:
        """Cycles to compute a group of vectors, and how its sums leave a result memory."""
        if not self.reorders(lanes):
            return self.vector_cycles(layer, lanes), None
        word = max(self.rows, lanes)
        words, beats = -(-layer.matrix_rows // word), word // lanes
        last = -(-(layer.matrix_rows - (words - 1) * word) // lanes)
        # A sparse array's first fold may end after its first step.
        first = self.col_folds(layer) if self.tiles is None else 1
        delay = self.sum_stages()
        return self.steps(layer), Sending(words, beats, last, first, delay)

    def _array_cost(self, layer: MatrixSpec, lanes: int) -> StageCost:
        """The array and its requantizer, without what stands before them."""
        requantize, beats = layer.requantize, -(-layer.matrix_rows // lanes)
        activation, weight = layer.in_format.bits, layer.weight_format.bits
        words, steps = self.col_folds(layer), self.steps(layer)
        frame_steps = self.groups(layer) * steps
        count = self.rows * self.cols * self.pixels
        multipliers = [(count, activation, weight)]
        if requantize.multiplies:
            multipliers.append((lanes, layer.accumulator().bits, requantize.m_bits))
        macs = layer.macs()
        kept = layer.storage.weights(layer.matrix_rows, layer.matrix_columns) * layer.vectors
        parameter_bits = beats * lanes * requantize.channel_bits() + requantize.layer_bits()
        if self.tiles is not None:
            marks = int(self.per_fold(layer) is None)
            parameter_bits += self.tiles * (index_bits(words) + marks)
        buffer_bits = 2 * self.pixels * words * self.cols * activation
        if self.reorders(lanes):
            word = max(self.rows, lanes)
            results = -(-layer.matrix_rows // word) * word * layer.accumulator().bits
            buffer_bits += 2 * self.pixels * results
        return StageCost(
            cycles=self.cycles(layer, lanes),
            ideal_cycles=Fraction(macs if self.tiles is None else kept, count),
            input_beats=layer.vectors * words,
            output_beats=layer.vectors * beats,
            latency=self.latency(layer, lanes),
            macs=macs,
            kept_macs=kept,
            steps=frame_steps,
            weight_words=frame_steps * self.rows * self.cols,
            activation_words=frame_steps * self.cols * self.pixels,
            multipliers=tuple(multipliers),
            weight_bits=steps * self.rows * self.cols * weight,
            parameter_bits=parameter_bits,
            buffer_bits=buffer_bits,
        )


def index_bits(count: int) -> int:
    """Bits of a number below ``count``, at least 1."""
    return max(1, (count - 1).bit_length())


def weight_codes(node: Node) -> np.ndarray:
    """The codes of a node's weight matrix, int64 [M, N]; a weight that is not kept has code 0."""
    return _expanded(node, node.tensors["weight"])


def kept_weights(node: Node) -> np.ndarray:
    """Which weights of a node's matrix are kept, whatever their value: bool [M, N]."""
    return _expanded(node, np.ones_like(node.tensors["weight"])) != 0


def _expanded(node: Node, weight: np.ndarray) -> np.ndarray:
    """Numbers in the place of the kept weights as a matrix, 0 elsewhere; int64 [M, N]."""
    layer, plain = node.spec, UniformFormat(16, True)  # a format whose values are the codes
    tensors = {**node.tensors, "weight": weight}
    return layer.storage.expand(tensors, layer.matrix_rows, layer.matrix_columns, plain)


def _padded(array: np.ndarray, multiple: int) -> np.ndarray:
    """The last axis filled up with -1 to a multiple."""
    width = [(0, 0)] * (array.ndim - 1) + [(0, -array.shape[-1] % multiple)]
    return np.pad(array, width, constant_values=-1)


def check_storage(node: Node) -> None:
    """Raise BadInput unless the weights of a node are stored as a PE array reads them."""
    layer = node.spec
    if not isinstance(layer.storage, DenseStorage | BlockSparseStorage):
        raise BadInput(
            node.name,
            f"{layer.storage.describe()} weights of {layer.arithmetic.kind} arithmetic",
            "dense or block-sparse weights, which are all that a PE array reads",
            'export the network with arithmetic = "fft", which circulant arrays compute, '
            "or compress the layer without such blocks, or leave it to the golden model",
        )


def requantize_latency(layer: MatrixSpec) -> int:
    """Register stages of the requantizer: operands, product (if it multiplies), result."""
    return 3 if layer.requantize.multiplies else 2
