"""The arithmetic of processing in memory: column counts of macros, converted, shifted and added.

The weights lie in the cells of macros as integer levels; the activations enter bit by bit on the
word lines. With tiles t of at most ``rows`` word lines, slices s of a weight and bits b of an
activation::

    count[t, s, b, o] = sum over lines r of tile t of bit_b(x[r]) * (level[s, o, r] - off)
    code[t, s, b, o]  = count                                               exact
                      = clamp((count + step // 2) // step, low, high)       a converter of adc_bits
    acc[o]            = sum over t, s, b of factor[s] * place[b] * code[t, s, b, o]

``place[b]`` is 2^b, and negative for the top bit of signed activations. The reference column takes
the off current away before the converter. The accumulators stand for ``2^grid_bits / step`` times
those of exact arithmetic; where every cell is nominal and the converter exact, they equal them
times ``2^grid_bits``.

Forms of a signed weight value v:

``twos_complement``
    ``v = sum_s d_s 2^(s c) - 2^(W - 1) sign`` with W the bits of the weight's values and c those
    of a cell: ``ceil((W - 1) / c)`` slices of the low bits, then a slice for the sign, which holds
    level ``2^(m - 1)``, m = min(c, W), at the factor ``-2^(W - m)``: so a converter's step weighs
    no more there than in the slice below. Unsigned weights have no sign slice. The converter's
    codes are 0 to ``2^adc_bits - 1``.
``pairs``
    ``v = sum_s base^s (positive_s - negative_s)``: of each pair of neighbouring columns one holds
    the digit of the magnitude and the other state zero, or nothing where zero is no state. The
    converter takes the difference of the two: its codes are ``-2^(adc_bits - 1)`` to
    ``2^(adc_bits - 1) - 1``. ``base`` is the number of states, rounded up to a power of two.

Word lines. Dense weights have a line for each input. Block-sparse ones have the inputs of each
column group of which a block is kept. Circulant ones have k for each block of inputs, those that
pad a block included: line t of a block of q holds ``w[p, q, t]``, and in step i, which gives output
i of each block row, the activation ``x[(i - t) mod k]`` stands on it; so a cell is used k times.
Lines are put into tiles in ascending order; a group, or a block, that does not fit into what is
left of a tile begins the next, and a group of more than ``rows`` lines is cut.

Source: bit-serial digital processing in memory, dot(I, W) = sum_m sum_n 2^(m+n) popcount(AND(I_m,
W_n)); pairs of cells: the memristor framework, arXiv 1908.11691.
"""

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np

from model.ir.arithmetic import Arithmetic
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.block_sparse import BlockSparseStorage
from model.ir.errors import BadInput
from model.ir.layer import check_span
from model.ir.matrix import MatrixSpec
from model.ir.numerics import IntRange, UniformFormat, check_intermediate
from model.ir.spec import check_int

FORMS = ("twos_complement", "pairs")
ROWS_MAX = 1024
CELL_BITS_MAX = 4
GRID_BITS_MAX = 8
LEVEL_BITS_MAX = 15
ADC_BITS_MAX = 16
STEP_MAX = 1 << 20

_PLAIN = UniformFormat(16, True)
"""Decodes a number to itself: so a storage expands cells as it does weights."""


