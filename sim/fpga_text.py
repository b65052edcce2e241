"""The logic in a module of generated Verilog, counted in its text, which has one operation a line.

==========  ====================================================================================
carry       bits of additions and comparisons, each on a chain of carries, two bits a cell
chain       such chains
short       bits of additions and comparisons of few bits, which have no chain
save        bits of additions of which the sum is only added to: three operands become two, for
            the last two alone have carries
choose      bits that are one of two words, of which neither is constant
mask        bits that are a word or constant
gate        bits of logic of two words of several bits
load        half the bits of the words of which a register loads one, constants apart: a table
            takes one of two bits, and what follows it costs nothing
branch      branches that say what a register loads
dsp         blocks of 18 × 18 bits for the products
==========  ====================================================================================

Only the bits count that are read: a sum of which the low half goes on is half a sum.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

SHORT = 4
"""Most bits of an addition that Yosys makes of look-up tables alone."""
DSP_BITS = 18
"""Bits of an operand of a multiplier block."""

_NAME = r"\\\S+ ?|[A-Za-z_][\w$]*"
_PART = r"\[(\d+)(?::(\d+))?\]"
_DECLARED = re.compile(
    rf"^  (?:\(\*.*\*\) )?(input |output )?(?:wire|reg) (?:signed )?(?:\[(\d+):0\] )?({_NAME}) *"
    r"(?:=[^;]*)?;"
)
_CONSTANT = re.compile(r"-?(\d+)'s?[bdho][0-9a-fxz?_]+")
_TERM = re.compile(rf"({_NAME})(?:{_PART})?")
_ASSIGNMENT = re.compile(
    r"^ *(assign )?(\\\S+ |[A-Za-z_][\w$]*)((?: ?\[\d+(?::\d+)?\])*) *(<?=) (.*);$"
)
_BINARY = re.compile(r"^(.+?) (\+|-|\*|==|!=|<=|>=|<|>|&|\||\^|>>>|>>|<<) (.+)$")
_SIGN = re.compile(r"\$(?:un)?signed\((.*)\)")
_KINDS = {"*": "multiply"} | dict.fromkeys("+-", "add") | dict.fromkeys("&|^", "gate")
_KINDS |= dict.fromkeys(("<", ">", "<=", ">="), "compare")
_BITWISE = ("add", "gate", "choose", "same")
"""Kinds of which a bit needs no higher bits of the operands."""


@dataclass(frozen=True)
class _Reader:
    """Who reads a word: the kind of the operation, what it makes, and how many low bits."""

    kind: str
    target: str | None
    bits: int | None


@dataclass
class _Operation:
    """A line: what it makes, of how many bits, or a part of it, and how."""

    target: str
    bits: int
    part: bool
    kind: str
    text: str


@dataclass
class _Text:
    """A module's words, its operations, what its registers load, and who reads what."""

    widths: dict[str, int] = field(default_factory=dict)
    outputs: set[str] = field(default_factory=set)
    operations: list[_Operation] = field(default_factory=list)
    loads: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    readers: dict[str, list[_Reader]] = field(default_factory=lambda: defaultdict(list))
    live: dict[str, int] = field(default_factory=dict)

    def read(self, text: str, kind: str = "", target: str | None = None) -> None:
        """Note who reads the words in a text."""
        for name, high in _terms(text):
            self.readers[name].append(_Reader(kind, target, high))

    def used(self, name: str) -> int:
        """How many low bits of a word are read."""
        if name in self.live:
            return self.live[name]
        width = self.live[name] = self.widths.get(name, 1)
        if name not in self.outputs and self.readers[name]:
            self.live[name] = max(
                min(width, reader.bits or (self.used(reader.target) if reader.target else width))
                for reader in self.readers[name]
            )
        return self.live[name]

    def width(self, text: str, constants: bool = True) -> int:
        """Bits of an operand, or those that are not constant."""
        text = _SIGN.sub(r"\1", text.strip()).strip()
        if text.startswith("{"):
            return sum(self.width(part, constants) for part in text[1:-1].split(","))
        constant = _CONSTANT.match(text)
        if constant:
            return int(constant[1]) if constants else 0
        term = _TERM.match(text)
        if term is None:
            return 1
        if term[2] is None:
            return self.widths.get(term[1].strip(), 1)
        return int(term[2]) - int(term[3] or term[2]) + 1


