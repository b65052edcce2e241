"""The poolings against PyTorch's own, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from model import golden
from model.ir.network import Node
from model.ir.numerics import Format, UniformFormat
from model.ir.pool import AveragePoolSpec, MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from tests.examples import codes_of, scale_of
from tests.strategies import plain_formats, pool_nodes, window_sizes


@st.composite
def cases(draw: st.DrawFn) -> tuple[Node, torch.Tensor]:
    """A pooling, and codes [frames, rows, columns, channels]."""
    format: Format = draw(plain_formats)
    sizes = draw(window_sizes(padded=False))
    node = draw(pool_nodes("pool", "x", sizes, format))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (3, sizes["rows"], sizes["columns"], sizes["channels"])
    return node, torch.from_numpy(codes_of(format.codes, rng, *shape))


@given(cases())
def test_equals_pooling_in_float64(case: tuple[Node, torch.Tensor]) -> None:
    """Maxima and sums of at most 16 16-bit codes are integers that float64 holds exactly."""
    node, codes = case
    spec, keep = node.spec, {}
    output = golden.evaluate(spec, node, [codes], keep)
    x, kernel = codes.double().permute(0, 3, 1, 2), (spec.kernel_rows, spec.kernel_columns)
    if isinstance(spec, MaxPoolSpec):
        expected, found = functional.max_pool2d(x, kernel, spec.stride), output
    else:
        expected = functional.avg_pool2d(x, kernel, spec.stride, divisor_override=1)
        found = keep["pool.acc"]
    assert found.dtype == torch.int64
    assert torch.equal(found.double(), expected.permute(0, 2, 3, 1))
    assert tuple(output.shape[1:]) == spec.out_shape(tuple(codes.shape[1:]))


@pytest.mark.parametrize("size", [1, 4, 7])
def test_a_kernel_as_large_as_the_frame_gives_the_global_mean(size: int) -> None:
    """With m = round(2^s / n) the code is the mean to within |acc| / 2^(s+1) + 1/2: the rounding of
    m, then that of the code."""
    format, shift = UniformFormat(8, True), 14
    rule = RequantizeSpec(format, shift, "layer", 16, 2)
    spec = AveragePoolSpec(size, size, 5, size, size, 1, format, rule)
    tensors = {"m": np.array([round(2**shift / size**2)]), "b": np.zeros(5, int)}
    node = Node("pool", spec, ("x",), scale_of(spec.out_format), tensors)
    codes = torch.from_numpy(codes_of(format.codes, np.random.default_rng(1), 20, size, size, 5))
    means = codes.double().mean(dim=(1, 2), keepdim=True)
    bound = (means * size**2).abs() / 2 ** (shift + 1) + 0.5
    found = golden.evaluate(spec, node, [codes], {})
    assert found.shape == (20, 1, 1, 5)
    assert ((found - means).abs() <= bound).all()
