"""The LSTM stage against golden, step for step; its cycles and latency by formula."""

from functools import cache

import pytest

from model.ir.circulant_array import CirculantArraySpec
from model.ir.pe_array import PeArraySpec
from tests.hdl.lstm_cases import Bench, Case
from tests.tools import require_tools

pytestmark = [pytest.mark.rtl, pytest.mark.timeout(600)]  # one build of all stages

FULL = {"features": 5, "cells": 6, "projection": 3, "peephole": True}
BLOCKS = {"features": 6, "cells": 8, "projection": 5, "peephole": True, "k": 4, "weight_bits": 12}
CASES = [
    Case(FULL, PeArraySpec(4, 2), 2, 1, PeArraySpec(3, 2), lanes=1),
    Case(
        FULL | {"g": "sigmoid", "in_frac": 9},
        PeArraySpec(3, 4),
        3,  # beats that hold no whole number of cells
        1,
        PeArraySpec(1, 1),
        3,
        pauses=True,
    ),
    Case(
        {"features": 3, "cells": 4, "in_frac": 14},
        PeArraySpec(4, 5),
        4,
        2,
        None,
        2,
        lanes=2,
        lengths=(5, 4, 3),
        holes=True,
    ),
    Case(
        {"features": 3, "cells": 1, "peephole": True, "bits": 8}, PeArraySpec(2, 4), 1, 1, lanes=3
    ),
    Case(BLOCKS, CirculantArraySpec(4, 2), 4, 2, CirculantArraySpec(4, 1), 1, 4, 4, (5, 2)),
    Case(
        BLOCKS | {"g": "sigmoid", "peephole": False, "k": 8, "projection": 10},
        CirculantArraySpec(8, 2, "folded"),
        8,
        2,
        CirculantArraySpec(8, 1, "folded"),
        3,
        in_lanes=3,
        lanes=8,
        lengths=(3, 5, 1, 2, 4),
    ),
    Case(BLOCKS, PeArraySpec(4, 4), 4, 1, PeArraySpec(5, 2), 2, 2, 5, (6, 7), True),
    Case(FULL, PeArraySpec(6, 6), 6, 2, PeArraySpec(3, 3), 5, 5, 3, (6,) * 5),
]


@cache
def bench() -> Bench:
    return Bench(CASES)


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_tools("g++")


def test_equals_golden_at_every_step_under_every_stall_pattern() -> None:
    bench().check_values()


def test_takes_the_cycles_and_the_latency_of_its_formulas() -> None:
    bench().check_cycles()


def test_steps_are_those_of_the_formula() -> None:
    bench().check_steps()


def test_an_idle_slot_changes_no_state() -> None:
    """Golden knows no idle steps: what comes after one is as if it had not been."""
    (n,) = (n for n, case in enumerate(CASES) if case.holes)
    frames = CASES[n].frames()
    resumed = 0
    for slot in range(CASES[n].sequences):
        own = frames[slot :: CASES[n].sequences]
        idle, after = own[:-1, 0] < 0, own[1:, 1]
        resumed += int((idle & (after > 0)).sum())
    assert resumed >= 3  # sequences go on after idle frames, which hold random codes
    bench().check_values()
    for (name, _), trace in bench().traces.items():
        if name == f"lstm {n}":
            assert (trace.codes[frames[:, 0] < 0] == 0).all()
