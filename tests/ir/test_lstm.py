"""The LSTM's specification: sizes, ranges, refusals, file form."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from model.ir.block_circulant import BlockCirculantStorage
from model.ir.errors import BadInput
from model.ir.lstm import LSTMSpec
from model.ir.network import Network, Node
from model.ir.numerics import FixedPointFormat
from model.ir.piecewise import piecewise
from tests.lstms import fixed, lstm_network, lstm_networks, lstm_spec


@pytest.mark.parametrize(("k", "weights"), [(1, 3_248_128), (8, 409_600), (16, 204_800)])
def test_counts_the_weights_of_the_google_lstm(k: int, weights: int) -> None:
    spec = lstm_spec(153, 1024, 512, True, k=k)
    assert spec.weights() == weights
    biases = (4096 + 512) * 30
    tables = sum(table.stored_bits() for table in (spec.sigmoid, spec.g, spec.tanh))
    assert spec.stored_bits() == weights * 8 + biases + 3 * 1024 * 16 + tables
    assert spec.chip_bits() == weights * 8 + 3 * 1024 * 16


def test_a_network_with_an_lstm_is_read_as_it_was_written(tmp_path: Path) -> None:
    for number, spec in enumerate([lstm_spec(3, 4), lstm_spec(3, 4, 2, True, "sigmoid", 2)]):
        network = lstm_network(spec, number)
        network.save(tmp_path / str(number))
        found = Network.load(tmp_path / str(number))
        assert found == network
        assert found["lstm"].spec == spec
    assert network.recurrent


@settings(max_examples=30)
@given(lstm_networks())
def test_the_stated_ranges_hold_the_worst_case(network: Network) -> None:
    spec = network["lstm"].spec
    c, gate, g = spec.state_format.codes, spec.sigmoid.table().max(), spec.g.table().max()
    keep, new = spec.state_aligns
    span = spec.intermediates()["c"]
    assert span.high >= ((gate * c.high) << keep) + ((gate * g) << new)
    assert span.bits <= 63
    # a shift is that of the formats: the aligned sum has as many fraction bits as both products
    unit = spec.unit_format.frac_bits
    assert keep + spec.state_format.frac_bits == new + unit
    assert spec.state_shift + spec.state_format.frac_bits == unit + unit + new


def changed(spec: LSTMSpec, **change: Any) -> LSTMSpec:
    gates = {k.removeprefix("gates_"): change.pop(k) for k in list(change) if k[:6] == "gates_"}
    if gates:
        change["gates"] = dataclasses.replace(spec.gates, **gates)
    return dataclasses.replace(spec, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": 9}, "x_columns must be"),
        ({"x_columns": 7}, "columns of y must be"),
        ({"cells": 5}, "gates must have 20 rows"),
        ({"gates_in_format": fixed(16, 3)}, "project.out_format must be"),
        ({"state_format": fixed(16, 2)}, "tanh.in_format must be"),
        ({"peephole_format": FixedPointFormat(16, False, 3)}, "must be signed"),
        ({"peephole_format": fixed(16, -13)}, "peephole_shift must be"),
        ({"in_format": FixedPointFormat(16, False, 12)}, "in_format must be signed"),
    ],
)
def test_refuses_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(lstm_spec(6, 4, 3, True), **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": 3, "x_columns": 7}, "x_columns must be a multiple of .* k = 4, not 7"),
        ({"gates_storage": BlockCirculantStorage(4, 3)}, "must have positions 1, not 3"),
        ({"gates_storage": BlockCirculantStorage(8)}, "cells must be a multiple .* k = 8, not 4"),
    ],
)
def test_refuses_circulant_blocks_over_two_parts(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(lstm_spec(8, 4, k=4), **change)


def test_refuses_tables_with_the_wrong_mirror() -> None:
    spec = lstm_spec(3, 4)
    like_tanh = dataclasses.replace(spec.sigmoid, odd=True)
    with pytest.raises(ValueError, match="sigmoid must be mirrored with odd = False"):
        changed(spec, sigmoid=like_tanh)
    with pytest.raises(ValueError, match="tanh must be mirrored with odd = True"):
        changed(spec, tanh=dataclasses.replace(spec.tanh, odd=False))


def test_refuses_codes_beyond_their_format() -> None:
    network = lstm_network(lstm_spec(2, 3, 2, True), 0)
    node = network["lstm"]
    for name, part in (("peephole", "lstm.peephole"), ("gates_weight", "lstm.gates.weight")):
        wrong = dict(node.tensors) | {name: np.full(node.tensors[name].shape, 2**15)}
        with pytest.raises(BadInput, match=part):
            Node("lstm", node.spec, node.inputs, node.scale, wrong)


def test_refuses_steps_of_another_size() -> None:
    network = lstm_network(lstm_spec(2, 3), 0)
    entry = dataclasses.replace(network.input, shape=(5,))
    with pytest.raises(BadInput, match="2 input features"):
        Network("net", entry, network.nodes)


def test_states_how_long_the_state_cannot_saturate() -> None:
    assert lstm_spec(2, 3).steps_without_saturation() == 3
    assert (
        dataclasses.replace(
            lstm_spec(2, 3), state_format=fixed(16, 4), tanh=wide_tanh()
        ).steps_without_saturation()
        == (2**15 - 1) // 16
    )


def test_refuses_a_format_whose_state_could_reach_its_end_in_so_many_steps() -> None:
    spec = lstm_spec(2, 3)
    spec.check_steps(3, "lstm")
    with pytest.raises(BadInput, match=r"lstm: state: found .* in 4 steps; .* at most 12 fract"):
        spec.check_steps(7, "lstm")
    dataclasses.replace(
        spec, state_format=fixed(16, 12), tanh=piecewise("tanh", fixed(16, 12), fixed(16, 14))
    ).check_steps(7, "lstm")
    wide = dataclasses.replace(spec, state_format=fixed(16, 4), tanh=wide_tanh())
    wide.check_steps(wide.steps_without_saturation(), "lstm")


def wide_tanh():
    return piecewise("tanh", fixed(16, 4), fixed(16, 14))
