"""Options as pydantic models, and their errors as :class:`BadInput`."""

import difflib
import json
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from model.ir.errors import BadInput

Form = TypeVar("Form", bound="Options")


class Options(BaseModel):
    """Base of every set of options: frozen, of exact types, with no unknown key."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def plain(self) -> dict[str, Any]:
        """The options as JSON data; values that equal their defaults are left out.

        So what is hashed of them does not change when an option is added.
        """
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({json.dumps(self.plain())})"


def checked(form: type[Form], values: Mapping[str, Any], where: str) -> Form:
    """``values`` (as read from TOML or JSON) as options of the class ``form``.

    Raises BadInput for an unknown key or a wrong value; ``where`` leads the key's name in it.
    """
    try:
        text = json.dumps(dict(values))  # JSON keeps exact types and lets an array be a tuple
    except TypeError as error:
        raise BadInput(
            where or "recipe", str(error), "numbers, strings, arrays and tables", "correct it"
        ) from error
    try:
        return form.model_validate_json(text)
    except ValidationError as error:
        raise _bad_option(error, form, where) from error


def _bad_option(error: ValidationError, form: type[BaseModel], where: str) -> BadInput:
    """One of the things that pydantic found, as a BadInput with the key's full name.

    An unknown key comes first: it often is why another key is missing.
    """
    found = error.errors()
    first = next((item for item in found if item["type"] == "extra_forbidden"), found[0])
    path = [str(part) for part in first["loc"]]
    thing = ".".join([where, *path]) if where else ".".join(path)
    if first["type"] == "extra_forbidden":
        names = _names(form, path[:-1])
        close = difflib.get_close_matches(path[-1], names, n=1, cutoff=0.5)
        remedy = f"write {close[0]!r}" if close else "remove the key"
        return BadInput(
            thing, f"the unknown key {path[-1]!r}", f"one of {', '.join(names)}", remedy
        )
    if first["type"] == "missing":
        return BadInput(thing, "nothing", "a value", f"add the key {path[-1]!r}")
    message = first["msg"]
    expected = message.removeprefix("Input should be ").removeprefix("Value error, ")
    return BadInput(thing, repr(first["input"]), expected, f"correct {path[-1] if path else where}")


def _names(form: Any, path: list[str]) -> list[str]:
    """Keys of the options that ``path`` leads to from ``form``."""
    for part in path:
        fields = _fields(form)
        if part not in fields:
            continue  # the key of a mapping or the place in a list
        form = fields[part].annotation
        inner = [arg for arg in typing.get_args(form) if hasattr(arg, "model_fields")]
        form = inner[0] if inner else form
    return sorted(_fields(form))


def _fields(form: Any) -> dict[str, Any]:
    """Fields of an options class by the key that a file uses."""
    fields = getattr(form, "model_fields", {})
    return {info.alias or name: info for name, info in fields.items()}
