"""Trees of operators over many terms, with registers between the levels."""

from collections.abc import Callable, Sequence

from amaranth.hdl import Module, ShapeLike, Signal, Value

from model.ir.tree import TREE_ARITY


def joined(join: Callable[[Value, Value], Value], terms: list[Value]) -> Value:
    """All terms joined in one cycle, as a balanced tree."""
    while len(terms) > 1:
        pairs = [join(a, b) for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + ([terms[-1]] if len(terms) % 2 else [])
    return terms[0]


def joined_but_two(
    m: Module,
    en: Value | Sequence[Value],
    join: Callable[[Value, Value], Value],
    shape: Callable[[int], ShapeLike],
    terms: list[Value],
) -> list[Value]:
    """Join until at most two terms are left: ``tree_stages(len(terms))`` cycles of ``en``.

    Parameters
    ----------
    m : Module
        Gets the registers.
    en : Value, or a sequence of Value
        Advance, all register stages or each of its own.
    join : function of two terms
        The operator, associative.
    shape : function of a number
        The shape that holds so many terms, joined.
    terms : list of Value
    """
    most, count, level = len(terms), 1, 0
    while len(terms) > TREE_ARITY // 2:
        count *= TREE_ARITY
        fewer = []
        for start in range(0, len(terms), TREE_ARITY):
            name = f"joined_{level}_{len(fewer)}"
            total = Signal(shape(min(count, most)), name=name, reset_less=True)
            with m.If(en if isinstance(en, Value) else en[level]):
                m.d.sync += total.eq(joined(join, terms[start : start + TREE_ARITY]))
            fewer.append(total)
        terms, level = fewer, level + 1
    return terms
