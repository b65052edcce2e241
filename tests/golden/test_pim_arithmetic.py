"""Layers of pim arithmetic against exact arithmetic, and against a slow evaluation in Python."""

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import golden
from model.ir.arithmetic import ExactArithmetic
from model.ir.network import Network
from tests.pims import frames_of, pim_networks, slow_accumulators

seeds = st.integers(0, 2**32 - 1)


def accumulators(network: Network, frames: torch.Tensor) -> torch.Tensor:
    acc = golden.trace(network, frames)["layer.acc"]
    return acc.reshape(-1, acc.shape[-1])


@settings(max_examples=150)
@given(pim_networks(adc_bits=None, device=False), seeds)
def test_nominal_cells_and_exact_counts_give_the_integer_product(
    network: Network, seed: int
) -> None:
    node = network["layer"]
    plain = replace(node, spec=replace(node.spec, arithmetic=ExactArithmetic()))
    frames = torch.from_numpy(frames_of(network, seed, 10))
    expected = accumulators(replace(network, nodes=(plain,)), frames)
    found = accumulators(network, frames)
    assert torch.equal(found, expected << node.spec.arithmetic.grid_bits)


@settings(max_examples=150)
@given(pim_networks(), seeds)
def test_equals_the_slow_evaluation_bit_by_bit(network: Network, seed: int) -> None:
    """Exact counts too: there the slow one is bit-serial and the golden one matrix product."""
    frames = frames_of(network, seed, 2)
    found = accumulators(network, torch.from_numpy(frames))
    assert found.tolist() == slow_accumulators(network, frames).tolist()
    span = network["layer"].spec.accumulator()
    assert span.low <= int(found.min())
    assert int(found.max()) <= span.high


@settings(max_examples=30)
@given(pim_networks(adc_bits=16, device=False, grid_bits=0), seeds)
def test_a_converter_that_never_saturates_counts_exactly(network: Network, seed: int) -> None:
    node = network["layer"]
    pim = replace(node.spec.arithmetic, step=1)
    frames = torch.from_numpy(frames_of(network, seed, 5))
    found = []
    for arithmetic in (pim, replace(pim, adc_bits=None)):
        own = replace(node, spec=replace(node.spec, arithmetic=arithmetic))
        found.append(accumulators(replace(network, nodes=(own,)), frames))
    assert torch.equal(*found)
