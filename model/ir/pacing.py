"""FIFOs before windows, so that every stage keeps the pace of the slowest.

A window takes its input in bursts: at a frame's end it needs the first rows of the next frame
before it can go on, and it has no room for them until the last rows of the old frame are read. A
stage before it that is nearly as slow cannot make up for that, so the beats that come meanwhile
wait in a FIFO.

How many they are follows from one schedule. The network's input comes evenly spread, a frame each
``T`` cycles, those of the slowest stage. Every stage works as early as it can, with FIFOs before
the windows that are never full. No stage takes longer than ``T`` for a frame, so this becomes
periodic; the most beats that wait then are the depth. With FIFOs of these depths the schedule is
one that the hardware can keep, and what works as early as it can is never later.

The schedule is that of whole stages: a window and the engine that loads from it by their recurrence
(:mod:`model.ir.window_feed`), what follows them by its beats. A 1 × 1 kernel takes its input in
bursts too, for its engine keeps it waiting, so a FIFO may stand before it as before any window. A
few beats of slack stand for registers.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from model.ir.add import AddSpec
from model.ir.beats import Beats
from model.ir.circulant_array import CirculantArraySpec
from model.ir.conv import ConvSpec
from model.ir.cost import StageCost
from model.ir.lanewise import lane_window
from model.ir.mapping import FifoMapping, Mapping, StageMapping
from model.ir.network import Network, Node
from model.ir.pe_array import SLICE_LATENCY, PeArraySpec, requantize_latency
from model.ir.pim_array import PimArraySpec
from model.ir.pool import PoolSpec
from model.ir.schedule import SLACK, waiting, with_fifos
from model.ir.window_buffer import MOST_FRAMES, Feed, Paced, WindowBuffer, passing, sliding
from model.ir.window_feed import Loading, feed_of, loads

SETTLED = 2
"""Frames that leave at equal times after each other before a schedule counts as periodic."""

FEW, RARE = 8, 100
"""A few beats may wait without a FIFO, one for each RARE cycles of a frame, at most FEW: they stay
where they are, in the registers of the stages before, and hold those up for a cycle at most."""


def with_paced_fifos(mapping: Mapping, network: Network) -> Mapping:
    """The mapping with the FIFOs that joining nodes and windows need, checked."""
    mapping = with_fifos(mapping, network)
    fifos = {(fifo.node, fifo.input): fifo for fifo in mapping.fifos}
    for (name, number), depth in paced_depths(mapping, network).items():
        found = fifos.get((name, number))
        if found is None or found.depth < depth:
            fifos[name, number] = FifoMapping(name, number, depth)
    order = {node.name: n for n, node in enumerate(network.nodes)}
    placed = sorted(fifos.values(), key=lambda fifo: (order[fifo.node], fifo.input))
    return replace(mapping, fifos=tuple(placed)).check(network)


def paced_depths(mapping: Mapping, network: Network) -> dict[tuple[str, int], int]:
    """Depths of the FIFOs before windows and joining nodes that the schedule asks for."""
    costs = {node.name: cost for node, cost in mapping.costs(network)}
    period = max(cost.cycles for cost in costs.values())
    entry = mapping.beats(network, network.input.name).count
    times = {network.input.name: np.arange(entry) * period // entry}
    readers = Counter(edge for node in network.nodes for edge in node.inputs)
    depths: dict[tuple[str, int], int] = {}
    for stage, node in zip(mapping.stages, network.nodes, strict=True):
        sources = mapping.inputs(network, node)
        come = [times[edge] for edge in node.inputs]
        output = Beats(network.shape(node.name), stage.lanes)
        window = _window(mapping, stage, node)
        if isinstance(node.spec, AddSpec):
            leave = np.maximum.reduce(come) + SLICE_LATENCY
            for number, arrive in enumerate(come):
                waits = waiting(arrive, np.arange(output.count), leave, period)
                if waits > 1:
                    depths[node.name, number] = waits + SLACK
        elif window is not None:
            fed = _Fed(mapping, stage, node, sources[0], window, period)
            taken, leave = fed.run(come[0])
            waits = waiting(come[0], np.arange(sources[0].count), taken, period)
            # The network's input waits outside, unless another stage reads it too.
            outside = node.inputs[0] == network.input.name and readers[node.inputs[0]] == 1
            if waits > min(FEW, period // RARE) and not outside:
                depths[node.name, 0] = waits + SLACK
        else:
            leave = _plain(come, output, costs[node.name])
        times[node.name] = _in_turn(leave)
    return depths


def _window(mapping: Mapping, stage: StageMapping, node: Node) -> WindowBuffer | None:
    """The window of a stage, if it has one."""
    layer = node.spec
    if isinstance(layer, ConvSpec):
        return mapping.engine(stage.engine).window(layer)
    if isinstance(layer, PoolSpec) and not layer.covers:
        return lane_window(layer, stage.lanes)
    return None


def _in_turn(cycles: np.ndarray) -> np.ndarray:
    """The earliest cycles from these on, one beat a cycle."""
    order = np.arange(len(cycles))
    return order + np.maximum.accumulate(cycles - order)


@dataclass
class _Fed:
    """A stage with a window, fed at given times."""

    mapping: Mapping
    stage: StageMapping
    node: Node
    source: Beats
    window: WindowBuffer
    period: int

    def run(self, come: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """When the source's beats are taken and the output's leave, once this is periodic."""
        taken, leave, settled = come, come[:0], 0
        feed = feed_of(self.window, self.source, come, self.period)
        for frame, times in enumerate(self._frames(feed)):
            last = leave
            taken, leave = (cycles - frame * self.period for cycles in times)
            settled = settled + 1 if np.array_equal(leave, last) else 0
            if settled == SETTLED or frame == MOST_FRAMES:
                break
        return taken, leave

    def _frames(self, feed: Feed) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """When the beats of one frame after another are taken, and those of the output leave."""
        engine = self.mapping.engine(self.stage.engine) if self.stage.engine else None
        if isinstance(engine, PeArraySpec):
            return self._array(feed, engine)
        if isinstance(engine, CirculantArraySpec):
            return self._engine(feed, engine.steps(self.node.spec), np.arange(self._beats()))
        if isinstance(engine, PimArraySpec):
            return self._macros(feed, engine)
        return self._lanes(feed)

    def _beats(self) -> int:
        """Output beats of a vector."""
        return Beats((self.node.spec.out_channels,), self.stage.lanes).count

    def _lanes(self, feed: Feed) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each channel by itself: a beat leaves after each group of channels."""
        if not self.window.slots:
            yield from passing(self.window, feed)
        for taken, left in sliding(self.window, feed, Paced(self.window)):
            yield taken, left.reshape(-1, self.node.spec.kernel_columns)[:, -1]

    def _engine(
        self, feed: Feed, steps: int, offset: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Vector after vector; its beats leave so long after its last step, int64 [beats]."""
        layer = self.node.spec
        loading = Loading(self.window.position_beats, layer.positions, 1, steps)
        offset = offset + 1 + SLICE_LATENCY + requantize_latency(layer)
        for taken, done in loads(self.window, feed, loading):
            yield taken, _in_turn((done[:, None] + offset).ravel())

    def _macros(self, feed: Feed, engine: PimArraySpec) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """A PIM array: its copies take the vectors in turn, each as soon as it is loaded."""
        layer, copies = self.node.spec, engine.copies
        steps, behind = engine.pipeline(layer, self.stage.lanes)
        offset = np.arange(self._beats()) + behind + SLICE_LATENCY + requantize_latency(layer)
        loading = Loading(self.window.position_beats, layer.positions, copies, steps)
        vector = np.arange(layer.positions)
        last = np.minimum((vector // copies + 1) * copies, layer.positions) - 1
        earlier = (last - vector) * self.window.position_beats
        for taken, done in loads(self.window, feed, loading):
            own = done[vector // copies] - earlier
            yield taken, _in_turn((own[:, None] + offset).ravel())

    def _array(self, feed: Feed, engine: PeArraySpec) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """A PE array: fold by fold, or group by group from its result memory."""
        layer, beats = self.node.spec, self._beats()
        steps, sending = engine.pipeline(layer, self.stage.lanes)
        if sending is None:
            folds = engine.row_folds(layer)
            fold, beat = np.divmod(np.arange(beats), engine.rows // self.stage.lanes)
            sums = engine.sum_stages()
            yield from self._engine(feed, steps, sums + beat - (folds - 1 - fold) * steps // folds)
            return
        size, count = engine.pixels * beats, np.arange(layer.positions * beats)
        group = count // size
        last = np.minimum((group + 1) * size, len(count)) - 1  # beat of each beat's group
        behind = last - count - SLICE_LATENCY - requantize_latency(layer)
        loading = Loading(
            self.window.position_beats, layer.positions, engine.pixels, steps, sending
        )
        for taken, _ in loads(self.window, feed, loading):
            yield taken, loading.frame_sent()[group] - behind


def _plain(come: list[np.ndarray], output: Beats, cost: StageCost) -> np.ndarray:
    """When the beats of a stage that needs its whole frame leave: one after another."""
    order = np.arange(output.count)
    pace = max(cost.cycles // output.count, 1)
    return int(come[0][-1]) + order * pace
