"""The register map is whole: no register or field lies on another, and the docs hold it."""

import json
from pathlib import Path

import pytest

from model.ir.axi import (
    ADDRESS_BITS,
    PROGRAM,
    PROGRAM_REGISTERS,
    PROGRAM_WORDS,
    REGISTERS,
    WIDE,
    container_bits,
    hash_words,
    program_table,
    register,
    table,
    to_json,
)
from model.ir.macro import COLS_MAX, LEVEL_BITS_MAX
from model.ir.numerics import UniformFormat
from model.ir.programming import CellRows

PAGE = Path(__file__).resolve().parents[2] / "docs" / "axi.md"


ALL = (*REGISTERS, *PROGRAM_REGISTERS)


def test_no_word_belongs_to_two_registers() -> None:
    words = [one.offset + 4 * n for one in ALL for n in range(one.words)]
    assert len(set(words)) == len(words)
    assert all(word % 4 == 0 and word < 1 << ADDRESS_BITS for word in words)
    assert len({one.name for one in ALL}) == len(ALL)


def test_the_programming_port_has_its_own_addresses() -> None:
    assert PROGRAM[-1] == (1 << ADDRESS_BITS) - 1
    assert all(one.offset < PROGRAM[0] for one in REGISTERS)
    assert all(one.offset in PROGRAM for one in PROGRAM_REGISTERS)
    widest = CellRows("a", 1, 1, COLS_MAX + 1, LEVEL_BITS_MAX)
    assert widest.words <= PROGRAM_WORDS


def test_no_bit_belongs_to_two_fields_and_what_is_written_lies_within_a_byte() -> None:
    for one in ALL:
        taken = 0
        for field in one.fields:
            assert not taken & field.mask
            assert field.mask < 1 << 32
            taken |= field.mask
            assert field.reset < 1 << field.bits
            if field.access != "ro":
                assert field.low // 8 == (field.low + field.bits - 1) // 8


def test_the_high_word_of_a_counter_follows_its_low_word() -> None:
    for name in WIDE:
        assert register(f"{name}_high").offset == register(name).offset + 4


@pytest.mark.parametrize(("bits", "expected"), [(1, 8), (8, 8), (9, 16), (16, 16)])
def test_codes_take_whole_bytes(bits: int, expected: int) -> None:
    assert container_bits(UniformFormat(bits, True)) == expected


def test_hash_words_are_the_digits_as_they_are_printed() -> None:
    digest = "0123456789abcdef" * 4
    words = hash_words(digest)
    assert words[:2] == [0x01234567, 0x89ABCDEF]
    assert "".join(f"{word:08x}" for word in words) == digest


def test_plain_form_is_data_and_says_what_can_be_written() -> None:
    data = json.loads(json.dumps(to_json()))
    assert [one["name"] for one in data if one["access"] == "rw"] == ["control", "status"]
    port = to_json(7)[len(data) :]
    assert [one["name"] for one in port] == [one.name for one in PROGRAM_REGISTERS]
    assert (port[-1]["words"], port[-1]["access"]) == (7, "wo")


def test_the_documentation_holds_these_very_tables() -> None:
    assert table() in PAGE.read_text()
    assert program_table() in PAGE.read_text()
