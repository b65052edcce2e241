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

The schedule is that of whole stages: a window by its own recurrence (:meth:`WindowBuffer.fed`) with
the engine's pace, what follows it by its beats. A few beats of slack stand for their registers.
"""

from collections import Counter
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
from model.ir.pe_array import PeArraySpec
from model.ir.pool import PoolSpec
from model.ir.repack import repack_needs
from model.ir.schedule import SLACK, waiting, with_fifos
from model.ir.window import Windowed
from model.ir.window_buffer import MOST_FRAMES, WindowBuffer

SETTLED = 2
"""Frames that leave at equal times after each other before a schedule counts as periodic."""

ALWAYS = 8
"""Beats that may wait without a FIFO: they stay where they are."""


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
            leave = np.maximum.reduce(come)
            for number, arrive in enumerate(come):
                waits = waiting(arrive, np.arange(output.count), leave, period)
                if waits > 1:
                    depths[node.name, number] = waits + SLACK
        elif window is not None and window.slots:
            fed = _Fed(mapping, stage, node, sources[0], window, period)
            taken, leave = fed.run(come[0], costs[node.name])
            waits = waiting(come[0], np.arange(sources[0].count), taken, period)
            # The network's input waits outside, unless another stage reads it too.
            outside = node.inputs[0] == network.input.name and readers[node.inputs[0]] == 1
            if waits > ALWAYS and not outside:
                depths[node.name, 0] = waits + SLACK
        else:
            leave = _plain(node, sources, come, output, costs[node.name])
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

    def run(self, come: np.ndarray, cost: StageCost) -> tuple[np.ndarray, np.ndarray]:
        """When the source's beats are taken and the output's leave, once this is periodic."""
        window, layer = self.window, self.node.spec
        needs = repack_needs(self.source, Beats(self.source.shape, window.lanes))
        there = _in_turn(come[needs])
        vectors, computing = self._group()
        last, settled = None, 0
        for frame, (entered, left) in enumerate(window.fed(there, self.period, self._pace())):
            entered, left = entered - frame * self.period, left - frame * self.period
            settled = settled + 1 if last is not None and np.array_equal(left, last) else 0
            last = left
            if settled == SETTLED or frame == MOST_FRAMES:
                break
        # The beat of the window that first needs each beat of the source.
        taken = entered[np.minimum(np.searchsorted(needs, np.arange(len(come))), len(needs) - 1)]
        if window.order == "channel":  # a beat leaves after each group of channels
            ends = left.reshape(-1, layer.kernel_columns)[:, -1]
            return taken, ends
        ends = left.reshape(layer.positions, -1)[:, -1]
        per = Beats(self.node.spec.out_shape(self.source.shape), self.stage.lanes).per_group
        group = np.minimum(
            np.arange(layer.positions) // vectors * vectors + vectors, layer.positions
        )
        done = ends[group - 1] + computing
        within = np.arange(layer.positions) % vectors
        leave = done[:, None] + within[:, None] * per + np.arange(per)
        return taken, leave.ravel()

    def _group(self) -> tuple[int, int]:
        """Vectors that leave the engine together, and cycles to compute them."""
        engine = self.mapping.engine(self.stage.engine) if self.stage.engine else None
        if isinstance(engine, PeArraySpec):
            return engine.pixels, engine.steps(self.node.spec)
        if isinstance(engine, CirculantArraySpec):
            return 1, engine.steps(self.node.spec)
        return 1, 1

    def _pace(self) -> int:
        """Cycles between two positions that the engine allows."""
        engine = self.mapping.engine(self.stage.engine) if self.stage.engine else None
        if isinstance(engine, PeArraySpec):
            cycles = engine.group_cycles(self.node.spec, self.stage.lanes, engine.pixels)
            return cycles // engine.pixels
        if isinstance(engine, CirculantArraySpec):
            return engine.steps(self.node.spec)
        return 1


def _plain(
    node: Node, sources: tuple[Beats, ...], come: list[np.ndarray], output: Beats, cost: StageCost
) -> np.ndarray:
    """When the beats of a stage without a buffer leave: by what they need, one after another."""
    order = np.arange(output.count)
    if isinstance(node.spec, Windowed) and not isinstance(node.spec, PoolSpec):  # 1 × 1
        layer, source = node.spec, sources[0]
        row, column = np.divmod(np.arange(layer.positions), layer.out_columns)
        pixel = (row * layer.columns + column) * layer.stride
        last = pixel * source.per_group + source.per_group - 1
        if not source.aligned:
            last = ((pixel + 1) * layer.channels - 1) // source.lanes
        ends = come[0][last]
        pace = cost.cycles // layer.positions
        ends = np.arange(len(ends)) * pace + np.maximum.accumulate(
            ends - np.arange(len(ends)) * pace
        )
        return (ends[:, None] + np.arange(output.per_group)).ravel()
    pace = max(cost.cycles // output.count, 1)
    return int(come[0][-1]) + order * pace
