"""The static schedule: how deep the FIFOs before a joining node must be.

A node that reads several streams (a residual addition) takes a beat of each at once. Where they
come from one stream, by branches that need more and less of it for their next beat, the branch that
needs less runs ahead, and its beats have to wait: in a FIFO, or the fork waits for ever.

Every stage states its **needs**: which beat of an input must have entered before output beat ``k``
can leave. From them follow two depths of the FIFO at each input of a joining node.

**Least depth**: without it the graph can deadlock. It assumes that a stage buffers no more than it
needs, so it takes input beat ``n`` only once every output beat that needs less than ``n`` has left.
Let output beat ``k`` of the joining node need the fork's beats up to ``n`` on one branch. A fork
gives its readers a beat each, none more than one beat ahead, so every other branch has taken the
beats up to ``n - 1``; what its stages have had to let out by then, and the joining node has not
taken, lies in the FIFO. The least depth is the most that does so over all ``k``.

**Depth of the schedule**: with it no stage works slower than it would alone. It comes from one
periodic schedule that every stage can keep: the input's beats are spread evenly over the cycles of
the slowest stage, and each stage gives beat ``k`` a fixed time after the beat that it needs, or at
its own pace after beat ``k - 1``. The depth is the most beats that wait in it. Stages and FIFOs
work as early as they can, which is never later than a schedule that they could keep, so the cycles
per frame are those of the slowest stage.
"""

from collections.abc import Mapping as MappingType
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from model.ir.mapping import Mapping
    from model.ir.network import Network, Node

FIFO_LATENCY = 2
"""Cycles from a beat's entry into an empty FIFO to its exit, both counted but one."""

FIFO_LEAST = 3
"""Beats of the smallest FIFO: with fewer it could not take and give a beat in the same cycle."""

SLACK = FIFO_LATENCY + 2
"""Beats beyond those that wait: on their way through the FIFO, or held up by its full mark."""

Place = tuple[str, int]
"""A node and the number of one of its inputs."""


@dataclass(frozen=True)
class Needs:
    """Dependence of a stage's output on one input.

    Parameters
    ----------
    beats : int64 array [output beats per frame]
        Input beat of the frame that must have entered before each output beat can leave.
    entering : int
        Input beats per frame.
    """

    beats: np.ndarray
    entering: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "beats", np.maximum.accumulate(self.beats))

    def before(self, outputs: np.ndarray) -> np.ndarray:
        """The input beat needed by output beats, numbered on over the frames; -1 for -1."""
        frame, beat = np.divmod(outputs, len(self.beats))
        return np.where(outputs < 0, -1, self.beats[beat] + frame * self.entering)

    def first_at(self, inputs: np.ndarray) -> np.ndarray:
        """The first output beat that needs these input beats, or later ones."""
        frame, beat = np.divmod(inputs, self.entering)
        first = np.searchsorted(self.beats, beat) + frame * len(self.beats)
        return np.where(inputs < 0, 0, first)


def _needs(mapping: "Mapping", network: "Network") -> dict[Place, Needs]:
    """The needs of every stage, by node and input."""
    found = {}
    for node, needs in mapping.needs(network):
        ins = mapping.inputs(network, node)
        for number, (beats, source) in enumerate(zip(needs, ins, strict=True)):
            found[node.name, number] = Needs(beats, source.count)
    return found


def _readers(network: "Network") -> dict[str, list[Place]]:
    """The readers of every edge."""
    readers: dict[str, list[Place]] = {network.input.name: []}
    for node in network.nodes:
        for number, edge in enumerate(node.inputs):
            readers[edge].append((node.name, number))
        readers[node.name] = []
    return readers


