import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.ir.add import AddSpec
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.mapping import Engine, FifoMapping, Mapping, StageMapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pe_array import PeArraySpec
from model.ir.planner import Budget, plan
from model.ir.requantize import RequantizeSpec
from model.ir.schedule import with_fifos
from tests.examples import example_network
from tests.strategies import networks
from tests.tools import refused

NETWORK = example_network()  # keep 12 -> 9, fc0 9 -> 7, fc1 7 -> 6, fc2 6 -> 5
ENGINES = (
    Engine("a", PeArraySpec(7, 3)),
    Engine("b", PeArraySpec(3, 7)),
    Engine("c", PeArraySpec(2, 4)),
)
STAGES = (
    StageMapping("keep", None, 2),
    StageMapping("fc0", "a", 7),
    StageMapping("fc1", "b", 1),
    StageMapping("fc2", "c", 2),
)
MAPPING = Mapping(5, ENGINES, STAGES)


def test_lanes_and_beats_of_every_edge() -> None:
    edges = ["image", "keep", "fc0", "fc1", "fc2"]
    assert [MAPPING.lanes(NETWORK, edge) for edge in edges] == [5, 2, 7, 1, 2]
    # 12 codes 5 at once, 9 in pairs, 7 at once, 6 singly, 5 in pairs
    assert [MAPPING.beats(NETWORK, edge).count for edge in edges] == [3, 5, 1, 6, 3]


def test_bound_is_that_of_the_busiest_stage() -> None:
    """keep takes 5 beats out, fc0 63/21 = 3 and 5 beats in, fc1 6 beats out, fc2 6 beats in."""
    bounds = {node.name: cost.bound_cycles for node, cost in MAPPING.costs(NETWORK)}
    assert bounds == {"keep": 5, "fc0": 5, "fc1": 6, "fc2": 6}
    assert MAPPING.bound_cycles(NETWORK) == 6


def test_bound_rounds_a_fraction_of_a_cycle_up() -> None:
    cost = StageCost(9, Fraction(35, 6), input_beats=2, output_beats=3, latency=20)
    assert cost.bound_cycles == 6


def test_multipliers_count_and_weigh_by_their_operands() -> None:
    multipliers = ((6, 4, 3), (2, 11, 5))
    cost = StageCost(9, Fraction(9), 1, 1, 20, multipliers=multipliers)
    assert cost.multiplier_count == 8
    assert cost.multiplier_bits == 6 * 12 + 2 * 55


def test_check_returns_a_mapping_that_fits() -> None:
    assert MAPPING.check(NETWORK) is MAPPING


@pytest.mark.parametrize(
    ("change", "thing", "found", "expected"),
    [
        ({"stages": STAGES[:-1]}, "stages", "fc1", "fc2"),
        ({"stages": STAGES[::-1]}, "stages", "['fc2', 'fc1'", "['keep', 'fc0'"),
        ({"engines": (*ENGINES, ENGINES[0])}, "engines", "'a'", "unique names"),
        ({"engines": ENGINES[1:]}, "engine of fc0", "a", "['b', 'c']"),
        ({1: StageMapping("fc0", None, 7)}, "engine of fc0", "none", "'linear'"),
        ({1: StageMapping("fc0", "a", 2)}, "lanes of fc0", "2", "7 rows"),
        ({0: StageMapping("keep", "a", 1)}, "engine of keep", "PE array", "'select'"),
    ],
)
def test_mapping_that_does_not_fit_is_named(
    change: dict, thing: str, found: str, expected: str
) -> None:
    stages = tuple(change.get(place, stage) for place, stage in enumerate(STAGES))
    parts = {key: value for key, value in change.items() if isinstance(key, str)}
    mapping = dataclasses.replace(MAPPING, **({"stages": stages} | parts))
    error = refused(lambda: mapping.check(NETWORK))
    assert error.thing == f"mapping: {thing}"
    assert found in error.found
    assert expected in error.expected
    assert error.remedy


@pytest.mark.parametrize("lanes", [0, 1025])
def test_lanes_have_bounds(lanes: int) -> None:
    with pytest.raises(ValueError, match=f"lanes must be from 1 to 1024, not {lanes}"):
        StageMapping("fc", None, lanes)
    with pytest.raises(ValueError, match="input_lanes"):
        Mapping(lanes, (), ())


