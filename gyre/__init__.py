"""The front door: from a recipe through the flow to the report.

Gyre's import names are its folder names (``model``, ``hdl``, ``sim``, ``tb``), and a user's own
``model.py`` beside their script would hide ours. That is checked here, before anything is imported.
"""

import importlib.util
import sys
from pathlib import Path

SIBLINGS = ("model", "hdl", "sim", "tb")


def _places(name: str) -> list[Path]:
    """Where Python finds, or has found, the top-level module: its file, or else its folders."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a loaded module without a specification
        file = getattr(sys.modules[name], "__file__", None)
        return [Path(file)] if file else [Path("<memory>")]
    if spec is None:
        return []  # nothing hides it: the import itself will say that it is missing
    if spec.has_location and spec.origin:
        return [Path(spec.origin)]
    return [Path(place) for place in spec.submodule_search_locations or ()]


def _check_siblings() -> None:
    """Raise ImportError if another module hides one of this distribution's packages."""
    root = Path(__file__).resolve().parent.parent
    for name in SIBLINGS:
        for place in _places(name):
            if not place.resolve().is_relative_to(root / name):
                raise ImportError(
                    f"{place} hides gyre's own package {name!r}: "
                    "rename it, or start Python as `python -P`.",
                    name=name,
                    path=str(place),
                )


_check_siblings()
