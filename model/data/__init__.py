"""Data sets: one reader a file, known by name.

Every module of this package is imported here, so a new data set is one new file whose reader
function is decorated with :func:`reader`.
"""

import importlib
import pkgutil

from model.data.dataset import Dataset, NoOptions, Split, known, load, options, reader

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Dataset", "NoOptions", "Split", "known", "load", "options", "reader"]
