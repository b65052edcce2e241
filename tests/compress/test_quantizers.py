import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.compress.constraints import (
    Binary,
    Conductance,
    FilterSparsity,
    Levels,
    LevelSet,
    OddLevels,
    PowerOfTwo,
    Ternary,
)
from model.compress.quantizers import (
    ActivationQuantizer,
    WeightQuantizer,
    fake_quantize,
    fit_scale,
    input_format,
)
from model.ir.errors import BadInput
from model.ir.numerics import IntRange, UniformFormat

arrays = hnp.arrays(np.float32, (6,), elements=st.floats(-8, 8, width=32)).map(torch.from_numpy)


@given(arrays, st.integers(1, 8), st.booleans(), st.floats(0.01, 4))
def test_fake_quantization_is_the_rule_of_the_input(
    x: torch.Tensor, bits: int, signed: bool, scale: float
) -> None:
    """scale * clamp(floor(x / scale + 1/2)), against NumPy in the same precision."""
    span = UniformFormat(bits, signed).codes
    factor = np.float32(scale)
    codes = np.clip(np.floor(x.numpy() / factor + np.float32(0.5)), span.low, span.high)
    found = fake_quantize(x, torch.tensor(factor), span)
    assert np.array_equal(found.numpy(), codes.astype(np.float32) * factor)


def test_halves_round_up() -> None:
    x = torch.tensor([-1.25, -0.75, -0.25, 0.25, 0.75, 1.25])
    codes = fake_quantize(x, torch.tensor(0.5), IntRange(-8, 7)) / 0.5
    assert codes.tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0]