def _terms(text: str) -> Iterator[tuple[str, int | None]]:
    """The words in a text, and of parts how many low bits they need."""
    text = re.sub(r"\$(?:un)?signed", "", _CONSTANT.sub("", text))
    for name, high, _ in _TERM.findall(text):
        yield name.strip(), int(high) + 1 if high else None


def _constant(text: str) -> bool:
    return bool(_CONSTANT.fullmatch(_SIGN.sub(r"\1", text.strip())))


def _part_bits(part: str, whole: int) -> int:
    found = re.findall(_PART, part)
    if not found:
        return whole
    high, low = found[-1]
    return int(high) - int(low) + 1 if low else 1


def _kind(text: str) -> str:
    if re.fullmatch(rf"~? ?(?:{_NAME})(?:{_PART})?", text):
        return "same"
    if " ? " in text and not text.startswith("{"):
        return "choose"
    if text.startswith("- "):
        return "add"
    if text.startswith("{"):
        return "gate" if re.match(r"\{[^}]*\} [&|^] ", text) else ""
    binary = _BINARY.match(text)
    return _KINDS.get(binary[2], "") if binary and not re.match(r"[!&|^~]", text) else ""


def _read(body: str) -> _Text:
    """Take a module's text apart."""
    text, choosing = _Text(), False
    for line in body.splitlines():
        declared = _DECLARED.match(line)
        if declared:
            flow, high, name = declared.groups()
            text.widths[name.strip()] = int(high) + 1 if high else 1
            if flow == "output ":
                text.outputs.add(name.strip())
            continue
        choosing = line != "  end" and (choosing or line.startswith("  always @*"))
        found = _ASSIGNMENT.match(line)
        if not found:
            text.read(line)
            continue
        wire, target, part, operator, value = found.groups()
        target = target.strip()
        if operator == "<=":
            text.read(value, "load", None if part else target)
            text.read(part)
            continue
        kind = _kind(value)
        if choosing:
            text.loads[target, part].append(value)
        goes = target if kind in _BITWISE and not part else None
        if kind == "choose":
            condition, value_text = value.split(" ? ", 1)
            text.read(condition)
            text.read(value_text, kind, goes)
        else:
            text.read(value, kind, goes)
        if wire:
            bits = _part_bits(part, text.widths.get(target, 1))
            text.operations.append(_Operation(target, bits, bool(part), kind, value))
    return text


def dsp_blocks(a: int, b: int) -> int:
    """Multiplier blocks of a product of ``a × b`` bits."""
    return -(-a // DSP_BITS) * -(-b // DSP_BITS) if min(a, b) > 1 else 0


def _even(bits: int) -> int:
    return bits + bits % 2


def _chain(bits: int) -> Counter[str]:
    """An addition or a comparison."""
    return Counter(carry=_even(bits), chain=1) if bits > SHORT else Counter(short=bits)


def logic(body: str) -> Counter[str]:
    """What a module holds itself."""
    text, found = _read(body), Counter[str]()
    for one in text.operations:
        bits = one.bits if one.part else min(one.bits, text.used(one.target))
        if one.kind == "add":
            readers = text.readers[one.target]
            if [(r.kind, r.bits) for r in readers] == [("add", None)]:
                found["save"] += bits
            else:
                found += _chain(bits)
        elif one.kind == "compare":
            left, _, right = _BINARY.match(one.text).groups()
            if not re.fullmatch(r"(?:\$signed\()?\d+'s?h0+\)?", right):  # else the sign says it
                widest = max(text.width(left), text.width(right))
                found += _chain(widest)
        elif one.kind == "multiply":
            left, _, right = _BINARY.match(one.text).groups()
            number = dsp_blocks(text.width(left), text.width(right))
            found["dsp"] += number
            if number > 1:  # the parts of the product are added
                found += Counter(carry=(number - 1) * _even(bits), chain=number - 1)
        elif one.kind == "choose":
            words = one.text.split(" ? ", 1)[1].split(" : ", 1)
            found["mask" if any(_constant(word) for word in words) else "choose"] += bits
        elif one.kind == "gate" and bits > 1:
            found["gate"] += bits
    for (target, part), values in text.loads.items():
        width = _part_bits(part, text.widths.get(target, 1))
        words = {value for value in values[1:] if not _constant(value)}
        if len(words) > 1:
            used = min(width, text.used(target)) / width
            found["load"] += round(sum(text.width(word, False) for word in words) * used / 2)
        found["branch"] += len(values) - 1
    return found
