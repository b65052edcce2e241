"""The specification: frozen dataclasses and integer tensors, for golden, hardware and report.

Every module of this package is imported here, so that each kind is known when a file is read.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