def test_gradients_are_those_of_lsq() -> None:
    """d/dx: 1 inside, 0 outside. d/dscale: code - x/scale inside, the code outside."""
    x = torch.tensor([0.4, 1.7, -0.2, 9.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    fake_quantize(x, scale, IntRange(0, 7)).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 0.0, 0.0]
    inside = (1 - 0.8) + (3 - 3.4)
    assert float(scale.grad) == pytest.approx(inside + 0 + 7, abs=1e-5)


@given(arrays, st.integers(1, 6), st.booleans())
def test_fitted_scale_beats_the_rest_of_its_grid(x: torch.Tensor, bits: int, signed: bool) -> None:
    span = UniformFormat(bits, signed).codes
    scale = fit_scale(x, span)
    assert scale > 0

    def error(s: float) -> float:
        codes = torch.floor(x.double() / s + 0.5).clamp(span.low, span.high)
        return float((codes * s - x.double()).square().sum())

    up = float(x.max()) / span.high if span.high else 0.0
    full = max(up, float(x.min()) / span.low if span.low else 0.0)
    for factor in (0.5, 0.75, 1.0):
        if full > 0:
            assert error(scale) <= error(full * factor) + 1e-9


def test_scale_of_nothing_is_one() -> None:
    assert fit_scale(torch.zeros(4), IntRange(0, 15)) == 1.0


def test_scale_of_many_samples_is_near_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x = torch.randn(20_000)
    whole = fit_scale(x, IntRange(-8, 7))
    monkeypatch.setattr("model.compress.quantizers.FITTED", 2000)
    assert fit_scale(x, IntRange(-8, 7)) == pytest.approx(whole, rel=0.1)


def test_activation_quantizer_fits_once_then_learns() -> None:
    quantizer = ActivationQuantizer(4, signed=False)
    quantizer(torch.linspace(0, 3, 50)[None])
    scale = quantizer.scale.item()
    assert 0.1 < scale <= 0.21
    quantizer(torch.linspace(0, 300, 50)[None]).sum().backward()
    assert quantizer.scale.item() == scale
    assert quantizer.log_scale.grad is not None


def test_fixed_quantizer_is_not_learned() -> None:
    quantizer = ActivationQuantizer(4, signed=False, scale=1 / 15)
    assert not list(quantizer.parameters())
    assert float(quantizer.scale) == pytest.approx(1 / 15)


SETS = [
    *(Levels(bits, per) for bits in (2, 5, 16) for per in ("tensor", "channel")),
    *(Binary(), Ternary("channel"), OddLevels(3), PowerOfTwo(3)),
    *(Conductance(states=(1, 2, 5)), Conductance(states=(2, 3), cells=4, per="channel")),
]


@pytest.mark.parametrize("levels", SETS, ids=repr)
@pytest.mark.parametrize("shape", [(5, 7), (5, 3, 2, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_weight_quantizer_gives_its_exact_codes(
    levels: LevelSet, shape: tuple, masked: bool
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape)
    structure = FilterSparsity(3).freeze(weight) if masked else None
    quantizer = WeightQuantizer(weight, levels, structure)
    values = quantizer.values(weight)
    product = values * quantizer.scale.reshape(-1, *[1] * (weight.ndim - 1))
    assert torch.equal(quantizer(weight), product)
    present = torch.ones(shape, dtype=torch.bool) if not masked else structure.mask
    assert not values[~present].any()
    assert set(values[present].abs().tolist()) <= set(levels.magnitudes)
    codes = quantizer.codes(weight)
    levels.format.check(codes.numpy(), "weight")
    decoded = torch.from_numpy(levels.format.decode(codes.numpy()))
    assert torch.equal(decoded[present], values[present])
    # absent weights have no part in the scales
    if masked and levels.per == "tensor":
        kept = weight[present].reshape(1, -1)
        torch.testing.assert_close(quantizer.scale.double(), levels.fit(kept), rtol=1e-5, atol=0)


def test_absent_weights_stay_absent_when_they_are_trained() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 6))
    quantizer = WeightQuantizer(weight, OddLevels(2), FilterSparsity(2).freeze(weight.detach()))
    optimizer = torch.optim.AdamW([weight, *quantizer.parameters()], 0.1, weight_decay=0.1)
    kept = quantizer.mask.any(1)
    for _ in range(5):
        optimizer.zero_grad()
        (quantizer(weight) - 1).square().sum().backward()
        optimizer.step()
        assert not quantizer(weight)[~kept].any()
        assert quantizer(weight)[kept].all()


@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_gradients_of_weight_scales_are_those_of_lsq(per: str) -> None:
    weight = torch.tensor([[0.9, -0.2, 5.0], [0.3, -7.0, 0.6]], requires_grad=True)
    quantizer = WeightQuantizer(weight, OddLevels(2, per))
    with torch.no_grad():
        quantizer.log_scale.fill_(math.log(0.5))
    quantizer(weight).sum().backward()
    assert weight.grad.tolist() == [[1, 1, 0], [1, 0, 1]]
    # value - weight / scale within +-3, the value outside; d scale / d log_scale is the scale
    rows = torch.tensor([(1 - 1.8) + (-1 + 0.4) + 3, (1 - 0.6) - 3 + (1 - 1.2)])
    expected = (rows if per == "channel" else rows.sum()[None]) * 0.5 * quantizer.damp
    torch.testing.assert_close(quantizer.log_scale.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "bits", "format", "scale"),
    [
        ([0.0, 1.0], 4, UniformFormat(4, False), 1 / 15),
        ([-1.0, 0.5], 8, UniformFormat(8, True), 1 / 128),
        ([-0.5, 1.27], 8, UniformFormat(8, True), 0.01),
        ([0.0, 3.0], 1, UniformFormat(1, False), 3.0),
    ],
)
def test_input_format_spans_the_samples(
    samples: list, bits: int, format: UniformFormat, scale: float
) -> None:
    found, factor = input_format(torch.tensor(samples), bits)
    assert found == format
    assert factor == pytest.approx(scale, rel=1e-6)


@pytest.mark.parametrize("bad", [[0.0, float("nan")], [0.0, float("inf")], [0.0, 0.0]])
def test_unusable_samples_are_refused(bad: list) -> None:
    with pytest.raises(BadInput, match="calibration samples"):
        input_format(torch.tensor(bad), 4)
