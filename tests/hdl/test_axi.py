"""The AXI shell under cocotbext-axi: random pauses on every channel, and broken frames."""

import numpy as np
import pytest
import torch

from hdl.accelerator import Accelerator
from hdl.axi.words import codes_of, contained
from model.ir.axi import IDENTITY, VERSION
from model.ir.beats import Beats
from model.ir.network import Network
from model.ir.numerics import UniformFormat
from model.ir.planner import Budget, plan
from sim.axi import AxiResult, run_axi
from tests.examples import codes_of as random_codes
from tests.examples import small_network
from tests.tools import require_tools


def check(result: AxiResult, network: Network) -> None:
    """Every good frame right, every broken one counted."""
    assert result.right == len(result.expected)
    assert bool(result.short) == (result.first["input_beats"] > 1)
    assert result.long
    first, last = result.first, result.last
    assert first["identity"] == IDENTITY
    assert first["version"] == VERSION[0] << 16 | VERSION[1]
    assert f"{first['network_hash']:064x}" == network.hash()
    assert last["frames_in"] == last["frames_out"] == result.good
    assert (last["short_frames"], last["long_frames"]) == (result.short, result.long)
    assert last["cycles"] >= result.good
    assert last["stalls_out"] > 0
    assert last["status"] & 3 == 0


@pytest.mark.rtl
@pytest.mark.parametrize(("features", "signed", "multipliers"), [(7, True, 3), (2, False, 6)])
def test_good_frames_are_right_and_broken_ones_counted(
    features: int, signed: bool, multipliers: int
) -> None:
    """Frames of several transfers, and frames of one, which can only be too long."""
    require_tools("g++")
    network = small_network(features, signed)
    accelerator = Accelerator(network, plan(network, Budget(multipliers)))
    beats = accelerator.mapping.beats(network, "x").count
    assert (beats == 1) == (features == 2)
    span = network.input.format.codes
    generator = torch.Generator().manual_seed(features)
    codes = torch.randint(span.low, span.high + 1, (120, features), generator=generator)
    result = run_axi(accelerator, codes, broken=0.1, scripts=True)
    check(result, network)


@pytest.mark.parametrize(("shape", "lanes"), [((7,), 3), ((2, 3, 3), 2), ((2, 2, 2), 3)])
@pytest.mark.parametrize(("bits", "signed"), [(5, True), (8, False), (12, True)])
def test_codes_come_back_out_of_their_containers(
    shape: tuple[int, ...], lanes: int, bits: int, signed: bool
) -> None:
    beats, size = Beats(shape, lanes), 8 * -(-bits // 8)
    span = UniformFormat(bits, signed).codes
    codes = random_codes(span, np.random.default_rng(bits), 4, beats.length)
    for frame, words in zip(codes, contained(codes, beats, size), strict=True):
        data = b"".join(word.to_bytes(lanes * size // 8, "little") for word in words)
        assert (codes_of(data, beats, size, signed) == frame).all()
        with pytest.raises(ValueError, match="bytes, not"):
            codes_of(data[:-1], beats, size, signed)
