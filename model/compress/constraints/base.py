"""The constraint protocol, what all constraints share, and the table of constraints by name."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from model.ir.errors import BadInput

_CONSTRAINTS: dict[str, type["Constraint"]] = {}
Class = TypeVar("Class", bound=type)


@runtime_checkable
class Constraint(Protocol):
    """A set of feasible weights, given by the way to it."""

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        """The feasible weight nearest in the Euclidean norm, of the same shape and type.

        ``weight`` is [out, in] of a linear layer or [out, in, kernel rows, kernel columns] of a
        convolution.
        """
        ...

    def freeze(self, weight: torch.Tensor) -> "Constraint":
        """The linear space of feasible weights about ``project(weight)``: retraining stays in it.

        Its projection is linear, so that gradients pass through it.
        """
        ...


class Composable:
    """Base that gives a constraint ``a & b``: both hold."""

    def __and__(self, other: Constraint) -> "Constraint":
        from model.compress.constraints.compose import Compose

        return Compose(self, other)


def as_matrix(weight: torch.Tensor) -> torch.Tensor:
    """View a weight as [rows, columns]; columns are (kernel row, kernel column, channel).

    Raises BadInput for weights that are neither [out, in] nor [out, in, rows, columns], or that are
    not finite.
    """
    if weight.ndim not in (2, 4):
        raise BadInput(
            "weight of a constrained layer",
            f"shape {tuple(weight.shape)}",
            "[out, in] or [out, in, kernel rows, kernel columns]",
            "constrain linear and convolution layers only",
        )
    check_finite(weight)
    return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).flatten(1)


def check_finite(weight: torch.Tensor) -> None:
    """Raise BadInput if a weight of any shape holds NaN or infinity."""
    if not torch.isfinite(weight).all():
        raise BadInput(
            "weight of a constrained layer", "NaN or infinity", "finite weights", "train again"
        )


def from_matrix(matrix: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The inverse of :func:`as_matrix` for a weight of the shape of ``like``."""
    if like.ndim == 2:
        return matrix
    out, channels, rows, columns = like.shape
    return matrix.reshape(out, rows, columns, channels).permute(0, 3, 1, 2).contiguous()


def check_keep(keep: int | float, name: str = "keep") -> None:
    """Raise BadInput unless ``keep`` is a count of at least 1 or a fraction above 0, up to 1."""
    whole = type(keep) is int and keep >= 1
    share = type(keep) is float and 0 < keep <= 1
    if not whole and not share:
        raise BadInput(
            name, repr(keep), "a count of at least 1, or a fraction from 0.0 to 1.0", "correct it"
        )


def check_size(name: str, value: Any, least: int = 1) -> None:
    """Raise BadInput unless a value is an integer of at least ``least``."""
    if type(value) is not int or value < least:
        raise BadInput(name, repr(value), f"an integer of at least {least}", "correct it")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise BadInput unless a value is one of the choices."""
    if value not in choices:
        raise BadInput(name, repr(value), " or ".join(map(repr, choices)), "correct it")


def kept(keep: int | float, size: int) -> int:
    """How many of ``size`` stay: a count as it is, a fraction rounded half up.

    Raises BadInput if that is none at all, or more than there are.
    """
    count = keep if isinstance(keep, int) else int(keep * size + 0.5)
    if count > size:
        raise BadInput("keep", str(count), f"at most {size}, which there are", "keep fewer")
    if count < 1:
        raise BadInput(
            "keep",
            f"{keep} of {size}, which leaves the layer empty",
            f"a share of at least {0.5 / size:.2g}, which leaves one",
            "keep more",
        )
    return count


def largest(energies: torch.Tensor, count: int) -> torch.Tensor:
    """Bool mask [..., n] of the ``count`` largest of the last axis; ties go to the lowest index."""
    order = torch.sort(energies, dim=-1, descending=True, stable=True).indices
    mask = torch.zeros_like(energies, dtype=torch.bool)
    return mask.scatter_(-1, order[..., :count], True)


def constraint(name: str) -> Callable[[Class], Class]:
    """Give a constraint class its name in recipes."""

    def register(cls: Class) -> Class:
        if name in _CONSTRAINTS:
            raise TypeError(f"The name of a constraint must be unique, not {name!r} again")
        _CONSTRAINTS[name] = cls
        return cls

    return register


def known() -> list[str]:
    """Names of the constraints, sorted."""
    return sorted(_CONSTRAINTS)


def build(parts: Mapping[str, Any], where: str) -> Constraint:
    """The constraint of a recipe's table, name to argument, which all hold together.

    An argument that is a table gives the constraint's parameters by name; any other is its first
    parameter. Raises BadInput, naming ``where``, for an unknown name, wrong arguments, or no part
    at all.
    """
    from model.compress.constraints.compose import Compose

    if not parts:
        raise BadInput(where, "no constraint", f"one of {', '.join(known())}", "add one")
    built = []
    for name, argument in parts.items():
        if name not in _CONSTRAINTS:
            raise BadInput(
                f"{where}.{name}",
                "an unknown constraint",
                f"one of {', '.join(known())}",
                "correct the name",
            )
        built.append(_build(_CONSTRAINTS[name], argument, f"{where}.{name}"))
    if len(built) == 1:
        return built[0]
    try:
        return Compose(*built)
    except BadInput as error:
        raise BadInput(where, error.found, error.expected, error.remedy) from error


def _build(cls: type[Constraint], argument: Any, where: str) -> Constraint:
    signature = inspect.signature(cls)
    table = isinstance(argument, Mapping)
    try:
        bound = signature.bind(**argument) if table else signature.bind(argument)
    except TypeError as error:
        parameters = [
            name if parameter.default is parameter.empty else f"{name} (default)"
            for name, parameter in signature.parameters.items()
        ]
        raise BadInput(
            where,
            f"{argument!r} ({error})",
            f"a table of {', '.join(parameters)}",
            "correct the parameters",
        ) from error
    try:
        return cls(*bound.args, **bound.kwargs)
    except BadInput as error:
        thing = f"{where}.{error.thing}" if table else where
        raise BadInput(thing, error.found, error.expected, error.remedy) from error
