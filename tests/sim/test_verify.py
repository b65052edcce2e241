"""How many frames the checks beside the bulk run get."""

from types import SimpleNamespace

import pytest

from model.ir.mapping import Mapping
from model.ir.planner import Budget, plan
from sim.harness import TAP_FRAMES
from sim.verify import CHECKS, EFFORT, check_frames
from tests.examples import example_network


def accelerator(cycles: int, multipliers: int) -> SimpleNamespace:
    """Stands for an accelerator of which nothing but two stages' costs is asked."""
    costs = [SimpleNamespace(cycles=cycles, multiplier_count=multipliers - 1)]
    costs.append(SimpleNamespace(cycles=1, multiplier_count=1))
    mapping = SimpleNamespace(costs=lambda network: [(None, cost) for cost in costs])
    return SimpleNamespace(network=None, mapping=mapping)


def test_a_quick_network_gets_every_frame_of_every_check() -> None:
    network = example_network()
    mapping: Mapping = plan(network, Budget(20))
    quick = check_frames(SimpleNamespace(network=network, mapping=mapping))
    assert quick == {"layers": 64, "seeds": 64, "stalled": 100, "random": 1000, "reset": 100}
    assert quick == check_frames(accelerator(4000, 1000))  # as slow as an unpruned LeNet-5
    assert quick["layers"] == TAP_FRAMES


def test_the_slowest_network_gets_the_fewest() -> None:
    slowest = check_frames(accelerator(10**7, 4096))
    assert slowest == {"layers": 32, "seeds": 4, "stalled": 4, "random": 4, "reset": 4}


@pytest.mark.parametrize("cycles", [10**4, 10**5, 3 * 10**5])
def test_no_check_takes_more_than_its_effort_but_for_the_fewest(cycles: int) -> None:
    found = check_frames(accelerator(cycles, 1024))
    for name, frames in found.items():
        most, fewest = CHECKS[name]
        assert fewest <= frames <= most
        assert frames == fewest or frames * cycles * 1024 <= EFFORT
        assert frames == most or (frames + 1) * cycles * 1024 > EFFORT