@dataclass(frozen=True)
class PIMArithmetic(Arithmetic, kind="pim"):
    """Column counts of macros whose cells hold the weights.

    Parameters
    ----------
    rows : int
        Word lines of a macro, 1 to 1024. Its columns change no code: they belong to the mapping.
    cell_bits : int
        Bits of a cell's state, 1 to 4.
    form : str
        How a signed weight stands in cells: ``"twos_complement"`` or ``"pairs"``.
    adc_bits : int or None
        Bits of the converter, which saturates; None counts exactly.
    step : int
        Levels of the grid that a converter's code stands for; 1 if it is exact.
    states : tuple of int
        Levels of a cell's states, ascending and at least 1, at most ``2^cell_bits`` of them; only
        of pairs. Empty stands for 0 to ``2^cell_bits - 1``.
    grid_bits : int
        Fraction bits of a level: a state's nominal level is ``(state << grid_bits) + off``.
    off : int
        Level of a cell that holds 0 (finite on/off ratio), which the reference column takes away.
    device : bool
        Whether the cells' actual levels come with the layer, as the tensor ``cells``.

    Tensor ``cells``, if ``device``: int64 [columns per weight, *shape of weight], 0 to
    ``level_top``, in the order of the columns (slices ascending, positive before negative). So only
    kept weights have cells, and a circulant block has k of them for each slice. A position of an
    occupied column where no weight is kept has level ``off`` exactly.
    """

    rows: int
    cell_bits: int
    form: str
    adc_bits: int | None = None
    step: int = 1
    states: tuple[int, ...] = ()
    grid_bits: int = 0
    off: int = 0
    device: bool = False

    def __post_init__(self) -> None:
        check_int("rows", self.rows, 1, ROWS_MAX)
        check_int("cell_bits", self.cell_bits, 1, CELL_BITS_MAX)
        if self.form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, not {self.form!r}")
        if self.adc_bits is not None:
            check_int("adc_bits", self.adc_bits, 1, ADC_BITS_MAX)
        check_int("step", self.step, 1, 1 if self.adc_bits is None else STEP_MAX)
        check_int("grid_bits", self.grid_bits, 0, GRID_BITS_MAX)
        check_int("off", self.off, 0)
        check_int("the number of states", len(self.states), 0, 1 << self.cell_bits)
        for state in self.states:
            check_int("state", state, 1)
        if any(a >= b for a, b in itertools.pairwise(self.states)):
            raise ValueError(f"states must ascend, not {self.states}")
        if self.states and self.form != "pairs":
            raise ValueError(
                "states of their own must stand in pairs: bit slices need 0 to 2^c - 1"
            )
        check_int("bits of a cell's level", self.level_bits, 1, LEVEL_BITS_MAX)

    # -- cells

    @property
    def sides(self) -> int:
        """Columns of a slice: 2 in pairs."""
        return 2 if self.form == "pairs" else 1

    @property
    def ends(self) -> tuple[int, int]:
        """Levels at which cells get stuck: those of the lowest and of the highest state."""
        lowest = self.states[0] if self.states else 0
        return (lowest << self.grid_bits) + self.off, self.top

    @property
    def top(self) -> int:
        """The highest nominal level, ``off`` included."""
        highest = self.states[-1] if self.states else (1 << self.cell_bits) - 1
        return (highest << self.grid_bits) + self.off

    @property
    def level_bits(self) -> int:
        """Bits of a cell's level: one more than the nominal ones need if cells may deviate."""
        return self.top.bit_length() + self.device

    @property
    def level_top(self) -> int:
        """The highest level that a cell can hold."""
        return (1 << self.level_bits) - 1 if self.device else self.top

    @property
    def base(self) -> int:
        """Factor from a slice of pairs to the next."""
        if not self.states:
            return 1 << self.cell_bits
        return max(2, 1 << (len(self.states) - 1).bit_length())

    def factors(self, layer: MatrixSpec) -> tuple[int, ...]:
        """Factor of each slice of a weight, the lowest first; the sign's is negative."""
        span = layer.weight_format.values
        if self.form == "pairs":
            largest, found = max(abs(span.low), abs(span.high)), [1]
            highest = self.top - self.off >> self.grid_bits
            while highest * sum(found) < largest:
                found.append(found[-1] * self.base)
            return tuple(found)
        low_bits = span.bits - span.signed
        found = [1 << n for n in range(0, low_bits, self.cell_bits)]
        if span.signed:
            found.append(-(1 << (span.bits - min(self.cell_bits, span.bits))))
        return tuple(found)

    def columns_per_weight(self, layer: MatrixSpec) -> int:
        """Columns that hold a weight: slices, times 2 in pairs."""
        return self.sides * len(self.factors(layer))

    def states_of(self, layer: MatrixSpec, values: np.ndarray, thing: str) -> np.ndarray:
        """States of the cells of weight values (any shape), int64 [columns per weight, *shape].

        0 where a cell of a pair holds nothing. Raises BadInput for a value beyond the level table.
        """
        slices = len(self.factors(layer))
        if self.form == "pairs":
            digits = self._digits(np.abs(values), slices, thing)
            sides = [digits * (values > 0), digits * (values < 0)]
            return np.stack(sides, axis=1).reshape(2 * slices, *values.shape)
        span = layer.weight_format.values
        low_bits, mask = span.bits - span.signed, (1 << self.cell_bits) - 1
        low = values & ((1 << low_bits) - 1)
        found = [(low >> n) & mask for n in range(0, low_bits, self.cell_bits)]
        if span.signed:
            found.append((values < 0) * (1 << (min(self.cell_bits, span.bits) - 1)))
        return np.stack(found).astype(np.int64)

    def _digits(self, magnitudes: np.ndarray, slices: int, thing: str) -> np.ndarray:
        """Digits int64 [slices, *shape] of magnitudes; 0 has none."""
        if not self.states:
            mask = self.base - 1
            return np.stack([magnitudes >> (s * self.cell_bits) & mask for s in range(slices)])
        known, held = _table(self.states, self.base, slices)
        place = np.searchsorted(known, magnitudes).clip(max=len(known) - 1)
        wrong = magnitudes[(known[place] != magnitudes) & (magnitudes != 0)]
        if wrong.size:
            raise BadInput(
                f"{thing}.weight",
                f"a weight of magnitude {wrong[0]}",
                f"0 or one of the {len(known)} magnitudes of {slices} slices of the states "
                f"{list(self.states)}",
                "train with these levels (constraint conductance), or name the states it has",
            )
        return np.moveaxis(held[place], -1, 0) * (magnitudes != 0)

    def nominal(self, layer: MatrixSpec, tensors: dict[str, np.ndarray]) -> np.ndarray:
        """Nominal levels of the cells, int64 [columns per weight, *shape of weight]."""
        values = layer.weight_format.decode(tensors["weight"])
        return (self.states_of(layer, values, "layer") << self.grid_bits) + self.off

    def levels(self, layer: MatrixSpec, tensors: dict[str, np.ndarray]) -> np.ndarray:
        """Actual levels of the cells, int64 [columns per weight, *shape of weight]."""
        return tensors["cells"] if self.device else self.nominal(layer, tensors)

    def slice_matrices(self, layer: MatrixSpec, tensors: dict[str, np.ndarray]) -> np.ndarray:
        """What each slice adds to a count, int64 [slices, matrix rows, matrix columns].

        Levels less ``off``; in pairs, the positive cell's less the negative one's.
        """
        net = self.levels(layer, tensors) - self.off
        if self.sides == 2:
            net = net[0::2] - net[1::2]
        size = layer.matrix_rows, layer.matrix_columns
        return np.stack(
            [layer.storage.expand({**tensors, "weight": part}, *size, _PLAIN) for part in net]
        )

    # -- word lines

    def line_inputs(self, layer: MatrixSpec) -> np.ndarray:
        """Input of each word line of step 0, int64 [lines]; -1 for a line that pads a block."""
        storage = layer.storage
        if not isinstance(storage, BlockCirculantStorage):
            return np.arange(layer.matrix_columns)
        channels = layer.matrix_columns // storage.positions
        padded = -(-channels // storage.k) * storage.k
        channel = np.arange(padded)
        inputs = channel + channels * np.arange(storage.positions)[:, None]
        return np.where(channel < channels, inputs, -1).ravel()

    def stored(self, layer: MatrixSpec, tensors: dict[str, np.ndarray]) -> np.ndarray:
        """The matrix that lies in the cells, as numbers of stored weights, int64 [outputs, lines].

        Counted from 1 in the order of ``weight``; 0 where none is kept. Outputs are rows of the
        matrix, or block rows where the blocks are circulant.
        """
        storage, weight = layer.storage, tensors["weight"]
        ids = np.arange(1, weight.size + 1).reshape(weight.shape)
        if isinstance(storage, BlockCirculantStorage):
            return ids.reshape(len(ids), -1)
        size = layer.matrix_rows, layer.matrix_columns
        return storage.expand({**tensors, "weight": ids}, *size, _PLAIN)

    def kept(self, layer: MatrixSpec, tensors: dict[str, np.ndarray]) -> np.ndarray:
        """Where a weight is kept, bool [matrix rows, lines]."""
        kept = self.stored(layer, tensors) > 0
        if isinstance(layer.storage, BlockCirculantStorage):
            kept = kept.repeat(layer.storage.k, axis=0)[: layer.matrix_rows]
        return kept

    def tiles(self, layer: MatrixSpec, tensors: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Word lines of each tile, ascending: int64 arrays of 1 to ``rows`` lines."""
        found: list[np.ndarray] = []
        current: list[np.ndarray] = []
        for group in self._groups(layer, tensors):
            for start in range(0, len(group), self.rows):
                part = group[start : start + self.rows]
                if current and sum(map(len, current)) + len(part) > self.rows:
                    found.append(np.concatenate(current))
                    current = []
                current.append(part)
        return (*found, np.concatenate(current)) if current else tuple(found)

    def _groups(self, layer: MatrixSpec, tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Lines that a tile takes together, if they fit."""
        storage = layer.storage
        if isinstance(storage, BlockCirculantStorage):
            return list(np.arange(len(self.line_inputs(layer))).reshape(-1, storage.k))
        lines = np.arange(layer.matrix_columns)
        if isinstance(storage, BlockSparseStorage):
            groups = np.split(lines, np.cumsum(tensors["column_sizes"])[:-1])
            kept = tensors["mask"].any(axis=0)
            return [group for group, one in zip(groups, kept, strict=True) if one]
        return [lines]

    def tiles_max(self, layer: MatrixSpec) -> int:
        """The most tiles that the layer can have, whatever its tensors."""
        storage, columns = layer.storage, layer.matrix_columns
        if isinstance(storage, BlockCirculantStorage):
            blocks = storage.grid(layer.matrix_rows, columns)[1]
            return -(-blocks // (self.rows // storage.k))
        if not isinstance(storage, BlockSparseStorage):
            return -(-columns // self.rows)
        size = storage.column_size
        if size is not None and size <= self.rows:
            return -(-storage.column_groups // (self.rows // size))
        return min(columns, storage.column_groups + columns // self.rows)

    # -- activations and converter

    def places(self, layer: MatrixSpec) -> tuple[int, ...]:
        """What each bit of an activation counts, the lowest first."""
        span = layer.in_format.values
        found = [1 << n for n in range(span.bits)]
        if span.signed:
            found[-1] = -found[-1]
        return tuple(found)

    def evaluations(self, layer: MatrixSpec) -> int:
        """Evaluations of each macro for a vector: activation bits, times k for circulant blocks."""
        storage = layer.storage
        steps = storage.k if isinstance(storage, BlockCirculantStorage) else 1
        return len(self.places(layer)) * steps

    def net(self) -> IntRange:
        """What a cell, or a pair of cells, adds to a count."""
        high = self.level_top - self.off
        if self.form == "pairs":
            reach = self.level_top if self.device else high
            return IntRange(-reach, reach)
        return IntRange(-self.off if self.device else 0, high)

    def counts(self, layer: MatrixSpec) -> IntRange:
        """Range of a count before the converter, off current taken away."""
        return self.net().sum_of(min(self.rows, len(self.line_inputs(layer))))

    def raised(self, layer: MatrixSpec) -> IntRange:
        """Range of a count before and after a half step is added."""
        counts = self.counts(layer)
        return IntRange(counts.low, counts.high + self.step // 2)

    def codes(self, layer: MatrixSpec) -> IntRange:
        """Range of what the converter gives."""
        if self.adc_bits is None:
            return self.counts(layer)
        return IntRange.of_bits(self.adc_bits, self.form == "pairs")

    # -- the contract of an arithmetic

    def check_layer(self, layer: MatrixSpec) -> None:
        storage = layer.storage
        if getattr(layer, "groups", 1) != 1:
            raise ValueError("pim arithmetic needs a convolution of one group, not a depthwise one")
        if isinstance(storage, BlockCirculantStorage) and storage.k > self.rows:
            raise ValueError(
                f"circulant blocks of k = {storage.k} must fit the {self.rows} word lines of a "
                "macro: use smaller blocks or larger macros"
            )
        check_intermediate("accumulators", self.accumulator(layer))

    def accumulator(self, layer: MatrixSpec) -> IntRange:
        """Range of an accumulator. Sums on the way may wrap in a word of its bits."""
        x = layer.in_format.values
        terms = layer.storage.terms(layer.matrix_columns)
        if self.adc_bits is None:
            if not self.device:
                unit = 1 << self.grid_bits
                return (layer.product() * IntRange(unit, unit)).sum_of(terms)
            weight = IntRange(0, 0)
            for factor in self.factors(layer):
                weight += self.net() * IntRange(factor, factor)
            return (weight * x).sum_of(terms)
        span, total = self.codes(layer), IntRange(0, 0)
        for factor in self.factors(layer):
            for place in self.places(layer):
                total += span * IntRange(factor * place, factor * place)
        return total.sum_of(self.tiles_max(layer))

    def chip_bits(self, layer: MatrixSpec) -> int:
        """``cell_bits`` for each cell that holds a part of a weight."""
        return layer.weights() * self.columns_per_weight(layer) * self.cell_bits

    def tensor_shapes(self, layer: MatrixSpec) -> dict[str, tuple[int, ...]]:
        if not self.device:
            return {}
        weight = layer.storage.tensor_shapes(layer.matrix_rows, layer.matrix_columns)["weight"]
        return {"cells": (self.columns_per_weight(layer), *weight)}

    def check(self, layer: MatrixSpec, tensors: dict[str, np.ndarray], thing: str) -> None:
        self.states_of(layer, layer.weight_format.decode(tensors["weight"]), thing)
        if self.device:
            check_span(
                f"{thing}.cells",
                tensors["cells"],
                IntRange(0, self.level_top),
                "draw the cells again with this arithmetic",
            )


@cache
def _table(states: tuple[int, ...], base: int, slices: int) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes ascending, int64 [n], and the states of their slices, int64 [n, slices].

    Where two sets of states give a magnitude, the one with the lowest top slice counts.
    """
    held: dict[int, tuple[int, ...]] = {}
    for digits in itertools.product(states, repeat=slices):  # the top slice first
        value = 0
        for digit in digits:
            value = value * base + digit
        held.setdefault(value, digits[::-1])
    known = sorted(held)
    return np.array(known, dtype=np.int64), np.array([held[m] for m in known], dtype=np.int64)
