"""Exact comparison of codes, with the first difference located."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Difference:
    """Where two tensors of codes first differ, and in how many codes they do.

    ``frame`` and ``element`` (row-major index in the frame) locate the first difference.
    """

    layer: str
    frame: int
    element: int
    expected: int
    found: int
    mismatches: int

    def __str__(self) -> str:
        return (
            f"first difference in frame {self.frame}, layer {self.layer}, element {self.element}: "
            f"expected {self.expected}, found {self.found} ({self.mismatches} codes differ)"
        )


def first_difference(layer: str, expected: torch.Tensor, found: torch.Tensor) -> Difference | None:
    """The first difference of two int64 tensors [frames, ...]; None if they are equal."""
    if expected.shape != found.shape:
        raise ValueError(f"shapes must agree, not {tuple(expected.shape)} and {tuple(found.shape)}")
    wrong = (expected != found).flatten(1).nonzero()
    if not len(wrong):
        return None
    frame, element = wrong[0].tolist()
    return Difference(
        layer,
        frame,
        element,
        int(expected.flatten(1)[frame, element]),
        int(found.flatten(1)[frame, element]),
        len(wrong),
    )
