"""The look-up of straight pieces against their definition."""

from fractions import Fraction

import torch

from model.golden.piecewise import look_up
from model.ir.numerics import FixedPointFormat
from model.ir.piecewise import piecewise
from tests.lstms import looked_up


def test_equals_the_definition_at_every_code() -> None:
    inner, outer = FixedPointFormat(8, True, 4), FixedPointFormat(10, True, 8)
    for function in ("sigmoid", "tanh"):
        for segments in (1, 2, 5, 22):
            spec = piecewise(function, inner, outer, segments)
            codes = torch.arange(-128, 128)
            expected = [looked_up(spec, Fraction(int(code), 1 << 4)) for code in codes]
            assert (look_up(spec, codes) / 256).tolist() == [float(y) for y in expected]
