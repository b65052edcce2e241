"""Stages of images: memories and multipliers by formula."""

import re
from functools import cache

import pytest

from hdl.pe.processing_element import SHIFT_ADD_BITS
from hdl.stage import make_stage, stage_files
from hdl.verilog import generate
from model.ir.beats import Beats
from model.ir.lane_array import LaneArraySpec
from model.ir.pe_array import PeArraySpec
from tests.hdl import test_add, test_conv, test_depthwise, test_pool

POOLS, ADDS, DEPTHWISE, CONVS = (1, 10, 15, 17), (3,), (1, 5, 7), (0, 2, 4, 13)
"""Cases of the four benches."""


def stages():
    """Arguments of ``make_stage``."""
    for n in POOLS:
        case = test_pool.CASES[n]
        node, beats = test_pool.node_of(case, n), Beats(case[1], case[4])
        yield node.spec, node, None, (beats,), case[4]
    for n in ADDS:
        case = test_add.CASES[n]
        node, beats = test_add.node_of(case, n), Beats(case[0], case[6])
        yield node.spec, node, None, (beats, beats), case[6]
    for n in DEPTHWISE:
        case = test_depthwise.CASES[n]
        node, beats = test_depthwise.node_of(case, n), Beats(case[0], case[4])
        yield node.spec, node, LaneArraySpec(case[4]), (beats,), case[4]
    for n in CONVS:
        in_lanes, case = test_conv.STAGES[n]
        node = case.node(n)
        source = test_conv.source(in_lanes, case)
        yield node.spec, node, case.spec(node), (source,), case.lanes


STAGES = list(stages())
by_stage = pytest.mark.parametrize("n", range(len(STAGES)), ids=[s[1].name for s in STAGES])


def cost_of(args):
    spec, _, engine, ins, lanes = args
    return spec.stage_cost(ins, lanes) if engine is None else engine.cost(spec, ins, lanes)


@cache
def verilog_of(n: int) -> str:
    args = STAGES[n]
    return generate(make_stage(*args), "stage", stage_files(*args)).verilog


def modules_of(verilog: str) -> dict[str, str]:
    return dict(re.findall(r"^module (\S+?) *\(.*?;(.*?)^endmodule", verilog, re.M | re.S))


def multiplications(modules: dict[str, str], name: str) -> int:
    """Multiplications of a module and of all that it places."""
    placed = re.findall(r"^  (\S+) +\S+ +\($", modules[name], re.M)
    inside = (multiplications(modules, child) for child in placed if child in modules)
    return modules[name].count(" * ") + sum(inside)


def written(args, cost) -> int:
    """Multipliers of the formula that stand as such in Verilog: not those of the lowest weights."""
    spec, _, engine, _, _ = args
    shifts = isinstance(engine, PeArraySpec) and spec.weight_format.bits <= SHIFT_ADD_BITS
    return cost.multiplier_count - (cost.multipliers[0][0] if shifts else 0)


@by_stage
def test_memories_and_multipliers_are_those_of_the_formula(n: int) -> None:
    verilog, cost = verilog_of(n), cost_of(STAGES[n])
    roms = re.findall(
        r"\.DEPTH\(32'd(\d+)\),\s+\.FILE\(\"(\S+)\"\),\s+\.WIDTH\(32'd(\d+)\)", verilog
    )
    stated = cost.weight_bits + cost.parameter_bits
    assert sum(int(depth) * int(width) for depth, _, width in roms) == stated
    buffers = re.findall(r"^  reg \[(\d+):0\] \S+ \[(\d+):0\];", verilog, re.M)
    assert sum((int(a) + 1) * (int(b) + 1) for a, b in buffers) == cost.buffer_bits
    assert multiplications(modules_of(verilog), "stage") == written(STAGES[n], cost)


@by_stage
def test_every_file_holds_as_many_words_as_its_memory(n: int) -> None:
    files = stage_files(*STAGES[n])
    roms = re.findall(
        r"\.DEPTH\(32'd(\d+)\),\s+\.FILE\(\"(\S+)\"\),\s+\.WIDTH\(32'd(\d+)\)", verilog_of(n)
    )
    assert {name for _, name, _ in roms} == set(files)
    for depth, name, width in roms:
        lines = files[name].splitlines()
        assert len(lines) == int(depth), name
        assert {len(line) for line in lines} == {-(-int(width) // 4)}, name
