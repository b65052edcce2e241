import dataclasses
import json
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sim import technology
from sim.energy import Events, Ledger, Parts, area, energy, engineering
from sim.technology import LEVELS
from tests.tools import refused

SOT, CMOS = technology.load_cell("sot_mram"), technology.load_cmos()
COUNT = st.integers(0, 10**12)
EVENTS = st.builds(
    Events,
    word_lines=COUNT,
    cell_reads=COUNT,
    cell_senses=COUNT,
    conversions=st.dictionaries(st.integers(1, 12), COUNT, max_size=3),
    adds=st.dictionaries(st.integers(1, 64), COUNT, max_size=3),
    macs=st.dictionaries(st.tuples(st.integers(1, 32), st.integers(1, 32)), COUNT, max_size=2),
    register_bits=COUNT,
    memory_reads=st.dictionaries(st.integers(1, 1 << 20), COUNT, max_size=2),
    memory_writes=st.dictionaries(st.integers(1, 1 << 20), COUNT, max_size=2),
    dram_bits=COUNT,
    cell_writes=COUNT,
)
PARTS = st.builds(
    Parts,
    cells=COUNT,
    word_lines=COUNT,
    converters=st.dictionaries(st.integers(1, 12), COUNT, max_size=3),
    adders=st.dictionaries(st.integers(1, 64), COUNT, max_size=3),
    multipliers=st.dictionaries(st.tuples(st.integers(1, 32), st.integers(1, 32)), COUNT),
    register_bits=COUNT,
    memory_bits=COUNT,
)


def check(ledger: Ledger) -> None:
    total = ledger.total
    assert total.low <= total.typical <= total.high
    for level in LEVELS:
        shares = sum(getattr(ledger.share(entry), level) for entry in ledger.entries)
        assert shares == pytest.approx(1 if ledger.entries else 0)
    for entry in ledger.entries:
        assert entry.total.low <= entry.total.typical <= entry.total.high


@given(EVENTS)
def test_shares_of_energy_sum_to_one_and_levels_are_in_order(events: Events) -> None:
    check(energy("any", events, SOT, CMOS))


@given(PARTS)
def test_shares_of_area_sum_to_one_and_levels_are_in_order(parts: Parts) -> None:
    check(area("any", parts, SOT, CMOS))


@given(EVENTS, EVENTS)
def test_the_energy_of_a_sum_is_the_sum_of_energies(a: Events, b: Events) -> None:
    def total(events: Events) -> float:
        return energy("any", events, SOT, CMOS).total.typical

    assert total(a + b) == pytest.approx(total(a) + total(b))
    assert total(a * 3) == pytest.approx(3 * total(a))


@given(EVENTS)
def test_a_summary_keeps_counts_and_totals(events: Events) -> None:
    ledger = energy("any", events, SOT, CMOS)
    summary = ledger.summary()
    assert summary.total.typical == pytest.approx(ledger.total.typical)
    assert sum(e.count for e in summary.entries) == sum(e.count for e in ledger.entries)
    assert len({entry.part for entry in summary.entries}) == len(summary.entries)
    check(summary)


def test_a_small_ledger_by_hand() -> None:
    """100 pulses, 1000 cells, 10 conversions of 8 bits, 10 additions of 32 and 640 bits read."""
    events = Events(
        word_lines=100,
        cell_reads=1000,
        conversions={8: 10},
        adds={32: 10},
        memory_reads={8192: 640},
    )
    found = energy("hand", events, SOT, CMOS)
    totals = {entry.part: entry.total.typical for entry in found.entries}
    assert totals == pytest.approx(
        {
            "word lines": 14e-12,
            "cells, summed currents": 2.82e-12,
            "conversions of 8 bits": 16e-12,
            "additions of 32 bits": 1e-12,
            "memory bits read of 8,192 bytes": 99.84e-12,
        }
    )
    assert found.total.typical == pytest.approx(133.66e-12)
    assert found.total.low == pytest.approx(5e-12 + 1.84e-12 + 8e-12 + 0.5e-12 + 49.92e-12)
    assert found.total.high == pytest.approx(48e-12 + 5.61e-12 + 32e-12 + 2e-12 + 200.32e-12)


