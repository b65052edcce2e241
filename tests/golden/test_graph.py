"""Evaluation of whole networks: every edge, in batches, with the refusals at the door."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import golden
from model.golden import graph
from model.ir.errors import BadInput
from model.ir.layer import LayerSpec
from model.ir.network import InputSpec, Network
from model.ir.numerics import UniformFormat
from tests import reference
from tests.examples import codes_of, example_network
from tests.strategies import image_networks, networks


def frames_of(network: Network, seed: int, count: int) -> np.ndarray:
    """Random frames that often reach the ends of the input's format."""
    span = network.input.format.codes
    return codes_of(span, np.random.default_rng(seed), count, *network.input.shape)


@settings(max_examples=100)
@given(networks() | image_networks(), st.integers(0, 2**32 - 1))
def test_every_edge_equals_plain_python_integers(network: Network, seed: int) -> None:
    frames = frames_of(network, seed, 4)
    edges = golden.trace(network, torch.from_numpy(frames))
    for n, frame in enumerate(frames):
        expected = reference.run(network, frame)
        assert edges.keys() == expected.keys()
        for name, codes in expected.items():
            assert edges[name][n].flatten().tolist() == codes, name


def test_trace_keeps_every_intermediate() -> None:
    network = example_network()
    edges = golden.trace(network, torch.from_numpy(frames_of(network, 1, 5)))
    assert list(edges) == ["image", "keep", "fc0.acc", "fc0", "fc1.acc", "fc1", "fc2.acc", "fc2"]
    for name in ("image", "keep", "fc0", "fc1", "fc2"):
        assert edges[name].shape == (5, *network.shape(name))
        assert edges[name].dtype == torch.int64
        network.format(name).check(edges[name].numpy(), name)


def test_batches_do_not_change_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    network = example_network()
    frames = torch.from_numpy(frames_of(network, 2, 25))
    whole = golden.trace(network, frames)["fc2"]
    for batch in (1, 7, 25, 100):
        monkeypatch.setattr(graph, "BATCH", batch)
        assert torch.equal(golden.run(network, frames), whole)


def test_no_frames_give_no_outputs() -> None:
    network = example_network()
    frames = torch.zeros((0, *network.input.shape), dtype=torch.int64)
    assert golden.run(network, frames).shape == (0, 5)


def test_frames_do_not_influence_each_other() -> None:
    network = example_network()
    frames = torch.from_numpy(frames_of(network, 3, 9))
    alone = [golden.run(network, frame[None])[0] for frame in frames]
    assert torch.equal(golden.run(network, frames), torch.stack(alone))


@given(st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=20))
def test_predict_takes_the_lowest_index_among_the_largest(rows: list[list[int]]) -> None:
    outputs = torch.tensor(rows)
    assert golden.predict(outputs).tolist() == [row.index(max(row)) for row in rows]


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_predict_breaks_a_full_tie_to_class_0(classes: int) -> None:
    assert golden.predict(torch.full((3, classes), -5)).tolist() == [0, 0, 0]


@given(
    st.integers(1, 16),
    st.booleans(),
    st.integers(-20, 20),
    st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=20),
)
def test_quantize_rounds_a_half_up_and_clamps(
    bits: int, signed: bool, scale_log2: int, quarters: list[int]
) -> None:
    # scales that are powers of two and samples in quarters of a step: float64 is exact here
    scale = 2.0**scale_log2
    spec = InputSpec("x", (len(quarters),), UniformFormat(bits, signed), scale)
    low, high = reference.bounds(spec.format)
    codes = golden.quantize(spec, np.array([quarters]) * (scale / 4))
    expected = [floor(Fraction(q, 4) + Fraction(1, 2)) for q in quarters]
    assert codes.dtype == torch.int64
    assert codes.tolist() == [[min(max(code, low), high) for code in expected]]


def test_quantize_keeps_zero_at_code_0() -> None:
    spec = InputSpec("x", (2,), UniformFormat(8, True), 0.1)
    assert golden.quantize(spec, np.array([[0.0, -0.0]])).tolist() == [[0, 0]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_quantize_refuses_samples_that_are_no_numbers(bad: float) -> None:
    spec = InputSpec("x", (2,), UniformFormat(8, True), 0.1)
    with pytest.raises(BadInput, match=r"^x: found NaN or infinite samples; .*clean the data"):
        golden.quantize(spec, np.array([[0.0, bad]]))


def test_quantize_refuses_another_shape() -> None:
    spec = InputSpec("x", (2, 3), UniformFormat(8, True), 0.1)
    with pytest.raises(BadInput, match=r"samples of shape \(3, 2\); .*frames of shape \(2, 3\)"):
        golden.quantize(spec, np.zeros((4, 3, 2)))


def test_trace_refuses_codes_that_do_not_fit_the_input() -> None:
    network = example_network()
    frames = torch.zeros((2, 4, 3), dtype=torch.int64)
    frames[1, 3, 2] = 16
    with pytest.raises(BadInput, match=r"^image: found codes from 0 to 16; expected codes from 0"):
        golden.run(network, frames)
    with pytest.raises(BadInput, match=r"^image: found frames of shape \(3, 4\); expected frames"):
        golden.run(network, torch.zeros((2, 3, 4), dtype=torch.int64))
    with pytest.raises(TypeError, match=r"codes must be int64, not torch.float32"):
        golden.run(network, torch.zeros((2, 4, 3)))


def test_names_a_layer_without_a_golden_function() -> None:
    class Unheard(LayerSpec):
        kind = "unheard"

    node = example_network().output
    with pytest.raises(BadInput, match=r"^fc2: found a layer of kind 'unheard'; .*; update Gyre"):
        golden.evaluate(Unheard(), node, [], {})
