"""The exact cyclic convolution against its definition, and what it costs."""

import numpy as np
import pytest

from model.ir.block_circulant import BlockCirculantStorage
from model.ir.cyclic import cyclic
from model.ir.fft_arithmetic import FFTArithmetic
from model.ir.linear import LinearSpec
from model.ir.numerics import UniformFormat
from tests.ffts import RULE, U8, codes_of

S8 = UniformFormat(8, True)


@pytest.mark.parametrize("k", [2, 4, 8, 16, 32])
def test_equals_the_product_with_the_circulant_block(k: int) -> None:
    algorithm, rng = cyclic(k), np.random.default_rng(k)
    w, x = codes_of(S8.codes, rng, 50, k), codes_of(U8.codes, rng, 50, k)
    factors = w @ algorithm.evaluate.T, x @ algorithm.evaluate.T
    total = (factors[0] * factors[1]) @ algorithm.combine.T
    assert not (total & (k - 1)).any()
    storage = BlockCirculantStorage(k)
    for row, (one, points) in enumerate(zip(w, x, strict=True)):
        block = storage.expand({"weight": one[None, None]}, k, k, S8)
        assert (total[row] >> algorithm.shift).tolist() == (block @ points).tolist()
    for factor, format in zip(factors, (S8, U8), strict=True):
        for n, span in enumerate(algorithm.ranges(format)):
            assert span.low <= factor[:, n].min()
            assert factor[:, n].max() <= span.high


def test_products_are_few_and_need_additions_alone() -> None:
    assert [cyclic(k).products for k in (2, 4, 8, 16, 32)] == [2, 5, 14, 41, 122]
    assert all(np.abs(cyclic(k).evaluate).max() == 1 for k in (2, 4, 8, 16, 32))


@pytest.mark.parametrize("k", [2, 4])
def test_small_ones_cost_what_the_fft_costs(k: int) -> None:
    levels = k.bit_length() - 1
    arithmetic = FFTArithmetic(0, (0,) * levels, 0, 0, (1,) * levels)
    spec = LinearSpec(k, k, U8, S8, RULE, arithmetic=arithmetic, storage=BlockCirculantStorage(k))
    count = sum(n for n, _, _ in arithmetic.lane_multipliers(spec, 3))
    assert count == cyclic(k).products


def test_states_the_widths_of_its_factors() -> None:
    # two sums, then two differences of sums, then three for x^2 + 1
    found = cyclic(4).multipliers(U8, S8)
    assert found == ((1, 11, 10), (1, 10, 10), (1, 9, 9), (1, 9, 9), (1, 10, 10))
    assert cyclic(4).weight_bits(S8) == 48


def test_refuses_what_is_no_power_of_two() -> None:
    with pytest.raises(ValueError, match="one of 2, 4, 8, 16, 32, not 6"):
        cyclic(6)
