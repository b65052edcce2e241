"""Specifications survive JSON, and bad JSON is named by its place."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import given

from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.numerics import Format, UniformFormat
from model.ir.requantize import RequantizeSpec
from model.ir.spec import Spec, check_int, check_name
from tests.strategies import formats, plain_formats, requantize_specs

LINEAR = LinearSpec(
    4, 3, UniformFormat(4, False), UniformFormat(2, True),
    RequantizeSpec(UniformFormat(4, False), 5, "one", 0, 16),
)  # fmt: skip


@given(formats)
def test_formats_survive_json(format: Format) -> None:
    data = json.loads(json.dumps(format.to_json()))
    assert Format.from_json(data, "here") == format


@given(requantize_specs(plain_formats))
def test_requantizations_survive_json(spec: RequantizeSpec) -> None:
    assert Spec.from_json(json.loads(json.dumps(spec.to_json())), "here") == spec


def test_layers_survive_json_with_their_nested_specifications() -> None:
    assert LinearSpec.from_json(json.loads(json.dumps(LINEAR.to_json())), "here") == LINEAR


def edited(*path: str, value: object) -> dict:
    """The JSON of LINEAR with one entry replaced."""
    data = json.loads(json.dumps(LINEAR.to_json()))
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("data", "thing", "message"),
    [
        ([], "fc1", r"found \[\]; expected a JSON object with a 'kind'"),
        ({"bits": 3}, "fc1", "expected a JSON object with a 'kind'"),
        ({"kind": 3}, "fc1", "expected a JSON object with a 'kind'"),
        (edited("kind", value="lineer"), "fc1.kind", "found 'lineer'; expected one of .*linear"),
        (edited("kind", value="uniform"), "fc1.kind", "found 'uniform'; expected one of"),
        (edited("in_format", "kind", value="linear"), "fc1.in_format.kind", "one of .*uniform"),
        (edited("in_format", "kind", value="log"), "fc1.in_format.kind", "a version of Gyre that"),
        (edited("depth", value=1), "fc1", r"unknown keys \['depth'\] and missing keys \[\]"),
        (edited("in_features", value=4.0), "fc1.in_features", "found 4.0"),
        (edited("in_features", value=True), "fc1.in_features", "found True"),
        (edited("in_features", value="4"), "fc1.in_features", "found '4'"),
        (edited("in_features", value=None), "fc1.in_features", "found None"),
        (edited("in_features", value=0), "fc1", "in_features must be at least 1, not 0"),
        (edited("in_format", value=4), "fc1.in_format", "found 4"),
        (edited("in_format", "bits", value=17), "fc1.in_format", "bits must be from 1 to 16"),
        (edited("in_format", "signed", value=1), "fc1.in_format.signed", "found 1"),
        (edited("requantize", "shift", value=-1), "fc1.requantize", "shift must be from 0 to 47"),
        (
            edited("weight_format", value={"kind": "codebook", "levels": [0, "1"]}),
            "fc1.weight_format.levels[1]",
            "found '1'",
        ),
        (
            edited("weight_format", value={"kind": "codebook", "levels": 7}),
            "fc1.weight_format.levels",
            "found 7",
        ),
    ],
)
def test_names_the_place_and_the_value_of_bad_json(data: object, thing: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        LinearSpec.from_json(data, "fc1")
    assert caught.value.thing == thing


@pytest.mark.parametrize("key", sorted(set(LINEAR.to_json()) - {"kind"}))
def test_names_a_missing_key(key: str) -> None:
    data = LINEAR.to_json()
    del data[key]
    with pytest.raises(BadInput, match=rf"missing keys \['{key}'\]"):
        LinearSpec.from_json(data, "fc1")


def test_refuses_a_kind_twice() -> None:
    with pytest.raises(TypeError, match="must be unique, not 'linear' again"):

        @dataclass(frozen=True)
        class Another(Spec, kind="linear"):
            """A second owner of the kind."""


@pytest.mark.parametrize("name", ["a", "fc1", "layer_2_conv", "a" * 64])
def test_accepts_names_that_fit_a_file_and_a_verilog_module(name: str) -> None:
    check_name("node name", name)


@pytest.mark.parametrize(
    "name",
    ["", "1a", "_a", "A", "a.b", "a/b", "../x", "a b", "a\n", "a" * 65, "é", "a\x00", None, 3],
)
def test_refuses_names_that_could_escape(name: object) -> None:
    with pytest.raises(BadInput, match=r"^node name: found .*; expected a name of lower-case"):
        check_name("node name", name)


def test_check_int_states_its_bounds_and_the_value() -> None:
    with pytest.raises(ValueError, match=r"^rows must be at least 1, not 0$"):
        check_int("rows", 0, 1)
    with pytest.raises(ValueError, match=r"^rows must be from 1 to 4, not 5$"):
        check_int("rows", 5, 1, 4)
    with pytest.raises(TypeError, match=r"^rows must be an integer, not 2.0$"):
        check_int("rows", 2.0, 1, 4)
