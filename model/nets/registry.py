"""The table of networks by name."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from torch import nn

from model.ir.errors import BadInput
from model.options import bad_option

_NETWORKS: dict[str, tuple[type[nn.Module], type[BaseModel]]] = {}


def network(name: str, options: type[BaseModel]) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Make a class the network ``name``: built as ``cls(shape, classes, options)``."""

    def register(cls: type[nn.Module]) -> type[nn.Module]:
        if name in _NETWORKS:
            raise TypeError(f"The name of a network must be unique, not {name!r} again")
        _NETWORKS[name] = (cls, options)
        return cls

    return register


def known() -> list[str]:
    """Names of the networks, sorted."""
    return sorted(_NETWORKS)


def build(
    name: str, shape: tuple[int, ...], classes: int, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """A network by name, freshly initialised.

    Parameters
    ----------
    name : str
        One of :func:`known`.
    shape : tuple of int
        Shape of a sample, channels last.
    classes : int
        Number of scores it gives.
    options : mapping, optional
        The network's own options.

    Raises BadInput if the name or an option is unknown, or if an option has a wrong value.
    """
    if name not in _NETWORKS:
        raise BadInput(
            "network", repr(name), f"one of {', '.join(known())}", "choose a known network"
        )
    cls, form = _NETWORKS[name]
    try:
        checked = form.model_validate(dict(options or {}))
    except ValidationError as error:
        raise bad_option(error, form, f"options of network {name}") from error
    return cls(shape, classes, checked)
