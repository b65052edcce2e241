"""The residual addition against real numbers in float64."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from model import golden
from model.ir.network import Node
from tests.examples import codes_of
from tests.strategies import add_nodes, plain_formats


@st.composite
def cases(draw: st.DrawFn) -> tuple[Node, list[torch.Tensor]]:
    """An addition, and codes [frames, ...] of both inputs."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    both = draw(plain_formats), draw(plain_formats)
    node = draw(add_nodes("add", ("x", "y"), shape, *both))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return node, [torch.from_numpy(codes_of(format.codes, rng, 4, *shape)) for format in both]


@given(cases())
def test_stays_within_half_a_code_of_the_real_sum(case: tuple[Node, list[torch.Tensor]]) -> None:
    """``(x mx + y my) / 2^s`` is exact in float64: 33 bits and a power of two. Rounding to the
    nearest code errs by at most 1/2, and clamping both sides to one range cannot enlarge that."""
    node, (x, y) = case
    spec, span = node.spec, node.spec.out_format.codes
    mx, my = (int(node.tensors[name][0]) for name in ("mx", "my"))
    real = (x.double() * mx + y.double() * my) / 2.0**spec.shift
    found = golden.evaluate(spec, node, [x, y], {})
    assert found.dtype == torch.int64
    assert ((found - real.clamp(span.low, span.high)).abs() <= 0.5).all()


@given(cases())
def test_rounds_a_half_up(case: tuple[Node, list[torch.Tensor]]) -> None:
    node, (x, y) = case
    spec, span = node.spec, node.spec.out_format.codes
    mx, my = (int(node.tensors[name][0]) for name in ("mx", "my"))
    real = (x.double() * mx + y.double() * my) / 2.0**spec.shift
    expected = torch.floor(real + 0.5).clamp(span.low, span.high)
    assert torch.equal(golden.evaluate(spec, node, [x, y], {}).double(), expected)
