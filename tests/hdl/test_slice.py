"""The register slice: nothing changes but the cycle."""

import numpy as np
import pytest
from amaranth.hdl import signed, unsigned

from hdl.lib.slice import RegisterSlice
from model.ir.numerics import IntRange
from sim.block import FULL_SPEED, Block, check_values, run_blocks
from tests.examples import codes_of
from tests.tools import require_tools

pytestmark = pytest.mark.rtl


def test_passes_every_beat_a_cycle_later_and_at_full_rate() -> None:
    require_tools("g++")
    rng = np.random.default_rng(1)
    blocks = [
        Block(
            f"{length} codes on {lanes} lanes",
            RegisterSlice(signed(bits) if sign else unsigned(bits), lanes),
            codes_of(IntRange.of_bits(bits, sign), rng, 12, length),
            length,
        )
        for length, lanes, bits, sign in ((1, 1, 1, False), (7, 2, 5, True), (12, 4, 16, False))
    ]
    traces = run_blocks(blocks)
    for block in blocks:
        check_values(traces, block, block.codes)
        trace, beats = traces[block.name, FULL_SPEED], block.beats("o").count
        assert trace.latency == beats + 1
        assert trace.gaps == [beats] * 11
