"""The table of solvers by name, and what all of them check."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from model.compress.tracing import MATRIX
from model.ir.errors import BadInput
from model.options import Options

Solver = Callable[..., nn.Module]
_SOLVERS: dict[str, tuple[Solver, type[Options]]] = {}


def solver(name: str, options: type[Options]) -> Callable[[Solver], Solver]:
    """Give a solver its name in recipes.

    A solver is called as ``f(module, data, layers, formats, options, *, seed, folder)``; its
    options are of the given class.
    """

    def register(function: Solver) -> Solver:
        if name in _SOLVERS:
            raise TypeError(f"The name of a solver must be unique, not {name!r} again")
        _SOLVERS[name] = (function, options)
        return function

    return register


def find(name: str) -> tuple[Solver, type[Options]]:
    """A solver and the class of its options; raises BadInput if the name is unknown."""
    if name not in _SOLVERS:
        raise BadInput(
            "solver", repr(name), f"one of {', '.join(sorted(_SOLVERS))}", "choose a known solver"
        )
    return _SOLVERS[name]


def check_layers(module: nn.Module, layers: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of all matrix layers by layer name.

    Raises BadInput if ``layers`` names another layer, or a weight is not finite.
    """
    weights = {n: m.weight for n, m in module.named_modules() if isinstance(m, MATRIX)}
    for name in layers:
        if name not in weights:
            raise BadInput(
                f"constraint on layer {name}",
                "no such layer with weights",
                f"one of {', '.join(weights)}",
                "correct the layer's name",
            )
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise BadInput(
                f"{name}.weight", "NaN or infinity", "finite weights", "train the network again"
            )
        if name in layers:
            try:
                layers[name].project(weight.detach())
            except BadInput as error:
                raise BadInput(
                    f"constraint on layer {name}", error.found, error.expected, error.remedy
                ) from error
    return weights
