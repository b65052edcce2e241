"""Exact layers turned into layers of pim arithmetic."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from model import data, golden
from model.export import PIMOptions, to_pim, with_pim
from model.ir.arithmetic import ExactArithmetic
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.errors import BadInput
from model.ir.network import Network
from model.ir.numerics import CodebookFormat
from model.ir.placement import place
from tests.ffts import fft_conv, fft_linear, network_of
from tests.lstms import lstm_network, lstm_spec
from tests.pims import frames_of
from tests.strategies import image_networks

ROOT = Path(__file__).resolve().parents[2]
EXACT = {"arithmetic": ExactArithmetic()}


def options_of(**changes: Any) -> PIMOptions:
    return PIMOptions(**{"rows": 16, "columns": 24, "cell_bits": 4} | changes)


def example(make: Any = fft_linear, **changes: Any) -> tuple[Network, torch.Tensor]:
    """A circulant layer of exact arithmetic, whose output codes rarely saturate, and frames."""
    network = network_of(make(4, **EXACT, **changes), 1)
    return network, torch.from_numpy(frames_of(network, 2, 40))


@settings(max_examples=25)
@given(
    image_networks(),
    st.sampled_from(["twos_complement", "pairs"]),
    st.integers(1, 4),
    st.integers(0, 4),
    st.sampled_from([None, 5.0]),
)
def test_nominal_cells_and_exact_counts_keep_every_code(
    network: Network, form: str, cell_bits: int, grid: int, on_off: float | None
) -> None:
    options = options_of(form=form, cell_bits=cell_bits, grid_bits=grid, on_off=on_off, columns=64)
    assume(all(getattr(node.spec, "groups", 1) == 1 for node in network.nodes))
    found = with_pim(network, options)
    kinds = {node.spec.arithmetic.kind for node in found.nodes if _matrix(node)}
    assert kinds == {"pim"}
    frames = torch.from_numpy(frames_of(network, 1, 6))
    assert torch.equal(golden.run(found, frames), golden.run(network, frames))


def _matrix(node: Any) -> bool:
    return hasattr(node.spec, "arithmetic")


@pytest.mark.parametrize("step", [2, 8, 64])
def test_a_step_of_a_power_of_two_keeps_the_multipliers(step: int) -> None:
    network, _ = example()
    found = with_pim(network, options_of(adc_bits=8, step=step, grid_bits=3))["layer"]
    before = network["layer"]
    moved = 3 - (step.bit_length() - 1)
    if moved < 0 and (before.tensors["b"] % (1 << -moved)).any():
        assert found.spec.requantize.m_bits == 16  # a bias that cannot be shifted exactly
        return
    assert found.spec.requantize.shift == before.spec.requantize.shift + moved
    assert (found.tensors["m"] == before.tensors["m"]).all()


@pytest.mark.parametrize("step", [3, 5, 24])
@pytest.mark.parametrize("grid", [0, 4])
def test_any_other_step_is_in_the_multipliers(step: int, grid: int) -> None:
    network, _ = example()
    found = with_pim(network, options_of(adc_bits=12, step=step, grid_bits=grid))["layer"]
    before = network["layer"]

    def gains(node: Any) -> tuple[np.ndarray, np.ndarray]:
        unit = 2.0**-node.spec.requantize.shift
        return node.tensors["m"] * unit, node.tensors["b"] * unit

    (gain, offset), (old, old_offset) = gains(found), gains(before)
    assert np.allclose(gain, old * step / 2**grid, rtol=2.0**-13, atol=0)
    assert np.allclose(offset, old_offset, rtol=2.0**-13, atol=2.0**-8)


def test_a_converter_that_covers_every_count_stays_within_a_step() -> None:
    """Without codes to calibrate by, the step never saturates; 12 bits round 480 levels not."""
    network, frames = example(fft_conv)
    found = with_pim(network, options_of(adc_bits=12))
    assert found["layer"].spec.arithmetic.step == 1
    assert torch.equal(golden.run(found, frames), golden.run(network, frames))


def test_calibration_beats_the_step_that_never_saturates() -> None:
    network, frames = example(fft_conv)
    exact = golden.trace(network, frames)["layer.acc"].double()
    errors = []
    for codes in (frames, None):
        found = with_pim(network, options_of(adc_bits=4, rows=32), codes)
        step = found["layer"].spec.arithmetic.step
        acc = golden.trace(found, frames)["layer.acc"].double() * step
        errors.append(float((acc - exact).square().mean()))
    assert errors[0] <= errors[1]


def test_a_codebook_without_zero_names_the_states_of_pairs() -> None:
    levels = CodebookFormat((5, 8, 11, -5, -8, -11))
    network, _ = example(weight_format=levels)
    found = with_pim(network, options_of(form="pairs"))["layer"].spec
    assert found.arithmetic.states == (5, 8, 11)
    assert found.arithmetic.columns_per_weight(found) == 2
    assert with_pim(network, options_of())["layer"].spec.arithmetic.states == ()
    far, _ = example(weight_format=CodebookFormat((5, 5000, -5, -5000)))
    found = with_pim(far, options_of(form="pairs"))["layer"].spec
    assert found.arithmetic.states == ()
    assert found.arithmetic.factors(found) == (1, 16, 256, 4096)


def test_cells_come_from_the_seed_alone() -> None:
    network, frames = example()
    drawn = [
        with_pim(network, options_of(spread=0.1, stuck_low=0.02, stuck_high=0.02, seed=seed))
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert not torch.equal(golden.run(drawn[0], frames), golden.run(network, frames))


def test_a_circulant_block_shares_its_deviations() -> None:
    """Cells are those of the stored vector, so they deviate alike in each of the k uses."""
    network, _ = example()
    node = with_pim(network, options_of(spread=0.2))["layer"]
    assert isinstance(node.spec.storage, BlockCirculantStorage)
    (matrix, *_) = node.spec.arithmetic.slice_matrices(node.spec, dict(node.tensors))
    k = node.spec.storage.k
    block = matrix[:k, :k]
    assert all((np.roll(block[:, 0], n) == block[:, n]).all() for n in range(k))


def test_given_faults_are_those_of_the_layer_and_repair_helps() -> None:
    network, _ = example()
    ideal = with_pim(network, options_of(spare=6))["layer"]
    placed = place(ideal.spec, dict(ideal.tensors), 24, 6)
    faults = np.full(placed.weight.shape, -1)
    faults[0, :3, :3] = 15
    wrong = []
    for repaired in (False, True):
        found = to_pim(network, options_of(spare=6, repair=repaired), faults={"layer": faults})
        node = found.network["layer"]
        nominal = node.spec.arithmetic.nominal(node.spec, dict(node.tensors))
        wrong.append(int((node.tensors["cells"] != nominal).sum()))
        assert set(found.repairs) == ({"layer"} if repaired else set())
    assert 0 == wrong[1] < wrong[0]
    with pytest.raises(BadInput, match="layer: fault map"):
        to_pim(network, options_of(), faults={"layer": faults[:, :-1]})


def test_refuses_a_network_beyond_the_budget_of_macros() -> None:
    network, _ = example()
    needed = to_pim(network, options_of()).placements["layer"].macros
    with_pim(network, options_of(budget=needed))
    with pytest.raises(BadInput, match=f"layer: found a matrix of {needed} macros"):
        with_pim(network, options_of(budget=needed - 1))


def test_names_the_layer_that_macros_cannot_hold() -> None:
    network, _ = example()
    with pytest.raises(BadInput, match="layer: pim arithmetic"):
        with_pim(network, options_of(rows=3))
    with pytest.raises(BadInput, match="layer: found weights of 8 columns"):
        with_pim(network, options_of(cell_bits=1, columns=7))


@pytest.mark.parametrize(
    "changes",
    [
        {"stuck_low": 0.7, "stuck_high": 0.7},
        {"spare": 24},
        {"step": 3},
        {"form": "offset"},
        {"on_off": 1.0},
        {"cell_bits": 5},
    ],
)
def test_refuses_options_that_do_not_fit_together(changes: Any) -> None:
    with pytest.raises(ValueError, match="validation error"):
        options_of(**changes)


def test_leaves_lstms_and_layers_of_other_arithmetics_alone() -> None:
    network = lstm_network(lstm_spec(3, 4), 1)
    assert with_pim(network)[network.nodes[0].name] == network.nodes[0]
    network, _ = example()
    twice = with_pim(with_pim(network, options_of()), options_of(rows=32))
    assert twice["layer"].spec.arithmetic.rows == 16


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("lenet5_crossbar", {"rows": 32, "columns": 32, "form": "pairs"}),
        ("lenet5_crossbar_conductance", {"rows": 32, "columns": 32, "form": "pairs"}),
        ("osc_lenet5", {"rows": 128, "columns": 128, "cell_bits": 1}),
    ],
)
def test_kept_networks_keep_every_code_on_mnist(name: str, changes: Any) -> None:
    network = Network.load(ROOT / "zoo" / name / "network")
    if "GYRE_DATA" not in os.environ:
        frames = torch.from_numpy(frames_of(network, 3, 20))
    else:
        part = data.load("mnist").validation.part(slice(0, 100))
        frames = golden.quantize(network.input, part.real())
    found = with_pim(network, options_of(**changes))
    assert torch.equal(golden.run(found, frames), golden.run(network, frames))