def test_a_multiply_accumulate_by_hand() -> None:
    """8 x 8 bits: 0.2 pJ, and 0.1 pJ of a 32-bit addition."""
    found = energy("hand", Events(macs={(8, 8): 2}, dram_bits=1), None, CMOS)
    assert [entry.total.typical for entry in found.entries] == pytest.approx([0.6e-12, 30.5e-12])
    assert found.technologies == (CMOS.title,)


def test_a_small_area_by_hand() -> None:
    parts = Parts(cells=1000, word_lines=10, converters={8: 2}, adders={8: 2}, memory_bits=100)
    found = area("hand", parts, SOT, CMOS)
    assert found.total.typical == pytest.approx(165e-6 + 40e-6 + 0.0024 + 72e-6 + 60e-6)


def test_a_published_pass_of_512_by_512_lies_within_the_band() -> None:
    """1.47 nJ in a simulated macro of 40 nm; 8-bit converters are our assumption."""
    events = Events(word_lines=512, cell_reads=512 * 512, conversions={8: 512})
    found = energy("a pass", events, SOT, CMOS).total
    assert found.low < 1.47e-9 < found.high
    assert found.typical == pytest.approx(1.47e-9, rel=0.15)


def test_sensed_and_summed_read_out_are_told_apart() -> None:
    found = energy("both", Events(cell_reads=1, cell_senses=1), SOT, CMOS)
    assert [entry.part for entry in found.entries] == ["cells, summed currents", "cells, sensed"]
    assert found.entries[1].each.typical > 10 * found.entries[0].each.typical


def test_what_did_not_happen_has_no_line() -> None:
    found = energy("none", Events(conversions={8: 0}), None, CMOS)
    assert found.entries == ()
    assert found.total.typical == 0
    assert found.plain()["parts"] == []


def test_plain_ledger_is_json_with_all_figures() -> None:
    events = Events(conversions={8: 10}, adds={32: 10})
    form = json.loads(json.dumps(energy("a run", events, SOT, CMOS).plain()))
    assert form["unit"] == "J"
    assert "leakage" in form["not_counted"]
    assert [part["count"] for part in form["parts"]] == [10, 10]
    assert sum(part["share"]["high"] for part in form["parts"]) == pytest.approx(1)
    assert set(form["total"]) == set(LEVELS)


def test_the_table_ends_with_the_total() -> None:
    text = StringIO()
    events = Events(conversions={8: 10}, adds={32: 10})
    Console(file=text, width=150).print(energy("a run", events, SOT, CMOS).table())
    assert "conversions of 8 bits" in text.getvalue()
    assert "17 pJ" in text.getvalue().splitlines()[-2]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.85e-6, "J", "850 nJ"),
        (2.5e-3, "s", "2.5 ms"),
        (3e-15, "J", "3 fJ"),
        (0.0, "J", "0 J"),
        (12.25, "mm2", "12.2 mm2"),
        (4e-6, "mm2", "4 um2"),
    ],
)
def test_values_are_written_with_a_prefix(value: float, unit: str, text: str) -> None:
    assert engineering(value, unit) == text


@pytest.mark.parametrize("bad", [-1, 1.5, True, None])
def test_refuses_what_is_no_count(bad: object) -> None:
    assert refused(lambda: Events(word_lines=bad)).thing == "count of word_lines"
    assert refused(lambda: Events(conversions={8: bad})).thing == "count of conversions"
    assert refused(lambda: Parts(cells=bad)).thing == "count of cells"


def test_refuses_cells_without_their_technology() -> None:
    error = refused(lambda: energy("x", Events(cell_reads=1), None, CMOS))
    assert "cell_read" in error.expected
    memristor = technology.load_cell("memristor")
    error = refused(lambda: energy("x", Events(cell_senses=1), memristor, CMOS))
    assert "no cell_sense" in error.found


def test_refuses_a_size_that_the_technology_does_not_reach() -> None:
    assert refused(lambda: energy("x", Events(conversions={20: 1}), None, CMOS)).found == "20"
    error = refused(lambda: energy("x", Events(memory_reads={1 << 21: 1}), None, CMOS))
    assert error.thing == "memory"


def test_events_of_another_kind_do_not_add() -> None:
    with pytest.raises(TypeError):
        Events() + Parts()
    assert dataclasses.asdict(Events() + Events()) == dataclasses.asdict(Events())
