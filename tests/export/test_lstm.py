"""The exported LSTM is, in integers, what its fake quantization computes in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from model import golden, nets
from model.compress.constraints import FixedMask, Levels
from model.compress.layers import CirculantLinear
from model.compress.quantizers import ActivationQuantizer, FormatOptions
from model.compress.tracing import insert_quantizers
from model.export import export
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.errors import BadInput
from model.ir.lstm import part_of
from model.ir.network import Network
from model.nets.lstm import LSTM

WIDE = FormatOptions(weight_bits=8, activation_bits=16)


def network_of(seed: int = 0, k: int = 0, features: int = 5, **options: object) -> nn.Module:
    """A small network in float64; with k its matrices are circulant."""
    torch.manual_seed(seed)
    given = {"cells": 8 if k == 4 else 6, "projection": 3, **options}
    network = nets.build("lstm", (9, features), 3, given).double()
    for lstm in lstms(network) if k else []:
        for name in ("gates_x", "gates_y", "project"):
            if getattr(lstm, name) is not None:
                setattr(lstm, name, CirculantLinear.of(getattr(lstm, name), k))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    return network.eval()


def lstms(network: nn.Module) -> list[LSTM]:
    return [layer for layer in network.children() if isinstance(layer, LSTM)]


def samples(features: int = 5, count: int = 6) -> Tensor:
    """Float32 numbers, as float64."""
    return torch.randn(count, 9, features).double()


def quantized(network: nn.Module, x: Tensor, formats: FormatOptions = WIDE) -> nn.Module:
    for lstm in lstms(network):
        lstm.quantize_self(formats)
    network(x)
    return network


def exported(network: nn.Module, x: Tensor, **options: object) -> Network:
    return export(network, x.float(), x.float(), **{"weight_bits": 8, **options})


def outputs_of(network: Network, x: Tensor) -> dict[str, Tensor]:
    return golden.trace(network, golden.quantize(network.input, x.numpy()))


@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 2, 4]),
    st.sampled_from([0, 3]),
    st.booleans(),
    st.sampled_from(["tanh", "sigmoid"]),
    st.integers(1, 2),
    st.sampled_from([(16, 16), (8, 16), (4, 8), (2, 4)]),
)
def test_golden_equals_the_fake_quantized_lstm(
    seed: int, k: int, projection: int, peephole: bool, g: str, layers: int, bits: tuple[int, int]
) -> None:
    """float64 holds every sum of codes, so not one step of the last place may differ."""
    options = {"projection": projection, "peephole": peephole, "g": g, "layers": layers}
    network = network_of(seed, k, **options)
    x = samples()
    formats = FormatOptions.model_construct(weight_bits=bits[0], activation_bits=bits[1])
    integers = exported(quantized(network, x, formats), x)
    edges, value = outputs_of(integers, 2 * x), 2 * x  # beyond the calibrated range: x saturates
    for name, lstm in zip(("lstm", "lstm2"), lstms(network), strict=False):
        value = lstm(value)
        assert torch.equal(edges[name] * integers[name].scale, value)


def test_single_precision_differs_by_a_few_steps_at_most() -> None:
    network, x = network_of(k=2, peephole=True), samples()
    integers = exported(quantized(network, x), x)
    exact = network.lstm(x)
    step = integers["lstm"].scale
    near = network.float().lstm(x.float()).detach()
    assert float((near - exact.detach()).abs().max()) <= 4 * step


@pytest.mark.parametrize("k", [0, 2])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_float_network_is_calibrated(k: int, layers: int) -> None:
    network, x = network_of(k=k, peephole=True, layers=layers), samples()
    integers = exported(network, x, weight_bits=16, input_bits=16, activation_bits=16)
    scores = outputs_of(integers, x)["fc"] * integers["fc"].scale
    # 16 bits leave the tables' error, 0.0025, which a network of weights below 1 does not amplify
    assert float((scores - network(x).detach()).abs().max()) < 0.03
    assert network.lstm.quantizer is None


def test_circulant_matrices_stay_so_and_are_padded_inside() -> None:
    network, x = network_of(k=4), samples()
    spec = exported(network, x)["lstm"].spec
    assert isinstance(spec.gates.storage, BlockCirculantStorage)
    assert (spec.features, spec.x_columns, spec.gates.in_features) == (5, 8, 12)
    assert spec.weights() == 8 * 3 * 4 + 1 * 2 * 4


@pytest.mark.parametrize(("k_x", "found"), [(0, "no and 2 x 2"), (3, "3 x 3 and 2 x 2")])
def test_refuses_gates_of_different_blocks(k_x: int, found: str) -> None:
    lstm = (network := network_of()).lstm
    lstm.gates_y = CirculantLinear.of(lstm.gates_y.float(), 2).double()
    if k_x:
        lstm.gates_x = CirculantLinear.of(lstm.gates_x.float(), k_x).double()
    x = samples()
    with pytest.raises(BadInput, match=rf"lstm: circulant blocks of .*: found {found}"):
        exported(quantized(network, x), x)


def test_refuses_cells_that_blocks_do_not_divide() -> None:
    network, x = network_of(k=4, cells=6), samples()
    with pytest.raises(BadInput, match=r"lstm: .* found 4 x 4 for 6 cells"):
        exported(quantized(network, x), x)


def test_quantizers_of_a_whole_network_leave_the_lstm_its_own() -> None:
    network, x = network_of(peephole=True, dropout=0.5), samples()
    mask = torch.rand(24, 3) < 0.5
    structures = {"lstm.gates_y": FixedMask(mask)}
    graph = insert_quantizers(network, x, WIDE, structures).eval()
    integers = exported(graph, x)
    edges = outputs_of(integers, x)
    assert torch.equal(edges["lstm"] * integers["lstm"].scale, graph.lstm(x))
    spec = integers["lstm"].spec
    kept = spec.gates.values(part_of(integers["lstm"].tensors, "gates"))[:, spec.x_columns :]
    assert (kept[~mask.numpy()] == 0).all()
    assert (kept[mask.numpy()] != 0).any()
    scores = edges["fc"] * integers["fc"].scale
    torch.testing.assert_close(scores.double(), graph(x).double(), rtol=0, atol=0.02)


def test_training_moves_the_weights_and_stays_finite() -> None:
    network, x = quantized(network_of(peephole=True), samples()), samples()
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    before = None
    for _ in range(20):
        loss = nn.functional.cross_entropy(network(x)[:, -1], torch.arange(6) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        before = loss.item() if before is None else before
    assert loss.item() < 0.7 * before


def test_refuses_both_directions() -> None:
    network = network_of(bidirectional=True)
    with pytest.raises(BadInput, match=r"lstm: found a bidirectional LSTM"):
        exported(network, samples())
    with pytest.raises(BadInput, match="no fixed-point form"):
        network.lstm.quantize_self(WIDE)


def test_refuses_features_that_do_not_fit() -> None:
    with pytest.raises(BadInput, match="5 features on one axis"):
        exported(network_of(), samples(4))


def test_refuses_weights_that_are_not_finite() -> None:
    network = network_of()
    with torch.no_grad():
        network.lstm.peephole[0, 0] = torch.nan
    with pytest.raises(BadInput, match=r"lstm\.peephole"):
        exported(network, samples())
    with torch.no_grad():
        network.lstm.gates_y.weight[0, 0] = torch.inf
    with pytest.raises(BadInput, match="weights of an LSTM"):
        network.lstm.quantize_self(WIDE)


def test_refuses_samples_that_are_not_finite() -> None:
    network = network_of()
    network.lstm.quantize_self(WIDE)
    with pytest.raises(BadInput, match="calibration of an LSTM"):
        network(samples() * torch.inf)


@pytest.mark.parametrize("bits", [(8, 3), (1, 16)])
def test_refuses_too_few_bits(bits: tuple[int, int]) -> None:
    formats = FormatOptions.model_construct(weight_bits=bits[0], activation_bits=bits[1])
    with pytest.raises(BadInput, match="activation_bits of at least 4"):
        network_of().lstm.quantize_self(formats)


def test_refuses_levels_that_the_matrices_do_not_share() -> None:
    for levels in ({"gates_y": Levels(3)}, {"gates_x": Levels(8, "channel")}):
        with pytest.raises(BadInput, match="of equal bits"):
            network_of().lstm.quantize_self(WIDE, {}, levels)


def test_refuses_a_quantizer_before_the_lstm() -> None:
    network = network_of()
    chain = nn.Sequential(ActivationQuantizer(8, True, 0.1), network.lstm, network.fc)
    with pytest.raises(BadInput, match=r"codes on the scale 0\.1"):
        exported(chain, samples())


def test_blocks_on_one_grid_of_rows_stay_blocks() -> None:
    network, x = network_of(features=6, projection=4), samples(6)
    torch.manual_seed(1)
    structures = {}
    for name, columns in (("gates_x", 6), ("gates_y", 4)):
        blocks = torch.zeros(8, columns // 2, dtype=torch.bool)
        blocks[:, 0] = True  # one block in each block row
        whole = blocks.repeat_interleave(3, 0).repeat_interleave(2, 1)
        structures[f"lstm.{name}"] = FixedMask(whole, (3, 2))
    graph = insert_quantizers(network, x, WIDE, structures).eval()
    integers = exported(graph, x)
    assert integers["lstm"].spec.gates.storage.kind == "block_sparse"
    assert integers["lstm"].spec.gates.weights() == 8 * 2 * 6
    assert torch.equal(outputs_of(integers, x)["lstm"] * integers["lstm"].scale, graph.lstm(x))


@pytest.mark.parametrize("part", ["samples", "peephole", "weight"])
def test_refuses_magnitudes_that_no_format_holds(part: str) -> None:
    network, x = network_of(peephole=True), samples()
    with torch.no_grad():
        if part == "peephole":
            network.lstm.peephole[0, 0] = 1e15
        elif part == "weight":
            network.lstm.gates_x.weight[0, 0] = 1e15
    x = x * 1e15 if part == "samples" else x
    with pytest.raises(BadInput, match=r"of an LSTM: found magnitudes up to .*e\+15"):
        exported(network, x)


def test_a_state_that_could_reach_its_end_is_refused_where_that_is_asked_for() -> None:
    x = samples()
    network = exported(network_of(), x)
    sure = network["lstm"].spec.steps_without_saturation()
    assert exported(network_of(), x, state_steps=sure).hash() == network.hash()
    with pytest.raises(BadInput, match=rf"lstm: state: .* in {sure + 1} steps; .* holds 5000 ste"):
        exported(network_of(), x, state_steps=5000)
