"""Constraints on weights: one projection a file, composable with ``&``.

A constraint takes a weight of any layer as a matrix: rows are outputs; columns are inputs, for a
convolution in the order (kernel row, kernel column, channel). Every module of this package is
imported here, so a new constraint is one new file; :func:`constraint` gives it a name in recipes.
"""

import importlib
import pkgutil

from model.compress.constraints.base import Constraint, build, constraint, known

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

from model.compress.constraints.binary import Binary  # noqa: E402
from model.compress.constraints.block_circulant import BlockCirculant  # noqa: E402
from model.compress.constraints.circulant import defining_vectors, expand_vectors  # noqa: E402
from model.compress.constraints.coarse_blocks import CoarseBlocks  # noqa: E402
from model.compress.constraints.column_sparsity import ColumnSparsity  # noqa: E402
from model.compress.constraints.compose import (  # noqa: E402
    Compose,
    circulant_of,
    grid_of,
    levels_of,
    mask_of,
    padding_of,
    structure_of,
)
from model.compress.constraints.conductance import Conductance  # noqa: E402
from model.compress.constraints.crossbar_blocks import CrossbarBlocks  # noqa: E402
from model.compress.constraints.crossbar_columns import CrossbarColumns  # noqa: E402
from model.compress.constraints.filter_sparsity import FilterSparsity  # noqa: E402
from model.compress.constraints.frozen import FixedCirculant, FixedMask, Free  # noqa: E402
from model.compress.constraints.levels import Levels, LevelSet  # noqa: E402
from model.compress.constraints.levels_no_zero import OddLevels  # noqa: E402
from model.compress.constraints.power_of_two import PowerOfTwo  # noqa: E402
from model.compress.constraints.ternary import Ternary  # noqa: E402
from model.compress.constraints.two_level_blocks import TwoLevelBlocks  # noqa: E402

__all__ = [
    "Binary",
    "BlockCirculant",
    "CoarseBlocks",
    "ColumnSparsity",
    "Compose",
    "Conductance",
    "Constraint",
    "CrossbarBlocks",
    "CrossbarColumns",
    "FilterSparsity",
    "FixedCirculant",
    "FixedMask",
    "Free",
    "LevelSet",
    "Levels",
    "OddLevels",
    "PowerOfTwo",
    "Ternary",
    "TwoLevelBlocks",
    "build",
    "circulant_of",
    "constraint",
    "defining_vectors",
    "expand_vectors",
    "grid_of",
    "known",
    "levels_of",
    "mask_of",
    "padding_of",
    "structure_of",
]
