import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from model.compress.layers.circulant import (
    CirculantConv2d,
    CirculantLinear,
    analyse,
    synthesise,
)
from model.ir.errors import BadInput


def gradients(output: torch.Tensor, *of: torch.Tensor) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    return torch.autograd.grad((output * torch.randn(output.shape, dtype=output.dtype)).sum(), of)


@given(st.integers(1, 12) | st.sampled_from([16, 65, 128]), st.integers(0, 99))
def test_transform_is_orthonormal_and_inverted(k: int, seed: int) -> None:
    torch.manual_seed(seed)
    blocks = torch.randn(3, k, dtype=torch.float64)
    spectra = analyse(blocks)
    assert spectra.shape == (k, 3)
    torch.testing.assert_close(spectra.square().sum(0), blocks.square().sum(1))
    torch.testing.assert_close(synthesise(spectra), blocks)


@pytest.mark.parametrize("k", [5, 8])
def test_both_transforms_give_the_same_bins(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = torch.randn(4, k, dtype=torch.float64)
    small = analyse(blocks)
    monkeypatch.setattr("model.compress.layers.circulant.MATRIX_TRANSFORM", 0)
    torch.testing.assert_close(analyse(blocks), small)
    torch.testing.assert_close(synthesise(small), blocks)


def test_blocks_are_given_by_their_first_column() -> None:
    layer = CirculantLinear(3, 3, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0, 2.0, 3.0]]]))
    assert layer.expanded().tolist() == [[1, 3, 2], [2, 1, 3], [3, 2, 1]]


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9), st.booleans())
def test_linear_equals_its_expanded_matrix(into: int, out: int, k: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = CirculantLinear(into, out, k, bias).double()
    x = torch.randn(2, 3, into, dtype=torch.float64, requires_grad=True)
    found, expected = layer(x), functional.linear(x, layer.expanded(), layer.bias)
    torch.testing.assert_close(found, expected)
    of = x, *layer.parameters()
    for a, b in zip(gradients(found, *of), gradients(expected, *of), strict=True):
        torch.testing.assert_close(a, b)


def test_linear_of_large_blocks_equals_its_expanded_matrix() -> None:
    layer = CirculantLinear(300, 150, 128).double()
    x = torch.randn(4, 300, dtype=torch.float64, requires_grad=True)
    found, expected = layer(x), functional.linear(x, layer.expanded(), layer.bias)
    torch.testing.assert_close(found, expected)
    for a, b in zip(gradients(found, x), gradients(expected, x), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("k", [1, 2, 4, 5, 8, 66])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), ((2, 3), 2, 0), (1, 1, 0)])
def test_convolution_equals_its_expanded_kernel(
    k: int, kernel: int | tuple, stride: int, padding: int
) -> None:
    torch.manual_seed(0)
    layer = CirculantConv2d(6, 10, kernel, k, stride, padding).double()
    x = torch.randn(2, 6, 5, 6, dtype=torch.float64, requires_grad=True)
    found = layer(x)
    expected = functional.conv2d(x, layer.expanded(), layer.bias, stride, padding)
    torch.testing.assert_close(found, expected)
    of = x, *layer.parameters()
    for a, b in zip(gradients(found, *of), gradients(expected, *of), strict=True):
        torch.testing.assert_close(a, b)


def test_columns_of_a_convolution_are_position_then_channel_block() -> None:
    layer = CirculantConv2d(4, 2, (2, 3), 2, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, (1 * 3 + 2) * 2 + 1] = torch.tensor([5.0, 7.0])
    kernel = layer.expanded()
    assert kernel[:, 2:, 1, 2].tolist() == [[5, 7], [7, 5]]
    assert int(kernel.count_nonzero()) == 4


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_layer_of_a_plain_one_is_the_nearest(into: int, out: int, k: int, seed: int) -> None:
    """Least squares over the defining vectors, from the expansion of each unit vector."""
    torch.manual_seed(seed)
    plain = nn.Linear(into, out).double()
    layer = CirculantLinear.of(plain, k)
    units = CirculantLinear(into, out, k).double()
    columns = []
    for unit in torch.eye(units.weight.numel(), dtype=torch.float64):
        with torch.no_grad():
            units.weight.copy_(unit.reshape(units.weight.shape))
        columns.append(units.expanded().detach().flatten())
    span = torch.stack(columns, 1)
    best = torch.linalg.lstsq(span, plain.weight.detach().flatten()[:, None], driver="gelsd")
    torch.testing.assert_close(layer.expanded().flatten(), (span @ best.solution).squeeze(1))
    assert torch.equal(layer.bias, plain.bias)


def test_circulant_weights_survive_the_change_of_form() -> None:
    source = CirculantConv2d(6, 5, 3, 4, padding=1)
    plain = nn.Conv2d(6, 5, 3, padding=1)
    with torch.no_grad():
        plain.weight.copy_(source.expanded())
    found = CirculantConv2d.of(plain, 4)
    torch.testing.assert_close(found.expanded(), plain.weight)
    x = torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(found(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bad", [0, -1, 2.0, True])
def test_bad_block_size_is_refused(bad: object) -> None:
    if bad is True:
        with pytest.raises(BadInput, match="True"):
            CirculantLinear(2, 2, bad)
        return
    with pytest.raises(BadInput, match="at least 1"):
        CirculantConv2d(2, 2, 1, bad)


def test_grouped_convolution_is_refused() -> None:
    with pytest.raises(BadInput, match="groups 2"):
        CirculantConv2d.of(nn.Conv2d(4, 4, 3, groups=2), 2)
