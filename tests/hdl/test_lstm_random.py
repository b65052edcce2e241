"""LSTM stages of random shapes, formats, arithmetic and engines, many in one simulator."""

import os
from dataclasses import replace

import pytest
from hypothesis import Phase, assume, given, seed, settings
from hypothesis import strategies as st

from model.ir.circulant_array import BODIES, CirculantArraySpec
from model.ir.errors import BadInput
from model.ir.lstm import GATES
from model.ir.lstm_array import LSTMArraySpec
from model.ir.mapping import EngineSpec
from model.ir.network import Node
from model.ir.pe_array import PeArraySpec
from tests.hdl.lstm_cases import Bench, Case
from tests.tools import require_tools

pytestmark = [pytest.mark.rtl, pytest.mark.timeout(900)]  # a build of several stages

GENERATED = [Phase.generate]
"""A failing bench is not shrunk: each try is a build, and it names the case."""

CAMPAIGN = int(os.environ.get("GYRE_CAMPAIGN", "12"))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any LSTM of a few cells, under engines that fit it."""
    fft = draw(st.booleans())
    k = draw(st.sampled_from([2, 4, 8] if fft else [1, 1, 2]))
    cells = k * draw(st.integers(1, max(1, 8 // k)))
    least = k if fft else 1
    bits = 16 if fft else draw(st.sampled_from([8, 16]))
    shape = {
        "features": draw(st.integers(least, least + 8)),
        "cells": cells,
        "projection": draw(st.just(0) | st.integers(least, least + 6)),
        "peephole": draw(st.booleans()),
        "g": draw(st.sampled_from(["tanh", "sigmoid"])),
        "k": k,
        "bits": bits,
        "weight_bits": draw(st.integers(4, 12 if fft else bits)),
        "in_frac": draw(st.none() | st.integers(bits - 7, bits - 1)),
        "segments": draw(st.integers(1, 24)),
    }
    gates = draw(_engines(k if fft else 0, GATES * cells))
    project = draw(_engines(k if fft else 0, shape["projection"])) if shape["projection"] else None
    sequences = draw(st.integers(1, 5))
    case = Case(
        shape,
        gates,
        gate_lanes=1,
        cell_lanes=1,
        project=project,
        sequences=sequences,
        in_lanes=draw(st.integers(1, 6)),
        lengths=tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=sequences + 2))),
        pauses=draw(st.booleans()),
        holes=draw(st.booleans()),
    )
    node = case.node(0)
    one = CirculantArraySpec(k, 1) if fft else PeArraySpec(1, 2)  # drains whatever it computes

    def lanes_of(engine: EngineSpec | None) -> list[int]:
        if engine is None:
            return list(range(1, cells + 1))
        part = replace(case.engine, project=engine).project_node(node)
        most = max(k, 2 * shape["projection"])
        return [n for n in range(1, most + 1) if _fits(engine, part, n)]

    if not (drained := lanes_of(project)):
        project = one
        drained = lanes_of(project)
    lanes = draw(st.sampled_from(drained))

    def pairs_of(engine: EngineSpec) -> list[LSTMArraySpec]:
        sizes = [(g, c) for c in range(1, cells + 1) for g in range(1, GATES * c + 1)]
        found = [LSTMArraySpec(engine, g, c, project, sequences) for g, c in sizes]
        return [spec for spec in found if _fits(spec, node, lanes)]

    found = draw(st.sampled_from(pairs_of(gates) or pairs_of(one)))
    return replace(
        case,
        gates=found.gates,
        gate_lanes=found.gate_lanes,
        cell_lanes=found.cell_lanes,
        project=project,
        lanes=lanes,
    )


def _engines(k: int, rows: int) -> st.SearchStrategy[EngineSpec]:
    """Engines of a matrix of so many rows: circulant ones of blocks of k, or plain ones."""
    if k:
        lanes = st.integers(1, max(1, rows // k))
        return st.builds(CirculantArraySpec, st.just(k), lanes, st.sampled_from(BODIES))
    return st.builds(PeArraySpec, st.integers(1, min(rows, 8)), st.integers(1, 6))


def _fits(engine: EngineSpec, node: Node, lanes: int) -> bool:
    try:
        engine.check(node, lanes)
    except BadInput:
        return False
    return True


def check(found: list[Case]) -> None:
    require_tools("g++")
    bench = Bench(found)
    bench.check_values()
    bench.check_cycles()
    bench.check_steps()


@seed(7)
@settings(max_examples=1, phases=GENERATED, derandomize=False)
@given(st.lists(cases(), min_size=3, max_size=3))
def test_random_lstms_equal_golden_and_their_formulas(found: list[Case]) -> None:
    assume(len({case.shape["cells"] for case in found}) == 3)  # not the simplest, three times
    check(found)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(CAMPAIGN))
def test_a_campaign_of_random_lstms(number: int) -> None:
    @seed(number)
    @settings(max_examples=1, phases=GENERATED, derandomize=False)
    @given(st.lists(cases(), min_size=8, max_size=8))
    def bench(found: list[Case]) -> None:
        assume(len({case.shape["cells"] for case in found}) > 3)
        check(found)

    bench()
