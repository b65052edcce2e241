"""The static schedule: its depths against a model in which beats move one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.ir.add import AddSpec
from model.ir.beats import Beats
from model.ir.conv import ConvSpec
from model.ir.linear import LinearSpec
from model.ir.mapping import Mapping, StageMapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pool import MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from model.ir.schedule import FIFO_LEAST, Place, least_depths
from model.ir.select import SelectSpec

U4 = UniformFormat(4, False)
RULE = RequantizeSpec(U4, 4, "one", 0, 8)


class Graph:
    """A network put together edge by edge; weights do not matter here."""

    def __init__(self, *shape: int) -> None:
        self.shapes, self.nodes = {"x": shape}, []

    def put(self, name: str, spec, *inputs: str) -> str:
        tensors = {key: np.zeros(s, int) for key, s in spec.tensor_shapes().items()}
        self.nodes.append(Node(name, spec, inputs, 1.0, tensors))
        self.shapes[name] = spec.out_shape(*(self.shapes[edge] for edge in inputs))
        return name

    def conv(self, name: str, source: str, channels: int, kernel=3, stride=1, padding=1) -> str:
        rows, columns, before = self.shapes[source]
        sizes = (rows, columns, before, channels, kernel, kernel, stride, padding, 1)
        return self.put(name, ConvSpec(*sizes, U4, U4, RULE), source)

    def pool(self, name: str, source: str, kernel: int, stride: int) -> str:
        return self.put(name, MaxPoolSpec(*self.shapes[source], kernel, kernel, stride, U4), source)

    def linear(self, name: str, source: str, features: int) -> str:
        before = int(np.prod(self.shapes[source]))
        return self.put(name, LinearSpec(before, features, U4, U4, RULE), source)

    def add(self, name: str, x: str, y: str) -> str:
        return self.put(name, AddSpec(self.shapes[x], U4, U4, U4, 2, 4), x, y)

    def network(self) -> Network:
        return Network("graph", InputSpec("x", self.shapes["x"], U4, 1.0), tuple(self.nodes))


def plain() -> Network:
    g = Graph(5, 4, 3)
    return g.conv("a", "x", 3) and g.add("sum", "a", "x") and g.network()


def swapped() -> Network:
    g = Graph(5, 4, 3)
    return g.conv("a", "x", 3) and g.add("sum", "x", "a") and g.network()


def residual() -> Network:
    """Two convolutions and, on the short way, one of kernel 1 that subsamples; then a plain one."""
    g = Graph(6, 6, 2)
    g.conv("a", "x", 4, stride=2)
    g.conv("b", "a", 4)
    g.conv("short", "x", 4, kernel=1, stride=2, padding=0)
    g.add("sum", "b", "short")
    g.conv("c", "sum", 4)
    g.conv("d", "c", 4)
    g.add("top", "d", "sum")
    g.linear("fc", "top", 5)
    return g.network()


def nested() -> Network:
    """A joining node on a branch of another one."""
    g = Graph(4, 4, 2)
    g.conv("a", "x", 2)
    g.add("inner", "a", "x")
    g.conv("b", "inner", 2)
    g.add("outer", "x", "b")
    return g.network()


def crossed() -> Network:
    """Branches that meet twice, not one inside the other."""
    g = Graph(4, 5, 2)
    g.conv("a", "x", 2)
    g.conv("b", "x", 2, kernel=1, padding=0)
    g.add("first", "a", "b")
    g.conv("c", "b", 2)
    g.add("second", "c", "first")
    return g.network()


def three() -> Network:
    """An edge with three readers."""
    g = Graph(5, 5, 2)
    g.conv("a", "x", 2)
    g.conv("b", "x", 2, kernel=5, padding=2)
    g.add("first", "a", "x")
    g.add("second", "first", "b")
    return g.network()


def vectors() -> Network:
    g = Graph(11)
    g.linear("a", "x", 11)
    g.add("first", "a", "x")
    g.linear("b", "first", 7)
    g.linear("c", "b", 11)
    g.add("second", "first", "c")
    return g.network()


def twice() -> Network:
    g = Graph(5)
    return g.add("sum", "x", "x") and g.network()


def chain() -> Network:
    g = Graph(4, 4, 1)
    return g.conv("a", "x", 2) and g.network()


TIGHT = [plain, swapped, residual, nested, crossed, vectors, twice]


def mapped(network: Network, lanes: int) -> Mapping:
    """Every stream on so many lanes; engines do not matter to what depends on what."""
    return Mapping(lanes, (), tuple(StageMapping(node.name, None, lanes) for node in network.nodes))


class Model:
    """Beats that move as long as any can, by the rules of the hardware at its scarcest.

    A stage takes an input beat once every output beat that does without it has left. A joining node
    takes a beat of each input at once, after its last output beat has left. A fork offers its beat
    to every reader until each has it.
    """

    def __init__(self, mapping: Mapping, network: Network, depths: dict[Place, int]) -> None:
        self.network, self.depths = network, depths
        self.beats = {
            edge: mapping.beats(network, edge).count
            for edge in ("x", *(node.name for node in network.nodes))
        }
        self.needs = {
            (node.name, n): np.maximum.accumulate(beats).tolist()
            for node, found in mapping.needs(network)
            for n, beats in enumerate(found)
        }
        self.given = dict.fromkeys(self.beats, 0)
        self.entered = dict.fromkeys(self.needs, 0)
        self.levels = dict.fromkeys(self.needs, 0)
        self.highest = dict.fromkeys(self.needs, 0)
        self.takers: dict[str, set[Place]] = {edge: set() for edge in self.beats}
        self.readers = {
            edge: [
                (node.name, n)
                for node in network.nodes
                for n, source in enumerate(node.inputs)
                if source == edge
            ]
            for edge in self.beats
        }

    def need(self, place: Place, output: int) -> int:
        frame, beat = divmod(output, len(self.needs[place]))
        edge = self.network[place[0]].inputs[place[1]]
        return self.needs[place][beat] + frame * self.beats[edge]

    def has(self, edge: str) -> bool:
        """The producer of an edge offers its next beat."""
        if edge == "x":
            return True
        places = [(edge, n) for n in range(len(self.network[edge].inputs))]
        return all(self.entered[p] > self.need(p, self.given[edge]) for p in places)

    def offered(self, place: Place) -> bool:
        """A beat stands before an input, in its FIFO or on the edge itself."""
        edge = self.network[place[0]].inputs[place[1]]
        if self.depths.get(place):
            return self.levels[place] > 0
        return self.has(edge) and place not in self.takers[edge]

    def wants(self, name: str) -> bool:
        """A node takes a beat: a joining node of every input, for it takes them together."""
        node = self.network[name]
        places = [(name, n) for n in range(len(node.inputs))]
        hungry = [self.entered[p] <= self.need(p, self.given[name]) for p in places]
        return all(hungry) and all(map(self.offered, places))

    def pull(self, place: Place) -> None:
        """A beat leaves an edge for a reader or its FIFO."""
        edge = self.network[place[0]].inputs[place[1]]
        self.takers[edge].add(place)
        if len(self.takers[edge]) == len(self.readers[edge]):
            self.takers[edge] = set()
            self.given[edge] += 1

    def run(self, frames: int) -> bool:
        """Whether so many frames leave the network."""
        moved, last = True, self.network.output.name
        while moved:
            moved = False
            for place, depth in self.depths.items():
                edge = self.network[place[0]].inputs[place[1]]
                free = place not in self.takers[edge] and self.levels[place] < depth
                if free and self.has(edge):
                    self.levels[place] += 1
                    self.highest[place] = max(self.highest[place], self.levels[place])
                    self.pull(place)
                    moved = True
            for node in self.network.nodes:
                if self.wants(node.name):
                    moved = True
                    for n in range(len(node.inputs)):
                        place = node.name, n
                        self.entered[place] += 1
                        if self.depths.get(place):
                            self.levels[place] -= 1
                        else:
                            self.pull(place)
            while self.has(last):
                self.given[last] += 1
                moved = True
                if self.given[last] == frames * self.beats[last]:
                    return True
        return False


def depths_of(mapping: Mapping, network: Network) -> dict[Place, int]:
    return {place: depth for place, depth in least_depths(mapping, network).items() if depth}


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("make", [*TIGHT, three])
def test_the_least_depth_never_deadlocks_and_a_beat_less_does(make, lanes: int) -> None:
    """Where beats can wait before one joining node or before the next, less can do at the first."""
    network = make()
    mapping = mapped(network, lanes)
    depths = depths_of(mapping, network)
    assert Model(mapping, network, depths).run(3)
    for place, depth in depths.items():
        if depth > FIFO_LEAST and make in TIGHT:
            less = depths | {place: depth - 1}
            assert not Model(mapping, network, less).run(3), (place, depth)


@st.composite
def graphs(draw) -> Network:
    """Convolutions and additions that keep the shape, joined at random."""
    g = Graph(draw(st.integers(1, 5)), draw(st.integers(1, 5)), 2)
    edges, unread = ["x"], ["x"]
    for n in range(draw(st.integers(1, 8))):
        count = draw(st.integers(1, 2))
        pick = st.sampled_from(unread) if unread and draw(st.booleans()) else st.sampled_from(edges)
        sources = [draw(pick) for _ in range(count)]
        kernel = draw(st.sampled_from([1, 3, 5]))
        if count == 1:
            g.conv(f"n{n}", *sources, 2, kernel=kernel, padding=kernel // 2)
        else:
            g.add(f"n{n}", *sources)
        unread = [edge for edge in unread if edge not in sources] + [f"n{n}"]
        edges.append(f"n{n}")
    while len(unread) > 1:
        unread.append(g.add(f"j{len(unread)}", unread.pop(0), unread.pop(0)))
    return g.network()


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_no_graph_deadlocks_with_the_least_depths(network: Network) -> None:
    mapping = mapped(network, 1)
    assert Model(mapping, network, depths_of(mapping, network)).run(3)


def test_least_depths_of_known_graphs() -> None:
    """x on 1 lane: 60 beats of 5 × 4 pixels; the first position needs the pixels up to (1, 1).

    That is beat 5 · 3 + 2 = 17, and the fork holds it while the beats before it wait.
    """
    assert least_depths(mapped(plain(), 1), plain()) == {("sum", 0): 0, ("sum", 1): 17}
    assert least_depths(mapped(swapped(), 1), swapped()) == {("sum", 0): 17, ("sum", 1): 0}
    assert least_depths(mapped(twice(), 1), twice()) == {("sum", 0): 0, ("sum", 1): 0}
    # A layer needs its whole vector of 11 codes, so all but the one in the fork wait.
    assert least_depths(mapped(vectors(), 1), vectors())["first", 1] == 10
    assert not least_depths(mapped(chain(), 1), chain())


@pytest.mark.parametrize("lanes", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (2, 2, 0)]
)
def test_an_output_beat_needs_the_last_pixel_that_its_window_sees(
    kernel: int, stride: int, padding: int, lanes: int
) -> None:
    g = Graph(5, 6, 3)
    g.conv("a", "x", 4, kernel, stride, padding)
    network = g.network()
    spec, source, out = network["a"].spec, Beats((5, 6, 3), lanes), Beats(g.shapes["a"], lanes)
    (found,) = spec.needs((source,), lanes)
    least = 0
    for beat, places in enumerate(out.indices()):
        seen = []
        for position in {place // 4 for place in places if place >= 0}:
            row, column = (n * stride - padding for n in divmod(position, g.shapes["a"][1]))
            for r in range(max(row, 0), min(row + kernel, 5)):
                for c in range(max(column, 0), min(column + kernel, 6)):
                    seen += [(r * 6 + c) * 3 + channel for channel in range(3)]
        brings = np.isin(source.indices(), seen).any(axis=1)
        least = max(least, int(np.flatnonzero(brings)[-1]))
        assert found[beat] == least


def test_positions_computed_together_need_the_last_of_them() -> None:
    g = Graph(3, 3, 1)
    g.conv("a", "x", 1)
    spec = g.network()["a"].spec
    (alone,) = spec.needs((Beats((3, 3, 1), 1),), 1)
    (together,) = spec.needs((Beats((3, 3, 1), 1),), 1, together=4)
    assert together.tolist() == [alone[3]] * 4 + [alone[7]] * 4 + [alone[8]]


def test_a_layer_needs_its_whole_frame_and_a_selection_what_may_be_kept_last() -> None:
    g = Graph(6)
    g.linear("a", "x", 5)
    (whole,) = g.network()["a"].spec.needs((Beats((6,), 2),), 2)
    assert whole.tolist() == [2, 2, 2]
    (kept,) = SelectSpec(6, 4, U4).needs((Beats((6,), 2),), 1)
    assert kept.tolist() == [1, 1, 2, 2]


def test_a_joining_node_needs_its_partners_beat_by_beat() -> None:
    g = Graph(2, 2, 3)
    g.add("sum", "x", "x")
    x, y = g.network()["sum"].spec.needs((Beats((2, 2, 3), 2),) * 2, 2)
    assert x.tolist() == y.tolist() == list(range(8))
