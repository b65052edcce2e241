import itertools

import pytest
import torch

from model.compress import devices
from model.compress.constraints import Conductance
from model.ir.errors import BadInput
from model.ir.numerics import CodebookFormat


def test_the_memristor_has_sixteen_states_from_1_to_10_megohm() -> None:
    device = devices.load("memristor")
    assert (device.grid.value, device.grid.unit) == (20.0, "nS")
    siemens = [state * 20e-9 for state in device.states.values]
    assert len(siemens) == 16
    assert 1 / siemens[0] == pytest.approx(10e6)
    assert 1 / siemens[-1] == pytest.approx(1e6)
    assert Conductance().states == device.states.values


@pytest.mark.parametrize("name", devices.known())
def test_every_device_gives_levels(name: str) -> None:
    device = devices.load(name)
    assert device.grid.source
    assert device.states.source
    rule = Conductance(name)
    assert rule.magnitudes == device.states.values
    assert not rule.has_zero


@pytest.mark.parametrize(("cells", "levels", "bits"), [(2, 32, 5), (4, 512, 9)])
def test_sixteen_states_hold_five_or_nine_bits(cells: int, levels: int, bits: int) -> None:
    rule = Conductance(cells=cells, bits=bits)
    assert 2 * len(rule.magnitudes) == levels == 1 << bits
    assert rule.states == Conductance().states


@pytest.mark.parametrize(
    "rule",
    [
        Conductance(),
        Conductance(cells=4),
        Conductance(states=[3, 4, 9], cells=4),
        Conductance("sot_mram", cells=4),
    ],
    ids=repr,
)
def test_cells_hold_the_value(rule: Conductance) -> None:
    positive = torch.tensor(rule.magnitudes)
    values = torch.cat([positive, -positive, torch.zeros(1, dtype=torch.int64)]).reshape(1, -1)
    plus, minus = rule.cells_of(values)
    assert plus.shape == minus.shape == (*values.shape, rule.cells // 2)
    factors = torch.tensor(rule.factors)
    assert torch.equal(((plus - minus) * factors).sum(-1), values)
    assert not plus[values <= 0].any()  # the cell of the other sign is absent
    assert not minus[values >= 0].any()
    assert torch.isin(plus[values > 0], torch.tensor(rule.states)).all()
    assert torch.isin(minus[values < 0], torch.tensor(rule.states)).all()


def test_two_pairs_are_weighted_by_a_power_of_two() -> None:
    assert Conductance(cells=4).factors == (16, 1)
    rule = Conductance(states=[1, 4, 6], cells=4)
    assert rule.factors == (4, 1)
    pairs = itertools.product(rule.states, repeat=2)
    assert rule.magnitudes == tuple(sorted({4 * high + low for high, low in pairs}))


def test_few_bits_take_states_evenly_from_end_to_end() -> None:
    rule = Conductance(bits=3)
    assert rule.states == (5, 20, 35, 50)
    assert rule.format == CodebookFormat((5, 20, 35, 50, -50, -35, -20, -5))
    assert Conductance(bits=1).states == (50,)
    assert Conductance(states=[1, 2, 3], bits=2).states == (1, 3)


def test_a_range_picks_the_states_within_it() -> None:
    assert Conductance(within=[14, 29]).states == (14, 17, 20, 23, 26, 29)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 6}, "states: found 16 of them; expected at least 32, for 6 bits in 2 cells"),
        ({"bits": 5, "within": [5, 30]}, r"found 9 of them within \[5, 30\]; expected at least 16"),
        ({"within": [51, 60]}, "found 0 of them"),
        ({"within": [51]}, "within"),
        ({"bits": 4, "cells": 4}, "bits: found 4; expected one bit of sign and a multiple of 2"),
        ({"bits": 0}, "bits: found 0"),
        ({"cells": 3}, "cells: found 3"),
        ({"device": "flash"}, "device: found 'flash'; expected one of memristor, sot_mram"),
        ({"device": "memristor", "states": [1, 2]}, "states: found a device as well"),
        ({"states": []}, "states"),
        ({"states": [0, 1]}, "states"),
        ({"states": [2, 2]}, "states"),
        ({"states": [1.5, 2]}, "states"),
        ({"states": "12"}, "states"),
        ({"states": [7], "cells": 4}, "a single state"),
        ({"states": [1, 40000]}, "coarser grid"),
        ({"per": "row"}, "per"),
    ],
    ids=str,
)
def test_tables_without_enough_states_and_bad_options_are_refused(
    options: dict, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        Conductance(**options)


def test_cells_of_a_value_that_is_no_level_are_refused() -> None:
    with pytest.raises(BadInput, match="found 6"):
        Conductance().cells_of(torch.tensor([5, 6]))


def test_identity_is_the_states_not_the_name() -> None:
    assert repr(Conductance("sot_mram")) == ("Conductance(states=(64, 112), cells=2, per='tensor')")
