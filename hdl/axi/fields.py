"""Registers as words: their fields together, and what the strobed bytes of a write change."""

from collections.abc import Mapping

from amaranth.hdl import Cat, Const, Value

from model.ir.axi import Register


def word_of(register: Register, signals: Mapping[tuple[str, str], Value]) -> Value:
    """The word of a register that has fields: signals by its name and theirs, else reset values."""
    parts, place = [], 0
    for field in sorted(register.fields, key=lambda field: field.low):
        if field.low > place:
            parts.append(Const(0, field.low - place))
        value = signals.get((register.name, field.name))
        parts.append(Const(field.reset, field.bits) if value is None else value)
        place = field.low + field.bits
    return Cat(*parts)


def written(old: Value, data: Value, strobe: Value) -> Value:
    """A word after a write of its strobed bytes."""
    mask = Cat(bit.replicate(8) for bit in strobe)
    return (old & ~mask) | (data & mask)
