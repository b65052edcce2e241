"""Removal is exact in codes, whatever the network."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from model import golden
from model.export import remove_pruned
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import Format, UniformFormat
from model.ir.requantize import RequantizeSpec
from tests.export.pruned import chain, constant, difference, frames_of

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS)
def test_codes_of_every_edge_stay(seed: int) -> None:
    network = chain(seed)
    assert remove_pruned(network).input == network.input
    assert difference(network) is None


def test_generated_networks_can_show_a_difference() -> None:
    assert sum(constant(chain(seed)) for seed in range(100)) <= 50


@given(SEEDS)
def test_nothing_is_left_to_remove(seed: int) -> None:
    network = chain(seed)
    removed = remove_pruned(network)
    for node in removed.nodes:
        if not isinstance(node.spec, LinearSpec):
            continue
        values = node.spec.weight_format.decode(node.tensors["weight"])
        rows, columns = values.any(axis=1), values.any(axis=0)
        # one row and one column always stay; so does the output
        assert columns.all() or len(columns) == 1
        assert rows.all() or len(rows) == 1 or node is removed.output
    assert remove_pruned(removed).hash() == removed.hash()
    assert removed.weights() <= network.weights()


def layer(
    name: str, source: str, weight: list, b: list, format: Format, out: Format, m: list | None
) -> Node:
    matrix = np.array(weight)
    per = "one" if m is None else ("layer" if len(m) == 1 else "channel")
    rule = RequantizeSpec(out, 1, per, 0 if m is None else 8, 12)
    spec = LinearSpec(matrix.shape[1], matrix.shape[0], format, UniformFormat(4, True), rule)
    tensors = {"weight": matrix, "b": np.array(b)}
    if m is not None:
        tensors["m"] = np.array(m)
    return Node(name, spec, (source,), 1.0, tensors)


def test_constant_row_goes_into_the_next_bias() -> None:
    """Row 1 of a is zero with b = 9: its code is (9 + 1) >> 1 = 5, and reaches b times m * w."""
    four, wide = UniformFormat(4, False), UniformFormat(16, True)
    a = layer("a", "x", [[1, 2], [0, 0], [3, -1]], [0, 9, 0], four, four, None)
    b = layer("b", "a", [[1, 2, 3], [4, -5, 6]], [7, 8], four, wide, [10, -3])
    network = Network("n", InputSpec("x", (2,), four, 1.0), (a, b))
    removed = remove_pruned(network)
    assert removed["a"].tensors["weight"].tolist() == [[1, 2], [3, -1]]
    assert removed["b"].tensors["weight"].tolist() == [[1, 3], [4, 6]]
    assert removed["b"].tensors["b"].tolist() == [7 + 10 * 2 * 5, 8 + (-3) * (-5) * 5]
    assert removed["b"].tensors["m"].tolist() == [10, -3]


def test_idle_inputs_become_a_selection() -> None:
    four, wide = UniformFormat(4, False), UniformFormat(16, True)
    node = layer("a", "x", [[0, 2, 0, 1], [0, 1, 0, 0]], [0, 0], four, wide, None)
    network = Network("n", InputSpec("x", (2, 2), four, 1.0), (node,))
    removed = remove_pruned(network)
    assert [n.name for n in removed.nodes] == ["select", "a"]
    assert removed["select"].tensors["indices"].tolist() == [1, 3]
    assert removed["a"].inputs == ("select",)
    # 8 weights of 4 bits become 4, and the selection is stored as a map of 4 bits
    assert network.stored_bits() - removed.stored_bits() == 4 * 4 + 2 * (12 - 4) - 4 - 32


def test_whole_chain_of_idle_rows_goes() -> None:
    """An idle output of b frees a row of b, which idles a row of a, which idles an input."""
    four, wide = UniformFormat(4, False), UniformFormat(16, True)
    a = layer("a", "x", [[1, 0], [0, 1]], [0, 0], four, four, None)
    b = layer("b", "a", [[1, 0], [0, 1]], [0, 0], four, four, None)
    c = layer("c", "b", [[3, 0]], [0], four, wide, None)
    network = Network("n", InputSpec("x", (2,), four, 1.0), (a, b, c))
    removed = remove_pruned(network)
    assert [removed[n].spec.weights() for n in "abc"] == [1, 1, 1]
    assert removed["select"].tensors["indices"].tolist() == [0]


def test_network_without_any_path_stays_a_network() -> None:
    four, wide = UniformFormat(4, False), UniformFormat(16, True)
    a = layer("a", "x", [[0, 0], [0, 0]], [5, 6], four, four, [2])
    b = layer("b", "a", [[0, 0]], [40], four, wide, [3])
    network = Network("n", InputSpec("x", (2,), four, 1.0), (a, b))
    removed = remove_pruned(network)
    frames = frames_of(network.input)
    assert torch.equal(golden.run(removed, frames), golden.run(network, frames))
    assert removed.weights() == 2
