"""Imports go one way, as the design's section on the house says."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A layer to the layers of this project that it may import, beside itself.
ALLOWED = {
    "model.ir": set(),
    "model.golden": {"model.ir"},
    "model": {"model.ir", "model.golden"},  # nets, data, compress, export
    "hdl": {"model.ir"},
    "sim": {"hdl", "model.ir", "model.golden"},
    "tb": {"hdl", "sim", "model.ir", "model.golden"},
    "gyre": {"model", "model.ir", "model.golden", "hdl", "sim", "tb"},
}
# A layer to the outside packages that it must do without.
FORBIDDEN = {
    "model.ir": {"torch", "amaranth", "cocotb"},
    "model.golden": {"amaranth", "cocotb"},
    "model": {"amaranth", "cocotb"},
    "hdl": {"torch", "cocotb"},
}
FOLDERS = ("model", "hdl", "sim", "tb", "gyre")


def layer_of(module: str) -> str | None:
    """The layer that a module belongs to, or None if it is not ours."""
    parts = module.split(".")
    if parts[0] not in FOLDERS:
        return None
    layer = ".".join(parts[:2])
    return layer if layer in ALLOWED else parts[0]


def imported_modules(source: str, module: str) -> set[str]:
    """Every module that the source of ``module`` imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                base = ".".join([*above, base] if base else above)
            # `from model import golden` imports model.golden
            found.update(f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else None
            called = node.func.id if isinstance(node.func, ast.Name) else called
            if called in ("import_module", "__import__") and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.add(first.value)
    return found


def violations(source: str, module: str) -> list[str]:
    """What the imports of one module break, one line each."""
    own = layer_of(module)
    assert own is not None
    broken = []
    for name in sorted(imported_modules(source, module)):
        layer = layer_of(name)
        if layer is not None and layer != own and layer not in ALLOWED[own]:
            # a package's own __init__ (`import model`) belongs to every layer below it
            if name == own.split(".")[0]:
                continue
            broken.append(f"{module} ({own}) must not import {name}")
        if name.split(".")[0] in FORBIDDEN.get(own, ()):
            broken.append(f"{module} ({own}) must do without {name.split('.')[0]}")
    return broken


def modules() -> list[tuple[Path, str]]:
    """Every Python file of the project's packages, with its module name."""
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            # a package's __init__ keeps the name, so that relative imports resolve alike
            found.append((path, ".".join(parts)))
    return found


def test_every_module_imports_only_downwards() -> None:
    assert len(modules()) > 10
    broken = [line for path, name in modules() for line in violations(path.read_text(), name)]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("model.ir.linear", "import torch"),
        ("model.ir.linear", "from torch.nn import functional"),
        ("model.ir.linear", "def f():\n    import amaranth.hdl"),
        ("model.ir.linear", "from model.golden.linear import accumulate"),
        ("model.ir.linear", "from model import golden"),
        ("model.ir.linear", "from ..golden import linear"),
        ("model.ir.linear", "from .. import export"),
        ("model.ir.linear", "import importlib\nimportlib.import_module('model.golden')"),
        ("model.golden.linear", "from model.export import export"),
        ("model.golden.linear", "from model.nets import mlp"),
        ("model.compress.admm", "from hdl.pe import array"),
        ("model.compress.admm", "import sim"),
        ("hdl.pe.array", "import torch"),
        ("hdl.pe.array", "from model.golden import run"),
        ("hdl.pe.array", "from model import golden"),
        ("hdl.pe.array", "if True:\n    from sim import build"),
        ("sim.run", "from model.compress import admm"),
        ("sim.run", "import gyre.report"),
        ("tb.tb_array", "from gyre import recipe"),
        ("model.export", "__import__('gyre')"),
    ],
)
def test_finds_a_planted_violation(module: str, source: str) -> None:
    assert violations(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("model.ir.linear", "import numpy\nfrom model.ir.spec import Spec\nfrom .spec import Spec"),
        ("model.golden.linear", "import torch\nfrom model.ir.linear import LinearSpec"),
        ("model.export", "from model import golden\nfrom model.ir.network import Network"),
        ("hdl.pe.array", "from amaranth.lib import stream\nfrom model.ir.linear import LinearSpec"),
        ("sim.run", "from hdl.accelerator import Accelerator\nfrom model import golden"),
        ("gyre.cli", "import sim\nfrom model.compress import admm\nfrom gyre.recipe import Recipe"),
    ],
)
def test_accepts_the_design_s_own_imports(module: str, source: str) -> None:
    assert violations(source, module) == []
