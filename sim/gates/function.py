"""Boolean functions as Liberty writes them, as Verilog."""

import re
from collections.abc import Callable

from model.ir.errors import BadInput

_TOKEN = re.compile(r"\s*([A-Za-z_]\w*|[01]|[!'&*|+^()])")


def to_verilog(function: str, name: Callable[[str], str]) -> str:
    """The Verilog of a function; ``name`` gives what stands for a pin.

    An apostrophe or ``!`` inverts, ``^`` binds before ``&``, ``*`` or nothing (and), these before
    ``|`` or ``+``. Raises BadInput for anything else.
    """
    tokens, at = [], 0
    text = function.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _broken(function)
        tokens.append(match[1])
        at = match.end()
    result, rest = _or(tokens, name, function)
    if rest:
        raise _broken(function)
    return result


def _broken(function: str) -> BadInput:
    return BadInput("function of a cell", repr(function), "a Boolean function", "give another file")


def _or(tokens, name, function):
    left, tokens = _and(tokens, name, function)
    while tokens and tokens[0] in "|+":
        right, tokens = _and(tokens[1:], name, function)
        left = f"({left} | {right})"
    return left, tokens


def _and(tokens, name, function):
    left, tokens = _xor(tokens, name, function)
    while tokens and tokens[0] not in ("|", "+", ")"):
        right, tokens = _xor(tokens[tokens[0] in "&*" :], name, function)
        left = f"({left} & {right})"
    return left, tokens


def _xor(tokens, name, function):
    left, tokens = _not(tokens, name, function)
    while tokens and tokens[0] == "^":
        right, tokens = _not(tokens[1:], name, function)
        left = f"({left} ^ {right})"
    return left, tokens


def _not(tokens, name, function):
    if not tokens:
        raise _broken(function)
    first, rest = tokens[0], tokens[1:]
    if first == "!":
        inner, rest = _not(rest, name, function)
        return f"(~{inner})", rest
    if first == "(":
        result, rest = _or(rest, name, function)
        if not rest or rest[0] != ")":
            raise _broken(function)
        rest = rest[1:]
    elif first in ("0", "1"):
        result = f"1'b{first}"
    elif re.match(r"\w", first):
        result = name(first)
    else:
        raise _broken(function)
    while rest and rest[0] == "'":
        result, rest = f"(~{result})", rest[1:]
    return result, rest
