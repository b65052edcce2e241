"""Constraints on weights: one projection a file, composable with ``&``.

A constraint takes a weight of any layer as a matrix: rows are outputs; columns are inputs, for a
convolution in the order (kernel row, kernel column, channel). Every module of this package is
imported here, so a new constraint is one new file; :func:`constraint` gives it a name in recipes.
"""

import importlib
import pkgutil

from model.compress.constraints.base import Compose, Constraint, build, constraint, known

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

from model.compress.constraints.column_sparsity import ColumnSparsity  # noqa: E402
from model.compress.constraints.filter_sparsity import FilterSparsity  # noqa: E402
from model.compress.constraints.levels import Levels  # noqa: E402

__all__ = [
    "ColumnSparsity",
    "Compose",
    "Constraint",
    "FilterSparsity",
    "Levels",
    "build",
    "constraint",
    "known",
]
