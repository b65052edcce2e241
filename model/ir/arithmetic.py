"""The arithmetic of a matrix-vector node: what its accumulators are, exactly.

The arithmetic belongs to the network, because it changes codes; which engine computes it belongs to
the mapping. ``exact`` is the plain integer product. Arithmetics that round or saturate are further
kinds, one file each.
"""

from dataclasses import dataclass

from model.ir.spec import Spec


class Arithmetic(Spec):
    """Base of the arithmetics."""


@dataclass(frozen=True)
class ExactArithmetic(Arithmetic, kind="exact"):
    """``acc[o] = sum over i of w[o, i] * x[i]``, in integers, with no rounding and no overflow."""
