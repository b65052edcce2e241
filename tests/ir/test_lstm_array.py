"""The LSTM engine: which mappings it takes, what they cost, and the matrices it computes."""

from dataclasses import replace

import numpy as np
import pytest

from model.export.fft import with_fft
from model.ir.beats import Beats
from model.ir.circulant_array import CirculantArraySpec
from model.ir.errors import BadInput
from model.ir.lstm import part_of
from model.ir.lstm_array import LSTMArraySpec
from model.ir.mapping import EngineSpec
from model.ir.network import Node
from model.ir.pe_array import PeArraySpec
from tests.lstms import lstm_network, lstm_spec

SHAPE = {"features": 5, "cells": 8, "projection": 6, "peephole": True, "weight_bits": 12}
PE, FFT = PeArraySpec(4, 3), CirculantArraySpec(4, 2)


def node_of(k: int = 1, fft: bool = False, **shape: object) -> Node:
    network = lstm_network(lstm_spec(**(SHAPE | {"k": k} | shape)), 1)
    return (with_fft(network) if fft else network)["lstm"]


def test_the_matrix_of_the_gates_has_the_same_products_in_another_order() -> None:
    node, engine = node_of(), LSTMArraySpec(PE, 4, 2, PE)
    own, layer = engine.gates_node(node), node.spec
    x = np.arange(1, 6)
    y = np.arange(10, 16)
    wide = np.concatenate([x, [0], y])  # x in two words of 3 codes
    expected = layer.gates.values(part_of(node.tensors, "gates")) @ np.concatenate([x, y])
    rows = np.arange(32).reshape(4, 4, 2).swapaxes(0, 1).ravel()  # 2 cells of i, f, g, o
    assert (own.tensors["weight"] @ wide == expected[rows]).all()
    assert (own.tensors["b"] == node.tensors["gates_b"][rows]).all()


def test_circulant_blocks_stay_whole_and_are_expanded_only_for_exact_arithmetic() -> None:
    engine = LSTMArraySpec(FFT, 4, 2, FFT)
    node = node_of(4, True)
    weight = engine.gates_node(node).tensors["weight"]
    blocks = node.tensors["gates_weight"].reshape(4, 2, *weight.shape[1:])
    assert (weight.reshape(2, 4, *weight.shape[1:]) == blocks.swapaxes(0, 1)).all()
    exact = LSTMArraySpec(PE, 4, 2, PE).gates_node(node_of(4))
    assert exact.spec.storage.kind == "dense"


def test_multipliers_and_memory_are_those_of_the_engines_and_of_the_lanes() -> None:
    node, engine = node_of(), LSTMArraySpec(PE, 4, 2, PE, 3)
    cost = engine.cost(node.spec, (Beats((5,), 1),), 2)
    parts = engine.parts(node.spec, 2).values()
    lanes = cost.multiplier_count - sum(part.multiplier_count for part in parts)
    assert lanes == 2 * 11
    assert cost.weight_bits == sum(part.weight_bits for part in parts)
    state = 3 * (8 * 16 + 2 * 3 * 16)  # c, and y in two words of 3 codes, in each of 3 slots
    assert cost.buffer_bits == sum(part.buffer_bits for part in parts) + state
    plain = node_of(peephole=False).spec
    assert sum(n for n, _, _ in engine.cell_multipliers(plain)) == 2 * 8


