"""Frozen specifications and their JSON form.

A specification is a frozen dataclass that derives from :class:`Spec` and names its ``kind``. It can
hold ``int``, ``float``, ``bool``, ``str``, tuples of these, and other specifications, so that its
JSON form is data only. A new kind is one new file in ``model/ir``: deriving registers it.
"""

import dataclasses
import re
import types
import typing
from typing import Any, ClassVar, Self

from model.ir.errors import BadInput

_KINDS: dict[str, type["Spec"]] = {}

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Spec:
    """Base of every specification. Subclasses are frozen dataclasses with a unique ``kind``."""

    kind: ClassVar[str]

    def __init_subclass__(cls, kind: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if kind is not None:
            if kind in _KINDS:
                raise TypeError(f"The kind of a specification must be unique, not {kind!r} again")
            cls.kind = kind
            _KINDS[kind] = cls

    def to_json(self) -> dict[str, Any]:
        """The specification as a JSON object with its kind under the key ``kind``."""
        out: dict[str, Any] = {"kind": self.kind}
        for field in dataclasses.fields(self):
            out[field.name] = _plain(getattr(self, field.name))
        return out

    @classmethod
    def from_json(cls, data: Any, where: str) -> Self:
        """Read a specification of this class; ``where`` names the place for error messages."""
        if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
            raise BadInput(
                where, _short(data), "a JSON object with a 'kind'", "export the network again"
            )
        found = _KINDS.get(data["kind"])
        if found is None or not issubclass(found, cls):
            known = sorted(k for k, v in _KINDS.items() if issubclass(v, cls))
            raise BadInput(
                f"{where}.kind",
                repr(data["kind"]),
                f"one of {', '.join(known)}",
                "use a version of Gyre that knows this kind",
            )
        hints = typing.get_type_hints(found)
        names = [field.name for field in dataclasses.fields(found)]
        surplus = sorted(set(data) - set(names) - {"kind"})
        missing = sorted(set(names) - set(data))
        if surplus or missing:
            raise BadInput(
                where,
                f"unknown keys {surplus} and missing keys {missing}",
                f"exactly the keys {names}",
                "export the network again with this version of Gyre",
            )
        values = {name: _typed(data[name], hints[name], f"{where}.{name}") for name in names}
        try:
            return found(**values)
        except BadInput:
            raise
        except (TypeError, ValueError) as error:
            raise BadInput(
                where, _short(data), f"a valid {found.kind} ({error})", "export the network again"
            ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.to_json()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _typed(value: Any, hint: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        hint = next(option for option in options if option is not type(None))
        return _typed(value, hint, where)
    if origin is tuple:
        if isinstance(value, list):
            item = typing.get_args(hint)[0]
            return tuple(_typed(v, item, f"{where}[{n}]") for n, v in enumerate(value))
    elif isinstance(hint, type) and issubclass(hint, Spec):
        return hint.from_json(value, where)
    elif hint is float and type(value) in (int, float):
        try:
            return float(value)
        except OverflowError:
            raise BadInput(
                where, _short(value), "a number that a float holds", "export the network again"
            ) from None
    elif type(value) is hint:
        return value
    raise BadInput(where, _short(value), f"a value of type {hint}", "export the network again")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def check_int(name: str, value: Any, low: int, high: int | None = None) -> None:
    """Raise unless ``value`` is an integer from ``low`` to ``high`` (no upper end if None)."""
    if type(value) is not int:
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < low or (high is not None and value > high):
        span = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be {span}, not {value}")


def check_name(thing: str, name: Any) -> None:
    """Raise unless ``name`` can name a node, a file and a Verilog module alike."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise BadInput(
            thing,
            repr(name),
            "a name of lower-case letters, digits and underscores that begins with a letter",
            "rename it",
        )
