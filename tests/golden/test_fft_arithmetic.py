"""Layers of fft arithmetic against exact arithmetic, and against float64 torch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from model import golden
from model.ir.arithmetic import ExactArithmetic
from model.ir.conv import ConvSpec
from model.ir.linear import LinearSpec
from model.ir.network import Network
from model.ir.numerics import BipolarFormat, CodebookFormat, UniformFormat
from tests.ffts import fft_conv, fft_linear, fft_of, frames_of, network_of


def exact(network: Network) -> Network:
    """The same layer under exact arithmetic."""
    nodes = [
        replace(node, spec=replace(node.spec, arithmetic=ExactArithmetic()))
        for node in network.nodes
    ]
    return replace(network, nodes=tuple(nodes))


@st.composite
def layers(draw: st.DrawFn) -> LinearSpec | ConvSpec:
    k = draw(st.sampled_from([2, 4, 8, 16]))
    levels = k.bit_length() - 1
    signed = st.booleans()
    in_format = draw(st.builds(UniformFormat, st.integers(1, 12), signed))
    weight_format = draw(
        st.builds(UniformFormat, st.integers(1, 9), signed)
        | st.just(BipolarFormat())
        | st.just(CodebookFormat((0, 7, -3)))
    )
    arithmetic = fft_of(
        k,
        up=draw(st.integers(0, 5)),
        shifts=tuple(draw(st.integers(0, 2)) for _ in range(levels)),
        spectrum_exponent=draw(st.integers(-3, 4)),
        acc_shift=draw(st.integers(0, 12)),
        inverse_shifts=tuple(draw(st.integers(0, 2)) for _ in range(levels)),
        twiddle_bits=draw(st.integers(10, 18)),
    )
    changes = {"in_format": in_format, "weight_format": weight_format, "arithmetic": arithmetic}
    if k <= 8 and draw(st.booleans()):
        return fft_conv(k, **changes)
    return fft_linear(k, **changes)


def real_accumulators(network: Network, frames: np.ndarray) -> torch.Tensor:
    """What torch makes of the values in float64, without any rounding."""
    spec = network["layer"].spec
    weights = torch.from_numpy(spec.values(network["layer"].tensors)).double()
    x = torch.from_numpy(spec.in_format.decode(frames)).double()
    if isinstance(spec, LinearSpec):
        return functional.linear(x, weights)
    kernel = weights.reshape(-1, spec.kernel_rows, spec.kernel_columns, spec.channels)
    y = functional.conv2d(
        x.permute(0, 3, 1, 2), kernel.permute(0, 3, 1, 2), None, spec.stride, spec.padding
    )
    return y.permute(0, 2, 3, 1)


@settings(max_examples=40)
@given(layers(), st.integers(0, 2**32 - 1))
def test_stays_within_the_derived_bound_of_float64_torch(
    spec: LinearSpec | ConvSpec, seed: int
) -> None:
    """The accumulators stand for 2^exponent times the real ones.

    The bound is FFTArithmetic.error_bound. A word of the forward transform errs by e_X (its
    roundings, each 1/2 at most, and its twiddles' errors at the largest activations), a word of the
    weights' spectrum by e_W = 1/2. So a product errs by at most |W| e_X + (|X| + e_X) e_W, a
    complex one by two of these, q of them are added, and the shift before the inverse adds 1/2. The
    inverse multiplies that by the sums of its coefficients' magnitudes, and adds its own errors.
    """
    network = network_of(spec, seed)
    frames = frames_of(network, seed, 20)
    acc = golden.trace(network, torch.from_numpy(frames))["layer.acc"]
    real = real_accumulators(network, frames) * 2.0**spec.arithmetic.exponent
    assert acc.shape == real.shape
    bound = spec.arithmetic.error_bound(spec) * (1 + 1e-9) + 1e-6
    assert float((acc - real).abs().max()) <= bound
    span = spec.accumulator()
    assert span.low <= int(acc.min())
    assert int(acc.max()) <= span.high


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("make", [fft_linear, fft_conv])
def test_small_blocks_are_exact(k: int, make: type) -> None:
    arithmetic = fft_of(k, up=0, spectrum_exponent=0, acc_shift=0)
    network = network_of(make(k, arithmetic=arithmetic), 3)
    frames = torch.from_numpy(frames_of(network, 4, 50))
    found, expected = (golden.trace(one, frames) for one in (network, exact(network)))
    assert torch.equal(found["layer.acc"], expected["layer.acc"])
    assert torch.equal(found["layer"], expected["layer"])


@pytest.mark.parametrize("k", [8, 16, 32])
def test_the_error_is_far_below_the_bound_of_a_plain_16_bit_transform(k: int) -> None:
    """A figure to notice a lost bit by: signal over noise of random layers, at least 65 dB."""
    arithmetic = fft_of(k, up=1, spectrum_exponent=3, acc_shift=4)
    network = network_of(fft_linear(k, arithmetic=arithmetic), 5)
    frames = frames_of(network, 6, 500)
    acc = golden.trace(network, torch.from_numpy(frames))["layer.acc"]
    real = real_accumulators(network, frames)
    noise = (acc - real * 2.0**arithmetic.exponent).square().mean()
    signal = (real * 2.0**arithmetic.exponent).square().mean()
    assert 10 * float(torch.log10(signal / noise)) >= 65


def test_worst_case_codes_reach_the_ends_of_the_sums() -> None:
    """All weights and activations at the ends of their formats: the bin of DC at its end."""
    arithmetic = fft_of(4, up=0, spectrum_exponent=0, acc_shift=0)
    spec = fft_linear(4, in_features=20, arithmetic=arithmetic)
    tensors = dict(network_of(spec, 0)["layer"].tensors)
    tensors["weight"] = np.full_like(tensors["weight"], -128)
    network = network_of(spec, 0)
    network = replace(network, nodes=(replace(network["layer"], tensors=tensors),))
    acc = golden.trace(network, torch.full((1, 20), 255))["layer.acc"]
    assert int(acc.min()) == arithmetic.sums(spec)[0].low // 4 == 20 * 255 * -128
