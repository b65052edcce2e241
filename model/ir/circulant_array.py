"""The circulant engine: block rows of circulant blocks at once, in the Fourier domain.

A vector is q blocks of k activations, and the weights are p × q circulant blocks. A step multiplies
the spectrum of one block by one block of each of ``lanes`` block rows; after q steps their spectral
sums are complete, and the next ``lanes`` block rows follow: ``ceil(p / lanes)`` groups. Each block
of activations is transformed once, each block of sums once.

The lanes stand in sets, one behind the other, each a step later than the one before. So the sums of
a group leave set by set, one a cycle, while the next group accumulates: no register has to hold
them, and a word of activations reaches no more than one set at a time.
"""

from collections import deque
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from model.ir.beats import Beats
from model.ir.complex_product import Multipliers, check_form
from model.ir.conv import ConvSpec
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.fft_arithmetic import FFTArithmetic
from model.ir.fft_unit import INTERVAL_MAX, FFTUnitSpec
from model.ir.layer import LayerSpec
from model.ir.linear import LinearSpec
from model.ir.mapping import MAX_LANES, EngineSpec
from model.ir.matrix import MatrixSpec
from model.ir.network import Node
from model.ir.pe_array import SLICE_LATENCY, requantize_latency
from model.ir.real_fft import check_size
from model.ir.repack import repack_latency, repack_needs, repacks
from model.ir.spec import check_int
from model.ir.window_buffer import WindowBuffer
from model.ir.window_feed import frame_cycles, vector_ends

BODIES = ("pipelined", "folded")

MAC_LATENCY = 3
"""Cycles from a weight word to the sums that it is part of: operands, products, accumulators."""

PICK_LATENCY = 2
"""Registers behind the lanes: the choice of a set, and the shift of its sums."""

QUEUE_LATENCY = 2
"""Cycles from a set's sums into the empty drain buffer to their way out."""


