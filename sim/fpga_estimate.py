"""What a design takes of an ECP5, before any tool runs: from its formulas and its generated text.

==========  ====================================================================================
DSP         a product of ``a × b`` bits in the text takes ``ceil(a / 18) · ceil(b / 18)`` blocks of
            18 × 18 bits; one with an operand of a single bit takes none, nor do weights of few
            bits, which are multiplied by shifting and adding
BRAM        a memory of ``w × d`` bits takes ``ceil(w · ceil(d / n) / b)`` blocks of ``n`` words
            of ``b`` bits, for the cheapest ``b`` of 1 to 36; it is in blocks if they cost less
            than what it would be else (if it is written to: no more), as Yosys counts it: a block
            128, 16 words of 4 bits in look-up tables 4 and what chooses between them ``CHOICE``
            a bit, a bit that is only read ``1 / 16``
FF          the bits of all registers, and those of the output of a memory that is not in blocks
LUT         ``WEIGHTS`` of what :mod:`sim.fpga_text` counts. Of these six follow from the cells: a
            table a bit of a carry chain and four for its begin and end, a table a bit of an
            addition without such a chain, two a bit of an addition that saves its carries, six
            for 16 words of 4 bits (two of them for writing), a table for each bit and 16 words
            that are only read. How much of the choices and branches is left once Yosys has
            joined them with the rest is calibrated
==========  ====================================================================================
"""

import re
from collections import Counter

from hdl.outline import ROM, modules, placed
from hdl.pe.processing_element import SHIFT_ADD_BITS
from hdl.verilog import Design
from model.ir.cost import StageCost
from sim.fpga_text import dsp_blocks, logic

WIDTHS = (1, 2, 4, 9, 18, 36)
BLOCK_COST, TABLE_COST, CHOICE, ROM_COST = 128, 4, 1 / 2, 1 / 16
WEIGHTS = {
    **{"carry": 1, "chain": 4, "short": 1, "save": 2, "table": 6, "rom": 1},
    **{"load": 1, "choose": 0.4, "gate": 0.4, "branch": 0.4, "mask": 0.25},
}
"""Look-up tables of each thing counted; the second line is calibrated."""

_RANGE = r"(?:\[(\d+):0\] )?"
_NAME = r"\\\S+ |[A-Za-z_][\w$]*"
_REGISTER = re.compile(rf"^  (?:output )?reg {_RANGE}(?!\\\$auto)({_NAME}) *= ", re.M)
_MEMORY = re.compile(rf"^  reg {_RANGE}({_NAME}) ?\[(\d+):0\];", re.M)


def _width(high: str) -> int:
    return int(high) + 1 if high else 1


def words(width: int) -> int:
    """Words of that width in a block of 18 kbit."""
    return (16_384 if width < 9 else 18_432) // width


def blocks(width: int, depth: int) -> int:
    """Blocks that hold a memory at the least cost, that of what chooses between words included."""
    options = []
    for wide in WIDTHS:
        deep = -(-depth // words(wide))
        count = -(-width * deep // wide)
        options.append((BLOCK_COST * count + CHOICE * (deep - 1) * width, count))
    return min(options)[1]


def memory(width: int, depth: int, read_only: bool) -> Counter[str]:
    """What a memory takes: ``bram``, or ``table`` or ``rom``, and the ``ff`` of its output."""
    found, deep = blocks(width, depth), -(-depth // 16)
    if read_only:
        if width * depth * ROM_COST <= found * BLOCK_COST:
            return Counter(rom=width * deep, ff=width)
    else:
        tables = -(-width // 4) * deep
        if TABLE_COST * tables + CHOICE * (deep - 1) * width < found * BLOCK_COST:
            return Counter(table=tables, ff=width)
    return Counter(bram=found)


def _module(body: str) -> Counter[str]:
    """What a module holds itself."""
    found = logic(body)
    for high, _, depth in _MEMORY.findall(body):
        found += memory(_width(high), int(depth) + 1, False)
    found["ff"] += sum(_width(high) for high, _ in _REGISTER.findall(body))
    return found


def count(design: Design) -> Counter[str]:
    """Registers, memories, multiplier blocks and logic of a generated design."""
    bodies = modules(design.verilog)
    known: dict[str, Counter[str]] = {}

    def of(name: str) -> Counter[str]:
        if name not in known:
            known[name] = _module(bodies[name])
            for one in placed(bodies[name]):
                if one.module.endswith(ROM):
                    size = int(one.parameters["WIDTH"]), int(one.parameters["DEPTH"])
                    known[name] += memory(*size, True)
                elif one.module in bodies:
                    known[name] += of(one.module)
        return known[name]

    return of(design.top)


def least_dsp(costs: list[StageCost]) -> int:
    """Fewest multiplier blocks that a mapping can take, by its formulas: before there is a text."""
    return sum(
        number * dsp_blocks(a, b)
        for cost in costs
        for number, a, b in cost.multipliers
        if min(a, b) > SHIFT_ADD_BITS
    )


def estimate(design: Design) -> dict[str, int]:
    """Resources of a generated design."""
    found = count(design)
    return {
        "lut": round(sum(weight * found[name] for name, weight in WEIGHTS.items())),
        **{name: found[name] for name in ("ff", "dsp", "bram")},
    }
