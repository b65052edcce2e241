"""Circulant layers turned into layers of fft arithmetic."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gyre import recipe as recipes
from gyre.training import golden_accuracy
from model import data, golden
from model.compress import FFTOptions
from model.compress.layers import CirculantLinear
from model.export import export, with_fft
from model.golden.matrix import accumulate, prepare
from model.golden.requantize import requantize
from model.ir.arithmetic import ExactArithmetic
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.errors import BadInput
from model.ir.fft_arithmetic import FFTArithmetic
from model.ir.lstm import part_of
from model.ir.network import Network, Node
from model.ir.numerics import UniformFormat
from tests.ffts import fft_conv, fft_linear, frames_of, network_of
from tests.lstms import lstm_network, lstm_spec

ROOT = Path(__file__).resolve().parents[2]
EXACT = {"arithmetic": ExactArithmetic()}


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("make", [fft_linear, fft_conv])
def test_small_blocks_keep_every_code_and_the_requantization(k: int, make: Any) -> None:
    network = network_of(make(k, **EXACT), 1)
    found = with_fft(network)
    frames = torch.from_numpy(frames_of(network, 2, 40))
    assert found["layer"].spec.arithmetic.kind == "fft"
    assert found["layer"].spec.requantize == network["layer"].spec.requantize
    assert torch.equal(golden.run(found, frames), golden.run(network, frames))


@pytest.mark.parametrize("k", [8, 16, 32])
@pytest.mark.parametrize("make", [fft_linear, fft_conv])
def test_codes_of_large_blocks_stay_within_a_step(k: int, make: Any) -> None:
    """The guard bits leave 1/16 of an output step to the roundings of an accumulator."""
    network = network_of(make(k, **EXACT), 1)
    found = with_fft(network)
    frames = torch.from_numpy(frames_of(network, 2, 40))
    codes, expected = golden.run(found, frames), golden.run(network, frames)
    assert int((codes - expected).abs().max()) <= 1
    assert float((codes != expected).double().mean()) < 0.1
    spec = found["layer"].spec
    assert spec.arithmetic.word_bits(spec) == spec.arithmetic.spectrum_bits(spec) == 16


@pytest.mark.parametrize("bits", [(10, 10), (12, 10), (18, 18), (24, 16)])
@pytest.mark.parametrize("k", [4, 8, 16])
@pytest.mark.parametrize("activation", [UniformFormat(16, True), UniformFormat(3, False)])
def test_words_keep_to_their_bits(bits: tuple[int, int], k: int, activation: UniformFormat) -> None:
    network = network_of(fft_linear(k, in_format=activation, **EXACT), 0)
    found = with_fft(network, FFTOptions(word_bits=bits[0], spectrum_bits=bits[1]))
    spec = found["layer"].spec
    assert spec.arithmetic.word_bits(spec) <= bits[0]
    assert spec.arithmetic.spectrum_bits(spec) <= bits[1]
    frames = torch.from_numpy(frames_of(network, 1, 10))
    step = 2.0**spec.arithmetic.exponent
    acc, exact = (golden.trace(one, frames)["layer.acc"] for one in (found, network))
    assert float((acc - exact * step).abs().max()) <= spec.arithmetic.error_bound(spec)


def test_more_guard_bits_give_finer_accumulators() -> None:
    network = network_of(fft_linear(8, **EXACT), 0)
    coarse, fine = (with_fft(network, FFTOptions(guard_bits=bits)) for bits in (2, 5))
    exponents = [one["layer"].spec.arithmetic.exponent for one in (coarse, fine)]
    assert exponents[1] - exponents[0] == 3


def test_what_is_not_circulant_stays() -> None:
    network = Network.load(ROOT / "zoo" / "mnist_mlp" / "network")
    assert with_fft(network) == network
    once = with_fft(network_of(fft_linear(8, **EXACT), 0))
    assert with_fft(once) == once


@pytest.mark.parametrize("k", [2, 4, 8])
def test_an_lstm_s_matrices_are_both_turned(k: int) -> None:
    network = lstm_network(lstm_spec(9, 8 * k, k, True, k=k, bits=8), 3)
    found = with_fft(network)
    frames = torch.from_numpy(frames_of(network, 1, 5 * 7)).unflatten(0, (5, 7))
    node = found["lstm"]
    for part in node.spec.parts().values():
        assert isinstance(part.arithmetic, FFTArithmetic)
    edges, exact = golden.trace(found, frames), golden.trace(network, frames)
    if k < 8:
        assert all(torch.equal(edges[name], exact[name]) for name in exact)
    # the gates of the first step are those of the layer alone; y(-1) is 0
    gates, tensors = node.spec.gates, part_of(node.tensors, "gates")
    columns = torch.zeros(5, gates.in_features, dtype=torch.int64)
    columns[:, :9] = frames[:, 0]
    acc = accumulate(gates.arithmetic, gates, columns, prepare(gates.arithmetic, gates, tensors))
    expected = requantize(gates.requantize, acc, {"b": torch.from_numpy(tensors["b"].copy())})
    assert torch.equal(edges["lstm.gates"][:, 0], expected)


def test_export_makes_circulant_layers_of_fft_arithmetic() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(CirculantLinear(16, 24, 8), nn.ReLU(), nn.Linear(24, 3))
    x = torch.rand(40, 16)
    exact = export(module, x[:1], x)
    found = export(module, x[:1], x, arithmetic="fft", fft=FFTOptions(spectrum_bits=12))
    assert found == with_fft(exact, FFTOptions(spectrum_bits=12))
    kinds = [node.spec.arithmetic.kind for node in found.nodes]
    assert kinds == ["fft", "exact"]


def refuses(network: Network, match: str) -> None:
    with pytest.raises(BadInput, match=match):
        with_fft(network)


def test_refuses_blocks_without_a_transform_and_small_layers() -> None:
    six = fft_linear(8, **EXACT, storage=BlockCirculantStorage(6))
    refuses(network_of(six, 0), "layer: fft arithmetic: .* one of 2, 4, 8, 16, 32, not 6")
    small = fft_linear(8, **EXACT, out_features=5)
    refuses(network_of(small, 0), "layer: fft arithmetic: .*5 rows of weights are fewer")
    lstm = lstm_network(lstm_spec(3, 6, k=3), 0)
    refuses(lstm, "lstm.gates: fft arithmetic: .* not 3")


def test_refuses_words_that_are_coarser_than_the_output() -> None:
    spec = fft_linear(16, in_format=UniformFormat(16, True), **EXACT)
    spec = replace(spec, requantize=replace(spec.requantize, shift=8))
    network = network_of(spec, 0)
    with pytest.raises(BadInput, match="words of 8 and 8 bits, which leave accumulators of 2"):
        with_fft(network, FFTOptions(word_bits=8, spectrum_bits=8))


def test_refuses_biases_that_fit_no_format_at_the_finer_scale() -> None:
    spec = fft_linear(8, **EXACT)
    spec = replace(spec, requantize=replace(spec.requantize, shift=0, b_bits=48))
    network = network_of(spec, 0)
    tensors = network["layer"].tensors | {"b": np.full(spec.out_features, (1 << 47) - 1)}
    network = replace(network, nodes=(replace(network["layer"], tensors=tensors),))
    refuses(network, "layer.b: found values .*48-bit signed")


def test_the_recipe_says_which_arithmetic() -> None:
    path = ROOT / "recipes" / "osc_lenet5.toml"
    plain = recipes.load(path, ["format.arithmetic=exact"])
    assert (plain.format.arithmetic, plain.format.fft) == ("exact", FFTOptions())
    other = recipes.load(path, ["format.fft.guard_bits=6"])
    assert other.format.arithmetic == "fft"
    assert other.format.fft.guard_bits == 6
    assert other.hash != plain.hash
    assert other.training_hash == plain.training_hash == plain.hash
    for bad in ("format.arithmetic=fourier", "format.fft.word_bits=40", "format.fft.bits=3"):
        with pytest.raises(BadInput, match=bad.split("=")[0]):
            recipes.load(path, [bad])


def is_fft(node: Node) -> bool:
    return getattr(node.spec, "arithmetic", ExactArithmetic()).kind == "fft"


def exact(node: Node) -> Node:
    """The node before its conversion to fft arithmetic, but for what the bias lost."""
    spec, rule, b = node.spec, node.spec.requantize, node.tensors["b"]
    up = spec.arithmetic.exponent
    rule = replace(rule, shift=rule.shift - up, b_bits=rule.b_bits + max(0, -up))
    spec = replace(spec, arithmetic=ExactArithmetic(), requantize=rule)
    b = b >> up if up >= 0 else b << -up
    return replace(node, spec=spec, tensors={**node.tensors, "b": b})


@pytest.mark.parametrize("name", ["osc_mnist_mlp", "osc_mnist_mlp_x40", "osc_lenet5_x40"])
def test_kept_networks_are_as_accurate_as_exact_ones(name: str) -> None:
    if not (Path(os.environ.get("GYRE_DATA", "")) / "mnist").is_dir():
        pytest.skip("needs $GYRE_DATA/mnist")
    network = Network.load(ROOT / "zoo" / name / "network")
    nodes = [exact(node) if is_fft(node) else node for node in network.nodes]
    assert sum(map(is_fft, network.nodes)) == 2
    plain = replace(network, nodes=tuple(nodes))
    assert with_fft(plain).hash() == network.hash()
    some = data.load("mnist").validation.part(slice(0, 400))
    wanted, found = (golden_accuracy(one, some) for one in (plain, network))
    assert abs(found - wanted) <= 0.0025  # one frame
