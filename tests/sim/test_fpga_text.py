"""The logic of a generated module, from its text."""

import pytest

from sim.fpga_text import logic


def body(*lines: str) -> str:
    """A module with words of 8 bits and one, of which ``o`` leaves it."""
    words = "".join(f"  wire [7:0] {name};\n" for name in "abcde")
    head = words + "  output [7:0] o;\n  wire [7:0] o;\n  wire s;\n  wire t;\n  wire [20:0] w;\n"
    return head + "".join(f"  {line}\n" for line in lines)


def counted(*lines: str) -> dict[str, int]:
    return dict(+logic(body(*lines)))


def test_an_addition_is_a_chain_of_whole_cells() -> None:
    assert counted("assign o = a + b;") == {"carry": 8, "chain": 1}
    assert counted("assign o = a - 8'h01;") == {"carry": 8, "chain": 1}
    assert counted("assign o[4:0] = a[4:0] + b[4:0];") == {"carry": 6, "chain": 1}
    assert counted("assign o = - $signed(a);") == {"carry": 8, "chain": 1}


def test_a_sum_that_is_only_added_to_saves_its_carries() -> None:
    assert counted("assign d = a + b;", "assign o = d + c;") == {
        **{"save": 8, "carry": 8, "chain": 1}
    }
    twice = counted("assign d = a + b;", "assign o = d + c;", "assign e = d;")
    assert twice == {"carry": 16, "chain": 2}


def test_a_comparison_is_a_chain_but_for_a_sign() -> None:
    assert counted("assign s = a < b;") == {"carry": 8, "chain": 1}
    assert counted("assign s = w >= 8'h03;") == {"carry": 22, "chain": 1}
    assert counted("assign s = $signed(a) < $signed(1'h0);") == {}


def test_bits_that_nobody_reads_do_not_count() -> None:
    assert counted("assign d = a + b;", "assign o[3:0] = d[3:0];") == {"short": 4}
    chosen = counted("assign d = s ? a : b;", "assign e = t ? 8'hff : d;", "assign o = e[2:0];")
    assert chosen == {"choose": 3, "mask": 3}


def test_choices_and_gates_count_their_bits() -> None:
    assert counted("assign o = s ? a : b;") == {"choose": 8}
    assert counted("assign o = s ? 8'h00 : b;") == {"mask": 8}
    assert counted("assign o = a | b;") == {"gate": 8}
    assert counted("assign s = t & s;", "assign d = ~ a;", "assign o = d;") == {}


@pytest.mark.parametrize(
    ("line", "blocks"),
    [
        ("$signed(a) * $signed(b)", 1),
        ("$signed({ 1'h0, a[6:0] }) * $signed(b)", 1),
        ("$signed(w) * $signed(b)", 2),
        ("w * w", 4),
        ("a * s", 0),
    ],
)
def test_a_product_takes_blocks_by_its_operands_and_adds_their_parts(
    line: str, blocks: int
) -> None:
    found = counted(f"assign o = {line};")
    parts = {"dsp": blocks} if blocks else {}
    if blocks > 1:
        parts |= {"carry": 8 * (blocks - 1), "chain": blocks - 1}
    assert found == parts


def test_a_register_chooses_among_the_words_that_it_loads() -> None:
    lines = [
        "always @* begin",
        "  o = a;",
        "  if (s) begin",
        "    o = b;",
        "  end else if (t) begin",
        "    o = c;",
        "  end",
        "  if (rst) begin",
        "    o = 8'h00;",
        "  end",
        "end",
    ]
    assert counted(*lines) == {"load": 8, "branch": 3}
