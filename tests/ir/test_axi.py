"""The register map is whole: no register or field lies on another, and the docs hold it."""

import json
from pathlib import Path

import pytest

from model.ir.axi import (
    ADDRESS_BITS,
    PROGRAM,
    REGISTERS,
    WIDE,
    container_bits,
    hash_words,
    register,
    table,
    to_json,
)
from model.ir.numerics import UniformFormat

PAGE = Path(__file__).resolve().parents[2] / "docs" / "axi.md"


def test_no_word_belongs_to_two_registers() -> None:
    words = [one.offset + 4 * n for one in REGISTERS for n in range(one.words)]
    assert len(set(words)) == len(words)
    assert all(word % 4 == 0 and word < PROGRAM[0] for word in words)
    assert PROGRAM[-1] < 1 << ADDRESS_BITS
    assert len({one.name for one in REGISTERS}) == len(REGISTERS)


def test_no_bit_belongs_to_two_fields_and_what_is_written_lies_within_a_byte() -> None:
    for one in REGISTERS:
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


def test_the_documentation_holds_this_very_table() -> None:
    assert table() in PAGE.read_text()
