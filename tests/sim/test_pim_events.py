import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.pim_events import (
    MacroShape,
    PlacedLayer,
    Tile,
    count_events,
    count_parts,
    cut,
    place,
    programming,
)
from tests.tools import refused

MACROS = st.builds(
    MacroShape,
    rows=st.integers(1, 64),
    columns=st.integers(8, 64),
    columns_per_converter=st.integers(1, 4),
    cell_bits=st.integers(1, 4),
    cells=st.integers(1, 2),
    reference=st.integers(0, 1),
)


@given(MACROS, st.integers(1, 200), st.integers(1, 60), st.integers(1, 4))
def test_tiles_cover_the_matrix_and_fit_the_macro(
    macro: MacroShape, rows: int, outputs: int, unit: int
) -> None:
    if unit > macro.lines:
        assert refused(lambda: cut(rows, outputs * unit, macro, unit)).thing == "macro"
        return
    tiles = cut(rows, outputs * unit, macro, unit)
    assert sum(tile.rows * tile.lines for tile in tiles) == rows * outputs * unit
    assert all(tile.rows <= macro.rows and tile.lines <= macro.lines for tile in tiles)
    assert all(tile.lines % unit == 0 for tile in tiles)
    assert len(tiles) == -(-rows // macro.rows) * -(-outputs // (macro.lines // unit))


def test_one_bit_weights_need_the_sum_of_the_inputs_once() -> None:
    one = place("a", 64, 64, MacroShape(32, 32), vectors=3, weight_bits=1)
    two = place("a", 64, 64, MacroShape(32, 32), vectors=3, weight_bits=2)
    sums, none = count_events(one), count_events(two)
    assert sum(sums.adds.values()) - sum(sums.conversions.values()) == 3 * 64
    assert sum(none.adds.values()) == sum(none.conversions.values())


@given(MACROS, st.integers(1, 100), st.integers(1, 100), st.integers(1, 20), st.integers(1, 8))
def test_cycles_are_activation_bits_times_passes(
    macro: MacroShape, inputs: int, outputs: int, vectors: int, macros: int
) -> None:
    layer = place("a", inputs, outputs, macro, vectors=vectors, activation_bits=5, weight_bits=3)
    assert layer.cycles == vectors * 5 * macro.columns_per_converter
    layer = dataclasses.replace(layer, macros=macros)
    passes = macro.columns_per_converter * -(-len(layer.tiles) // macros)
    if macros <= len(layer.tiles):
        assert layer.cycles == vectors * 5 * passes


def test_slices_of_weights() -> None:
    single = MacroShape(32, 32)
    pairs = MacroShape(32, 32, cell_bits=4, cells=2)
    assert [single.slices(bits) for bits in (1, 2, 8)] == [1, 2, 8]
    # published: 9-bit weights take 4 cells, 5-bit weights 2
    assert [pairs.slices(bits) * pairs.cells for bits in (9, 5, 8, 1)] == [4, 2, 4, 2]


def test_exact_converters_hold_the_largest_count() -> None:
    assert MacroShape(256, 8).converter_bits(255) == 8
    assert MacroShape(256, 8).converter_bits(256) == 9
    assert MacroShape(32, 8, cell_bits=4, cells=2).converter_bits(32) == 9 + 1
    assert MacroShape(32, 8, adc_bits=6).converter_bits(32) == 6


def test_events_of_a_small_layer_by_hand() -> None:
    """5 inputs, 3 outputs of 1 bit, on macros of 4 x 3 and a reference: 2 tiles of 3 lines."""
    macro = MacroShape(4, 3, columns_per_converter=2, reference=1)
    layer = place("a", 5, 3, macro, vectors=10, activation_bits=2, weight_bits=1)
    assert layer.tiles == (Tile(4, 3), Tile(1, 3))
    assert layer.adder_bits == 3 + 2 + 1 + 1
    events = count_events(layer, memory_bytes=64)
    assert events.word_lines == 20 * 5
    assert events.cell_reads == 20 * 5 * 4
    assert events.conversions == {3: 20 * 3, 1: 20 * 3}
    assert events.adds == {7: 120 + 50}  # conversions, and the sums of the inputs
    assert events.register_bits == 10 * 5 * 2 + 170 * 7
    assert events.memory_reads == {64: 100}
    assert events.memory_writes == {64: 60}
    assert programming(layer).cell_writes == 5 * 4
    parts = count_parts(layer, memory_bytes=64)
    assert (parts.cells, parts.word_lines, parts.memory_bits) == (32, 8, 512)
    assert parts.converters == {3: 4}
    assert parts.register_bits == 4 * 7
    assert layer.macs == 150
    assert layer.cycles == 10 * 2 * 2


def test_activity_scales_only_what_a_pulse_costs() -> None:
    layer = place("a", 64, 64, MacroShape(32, 32), vectors=3)
    whole, half = count_events(layer), count_events(layer, activity=0.5)
    assert (half.word_lines, half.cell_reads) == (whole.word_lines // 2, whole.cell_reads // 2)
    same = dataclasses.replace(half, word_lines=whole.word_lines, cell_reads=whole.cell_reads)
    assert same == whole


def test_the_circulant_flow_stores_one_in_k_and_uses_each_cell_k_times() -> None:
    macro = MacroShape(32, 32)
    dense = place("a", 64, 64, macro, weight_bits=4)
    circulant = place("a", 64, 64, macro, weight_bits=4, k=8)
    assert programming(dense).cell_writes == 8 * programming(circulant).cell_writes
    assert count_events(dense).cell_reads == count_events(circulant).cell_reads
    assert count_events(dense).conversions == count_events(circulant).conversions
    assert circulant.cycles == 8 * dense.cycles


def test_blocks_stay_within_a_position_of_the_kernel() -> None:
    """20 channels at k = 16 pad to 32 at each of 25 positions; 50 outputs to 4 blocks."""
    layer = place("conv2", 500, 50, MacroShape(1024, 64), k=16, positions=25, weight_bits=1)
    assert layer.tiles == (Tile(800, 4),)


def test_copies_share_the_vectors() -> None:
    layer = place("a", 8, 8, MacroShape(8, 8), vectors=10, weight_bits=1)
    three = dataclasses.replace(layer, copies=3)
    assert three.cycles == layer.cycles * 4 // 10
    assert count_events(three) == count_events(layer)
    assert count_parts(three).cells == 3 * count_parts(layer).cells
    assert programming(three) == programming(layer) * 3


def test_macros_share_converters_and_not_cells() -> None:
    layer = place("a", 64, 64, MacroShape(16, 16), weight_bits=1)
    one = dataclasses.replace(layer, macros=1)
    assert count_parts(one).cells == count_parts(layer).cells
    assert sum(count_parts(one).converters.values()) == 16
    assert one.cycles == len(layer.tiles) * layer.cycles


@pytest.mark.parametrize("activity", [-0.1, 1.1])
def test_refuses_an_activity_that_is_no_share(activity: float) -> None:
    layer = place("a", 8, 8, MacroShape(8, 8))
    assert refused(lambda: count_events(layer, activity=activity)).thing == "activity"


def test_refuses_tiles_that_do_not_fit_and_layers_without_tiles() -> None:
    layer = place("a", 8, 8, MacroShape(8, 8))

    def with_tiles(*tiles: Tile) -> PlacedLayer:
        return dataclasses.replace(layer, tiles=tiles)

    assert "9 word lines" in refused(lambda: with_tiles(Tile(9, 8))).found
    assert "9 lines" in refused(lambda: with_tiles(Tile(8, 9))).found
    assert refused(lambda: with_tiles()).thing == "a"


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 0},
        {"columns": 1, "cells": 2},
        {"columns_per_converter": 9},
        {"cell_bits": 0},
        {"cells": 3},
        {"reference": 2},
        {"adc_bits": 0},
    ],
)
def test_refuses_macros_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        MacroShape(**({"rows": 8, "columns": 8} | wrong))
