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


def clamped(value: Value, format: Format) -> Value:
    """The code of a format that is nearest to a value; every word of its bits must be a code.

    The bits above those of a code tell what is outside: a comparison would be a carry chain.
    """
    span, signed = format.codes, value.shape().signed
    if not format.signed:
        below = Mux(value[format.bits :].any(), span.high, value)
        return Mux(value[-1], 0, below) if signed else below
    above = value[format.bits - 1 :]
    if not signed:
        return Mux(above.any(), span.high, value)
    return Mux(above.any() & ~above.all(), Mux(value[-1], span.low, span.high), value)


def format_tag(format: Format) -> str:
    """A format as part of a module's name: equal for formats whose gates are equal."""
    if isinstance(format, CodebookFormat):
        return "c" + "_".join(str(level).replace("-", "n") for level in format.levels)
    if isinstance(format, BipolarFormat):
        return "b1"
    return f"{'s' if format.signed else 'u'}{format.bits}"


def range_tag(span: IntRange) -> str:
    """A range as part of a module's name."""
    return f"{span.low:x}_{span.high:x}".replace("-", "n")


def decode(format: Format, code: Value) -> Value:
    """The value of a code, in the shape ``range_shape(format.values)`` or narrower."""
    if isinstance(format, BipolarFormat):
        return Mux(code, Const(1, signed(2)), Const(-1, signed(2)))
    if isinstance(format, CodebookFormat):
        shape = range_shape(format.values)
        padded = (*format.levels, *[0] * ((1 << format.bits) - len(format.levels)))
        return Array(Const(level, shape) for level in padded)[code]
    return code
