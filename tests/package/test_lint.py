"""`verilator --lint-only -Wall` is clean for what every recipe gives, with the stated waivers."""

import os
import subprocess
from pathlib import Path

import pytest

from gyre import zoo
from gyre.flow import ROOT, ZOO, Flow
from gyre.recipe import Recipe, load
from hdl.accelerator import Accelerator
from hdl.package import make_package
from hdl.verilog import generate_accelerator
from model.ir.planner import plan
from sim.build import WAIVERS
from sim.toolchain import toolchain

LINT = WAIVERS.with_name("lint.vlt")
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.toml"))
KEPT = sorted(path.name for path in ZOO.iterdir() if (path / zoo.ORIGIN).exists())
QUICK = ["mnist_mlp"]


def messages(accelerator: Accelerator, folder: Path, waived: bool = True) -> str:
    """What lint says of accelerator, shell and example, as Verilog of 2005."""
    package = make_package(accelerator, generate_accelerator(accelerator))
    names = [name for name in package.texts if name.endswith(".v")]
    for name in names:
        (folder / name).write_text(package.texts[name])
    tools, said = toolchain(), ""
    for top in ("accelerator", "accelerator_axi", "example"):
        command = [*tools.verilator, "--lint-only", "-Wall", "--default-language", "1364-2005"]
        command += [str(WAIVERS), str(LINT)] if waived else ["-Wno-fatal"]
        used = [name for name in names if top != "accelerator" or name == "accelerator.v"]
        if top == "accelerator_axi":
            used.remove("example.v")
        done = subprocess.run(
            [*command, "--top-module", top, *used],
            cwd=folder,
            env=os.environ | {"VERILATOR_ROOT": str(tools.verilator_root)},
            capture_output=True,
            text=True,
            check=False,
        )
        said += done.stderr
        assert not waived or (done.returncode, done.stderr) == (0, ""), done.stderr[:3000]
    return said


def check(name: str, folder: Path) -> None:
    """Lint what a kept network gives on the budget of its recipe."""
    network, origin = zoo.read_entry(ZOO / name)
    recipe = zoo.recipe_of(origin)
    if recipe.mapping.engine == "none":
        pytest.skip("a recipe without hardware")
    budget = recipe.mapping.budget(recipe.format.pim)
    messages(Accelerator(network, plan(network, budget, recipe.mapping.sequences)), folder)


@pytest.mark.rtl
@pytest.mark.parametrize("name", QUICK)
def test_lint_is_clean(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [name for name in KEPT if name not in QUICK])
def test_lint_of_every_kept_network_is_clean(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.train
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [name for name in RECIPES if name not in KEPT])
def test_lint_of_every_other_recipe_is_clean(name: str, tmp_path: Path) -> None:
    """These are trained first."""
    recipe: Recipe = load(ROOT / "recipes" / f"{name}.toml", [], None)
    if recipe.mapping.engine == "none":
        pytest.skip("a recipe without hardware")
    messages(Flow(recipe).accelerator, tmp_path)


def test_every_waiver_has_its_reason() -> None:
    for path in (WAIVERS, LINT):
        lines = path.read_text().splitlines()
        rules = [n for n, line in enumerate(lines) if line.startswith("lint_off")]
        assert rules
        assert all(lines[n - 1].startswith("// ") for n in rules)
