"""Export: from a plain torch network to the integer network.

``export`` walks the module's graph and calls one handler per layer kind, calibrates what has no
quantizer of its own, and then removes pruned rows and columns. Every module of this package is
imported here: a new layer kind is one new file whose handler is decorated with
:func:`model.export.walk.handles`.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

from model.export.fft import with_fft  # noqa: E402
from model.export.pim import PIMOptions, to_pim, with_pim  # noqa: E402
from model.export.realised import realised  # noqa: E402
from model.export.removal import remove_pruned  # noqa: E402
from model.export.walk import check_supported, export  # noqa: E402

__all__ = [
    "PIMOptions",
    "check_supported",
    "export",
    "realised",
    "remove_pruned",
    "to_pim",
    "with_fft",
    "with_pim",
]