def _ancestors(network: "Network", name: str) -> list["Node"]:
    """The nodes that a node depends on, and itself, in network order."""
    wanted = {name}
    for node in reversed(network.nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
    return [node for node in network.nodes if node.name in wanted]


def least_depths(mapping: "Mapping", network: "Network") -> dict[Place, int]:
    """The least depth of a FIFO before each input of each joining node; 0 is none at all."""
    needs = _needs(mapping, network)
    joins = [node for node in network.nodes if len(node.inputs) > 1]
    depths = {(node.name, number): 0 for node in joins for number in range(len(node.inputs))}
    for node in (*joins, network.output) if joins else ():
        for place, depth in _held(network, needs, node).items():
            depths[place] = max(depths[place], depth)
    return {place: depth and max(depth, FIFO_LEAST) for place, depth in depths.items()}


def _held(network: "Network", needs: MappingType[Place, Needs], last: "Node") -> dict[Place, int]:
    """The most beats that lie before joining nodes while ``last`` asks for one beat after another.

    All arrays run over the output beats of ``last``; the beats of an edge are numbered on over the
    frames, and -1 is none.
    """
    cone = _ancestors(network, last.name)
    inside = {node.name for node in cone}
    readers = {
        edge: [place for place in places if place[0] in inside]
        for edge, places in _readers(network).items()
        if edge == network.input.name or edge in inside
    }
    outputs = np.arange(2 * len(needs[last.name, 0].beats))  # a first frame, and one after another
    given = dict.fromkeys(inside, np.full(len(outputs), -1)) | {last.name: outputs}
    taken = {}
    for node in reversed(cone):  # what is asked for
        for number, edge in enumerate(node.inputs):
            place = node.name, number
            taken[place] = needs[place].before(given[node.name])
            if edge in inside:
                given[edge] = np.maximum(given[edge], taken[place])
    pushed, held = {}, {}
    for edge in readers:  # what the forks give the other readers as well, and these let out
        out = np.full(len(outputs), -1)
        if edge in inside and len(network[edge].inputs) == 1:
            out = needs[edge, 0].first_at(pushed[edge, 0]) - 1
        for place in readers[edge]:
            others = [taken[other] - 1 for other in readers[edge] if other != place]
            pushed[place] = np.maximum.reduce([out, *others])
            if len(network[place[0]].inputs) > 1:
                # Before it gives beat k the last node has taken no more than for beat k - 1.
                done = outputs - 1 if place[0] == last.name else given[place[0]]
                held[place] = max(0, int((pushed[place] - needs[place].before(done)).max()))
    return held


def smooth_depths(mapping: "Mapping", network: "Network") -> dict[Place, int]:
    """The depth of the schedule before each input of each joining node; 0 is none at all."""
    least = least_depths(mapping, network)
    if not least:
        return {}
    needs = _needs(mapping, network)
    costs = {node.name: cost for node, cost in mapping.costs(network)}
    period = max(cost.cycles for cost in costs.values())
    entry = mapping.beats(network, network.input.name).count
    times = {network.input.name: np.arange(entry) * (period / entry)}
    depths: dict[Place, int] = {}
    for node in network.nodes:
        cost, places = costs[node.name], [(node.name, n) for n in range(len(node.inputs))]
        ready = [times[e][needs[p].beats] for e, p in zip(node.inputs, places, strict=True)]
        count = len(ready[0])
        pace = cost.cycles / count
        # The fixed time: what the stated latency leaves if the input comes at full rate.
        steps = pace * np.arange(count)
        alone = max(float((needs[place].beats - steps).max()) for place in places) + steps[-1]
        delay = max(cost.latency - alone, 1.0)
        start = np.maximum.reduce(ready)
        times[node.name] = np.maximum.accumulate(start + delay - steps) + steps
        if len(places) > 1:
            leaves = np.maximum.accumulate(start - steps) + steps
            for edge, place in zip(node.inputs, places, strict=True):
                waits = waiting(times[edge], needs[place].beats, leaves, period)
                depths[place] = max(least[place], waits + SLACK) if waits or least[place] else 0
    return depths


def with_fifos(mapping: "Mapping", network: "Network") -> "Mapping":
    """The mapping with FIFOs of the depths of the schedule, checked."""
    from model.ir.mapping import FifoMapping

    bare = replace(mapping, fifos=())
    fifos = tuple(
        FifoMapping(name, number, depth)
        for (name, number), depth in smooth_depths(bare, network).items()
        if depth
    )
    return replace(bare, fifos=fifos).check(network)


def waiting(arrive: np.ndarray, need: np.ndarray, leave: np.ndarray, period: int) -> int:
    """The most beats that wait before a joining node.

    Beat n of a frame arrives at ``arrive[n]``; those up to ``need[k]`` leave at ``leave[k]``, with
    output beat k. Frames follow each other by ``period``.
    """
    frames = int((leave.max() - arrive.min()) // period) + 2
    later = np.maximum.accumulate((arrive + period * np.arange(frames)[:, None]).ravel())
    arrived = np.searchsorted(later, leave, side="right")
    return int((arrived - need - 1).clip(0).max())
