"""What generated Verilog is made of, read from its text: modules, and what they place."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_WORD = r"\\\S+ |[A-Za-z_][\w$]*"
_MODULE = re.compile(rf"^module ({_WORD}|\S+?)\s*[(#]", re.M)
_PLACED = re.compile(rf"^  ({_WORD}) *(?:#\((.*?)\n  \) *)?({_WORD}) *\(\n    \.", re.M | re.S)
_PARAMETER = re.compile(r"\.(\w+)\((?:32'd(\d+)|\"([^\"]*)\")\)")

ROM = "gyre_rom"
"""How the name of the module ends that every memory with contents is an instance of."""


@dataclass(frozen=True)
class Placed:
    """An instance: its module, its name as written (a space ends an escaped one), parameters."""

    module: str
    name: str
    parameters: dict[str, str]


def modules(verilog: str) -> dict[str, str]:
    """The text of each module behind the beginning of its declaration, by name."""
    places = [*_MODULE.finditer(verilog)]
    ends = [*(match.start() for match in places[1:]), len(verilog)]
    return {
        match[1].strip(): verilog[match.end() : end]
        for match, end in zip(places, ends, strict=True)
    }


def placed(body: str) -> Iterator[Placed]:
    """The instances in a module."""
    for match in _PLACED.finditer(body):
        found = {key: number or text for key, number, text in _PARAMETER.findall(match[2] or "")}
        yield Placed(match[1].strip(), match[3], found)
