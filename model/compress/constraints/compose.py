"""Constraints that hold together."""

import copy

import torch

from model.compress.constraints.base import Composable, Constraint
from model.compress.constraints.circulant import defining_vectors, expand_vectors
from model.compress.constraints.frozen import FixedCirculant, FixedMask, Free, merge
from model.compress.constraints.levels import LevelSet
from model.ir.errors import BadInput


class Compose(Composable):
    """Constraints that hold together: structures one after the other, then the levels.

    Levels come last wherever they stand, for they leave zeros and equal weights as they are. A
    weight that a structure makes zero stays absent on levels without a zero (see ``LevelSet``).
    On circulant blocks the levels act on the defining vectors, so a scale per channel is one per
    row of blocks.

    The result is feasible for all parts. It is the nearest feasible point if the sets are
    independent of each other, and a good one otherwise: rows and columns are chosen one after
    the other, which is not always the best pair.

    Raises BadInput for two sets of levels; when it is applied, for structures that destroy each
    other (circulant blocks and a mask that is not made of whole blocks), and for structures that
    together leave no weight.
    """

    def __init__(self, *parts: Constraint) -> None:
        flat = [p for part in parts for p in (part.parts if isinstance(part, Compose) else [part])]
        levels = [part for part in flat if isinstance(part, LevelSet)]
        if len(levels) > 1:
            raise BadInput(
                "constraints that hold together",
                " and ".join(map(repr, levels)),
                "one set of levels",
                "remove the others",
            )
        self.parts = tuple(flat)

    @property
    def levels(self) -> LevelSet | None:
        """The part that is a set of levels."""
        return next((part for part in self.parts if isinstance(part, LevelSet)), None)

    @property
    def structures(self) -> tuple[Constraint, ...]:
        """The other parts, in order."""
        return tuple(part for part in self.parts if not isinstance(part, LevelSet))

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        frozen, weight = self._structured(weight)
        if self.levels is None:
            return weight
        k = circulant_of(_joined(frozen))
        if k is None:
            return self.levels.project(weight)
        vectors = self.levels.project(defining_vectors(weight, k))
        return expand_vectors(vectors, weight)

    def freeze(self, weight: torch.Tensor) -> Constraint:
        return _joined(self._structured(weight)[0])

    def _structured(self, weight: torch.Tensor) -> tuple[list[Constraint], torch.Tensor]:
        """The frozen structures about a weight, and its projection onto them."""
        frozen: list[Constraint] = []
        for part in self.structures:
            frozen.append(part.freeze(weight))
            weight = frozen[-1].project(weight)
        frozen = merge(frozen)
        if len(frozen) > 1:
            _check_together(frozen)
        return frozen, weight

    def __repr__(self) -> str:
        return " & ".join(map(repr, self.parts))


def levels_of(constraint: Constraint) -> LevelSet | None:
    """The set of levels that is, or is a part of, a constraint."""
    if isinstance(constraint, LevelSet):
        return constraint
    return constraint.levels if isinstance(constraint, Compose) else None


def structure_of(constraint: Constraint) -> Constraint | None:
    """A constraint without its levels; None if nothing is left."""
    if isinstance(constraint, LevelSet):
        return None
    if not isinstance(constraint, Compose):
        return constraint
    parts = constraint.structures
    return parts[0] if len(parts) == 1 else Compose(*parts) if parts else None


def mask_of(frozen: Constraint, weight: torch.Tensor) -> torch.Tensor | None:
    """Where a frozen constraint lets a weight differ from zero, bool of the weight's shape.

    None if it has no mask.
    """
    masks = [part.mask for part in _parts(frozen) if isinstance(part, FixedMask)]
    return torch.stack(masks).all(0).expand_as(weight) if masks else None


def grid_of(frozen: Constraint) -> tuple[int, int] | None:
    """Rows and columns of the blocks of a frozen constraint's mask; None if it has no blocks."""
    return next((p.grid for p in _parts(frozen) if isinstance(p, FixedMask) and p.grid), None)


def circulant_of(frozen: Constraint) -> int | None:
    """The size of a frozen constraint's circulant blocks; None if it has none."""
    return next((part.k for part in _parts(frozen) if isinstance(part, FixedCirculant)), None)


def padding_of(constraint: Constraint, weight: torch.Tensor) -> str | None:
    """What of a weight's sizes a constraint pads, in words; None if its blocks divide it."""
    for part in _parts(constraint):
        if getattr(part, "pad", None) == "pad":
            strict = copy.copy(part)
            strict.pad = "refuse"
            try:
                strict.freeze(weight)
            except BadInput as error:
                return error.found
    return None


def _parts(constraint: Constraint) -> tuple[Constraint, ...]:
    return constraint.parts if isinstance(constraint, Compose) else (constraint,)


def _joined(frozen: list[Constraint]) -> Constraint:
    if not frozen:
        return Free()
    return frozen[0] if len(frozen) == 1 else Compose(*frozen)


def _check_together(frozen: list[Constraint]) -> None:
    """Raise BadInput unless a mask and one size of circulant blocks leave each other whole."""
    sizes = [part.k for part in frozen if isinstance(part, FixedCirculant)]
    if len(sizes) > 1:
        found = f"circulant blocks of {' and '.join(map(str, sizes))}"
        raise BadInput("constraints that hold together", found, "one size", "remove the others")
    for part in frozen:
        if isinstance(part, FixedMask):
            spread = FixedCirculant(sizes[0]).project(part.mask.to(torch.float32))
            if not torch.equal(spread, part.mask.to(torch.float32)):
                raise BadInput(
                    "constraints that hold together",
                    f"circulant blocks of {sizes[0]} and a mask that cuts through blocks",
                    "a mask of whole blocks",
                    f"choose coarse_blocks of {sizes[0]} rows and columns, or one of the two",
                )
