"""Constraints from the tables of a recipe."""

import pytest
import torch

from model.compress import constraints
from model.ir.errors import BadInput

BLOCK = {"rows": 4, "columns": 4, "keep": 0.5}
PARTS = {
    "filter_sparsity": 2,
    "column_sparsity": {"keep": 0.5},
    "crossbar_blocks": BLOCK,
    "crossbar_columns": BLOCK | {"within": "crossbar"},
    "coarse_blocks": BLOCK | {"choose": "random", "seed": 1, "pad": "pad"},
    "two_level_blocks": {"outer": BLOCK, "inner": {"rows": 2, "columns": 2, "keep": 1}},
    "block_circulant": 4,
    "levels": 3,
    "levels_no_zero": {"bits": 3, "per": "channel"},
    "binary": "channel",
    "ternary": {},
    "power_of_two": 4,
    "conductance": {"states": [1, 2, 4], "cells": 4},
}


def test_every_constraint_is_built_from_a_table_or_a_value() -> None:
    assert sorted(PARTS) == constraints.known()
    weight = torch.linspace(-1, 1, 64).reshape(8, 8)
    for name, argument in PARTS.items():
        rule = constraints.build({name: argument}, "here")
        assert isinstance(rule, constraints.Constraint)
        assert rule.project(weight).shape == weight.shape


def test_parts_hold_together() -> None:
    rule = constraints.build({"levels": 3, "coarse_blocks": BLOCK}, "here")
    assert repr(rule) == "Levels(3, 'tensor') & CoarseBlocks(4, 4, 0.5, 'magnitude', 0, 'refuse')"


@pytest.mark.parametrize(
    ("parts", "thing", "text"),
    [
        ({"coarse_blocks": 4}, "here.coarse_blocks", "missing a required argument: 'columns'"),
        ({"coarse_blocks": BLOCK | {"colums": 3}}, "here.coarse_blocks", "'colums'"),
        ({"coarse_blocks": BLOCK | {"keep": 0}}, "here.coarse_blocks.keep", "found 0"),
        ({"levels": {"bits": 40}}, "here.levels.bits", "found 40"),
        ({"levels": 40}, "here.levels", "found 40"),
        ({"conductance": {"bits": 8}}, "here.conductance.states", "at least 128"),
        ({"levels": 3, "binary": {}}, "here", "one set of levels"),
    ],
)
def test_bad_arguments_are_named(parts: dict, thing: str, text: str) -> None:
    with pytest.raises(BadInput) as caught:
        constraints.build(parts, "here")
    assert caught.value.thing == thing
    assert text in str(caught.value)
