"""The hardware, in Amaranth: every component takes the specification objects of ``model.ir``.

Every module of this package is imported here, so that each engine and each stage is known.
"""

import importlib
import pkgutil

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
