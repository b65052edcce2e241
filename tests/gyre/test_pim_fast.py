"""The fast evaluation gives the very codes of the golden model."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gyre import pim_fast
from model import golden
from model.export import PIMOptions, with_pim
from model.ir.conv import ConvSpec
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pool import MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from tests.examples import image_network
from tests.pims import frames_of, pim_networks

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=80)
@given(pim_networks(), seeds)
def test_layers_on_macros_give_the_codes_of_golden(network: Network, seed: int) -> None:
    frames = torch.from_numpy(frames_of(network, seed, 7))
    assert torch.equal(pim_fast.run(network, frames), golden.run(network, frames))


def chain(seed: int, weight_bits: int, factors: tuple[int, int]) -> Network:
    """A convolution, a pool, and two layers behind them; factors of the first lie in a range."""
    rng = np.random.default_rng(seed)
    bits, weights = UniformFormat(8, False), UniformFormat(weight_bits, True)
    span = weights.codes

    def tensors(rows: int, columns: int, per: str) -> dict[str, np.ndarray]:
        found = {
            "weight": rng.integers(span.low, span.high + 1, (rows, columns)),
            "b": rng.integers(-1000, 1000, rows),
        }
        if per == "channel":
            found["m"] = rng.integers(factors[0], factors[1] + 1, rows)
        return found

    rule = RequantizeSpec(bits, weight_bits + 6, "channel", 8, 12)
    scores = RequantizeSpec(UniformFormat(16, True), weight_bits, "one", 0, 12)
    conv = ConvSpec(9, 8, 3, 5, 3, 2, 1, 0, 1, bits, weights, rule)
    pool = MaxPoolSpec(7, 7, 5, 2, 2, 2, bits)
    last = LinearSpec(3 * 3 * 5, 4, bits, weights, scores)
    return Network(
        "chain",
        InputSpec("x", (9, 8, 3), bits, 1.0),
        (
            Node("conv", conv, ("x",), 1.0, tensors(5, 18, "channel")),
            Node("pool", pool, ("conv",), 1.0, {}),
            Node("fc", last, ("pool",), 1.0, tensors(4, 45, "one")),
        ),
    )


@pytest.mark.parametrize("factors", [(1, 127), (-128, 127)])
@pytest.mark.parametrize("weight_bits", [4, 16])
def test_chains_with_pools_give_the_codes_of_golden(
    weight_bits: int, factors: tuple[int, int]
) -> None:
    network = chain(1, weight_bits, factors)
    frames = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (300, 9, 8, 3)))
    expected = golden.run(network, frames)
    assert torch.equal(pim_fast.run(network, frames), expected)
    assert len(torch.unique(expected)) > 100
    spread = with_pim(network, PIMOptions(rows=16, spread=0.1, cell_bits=2), frames)
    assert torch.equal(pim_fast.run(spread, frames), golden.run(spread, frames))
    assert not torch.equal(golden.run(spread, frames), expected)


def test_matrices_that_reach_too_far_are_cut() -> None:
    network = chain(1, 16, (1, 127))
    parts = {node.name: pim_fast._parts(node) for node in network.nodes}
    assert [len(parts[name]) for name in ("conv", "pool", "fc")] == [2, 0, 2]
    for node in network.nodes:
        if parts[node.name]:
            whole = sum(part.double() * 2**shift for part, shift in parts[node.name])
            assert torch.equal(whole.long(), torch.tensor(node.tensors["weight"]))


def test_networks_that_branch_go_to_golden() -> None:
    network = image_network()
    span = network.input.format.codes
    frames = np.random.default_rng(2).integers(span.low, span.high + 1, (5, *network.input.shape))
    frames = torch.from_numpy(frames)
    assert torch.equal(pim_fast.run(network, frames), golden.run(network, frames))
