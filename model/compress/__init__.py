"""Compression: constraints, solvers, fake quantization and the training loop.

Every module of this package is imported here, so a new solver is one new file whose function is
decorated with :func:`model.compress.solver.solver`.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

from model.compress.admm import ADMMOptions, admm  # noqa: E402
from model.compress.constrained import ConstrainedOptions, constrained  # noqa: E402
from model.compress.mismatch import MismatchOptions  # noqa: E402
from model.compress.one_step import OneStepOptions, one_step  # noqa: E402
from model.compress.quantizers import FFTOptions, FormatOptions  # noqa: E402
from model.compress.realise import QuantizedTraining  # noqa: E402
from model.compress.training import TrainOptions, accuracy, accuracy_under, fit  # noqa: E402

__all__ = [
    "ADMMOptions",
    "ConstrainedOptions",
    "FFTOptions",
    "FormatOptions",
    "MismatchOptions",
    "OneStepOptions",
    "QuantizedTraining",
    "TrainOptions",
    "accuracy",
    "accuracy_under",
    "admm",
    "constrained",
    "fit",
    "one_step",
]
