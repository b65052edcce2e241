"""The table of networks by name."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from model.ir.errors import BadInput
from model.options import Options, checked

_NETWORKS: dict[str, tuple[type[nn.Module], type[Options]]] = {}


def network(name: str, options: type[Options]) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Make a class the network ``name``: built as ``cls(shape, classes, options)``.

    The class refuses, with BadInput, a ``shape`` of samples (channels last) that it cannot take.
    """

    def register(cls: type[nn.Module]) -> type[nn.Module]:
        if name in _NETWORKS:
            raise TypeError(f"The name of a network must be unique, not {name!r} again")
        _NETWORKS[name] = (cls, options)
        return cls

    return register


def known() -> list[str]:
    """Names of the networks, sorted."""
    return sorted(_NETWORKS)


def options(name: str, values: Mapping[str, Any], where: str) -> Options:
    """The options of the network ``name``, checked; ``where`` leads the names of keys in messages.

    Raises BadInput if the name or an option is unknown, or if an option has a wrong value.
    """
    if name not in _NETWORKS:
        raise BadInput(
            "network", repr(name), f"one of {', '.join(known())}", "choose a known network"
        )
    return checked(_NETWORKS[name][1], values, where)


def build(
    name: str, shape: tuple[int, ...], classes: int, values: Mapping[str, Any] | None = None
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
    values : mapping, optional
        The network's own options.

    Raises BadInput as :func:`options` does, and for samples whose shape does not fit the network.
    """
    form = options(name, values or {}, f"options of network {name}")
    return _NETWORKS[name][0](shape, classes, form)
