"""The golden model: the arithmetic contract, executable, in torch integers.

``run(network, codes)`` gives the output codes of a batch of frames, ``trace`` every intermediate.
Each layer kind registers its function with :func:`evaluate` in a file of the same stem as its
specification; every module of this package is imported here.
"""

import importlib
import pkgutil

from model.golden.graph import evaluate, predict, quantize, run, trace

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["evaluate", "predict", "quantize", "run", "trace"]
