"""What a design takes of an ECP5, before any tool runs: from its formulas and its generated text.

==========  ====================================================================================
DSP         a multiplier of ``a × b`` bits takes ``ceil(a / 18) · ceil(b / 18)`` blocks of
            18 × 18 bits; one with an operand of a single bit takes none
BRAM        a memory of ``w × d`` bits takes ``ceil(w · ceil(d / n) / b)`` blocks of ``n`` words
            of ``b`` bits, for the best ``b`` of 1 to 36; it is in blocks if they cost less than
            what it would be else, as Yosys counts it: a block 128, 16 words of 4 bits in
            look-up tables 4 and what chooses between them ``CHOICE`` a bit, a bit that is only
            read ``1 / 16``
FF          the bits of all registers, and those of the output of a memory that is not in blocks
LUT         ``ADD`` a bit of an addition, ``CHOOSE`` a bit of a choice between two words,
            ``TABLE`` for 16 words of 4 bits, ``1 / 16`` a bit that is only read
==========  ====================================================================================

The last line and ``CHOICE`` are calibrated: on two mappings each of the MNIST MLP and of LeNet-5,
as `gyre fpga` places them.
"""

import re
from collections import Counter

from hdl.outline import ROM, modules, placed
from hdl.verilog import Design
from model.ir.cost import StageCost

DSP_BITS = 18
WIDTHS = (1, 2, 4, 9, 18, 36)
BLOCK_COST, TABLE_COST, CHOICE, ROM_COST = 128, 4, 1 / 3, 1 / 16
ADD, CHOOSE, TABLE = 1.59, 0.83, 6

_NAME = r"\\\S+ |[A-Za-z_][\w$]*"
_RANGE = r"(?:\[(\d+):0\] )?"
_REGISTER = re.compile(rf"^  (?:output )?reg {_RANGE}(?!\\\$auto)({_NAME}) *= ", re.M)
_MEMORY = re.compile(rf"^  reg {_RANGE}({_NAME}) ?\[(\d+):0\];", re.M)
_SIGNAL = re.compile(rf"^  (?:input |output )?(?:wire|reg) {_RANGE}({_NAME}|\\\S+ ) *(?:=|;)", re.M)
_ASSIGNED = re.compile(r"^  assign (\\\S+ |[\w$]+)(?: ?\[\d+(?::\d+)?\])? *= (.*);$", re.M)
_SUM = re.compile(r" [+-] ")


def _width(high: str) -> int:
    return int(high) + 1 if high else 1


def words(width: int) -> int:
    """Words of that width in a block of 18 kbit."""
    return (16_384 if width < 9 else 18_432) // width


def blocks(width: int, depth: int) -> int:
    """Fewest blocks that hold a memory."""
    return min(-(-width * -(-depth // words(wide)) // wide) for wide in WIDTHS)


def memory(width: int, depth: int, read_only: bool) -> Counter[str]:
    """What a memory takes: ``bram``, or ``table`` or ``rom`` bits and the ``ff`` of its output."""
    found = blocks(width, depth)
    if read_only:
        if width * depth * ROM_COST < found * BLOCK_COST:
            return Counter(rom=width * depth, ff=width)
    else:
        deep = -(-depth // 16)
        tables = -(-width // 4) * deep
        if TABLE_COST * tables + CHOICE * (deep - 1) * width < found * BLOCK_COST:
            return Counter(table=tables, ff=width)
    return Counter(bram=found)


def _module(body: str) -> Counter[str]:
    """What a module holds itself."""
    found: Counter[str] = Counter()
    for high, _, depth in _MEMORY.findall(body):
        found += memory(_width(high), int(depth) + 1, False)
    found["ff"] += sum(_width(high) for high, _ in _REGISTER.findall(body))
    widths = {name.strip(): _width(high) for high, name in _SIGNAL.findall(body)}
    for name, expression in _ASSIGNED.findall(body):
        bits = widths.get(name.strip(), 1)
        if _SUM.search(expression):
            found["add"] += bits
        elif " ? " in expression:
            found["choose"] += bits
    return found


def count(design: Design) -> Counter[str]:
    """Registers, additions, choices and memories of a generated design."""
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


def dsp_blocks(costs: list[StageCost]) -> int:
    """Blocks for all multipliers."""
    return sum(
        number * -(-a // DSP_BITS) * -(-b // DSP_BITS)
        for cost in costs
        for number, a, b in cost.multipliers
        if min(a, b) > 1
    )


def estimate(costs: list[StageCost], design: Design) -> dict[str, int]:
    """``dsp`` by the formulas of a mapping, ``bram``, ``ff`` and ``lut`` by the generated text."""
    found = count(design)
    lut = ADD * found["add"] + CHOOSE * found["choose"] + TABLE * found["table"]
    return {
        "lut": round(lut + ROM_COST * found["rom"]),
        "ff": found["ff"],
        "dsp": dsp_blocks(costs),
        "bram": found["bram"],
    }
