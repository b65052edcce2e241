"""What a complex product costs in real multipliers: three or four of them.

Four: ``(a + jb)(c + js) = (ac - bs) + j(as + bc)``. Three, after Gauss::

    t = c (a + b),   re = t - b (c + s),   im = t + a (s - c)

All three products are exact integers, so both forms give the same integers and only the cost
differs. Where ``c = s`` (an eighth of a turn), two do: ``c (a - b)`` and ``c (a + b)``.
"""

from typing import Any

from model.ir.spec import check_int

FORMS = (3, 4)

Multipliers = tuple[tuple[int, int, int], ...]
"""(count, bits, bits) of real multipliers, as in a StageCost."""


def complex_product(a: Any, b: Any, c: Any, s: Any) -> tuple[Any, Any]:
    """Real and imaginary part of ``(a + jb)(c + js)``, of whatever can add and multiply."""
    return a * c - b * s, b * c + a * s


def check_form(form: int) -> None:
    """Raise ValueError unless a complex product can take that many real multipliers."""
    check_int("multipliers of a complex product", form, *FORMS)


def multipliers_of(count: int, form: int, a_bits: int, c_bits: int) -> Multipliers:
    """Multipliers of ``count`` products of ``a + jb`` and ``c + js``, signed, of these widths."""
    check_form(form)
    if count == 0:
        return ()
    if form == 4:
        return ((4 * count, a_bits, c_bits),)
    return ((count, a_bits + 1, c_bits), (2 * count, a_bits, c_bits + 1))


def eighth_multipliers(count: int, a_bits: int, c_bits: int) -> Multipliers:
    """Multipliers of ``count`` products with ``c = s`` or ``c = -s``."""
    return ((2 * count, a_bits + 1, c_bits),) if count else ()
