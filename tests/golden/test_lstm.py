"""The LSTM against exact fractions, and against float64 within a derived bound."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import golden
from model.ir.errors import BadInput
from model.ir.lstm import LSTMSpec, part_of
from model.ir.network import Network, Node
from tests.examples import codes_of
from tests.lstms import lstm_network, lstm_networks, lstm_spec, run_lstm


def sequences_of(network: Network, seed: int, count: int, steps: int) -> torch.Tensor:
    """Random sequences of input codes, int64 [count, steps, features]."""
    span, rng = network.input.format.codes, np.random.default_rng(seed)
    return torch.from_numpy(codes_of(span, rng, count, steps, *network.input.shape))


@settings(max_examples=30)
@given(lstm_networks(), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_equals_exact_fractions(network: Network, steps: int, seed: int) -> None:
    codes = sequences_of(network, seed, 2, steps)
    found = golden.trace(network, codes)["lstm"]
    for sequence, expected in zip(codes, found, strict=True):
        assert expected.tolist() == run_lstm(network["lstm"], sequence.numpy())


@settings(max_examples=20)
@given(lstm_networks(), st.integers(0, 2**32 - 1))
def test_a_sequence_depends_neither_on_its_neighbours_nor_on_its_padding(
    network: Network, seed: int
) -> None:
    codes = sequences_of(network, seed, 3, 5)
    whole = golden.run(network, codes)
    assert torch.equal(golden.run(network, codes[1:2, :3]), whole[1:2, :3])
    padded = codes.clone()
    padded[:, 3:] = 0
    assert torch.equal(golden.run(network, padded)[:, :3], whole[:, :3])


@pytest.mark.parametrize("peephole", [False, True])
@pytest.mark.parametrize("projection", [0, 5])
@pytest.mark.parametrize("g", ["tanh", "sigmoid"])
@pytest.mark.parametrize("k", [1, 4])
def test_is_near_a_float64_lstm(peephole: bool, projection: int, g: str, k: int) -> None:
    spec = lstm_spec(6, 8, projection, peephole, g, k)
    network = lstm_network(spec, 3, share=0.1)  # small enough that nothing but sigmoids saturate
    codes = sequences_of(network, 4, 5, 12) // 8
    edges = golden.trace(network, codes)
    for name, format in (("lstm", spec.out_format), ("lstm.gates", spec.gates.out_format)):
        assert int(edges[name].abs().max()) < format.codes.high
    y, bound = float_lstm(spec, network["lstm"], codes.numpy() * 2.0**-spec.in_format.frac_bits)
    error = np.abs(edges["lstm"].numpy() * network["lstm"].scale - y)
    assert (error <= bound).all()
    assert bound[:, 0].max() < 0.05  # the bound of the first step says something


def float_lstm(spec: LSTMSpec, node: Node, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y in float64, [sequences, steps, outputs], and a bound of what rounding may change of it.

    Each e_* bounds the error of a number in the fixed-point run. A rounding adds half a step. The
    sigmoid is Lipschitz with 1/4, tanh with 1, and the tables add their own error, which is
    measured over every code. For factors within 1, |f'c' - fc| <= |c' - c| + |c||f' - f|
    and likewise for i g and o tanh c. Nothing saturates but the gates' functions themselves, which
    only brings their values nearer to each other.
    """

    def real(part: str) -> tuple[np.ndarray, np.ndarray]:
        own, tensors = spec.parts()[part], part_of(node.tensors, part)
        step = 2.0**-own.weight_format.frac_bits
        return own.values(tensors) * step, tensors["b"] * step * 2.0**-own.in_format.frac_bits

    def half(format) -> float:
        return 2.0 ** -(format.frac_bits + 1)

    def sigmoid(a: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-a))

    g_of, g_steep = (np.tanh, 1.0) if spec.g.odd else (sigmoid, 0.25)
    w, b = real("gates")
    w_x = w[:, : spec.features]
    w_y = w[:, spec.x_columns : spec.x_columns + spec.outputs]
    p = np.zeros((3, spec.cells))
    if spec.peephole_format is not None:
        p = node.tensors["peephole"] * 2.0**-spec.peephole_format.frac_bits
    gate = half(spec.gates.out_format)
    peeped = gate if spec.peephole_format is not None else 0.0
    c, y = np.zeros((len(x), spec.cells)), np.zeros((len(x), spec.outputs))
    e_c, e_y = np.zeros_like(c), np.zeros_like(y)
    outputs, bounds = [], []
    for t in range(x.shape[1]):
        a = x[:, t] @ w_x.T + y @ w_y.T + b
        e_a = e_y @ np.abs(w_y).T + gate
        a_i, a_f, a_g, a_o = np.split(a, 4, 1)
        e_i, e_f, e_g, e_o = np.split(e_a, 4, 1)
        i, f, new = sigmoid(a_i + p[0] * c), sigmoid(a_f + p[1] * c), g_of(a_g)
        e_i = (e_i + np.abs(p[0]) * e_c + peeped) / 4 + spec.sigmoid.error()
        e_f = (e_f + np.abs(p[1]) * e_c + peeped) / 4 + spec.sigmoid.error()
        e_g = e_g * g_steep + spec.g.error()
        e_c = e_c + np.abs(c) * e_f + e_i + e_g + half(spec.state_format)
        c = f * c + i * new
        o = sigmoid(a_o + p[2] * c)
        e_o = (e_o + np.abs(p[2]) * e_c + peeped) / 4 + spec.sigmoid.error()
        h = o * np.tanh(c)
        e_h = e_o + e_c + spec.tanh.error() + half(spec.hidden_format)
        y, e_y = h, e_h
        if spec.project is not None:
            matrix, offset = real("project")
            y, e_y = h @ matrix.T + offset, e_h @ np.abs(matrix).T + half(spec.out_format)
        outputs.append(y)
        bounds.append(e_y)
    return np.stack(outputs, 1), np.stack(bounds, 1)


def test_the_state_saturates_and_does_not_wrap() -> None:
    spec = lstm_spec(1, 1, bits=8)
    network = lstm_network(spec, 0)
    tensors = dict(network["lstm"].tensors)
    tensors["gates_weight"] = np.zeros_like(tensors["gates_weight"])
    tensors["gates_b"] = np.full(4, 2**20)  # all gates open for ever
    node = Node("lstm", spec, ("x",), network["lstm"].scale, tensors)
    codes = torch.zeros(1, 40, 1, dtype=torch.int64)
    state = golden.trace(Network("net", network.input, (node, network["fc"])), codes)["lstm.state"]
    span = spec.state_format.codes
    steps = spec.steps_without_saturation()
    assert int(state[0, steps - 1, 0]) < span.high
    assert state[0, -20:, 0].tolist() == [span.high] * 20
    assert (state.diff(dim=1) >= 0).all()


def test_a_sequence_of_no_steps_is_refused() -> None:
    network = lstm_network(lstm_spec(2, 2), 0)
    with pytest.raises(BadInput, match="a sequence of 0 steps"):
        golden.run(network, torch.zeros(1, 0, 2, dtype=torch.int64))