def test_more_sequences_give_the_rate_of_the_slowest_part() -> None:
    layer, ins = node_of().spec, (Beats((5,), 1),)
    cycles = [LSTMArraySpec(PE, 4, 2, PE, n).cost(layer, ins, 2).cycles for n in (1, 2, 8)]
    one = LSTMArraySpec(PE, 4, 2, PE)
    assert cycles[0] == one.loop(layer, 2)
    assert cycles[1] == max(-(-one.loop(layer, 2) // 2), one.pace(layer, ins, 2))
    assert cycles[2] == one.pace(layer, ins, 2)


def test_beats_of_y_that_are_wider_than_a_word_hold_each_other_up() -> None:
    """As measured on the Google layer: beats of 64 codes, words of 8, 49 cycles more."""
    node = node_of(8, True, features=153, cells=1024, projection=512, weight_bits=16)
    gates, project = CirculantArraySpec(8, 128), CirculantArraySpec(8, 64)
    engine = LSTMArraySpec(gates, 32, 8, project)
    assert not engine.exact(node.spec, (Beats((153,), 1),), 64)
    assert engine.loop(node.spec, 64) == 683


def test_a_narrow_input_is_a_part_that_can_be_the_slowest() -> None:
    node = node_of(8, True, cells=16, features=64, projection=16)
    folded = CirculantArraySpec(8, 2, "folded")
    engine = LSTMArraySpec(folded, 8, 2, CirculantArraySpec(8, 1), 9)
    interval = folded.forward_unit(engine.gates_layer(node.spec)).interval
    assert interval == 4  # groups of the gates
    wide, narrow = (Beats((64,), 8),), (Beats((64,), 1),)
    assert engine.words_cycles(node.spec, wide) == (8 + 2) * interval
    assert engine.words_cycles(node.spec, narrow) == 64 + 2 * interval
    assert engine.pace(node.spec, wide, 8) == 40
    assert engine.pace(node.spec, narrow, 8) == 72
    assert not engine.exact(node.spec, wide, 8)
    assert engine.waits(node.spec, 8) >= interval - 1
    plain = replace(engine, gates=replace(folded, body="pipelined"))
    assert plain.exact(node.spec, wide, 8)
    assert plain.waits(node.spec, 8) == 0
    assert not plain.exact(node.spec, (Beats((640,), 1),), 8)


@pytest.mark.parametrize(
    ("engine", "fft", "match"),
    [
        (LSTMArraySpec(PE, 4, 2, None), False, "no engine for the projection"),
        (LSTMArraySpec(PE, 4, 3, PE), False, "cell lanes: found 3"),
        (LSTMArraySpec(PE, 4, 8, FFT), False, "PE array|arithmetic"),
        (LSTMArraySpec(PE, 3, 2, PE), False, "gate lanes|lanes of lstm_gates"),
        (LSTMArraySpec(PeArraySpec(16, 1), 16, 2, PE), False, "gate lanes: found 16"),
        (LSTMArraySpec(CirculantArraySpec(8, 1), 4, 2, FFT), True, "columns of the gates: found 8"),
        (LSTMArraySpec(FFT, 4, 8, FFT), True, "cell lanes: found 8"),
    ],
)
def test_refuses_engines_and_lanes_that_do_not_fit(
    engine: EngineSpec, fft: bool, match: str
) -> None:
    with pytest.raises(BadInput, match=match):
        engine.check(node_of(4 if fft else 1, fft), 2)


def test_refuses_another_layer_and_an_engine_for_no_projection() -> None:
    engine = LSTMArraySpec(PE, 4, 2, PE)
    with pytest.raises(BadInput, match="'linear' layers"):
        engine.check(lstm_network(lstm_spec(**SHAPE), 1)["fc"], 1)
    with pytest.raises(BadInput, match="an engine for the projection"):
        engine.check(node_of(projection=0), 1)


@pytest.mark.parametrize(
    "numbers", [{"sequences": 0}, {"sequences": 257}, {"cell_lanes": 0}, {"gate_lanes": 0}]
)
def test_refuses_numbers_out_of_range(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(numbers))):
        LSTMArraySpec(**({"gates": PE, "gate_lanes": 4, "cell_lanes": 2, "project": PE} | numbers))


def test_keeps_its_form_in_a_file() -> None:
    engine = LSTMArraySpec(FFT, 4, 2, PE, 3)
    assert EngineSpec.from_json(engine.to_json(), "engine") == engine