def test_engine_needs_a_plain_name() -> None:
    with pytest.raises(BadInput, match="engine name"):
        Engine("../a", PeArraySpec(1, 1))


@settings(max_examples=40)
@given(networks(), st.integers(20, 300))
def test_json_form_gives_the_same_mapping_back(network: Network, multipliers: int) -> None:
    mapping = plan(network, Budget(multipliers))
    text = json.dumps(mapping.to_json())
    assert Mapping.from_json(json.loads(text), "mapping") == mapping


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("engines", 0, "spec", "kind"), "tpu", "engines[0].spec.kind"),
        (("engines", 0, "spec", "rows"), 0, "engines[0].spec"),
        (("stages", 1, "lanes"), "7", "stages[1].lanes"),
        (("input_lanes",), None, "input_lanes"),
    ],
)
def test_json_form_that_is_wrong_is_named(path: tuple, value: object, named: str) -> None:
    form = json.loads(json.dumps(MAPPING.to_json()))
    place = form
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    assert named in refused(lambda: Mapping.from_json(form, "mapping")).thing


def branch() -> Network:
    """x on 2 lanes, 6 beats, to a layer and past it, and both into a sum."""
    format, zeros = UniformFormat(4, False), np.zeros
    rule = RequantizeSpec(format, 4, "one", 0, 8)
    layer = LinearSpec(12, 12, format, format, rule)
    tensors = {"weight": zeros((12, 12), int), "b": zeros(12, int)}
    add = AddSpec((12,), format, format, format, 2, 4)
    factors = {"mx": zeros(1, int), "my": zeros(1, int)}
    nodes = (Node("fc", layer, ("x",), 1.0, tensors), Node("sum", add, ("fc", "x"), 1.0, factors))
    return Network("branch", InputSpec("x", (12,), format, 1.0), nodes)


BRANCH = Mapping(
    2,
    (Engine("pe", PeArraySpec(4, 3)),),
    (StageMapping("fc", "pe", 2), StageMapping("sum", None, 2)),
    (FifoMapping("sum", 1, 5),),
)


def test_a_fifo_counts_as_buffer_of_the_node_behind_it() -> None:
    """4 words of 2 codes of 4 bits and 2 marks; the fifth beat is in a register."""
    with_fifo, without = (
        {node.name: cost for node, cost in mapping.costs(branch())}
        for mapping in (BRANCH.check(branch()), dataclasses.replace(BRANCH, fifos=()))
    )
    assert with_fifo["sum"].buffer_bits - without["sum"].buffer_bits == 4 * 10
    assert with_fifo["fc"] == without["fc"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fifos": ()}, ["input 1 of sum", "from 'x'", "a depth of 0 beats", "at least 5"]),
        (
            {"fifos": (FifoMapping("sum", 1, 4),)},
            ["input 1 of sum", "from 'x'", "a depth of 4 beats", "at least 5", "with_fifos"],
        ),
        (
            {"fifos": (FifoMapping("sum", 2, 5),)},
            ["mapping: fifos", "1 before input 2 of 'sum'", "at most one"],
        ),
        (
            {"fifos": (FifoMapping("sum", 1, 5),) * 2},
            ["mapping: fifos", "2 before input 1 of 'sum'", "at most one"],
        ),
        ({"input_lanes": 4}, ["lanes of x", "found 4", "2, as sum has", "plan again"]),
    ],
)
def test_a_graph_that_would_wait_for_ever_is_refused_by_its_branch(change, words) -> None:
    mapping = dataclasses.replace(BRANCH, **change)
    with pytest.raises(BadInput) as caught:
        mapping.check(branch())
    for word in words:
        assert word in str(caught.value)


def test_a_fifo_has_a_least_depth_of_its_own() -> None:
    with pytest.raises(ValueError, match="depth must be from 3 to"):
        FifoMapping("sum", 1, 2)
    with pytest.raises(ValueError, match="input must be at least 0, not -1"):
        FifoMapping("sum", -1, 3)


def test_the_depths_of_the_schedule_are_at_least_the_least_ones() -> None:
    filled = with_fifos(BRANCH, branch())
    assert [(fifo.node, fifo.input) for fifo in filled.fifos] == [("sum", 1)]
    assert filled.fifos[0].depth >= 5
    assert Mapping.from_json(json.loads(json.dumps(filled.to_json())), "mapping") == filled
    assert with_fifos(MAPPING, NETWORK) == MAPPING
