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
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.requantize import RequantizeSpec
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


# --- recurrent networks -----------------------------------------------------------------------


class RunningSum(LayerSpec):
    """``y[t] = clamp(y[t - 1] + x[t])`` of signed codes, from 0: the least that has a state."""

    kind = "running_sum"
    recurrent = True
    out_format = UniformFormat(6, True)

    def in_formats(self) -> tuple[UniformFormat, ...]:
        return (self.out_format,)

    def out_shape(self, *in_shapes: tuple[int, ...]) -> tuple[int, ...]:
        return in_shapes[0]


@golden.evaluate.register
def _(spec: RunningSum, node, inputs, keep) -> torch.Tensor:
    state, outputs = torch.zeros_like(inputs[0][:, 0]), []
    for x in inputs[0].unbind(1):
        state = (state + x).clamp(-32, 31)
        outputs.append(state)
    return torch.stack(outputs, 1)


def recurrent_network() -> Network:
    """Four features, a layer of three, their running sums, a layer of two classes."""
    rng = np.random.default_rng(11)
    s6 = UniformFormat(6, True)
    nodes, edge, width = [], "x", 4
    for name, size in (("before", 3), ("after", 2)):
        spec = LinearSpec(width, size, s6, s6, RequantizeSpec(s6, 5, "one", 0, 8))
        tensors = {"weight": codes_of(s6.codes, rng, size, width), "b": rng.integers(-99, 99, size)}
        nodes.append(Node(name, spec, (edge,), 1.0, tensors))
        if name == "before":
            nodes.append(Node("sum", RunningSum(), (name,), 1.0, {}))
        edge, width = nodes[-1].name, size
    return Network("net", InputSpec("x", (4,), s6, 1.0), tuple(nodes))


def test_a_recurrent_network_takes_each_step_as_a_frame_but_where_there_is_a_state() -> None:
    network = recurrent_network()
    codes = torch.from_numpy(frames_of(network, 1, 15)).reshape(3, 5, 4)
    edges = golden.trace(network, codes)
    assert edges["before.acc"].shape == edges["sum"].shape == (3, 5, 3)
    assert edges["after"].shape == edges["after.acc"].shape == (3, 5, 2)
    for n in range(3):
        state = np.zeros(3, int)
        for t in range(5):
            frame = codes[n, t].tolist()
            for name, x in (("before", frame), ("after", None)):
                if name == "after":
                    state = np.clip(state + edges["before"][n, t].numpy(), -32, 31)
                    assert edges["sum"][n, t].tolist() == state.tolist()
                    x = state.tolist()
                node = network[name]
                acc = reference.accumulators(node, x)
                assert edges[f"{name}.acc"][n, t].tolist() == acc
                rule, b = node.spec.requantize, node.tensors["b"].tolist()
                expected = [
                    reference.requantize(rule, a, 1, c) for a, c in zip(acc, b, strict=True)
                ]
                assert edges[name][n, t].tolist() == expected


def test_batches_of_sequences_do_not_change_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    network = recurrent_network()
    codes = torch.from_numpy(frames_of(network, 2, 42)).reshape(7, 6, 4)
    whole = golden.trace(network, codes)["after"]
    for batch in (1, 6, 13, 100):
        monkeypatch.setattr(graph, "BATCH", batch)
        assert torch.equal(golden.run(network, codes), whole)
    assert golden.run(network, codes[:0]).shape == (0, 6, 2)


def test_a_recurrent_network_refuses_frames_without_steps() -> None:
    with pytest.raises(BadInput, match=r"^x: found frames of shape \(\); expected sequences of st"):
        golden.run(recurrent_network(), torch.zeros((3, 4), dtype=torch.int64))


def test_quantize_takes_sequences_too() -> None:
    spec = InputSpec("x", (2,), UniformFormat(8, True), 0.5)
    samples = np.arange(12.0).reshape(2, 3, 2)
    assert golden.quantize(spec, samples).tolist() == (samples * 2).astype(int).tolist()


def test_predict_takes_the_class_at_a_sequence_s_last_step() -> None:
    outputs = torch.tensor([[[1, 0], [0, 1], [1, 1]], [[0, 1], [1, 0], [0, 9]]])
    assert golden.predict(outputs, torch.tensor([2, 2])).tolist() == [1, 0]
    assert golden.predict(outputs, torch.tensor([3, 3])).tolist() == [0, 1]
    assert golden.predict(outputs, np.array([1, 1])).tolist() == [0, 1]


@pytest.mark.parametrize("lengths", [[0, 1], [1, 4], [1]])
def test_predict_refuses_lengths_that_do_not_fit(lengths: list[int]) -> None:
    with pytest.raises(BadInput, match=r"^lengths: found .*; expected 2 lengths from 1 to 3; pass"):
        golden.predict(torch.zeros((2, 3, 2), dtype=torch.int64), torch.tensor(lengths))


def test_long_edges_make_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    network, sizes = example_network(), []
    true_evaluate = graph._evaluate

    def counted(net, node, edges, keep):
        sizes.append(len(edges[node.inputs[0]]))
        return true_evaluate(net, node, edges, keep)

    monkeypatch.setattr(graph, "_evaluate", counted)
    frames = torch.from_numpy(frames_of(network, 2, 25))
    whole = golden.run(network, frames)
    assert set(sizes) == {25}
    monkeypatch.setattr(graph, "BATCH_NUMBERS", 12 * 4)  # the input of 12 codes is the longest edge
    sizes.clear()
    assert torch.equal(golden.run(network, frames), whole)
    assert set(sizes) == {4, 1}
