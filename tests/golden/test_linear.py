"""The fully connected layer against independent evaluations."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model import golden
from model.golden.matrix import accumulate
from model.ir.arithmetic import Arithmetic
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import Format, UniformFormat
from model.ir.requantize import RequantizeSpec
from tests import reference
from tests.examples import codes_of, scale_of
from tests.strategies import linear_nodes, plain_formats, scales_of


@st.composite
def linear_networks(draw: st.DrawFn) -> Network:
    """One fully connected layer on a random input."""
    format = draw(plain_formats)
    entry = InputSpec("x", (draw(st.integers(1, 24)),), format, draw(scales_of(format)))
    return Network(
        "net",
        entry,
        (draw(linear_nodes("fc", "x", entry.shape[0], entry.format, any_storage=True)),),
    )


def frames_of(network: Network, seed: int, count: int = 6) -> np.ndarray:
    """Random frames that often reach the ends of the input's format."""
    span = network.input.format.codes
    return codes_of(span, np.random.default_rng(seed), count, *network.input.shape)


@given(linear_networks(), st.integers(0, 2**32 - 1))
def test_equals_plain_python_integers(network: Network, seed: int) -> None:
    frames = frames_of(network, seed)
    edges = golden.trace(network, torch.from_numpy(frames))
    for n, frame in enumerate(frames):
        expected = reference.run(network, frame)
        assert edges["fc.acc"][n].tolist() == expected["fc.acc"]
        assert edges["fc"][n].tolist() == expected["fc"]


@given(linear_networks(), st.integers(0, 2**32 - 1))
def test_accumulators_stay_in_the_stated_range(network: Network, seed: int) -> None:
    span = network["fc"].spec.accumulator()
    acc = golden.trace(network, torch.from_numpy(frames_of(network, seed)))["fc.acc"]
    assert span.low <= int(acc.min())
    assert int(acc.max()) <= span.high


@pytest.mark.parametrize("signed", [False, True])
def test_the_stated_range_is_reached_at_both_ends(signed: bool) -> None:
    span = UniformFormat(4, signed)
    spec = LinearSpec(
        10, 2, span, UniformFormat(3, True), RequantizeSpec(UniformFormat(8, True), 4, "one", 0, 8)
    )
    x = torch.tensor([[span.codes.high] * 10, [span.codes.low] * 10])
    weights = torch.tensor([[3] * 10, [-4] * 10])
    acc = accumulate(spec.arithmetic, spec, x, weights)
    assert (int(acc.min()), int(acc.max())) == (spec.accumulator().low, spec.accumulator().high)


