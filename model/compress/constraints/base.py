"""The constraint protocol, composition, and the table of constraints by name."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from model.ir.errors import BadInput

_CONSTRAINTS: dict[str, Callable[[Any], "Constraint"]] = {}


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
    """Base that gives a constraint ``a & b``: a first, then b."""

    def __and__(self, other: Constraint) -> "Compose":
        return Compose(self, other)


class Compose(Composable):
    """Constraints that hold together, projected onto one after the other.

    The result is feasible for all of them if each keeps the zeros and the structure of those before
    it, as sparsities followed by levels do. It is the nearest feasible point if the sets are
    independent of each other, and a good one otherwise: rows and columns are chosen one after
    the other, which is not always the best pair.
    """

    def __init__(self, *parts: Constraint) -> None:
        self.parts = parts

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        for part in self.parts:
            weight = part.project(weight)
        return weight

    def freeze(self, weight: torch.Tensor) -> "Compose":
        frozen = []
        for part in self.parts:
            frozen.append(part.freeze(weight))
            weight = part.project(weight)
        return Compose(*frozen)

    def __repr__(self) -> str:
        return " & ".join(map(repr, self.parts))


class FixedMask(Composable):
    """Weights that are zero outside a given mask (bool, of the weight's shape)."""

    def __init__(self, mask: torch.Tensor) -> None:
        self.mask = mask

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.mask.to(weight.device)

    def freeze(self, weight: torch.Tensor) -> "FixedMask":
        return self


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
    if not torch.isfinite(weight).all():
        raise BadInput(
            "weight of a constrained layer", "NaN or infinity", "finite weights", "train again"
        )
    return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).flatten(1)


def from_matrix(matrix: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The inverse of :func:`as_matrix` for a weight of the shape of ``like``."""
    if like.ndim == 2:
        return matrix
    out, channels, rows, columns = like.shape
    return matrix.reshape(out, rows, columns, channels).permute(0, 3, 1, 2).contiguous()


def check_keep(keep: int | float) -> None:
    """Raise BadInput unless ``keep`` is a count of at least 1 or a fraction above 0, up to 1."""
    whole = type(keep) is int and keep >= 1
    share = type(keep) is float and 0 < keep <= 1
    if not whole and not share:
        raise BadInput(
            "keep", repr(keep), "a count of at least 1, or a fraction from 0.0 to 1.0", "correct it"
        )


def kept(keep: int | float, size: int) -> int:
    """How many of ``size`` stay: a count as it is, a fraction rounded half up, at least one.

    Raises BadInput if the count exceeds the size.
    """
    count = keep if isinstance(keep, int) else max(1, int(keep * size + 0.5))
    if count > size:
        raise BadInput("keep", str(count), f"at most {size}, which there are", "keep fewer")
    return count


def largest(energies: torch.Tensor, count: int) -> torch.Tensor:
    """Bool mask [n] of the ``count`` largest of [n]; ties go to the lowest index."""
    order = torch.sort(energies, descending=True, stable=True).indices
    mask = torch.zeros_like(energies, dtype=torch.bool)
    mask[order[:count]] = True
    return mask


def constraint(name: str) -> Callable[[Callable[[Any], Constraint]], Callable[[Any], Constraint]]:
    """Give a constraint class of one argument its name in recipes."""

    def register(cls: Callable[[Any], Constraint]) -> Callable[[Any], Constraint]:
        if name in _CONSTRAINTS:
            raise TypeError(f"The name of a constraint must be unique, not {name!r} again")
        _CONSTRAINTS[name] = cls
        return cls

    return register


def known() -> list[str]:
    """Names of the constraints, sorted."""
    return sorted(_CONSTRAINTS)


def build(parts: Mapping[str, Any], where: str) -> Constraint:
    """The constraint of a recipe's table, name to argument, in the table's order.

    Raises BadInput, naming ``where``, for an unknown name, a wrong argument, or no part at all.
    """
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
        try:
            built.append(_CONSTRAINTS[name](argument))
        except BadInput as error:
            raise BadInput(f"{where}.{name}", error.found, error.expected, error.remedy) from error
    return built[0] if len(built) == 1 else Compose(*built)
