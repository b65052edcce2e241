"""The convolution against PyTorch's own, in float64, on every storage and format."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from model import golden
from model.golden import conv, numerics
from model.ir.conv import ConvSpec
from model.ir.network import Node
from model.ir.numerics import Format, UniformFormat
from model.ir.requantize import RequantizeSpec
from tests import reference
from tests.examples import codes_of
from tests.strategies import conv_nodes, formats, window_sizes


@st.composite
def cases(draw: st.DrawFn) -> tuple[Node, torch.Tensor]:
    """A convolution on any format, and codes [frames, rows, columns, channels]."""
    in_format: Format = draw(formats)
    sizes = draw(window_sizes(padded=in_format.has_zero))
    node = draw(conv_nodes("conv", "x", sizes, in_format))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (3, sizes["rows"], sizes["columns"], sizes["channels"])
    return node, torch.from_numpy(codes_of(in_format.codes, rng, *shape))


def torch_accumulators(node: Node, codes: torch.Tensor) -> torch.Tensor:
    """The accumulators by ``conv2d`` in float64, channels last.

    Values have 16 bits at the most and a window fewer than 2^10 elements, so all sums stay below
    2^42: float64 is exact, and the comparison needs no tolerance.
    """
    spec = node.spec
    values = [reference.value(spec.in_format, code) for code in codes.flatten().tolist()]
    x = torch.tensor(values, dtype=torch.float64).reshape(codes.shape).permute(0, 3, 1, 2)
    weight = torch.tensor(reference.matrix(spec, node.tensors), dtype=torch.float64)
    weight = weight.reshape(spec.out_channels, spec.kernel_rows, spec.kernel_columns, -1)
    acc = functional.conv2d(
        x,
        weight.permute(0, 3, 1, 2),
        stride=spec.stride,
        padding=spec.padding,
        groups=spec.groups,
    )
    return acc.permute(0, 2, 3, 1)


@given(cases())
def test_accumulators_equal_conv2d_in_float64(case: tuple[Node, torch.Tensor]) -> None:
    node, codes = case
    keep: dict[str, torch.Tensor] = {}
    output = golden.evaluate(node.spec, node, [codes], keep)
    assert keep["conv.acc"].dtype == torch.int64
    assert torch.equal(keep["conv.acc"].double(), torch_accumulators(node, codes))
    assert tuple(output.shape[1:]) == node.spec.out_shape(tuple(codes.shape[1:]))


@given(cases())
def test_accumulators_stay_in_the_stated_range(case: tuple[Node, torch.Tensor]) -> None:
    node, codes = case
    span, keep = node.spec.accumulator(), {}
    golden.evaluate(node.spec, node, [codes], keep)
    assert span.low <= int(keep["conv.acc"].min())
    assert int(keep["conv.acc"].max()) <= span.high


@pytest.mark.parametrize("groups", [1, 3])
def test_parts_and_integers_change_no_code(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    u4, rng = UniformFormat(4, True), np.random.default_rng(3)
    rule = RequantizeSpec(UniformFormat(16, True), 0, "one", 0, 8)
    spec = ConvSpec(6, 5, 3, 6, 3, 2, 2, 1, groups, u4, u4, rule)
    weight = codes_of(u4.codes, rng, 6, spec.matrix_columns)
    node = Node("conv", spec, ("x",), 1.0, {"weight": weight, "b": np.arange(6)})
    codes = torch.from_numpy(codes_of(u4.codes, rng, 7, 6, 5, 3))
    whole = golden.evaluate(spec, node, [codes], {})
    assert len(whole.unique()) > 20
    monkeypatch.setattr(conv, "PATCH_NUMBERS", 1)
    assert torch.equal(golden.evaluate(spec, node, [codes], {}), whole)
    monkeypatch.setattr(numerics, "FLOAT_EXACT_BITS", 0)
    assert torch.equal(golden.evaluate(spec, node, [codes], {}), whole)
    assert golden.evaluate(spec, node, [codes[:0]], {}).shape == (0, *whole.shape[1:])