@dataclass(frozen=True)
class CirculantArraySpec(EngineSpec, kind="circulant_array"):
    """A circulant engine.

    Parameters
    ----------
    k : int
        Points of a block: the codes of an input beat.
    lanes : int
        Block rows worked on at once, each by a spectral multiply-accumulator.
    body : str
        ``"pipelined"``: the transforms take a block a cycle. ``"folded"``: they take one as often
        as the rate asks for, with fewer multipliers.
    form : int
        Real multipliers of a complex product: 3 or 4.

    With a grid of p × q blocks, V vectors a frame, output beats of ``lanes'`` codes, ``G = ceil(p /
    lanes)`` groups, ``d = max(1, lanes' / k)`` blocks a beat, ``z = max(1, k / lanes')`` beats a
    block, and ``B = lanes / d`` sets of d lanes:

    ==================  =======================================================================
    cycles per frame    ``V · G · q``; the drain keeps up, for ``check`` asks for ``B · z <= q``
    forward units       1, which takes a block every ``If`` cycles: 1, or folded G
    inverse units       d, which take a block every ``Ii`` cycles: 1, or folded
                        ``max(1, floor(q / B) - z + 1)``. The fewest that the rate allows are
                        ``ceil(lanes / q)`` or, since d divides ``lanes``, the next divisor:
                        ``drain_lanes``
    weight memory       ``p · q · k`` numbers of a spectrum: what FFTArithmetic.chip_bits says
    spectrum buffer     ``2 · q · k`` words (two vectors: one loads while one is computed)
    drain buffer        ``(B + 1) · d · k`` shifted sums if the inverse units cannot take and
                        send a block a cycle (``Ii + z > 2``); else none
    multipliers         ``lanes · (2 + form · (k/2 - 1))`` of the lanes, those of the units, and
                        ``lanes'`` of accumulator × m bits where the requantization multiplies
    ==================  =======================================================================

    Intervals are at most 64. The latency of a stage is exact, except that of a folded convolution:
    it is the most that the arrival of a frame allows. Source of the data flow: C-LSTM, arXiv
    1803.06305.
    """

    k: int
    lanes: int
    body: str = "pipelined"
    form: int = 3

    def __post_init__(self) -> None:
        check_size("k", self.k)
        check_int("lanes", self.lanes, 1, MAX_LANES)
        check_form(self.form)
        if self.body not in BODIES:
            raise ValueError(f"body must be one of {', '.join(BODIES)}, not {self.body!r}")

    @property
    def cols(self) -> int:
        """Codes of an input beat."""
        return self.k

    def groups(self, layer: MatrixSpec) -> int:
        """Groups of block rows, ``G``."""
        return -(-_fft(layer).grid(layer)[0] // self.lanes)

    def steps(self, layer: MatrixSpec) -> int:
        """Steps of a vector, ``G · q``: its cycles."""
        return self.groups(layer) * _fft(layer).grid(layer)[1]

    def blocks_per_beat(self, lanes: int) -> int:
        """Blocks of an output beat, ``d``: the inverse units, and the lanes of a set."""
        return max(1, lanes // self.k)

    def beats_per_block(self, lanes: int) -> int:
        """Output beats of a block, ``z``."""
        return max(1, self.k // lanes)

    def sets(self, lanes: int) -> int:
        """Sets of lanes, ``B``."""
        return self.lanes // self.blocks_per_beat(lanes)

    def last_sets(self, layer: MatrixSpec, lanes: int) -> int:
        """Sets whose sums leave at the end of a vector, in its last group."""
        rows = _fft(layer).grid(layer)[0] - (self.groups(layer) - 1) * self.lanes
        return -(-rows // self.blocks_per_beat(lanes))

    def lane_groups(self, layer: MatrixSpec, lane: int) -> int:
        """Block rows that a lane computes: all groups, or all but the last."""
        return -(-(_fft(layer).grid(layer)[0] - lane) // self.lanes)

    def out_lanes(self, layer: MatrixSpec) -> list[int]:
        """Output lanes that fit the engine, ascending: of several vectors no beat holds two."""
        parts = [d for d in range(1, self.k) if self.k % d == 0]
        whole = [d * self.k for d in range(1, self.lanes + 1) if self.lanes % d == 0]
        most = MAX_LANES if layer.vectors == 1 else min(MAX_LANES, layer.matrix_rows)
        return [lanes for lanes in parts + whole if lanes <= most]

    def drain_lanes(self, layer: MatrixSpec) -> int | None:
        """Fewest output lanes with which a group leaves while the next is computed, if any do."""
        return next((n for n in self.out_lanes(layer) if self.drains(layer, n)), None)

    def drains(self, layer: MatrixSpec, lanes: int) -> bool:
        """Whether a group leaves in the cycles in which the next is computed."""
        return self.sets(lanes) * self.beats_per_block(lanes) <= _fft(layer).grid(layer)[1]

    def forward_unit(self, layer: MatrixSpec) -> FFTUnitSpec:
        """The unit that transforms the activations."""
        interval = 1 if self.body == "pipelined" else min(self.groups(layer), INTERVAL_MAX)
        return FFTUnitSpec(_fft(layer).forward(layer), self.form, interval)

    def inverse_unit(self, layer: MatrixSpec, lanes: int) -> FFTUnitSpec:
        """Each of the ``blocks_per_beat`` units that transform the sums."""
        q, interval = _fft(layer).grid(layer)[1], 1
        if self.body == "folded":
            spare = q // self.sets(lanes) - self.beats_per_block(lanes) + 1
            interval = min(max(1, spare), INTERVAL_MAX)
        return FFTUnitSpec(_fft(layer).inverse(layer), self.form, interval)

    def pitch(self, layer: MatrixSpec, lanes: int) -> int:
        """Cycles in which the inverse units take and send a block each."""
        return self.inverse_unit(layer, lanes).interval + self.beats_per_block(lanes) - 1

    def queue_depth(self, layer: MatrixSpec, lanes: int) -> int:
        """Places of the drain buffer, the last one a register; 0 if there is none."""
        return 0 if self.pitch(layer, lanes) == 1 else self.sets(lanes) + 2

    def multipliers(self, layer: MatrixSpec, lanes: int) -> Multipliers:
        """Multipliers of the engine: lanes, forward unit, inverse units."""
        units = [(self.lanes, _fft(layer).lane_multipliers(layer, self.form))]
        units.append((1, self.forward_unit(layer).multipliers()))
        inverse = self.inverse_unit(layer, lanes)
        units.append((self.blocks_per_beat(lanes), inverse.multipliers()))
        return tuple((n * count, a, b) for n, found in units for count, a, b in found)

    def multiplier_count(self, layer: MatrixSpec, lanes: int) -> int:
        """Multipliers of the engine, of any width."""
        return sum(count for count, _, _ in self.multipliers(layer, lanes))

    def check(self, node: Node, lanes: int) -> None:
        layer = node.spec
        if not isinstance(layer, LinearSpec | ConvSpec) or not isinstance(
            layer.arithmetic, FFTArithmetic
        ):
            arithmetic = getattr(getattr(layer, "arithmetic", None), "kind", "no")
            raise BadInput(
                f"mapping: engine of {node.name}",
                "a circulant array",
                f"an engine for {layer.kind!r} layers of {arithmetic} arithmetic",
                "map the layer to another engine, or export it with arithmetic = 'fft'",
            )
        p, q = layer.arithmetic.grid(layer)
        if self.k != layer.arithmetic.k:
            raise BadInput(
                f"mapping: k of the circulant array of {node.name}",
                self.k,
                f"the {layer.arithmetic.k} of the layer's blocks",
                "plan again",
            )
        if self.lanes > p:
            raise BadInput(
                f"mapping: lanes of the circulant array of {node.name}",
                self.lanes,
                f"at most the {p} block rows of the layer",
                "plan again",
            )
        if lanes not in self.out_lanes(layer):
            raise BadInput(
                f"mapping: lanes of {node.name}",
                lanes,
                f"a divisor of k = {self.k}, or k times a divisor of the {self.lanes} lanes of its "
                f"circulant array: one of {self.out_lanes(layer)}",
                "plan again",
            )
        if not self.drains(layer, lanes):
            least = self.drain_lanes(layer)
            raise BadInput(
                f"mapping: lanes of {node.name}",
                lanes,
                f"at least {least}, so that a group of block rows leaves within {q} cycles"
                if least
                else f"a circulant array of fewer than {self.lanes} lanes",
                "plan again",
            )

    def _ends(self, layer: MatrixSpec, entered: np.ndarray, lanes: int) -> int:
        """Cycles to the end of a frame's last beat of sums, counted from cycle 0.

        Through an idle engine that is not stalled; ``entered`` are the cycles in which the last
        block of each vector enters the forward unit.
        """
        steps, vectors = self.steps(layer), len(entered)
        waiting = int((entered + (vectors - np.arange(vectors)) * steps).max())
        offered = waiting + self.forward_unit(layer).latency + 1 + MAC_LATENCY + PICK_LATENCY
        if self.queue_depth(layer, lanes):
            offered += QUEUE_LATENCY
        return self._sent(layer, lanes, offered)

    def _sent(self, layer: MatrixSpec, lanes: int, offered: int) -> int:
        """Cycles to the end of the last beat, if the last group's first sums come in ``offered``.

        The inverse units halt while the beats of a block leave, ``z`` cycles for each. In cycle
        ``c`` of those in which they advance, block j enters; in ``c + latency`` it leaves. The
        groups before the last count as far as their beats may still be leaving.
        """
        p, q = _fft(layer).grid(layer)
        unit, parts = self.inverse_unit(layer, lanes), self.beats_per_block(lanes)
        if parts == 1:
            pitch = (self.last_sets(layer, lanes) - 1) * unit.interval
            return offered + pitch + unit.latency + 1
        groups = self.groups(layer)
        seen = min(layer.vectors * groups, 3 + unit.latency * parts // q)
        last = -(-(layer.matrix_rows - (p - 1) * self.k) // lanes)  # beats of the last block
        blocks = []
        for before in range(seen - 1, -1, -1):
            ends = before % groups == 0
            count = self.last_sets(layer, lanes) if ends else self.sets(lanes)
            blocks += [(offered - before * q + n, parts) for n in range(count)]
            if ends:
                blocks[-1] = blocks[-1][0], last
        leaving: deque[tuple[int, int]] = deque()
        cycle, halts, at = 0, 0, 0
        for come, beats in blocks:
            while True:
                while leaving and leaving[0][0] < cycle:
                    halts += leaving.popleft()[1] - 1
                at = cycle + halts
                if leaving and leaving[0][0] == cycle:
                    at += leaving[0][1] - 1
                if at >= come:
                    break
                cycle += 1 if leaving else come - at
            leaving.append((cycle + unit.latency, beats))
            cycle += unit.interval
        end = leaving[-1][0] + halts + sum(beats - 1 for _, beats in leaving)
        return end + 1

    def latency(self, layer: MatrixSpec, lanes: int) -> int:
        """Cycles from a frame's first beat to its last beat of sums, both counted: the engine's."""
        q, interval = _fft(layer).grid(layer)[1], self.forward_unit(layer).interval
        return self._ends(layer, (np.arange(layer.vectors) * q + q - 1) * interval, lanes)

    def window(self, layer: ConvSpec) -> WindowBuffer:
        """The window in front of the array: a block of a kernel position a beat."""
        return WindowBuffer(layer, self.k, 1, "vector")

    def outline(self, layer: LayerSpec, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        assert isinstance(layer, LinearSpec | ConvSpec)
        (source,) = ins
        cost = self._array_cost(layer, source, lanes)
        if not isinstance(layer, ConvSpec):
            return cost
        window = self.window(layer)
        return replace(
            cost,
            cycles=max(cost.cycles, window.input_beats, window.output_beats),
            buffer_bits=cost.buffer_bits + window.buffer_bits(layer.in_format.bits),
        )

    def cost(self, layer: LayerSpec, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        assert isinstance(layer, LinearSpec | ConvSpec)
        (source,) = ins
        cost = self._array_cost(layer, source, lanes)
        if isinstance(layer, ConvSpec):
            window = self.window(layer)
            fed = frame_cycles(window, source, 1, self.steps(layer))
            entered = self._taken(layer, vector_ends(window, source))
            window_bits = window.buffer_bits(layer.in_format.bits)
        else:
            fed, window_bits = 0, 0
            entered = self._loaded(layer, source)
        after = SLICE_LATENCY + requantize_latency(layer)
        return replace(
            cost,
            cycles=max(cost.cycles, fed),
            latency=self._ends(layer, entered, lanes) + after,
            buffer_bits=cost.buffer_bits + window_bits,
        )

    def _array_cost(self, layer: MatrixSpec, source: Beats, lanes: int) -> StageCost:
        """The array and its requantizer, without what stands before them; no latency."""
        (p, q), steps = _fft(layer).grid(layer), layer.vectors * self.steps(layer)
        requantize, beats = layer.requantize, -(-layer.matrix_rows // lanes)
        multipliers = list(self.multipliers(layer, lanes))
        if requantize.multiplies:
            multipliers.append((lanes, layer.accumulator().bits, requantize.m_bits))
        weights = layer.storage.weights(layer.matrix_rows, layer.matrix_columns)
        return StageCost(
            cycles=max(steps, source.count),
            ideal_cycles=Fraction(layer.vectors * p * q, self.lanes),
            input_beats=source.count,
            output_beats=layer.vectors * beats,
            latency=0,
            macs=layer.macs(),
            kept_macs=weights * layer.vectors,
            steps=steps,
            weight_words=layer.vectors * p * q * self.k,
            activation_words=steps * self.k,
            multipliers=tuple(multipliers),
            weight_bits=_fft(layer).chip_bits(layer),
            parameter_bits=beats * lanes * requantize.channel_bits() + requantize.layer_bits(),
            buffer_bits=self.buffer_bits(layer, lanes),
        )

    def buffer_bits(self, layer: MatrixSpec, lanes: int) -> int:
        """Bits of the spectrum buffer and the drain buffer."""
        q, arithmetic = _fft(layer).grid(layer)[1], _fft(layer)
        bits = 2 * q * self.k * arithmetic.word_bits(layer)
        if depth := self.queue_depth(layer, lanes):
            blocks = (depth - 1) * self.blocks_per_beat(lanes)
            bits += blocks * self.k * arithmetic.inverse(layer).inputs.bits
        return bits

    def _loaded(self, layer: LinearSpec, source: Beats) -> np.ndarray:
        """Cycle in which the last block of a frame enters the forward unit, int64 [1]."""
        q, words = _fft(layer).grid(layer)[1], Beats((layer.in_features,), self.cols)
        order = np.arange(q)
        come = order
        if repacks(source, words):
            come = repack_needs(source, words) + repack_latency(source.lanes, masked=False)
        late = come + (q - 1 - order) * self.forward_unit(layer).interval  # if only that one were
        return late.max(keepdims=True)

    def _taken(self, layer: ConvSpec, ends: np.ndarray) -> np.ndarray:
        """The same of each vector of a frame, from the cycles in which their last words come.

        A folded unit is taken to find all words of a vector late, those before the last one too.
        """
        q, interval = _fft(layer).grid(layer)[1], self.forward_unit(layer).interval
        pace = np.arange(len(ends)) * q * interval
        return pace + np.maximum.accumulate(ends + (q - 1) * (interval - 1) - pace)


def _fft(layer: MatrixSpec) -> FFTArithmetic:
    assert isinstance(layer.arithmetic, FFTArithmetic)
    return layer.arithmetic
