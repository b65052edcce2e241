"""Formulas of the real FFT units, and what they refuse."""

import json
from typing import Any

import pytest

from model.ir.fft_unit import FFTUnitSpec
from model.ir.real_fft import SIZES, RealFFTSpec
from model.ir.spec import Spec


def unit(k: int, form: int = 3, interval: int = 1, inverse: bool = False) -> FFTUnitSpec:
    levels = k.bit_length() - 1
    return FFTUnitSpec(RealFFTSpec(k, inverse, -128, 127, 0, (1,) * levels), form, interval)


@pytest.mark.parametrize(
    ("k", "form", "interval", "multipliers", "latency"),
    [
        (2, 3, 1, 0, 1),
        (4, 3, 7, 0, 2),
        (8, 3, 1, 2, 5),
        (8, 4, 2, 1, 7),
        (8, 4, 64, 1, 7),  # no more than two multiplications to share it
        (16, 3, 1, 12, 8),
        (16, 4, 1, 14, 8),
        (16, 3, 2, 2 + 4, 2 + 5 + 5),
        (16, 3, 3, 2 + 3, 2 + 5 + 6),  # 8 on 3 multipliers: 3 slots
        (16, 4, 8, 1 + 2, 2 + 7 + 8),
        (32, 3, 1, 44, 11),
        (32, 4, 1, 54, 11),
        (32, 3, 64, 3, 2 + 11 + 19 + 23),
    ],
)
@pytest.mark.parametrize("inverse", [False, True])
def test_multipliers_and_latency(
    k: int, form: int, interval: int, multipliers: int, latency: int, inverse: bool
) -> None:
    spec = unit(k, form, interval, inverse)
    assert spec.multiplier_count == multipliers
    assert spec.latency == latency
    assert spec.body == ("pipelined" if interval == 1 else "folded")


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("form", [3, 4])
def test_a_pipelined_body_has_the_multipliers_of_the_transform(k: int, form: int) -> None:
    spec = unit(k, form)
    assert spec.multipliers() == spec.transform.multipliers(form)


def test_every_multiplication_of_a_folded_stage_has_a_slot() -> None:
    for k in SIZES:
        for form in (3, 4):
            for interval in range(2, 30):
                spec = unit(k, form, interval)
                counts = [count for count, _, _ in spec.multipliers()]
                stages = [stage for stage in spec.transform.stages() if stage.eighths]
                for count, stage in zip(counts, stages, strict=True):
                    slots, found = spec.slots(stage), spec.multiplications(stage)
                    assert slots <= interval
                    assert (count - 1) * slots < found <= count * slots


def test_a_folded_multiplier_holds_the_widest_operands() -> None:
    a = [stage.operands.bits for stage in unit(16).transform.stages()]
    assert unit(16, 3, 4).multipliers() == ((1, a[2] + 1, 16), (2, a[3] + 1, 17))
    assert unit(16, 4, 4).multipliers() == ((1, a[2] + 1, 16), (3, a[3] + 1, 16))


def test_is_read_as_it_was_written() -> None:
    spec = unit(16, 4, 3, True)
    assert Spec.from_json(json.loads(json.dumps(spec.to_json())), "here") == spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"form": 2}, "multipliers of a complex product must be from 3 to 4, not 2"),
        ({"interval": 0}, "interval must be from 1 to 64, not 0"),
        ({"interval": 65}, "interval must be from 1 to 64, not 65"),
    ],
)
def test_refuses_another_form_and_interval(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unit(8, **changes)
