"""FIFOs before windows: where they stand, and that a window fed at their pace keeps it."""

from dataclasses import replace

import numpy as np
import pytest

from model.ir.block_sparse import BlockSparseStorage
from model.ir.conv import ConvSpec
from model.ir.mapping import Engine, FifoMapping, Mapping, StageMapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pacing import paced_depths, with_paced_fifos
from model.ir.pe_array import PeArraySpec
from model.ir.pim_arithmetic import PIMArithmetic
from model.ir.pim_array import PimArraySpec
from model.ir.pool import AveragePoolSpec
from model.ir.requantize import RequantizeSpec
from model.ir.window_buffer import Paced, WindowBuffer, Words, sliding

U4, S4 = UniformFormat(4, False), UniformFormat(4, True)
RULE = RequantizeSpec(U4, 4, "one", 0, 12)


def two_convolutions(kernel: int = 5) -> Network:
    """The second one begins a frame only once ``kernel`` rows are there."""
    first = ConvSpec(12, 12, 1, 2, 3, 3, 1, 1, 1, U4, S4, RULE)
    second = ConvSpec(12, 12, 2, 4, kernel, kernel, 1, 0, 1, U4, S4, RULE)
    nodes = []
    for name, spec, edge in (("a", first, "x"), ("b", second, "a")):
        tensors = {key: np.zeros(size, np.int64) for key, size in spec.tensor_shapes().items()}
        nodes.append(Node(name, spec, (edge,), 1.0, tensors))
    return Network("two", InputSpec("x", (12, 12, 1), U4, 1.0), tuple(nodes))


def mapping(rows: int) -> Mapping:
    """The second convolution on so many rows."""
    engines = Engine("a", PeArraySpec(2, 3)), Engine("b", PeArraySpec(rows, 10))
    return Mapping(1, engines, (StageMapping("a", "a", 1), StageMapping("b", "b", 1)))


def test_a_window_that_sets_the_pace_waits_for_nothing_behind_its_fifo() -> None:
    network = two_convolutions()
    paced = with_paced_fifos(mapping(2), network)
    (fifo,) = paced.fifos
    assert (fifo.node, fifo.input) == ("b", 0)
    # Four of five rows have to come while the last output row is computed, less what then enters.
    assert 24 < fifo.depth < 5 * 12 * 2
    assert paced.check(network) is paced


def test_a_fifo_that_is_deep_enough_stays() -> None:
    network = two_convolutions()
    (needed,) = with_paced_fifos(mapping(2), network).fifos
    assert paced_depths(mapping(2), network) == {("b", 0): needed.depth}
    deeper = replace(mapping(2), fifos=(FifoMapping("b", 0, needed.depth + 50),))
    assert paced_depths(deeper, network) == {("b", 0): needed.depth}


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_a_window_behind_macros_needs_no_fifo(copies: int) -> None:
    """It loads a frame while it reads another, and finds every beat that the macros give."""
    network, pim = two_convolutions(), PIMArithmetic(32, 1, "twos_complement")
    nodes = [replace(node, spec=replace(node.spec, arithmetic=pim)) for node in network.nodes]
    network, engines = replace(network, nodes=tuple(nodes)), []
    for node, cols, columns, tiles in zip(nodes, (3, 5), (8, 16), (1, 2), strict=True):
        engines.append(Engine(node.name, PimArraySpec(cols, columns, tiles, tiles, copies)))
    stages = StageMapping("a", "a", 1), StageMapping("b", "b", 2)
    assert with_paced_fifos(Mapping(1, tuple(engines), stages), network).fifos == ()


def test_the_input_of_the_network_waits_outside() -> None:
    assert all(fifo.node != "a" for fifo in with_paced_fifos(mapping(1), two_convolutions()).fifos)


def test_a_few_beats_that_wait_need_a_fifo_only_in_a_short_frame() -> None:
    def fifos(size: int) -> int:
        mean = AveragePoolSpec(size, 2, 1, 1, 2, 1, U4, RULE)
        storage = BlockSparseStorage(1, 2, 1, 1, 1, 3)
        layer = ConvSpec(size, 1, 1, 1, 4, 1, 1, 0, 1, U4, S4, RULE, storage=storage)
        blocks = {"row_sizes": [1], "column_sizes": [3, 1], "mask": [[0, 1]]}
        nodes = []
        for name, spec, edge in (("a", mean, "x"), ("b", layer, "a")):
            zeros = {key: np.zeros(n, np.int64) for key, n in spec.tensor_shapes().items()}
            tensors = {key: np.array(blocks.get(key, zero)) for key, zero in zeros.items()}
            nodes.append(Node(name, spec, (edge,), 1.0, tensors))
        network = Network("short", InputSpec("x", (size, 2, 1), U4, 1.0), tuple(nodes))
        stages = StageMapping("a", None, 1), StageMapping("b", "b", 1)
        found = Mapping(1, (Engine("b", PeArraySpec(1, 1, 2, 1)),), stages)
        return len(with_paced_fifos(found, network).fifos)

    assert fifos(7) == 1
    assert fifos(200) == 0


@pytest.mark.parametrize("pace", [1, 20])
@pytest.mark.parametrize("banks", [1, 3])
def test_a_window_whose_beats_are_always_there_is_fed_as_fast_as_it_can(
    banks: int, pace: int
) -> None:
    layer = ConvSpec(6, 7, 3, 2, 3, 2, 2, 1, 1, U4, S4, RULE)
    window = WindowBuffer(layer, 2, banks)
    always = np.zeros(window.input_beats, np.int64)
    free = window.schedule(pace)
    fed = sliding(window, Words(always, 0), Paced(window, pace))
    for _ in range(4):
        for one, other in zip(next(free), next(fed), strict=True):
            assert np.array_equal(one, other)


def test_a_window_takes_no_beat_before_it_comes() -> None:
    layer = ConvSpec(6, 7, 3, 2, 3, 2, 2, 1, 1, U4, S4, RULE)
    window = WindowBuffer(layer, 2, 3)
    period = 3 * window.cycles()
    come = np.arange(window.input_beats) * period // window.input_beats
    last: tuple[np.ndarray, ...] = ()
    for frame, (entered, left) in enumerate(sliding(window, Words(come, period), Paced(window))):
        assert (entered >= come + frame * period).all()
        assert (np.diff(entered) > 0).all()
        if frame:
            assert np.array_equal(entered - last[0], np.full(len(entered), period))
            assert np.array_equal(left - last[1], np.full(len(left), period))
        last = entered, left
        if frame == 3:
            break