@st.composite
def real_layers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any, int]:
    """A real layer (weights, bias, activations as reals) with formats to quantize it to."""
    features, outputs = draw(st.integers(1, 32)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = rng.normal(size=(outputs, features))
    bias = rng.normal(size=outputs)
    x = rng.uniform(0, 1, size=(8, features))
    bits = (draw(st.integers(2, 8)), draw(st.integers(2, 8)), draw(st.integers(2, 12)))
    return weight, bias, x, bits, draw(st.integers(4, 15))


@given(real_layers())
def test_stays_within_the_derived_bound_of_a_float64_layer(layer: tuple) -> None:
    """Level 1 of what counts as proven: a torch.nn.Linear in float64 on the quantized operands.

    Let sx, sw, sy be the scales, acc the exact accumulator, and y' the output code before the
    clamp. The float layer computes y = sx*sw*acc + bias. Export chooses integers m, b and s with
    m ~ G 2^s, G = sx*sw/sy, and b ~ (bias/sy) 2^s, each rounded to nearest, so

        m = G 2^s + dm, |dm| <= 1/2,        b = (bias/sy) 2^s + db, |db| <= 1/2.

    The code is y' = (acc*m + b)/2^s + e, where rounding to an integer gives |e| <= 1/2. Hence

        |sy*y' - y| <= sy * (|acc|/2 + 1/2) / 2^s + sy/2.

    The clamp to [low, high] cannot enlarge the distance to the clamped real: it is non-expansive.
    The float64 evaluation itself errs by at most n * 2^-53 * sum|x w| and some ulp of y and of the
    bound; 2^-40 times the magnitudes involved is far above that and far below sy/2.
    """
    weight, bias, x, (x_bits, w_bits, y_bits), m_bits = layer
    x_format, w_format = UniformFormat(x_bits, False), UniformFormat(w_bits, True)
    y_format = UniformFormat(y_bits, True)
    sx = float(x.max()) / x_format.codes.high
    sw = float(np.abs(weight).max()) / w_format.codes.high
    sy = float(np.abs(x @ weight.T + bias).max()) / y_format.codes.high
    gain = sx * sw / sy
    shift = 0  # the most that keeps m in its bits, and the bias in 48
    while shift < 30 and round(gain * 2.0 ** (shift + 1)) < 2 ** (m_bits - 1):
        shift += 1
    m, b = round(gain * 2.0**shift), np.floor(bias / sy * 2.0**shift + 0.5).astype(np.int64)
    m = min(m, 2 ** (m_bits - 1) - 1)
    dm = abs(m - gain * 2.0**shift)  # 1/2 at most, unless the gain itself is beyond m's bits

    w_codes = np.rint(weight / sw).astype(np.int64)
    requantize = RequantizeSpec(y_format, shift, "layer", m_bits, 48)
    features, outputs = x.shape[1], len(bias)
    spec = LinearSpec(features, outputs, x_format, w_format, requantize)
    tensors = {"weight": w_codes, "m": np.array([m]), "b": b}
    network = Network(
        "net",
        InputSpec("x", (features,), x_format, sx),
        (Node("fc", spec, ("x",), sy, tensors),),
    )
    x_codes = golden.quantize(network.input, x)
    edges = golden.trace(network, x_codes)
    codes, acc = edges["fc"].double(), edges["fc.acc"].double()

    float_layer = torch.nn.Linear(features, outputs, dtype=torch.float64)
    with torch.no_grad():
        float_layer.weight.copy_(torch.from_numpy(w_codes * sw))
        float_layer.bias.copy_(torch.from_numpy(bias))
        real = float_layer(x_codes.double() * sx)
    real = real.clamp(y_format.codes.low * sy, y_format.codes.high * sy)
    bound = sy * (acc.abs() * max(dm, 0.5) + 0.5) / 2.0**shift + sy / 2
    slack = 2.0**-40 * (acc.abs() * sx * sw + torch.from_numpy(np.abs(bias)) + sy * 2**y_bits)
    assert ((codes * sy - real).abs() <= bound + slack).all()


@given(plain_formats, plain_formats)
def test_zero_inputs_give_the_bias_alone(in_format: Format, out_format: Format) -> None:
    spec = LinearSpec(
        3, 2, in_format, UniformFormat(4, True), RequantizeSpec(out_format, 0, "one", 0, 8)
    )
    tensors = {"weight": np.array([[1, -2, 3], [4, -5, 6]]), "b": np.array([5, -5])}
    node = Node("fc", spec, ("x",), scale_of(spec.out_format), tensors)
    network = Network("net", InputSpec("x", (3,), in_format, scale_of(in_format)), (node,))
    low, high = reference.bounds(out_format)
    outputs = golden.run(network, torch.zeros((1, 3), dtype=torch.int64))
    assert outputs.tolist() == [[min(max(b, low), high) for b in (5, -5)]]


def test_names_an_arithmetic_without_a_golden_function() -> None:
    class Unheard(Arithmetic):
        kind = "unheard"

    spec = LinearSpec(
        1, 1, UniformFormat(1, False), UniformFormat(1, True),
        RequantizeSpec(UniformFormat(1, False), 0, "one", 0, 1), Unheard(),
    )  # fmt: skip
    x = torch.zeros((1, 1), dtype=torch.int64)
    with pytest.raises(BadInput, match=r"^arithmetic: found unheard; expected .*; update Gyre"):
        accumulate(spec.arithmetic, spec, x, x)
