"""Formats and integer ranges in gates."""

from amaranth.hdl import Array, Const, Mux, Shape, Value, signed, unsigned

from model.ir.numerics import (
    BipolarFormat,
    CodebookFormat,
    FixedPointFormat,
    Format,
    IntRange,
    UniformFormat,
)


def range_shape(span: IntRange) -> Shape:
    """The narrowest shape that holds every integer of a range."""
    return signed(span.bits) if span.signed else unsigned(span.bits)


def without_scale(format: Format) -> Format:
    """The format as the gates see it: a fixed-point format is a uniform one."""
    if isinstance(format, FixedPointFormat):
        return UniformFormat(format.bits, format.signed)
    return format


def code_shape(format: Format) -> Shape:
    """Shape of a stored code."""
    return signed(format.bits) if format.signed else unsigned(format.bits)


def decode(format: Format, code: Value) -> Value:
    """The value of a code, in the shape ``range_shape(format.values)`` or narrower."""
    if isinstance(format, BipolarFormat):
        return Mux(code, Const(1, signed(2)), Const(-1, signed(2)))
    if isinstance(format, CodebookFormat):
        shape = range_shape(format.values)
        padded = (*format.levels, *[0] * ((1 << format.bits) - len(format.levels)))
        return Array(Const(level, shape) for level in padded)[code]
    return code
