"""`verilator --lint-only -Wall` is clean for what every recipe gives, with the stated waivers."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gyre import zoo
from gyre.flow import ROOT, ZOO, Flow
from gyre.recipe import Recipe, load
from hdl.accelerator import Accelerator
from hdl.package import make_package
from hdl.verilog import generate_accelerator
from model.ir.block_sparse import BlockSparseStorage
from model.ir.circulant_array import CirculantArraySpec
from model.ir.conv import ConvSpec
from model.ir.lstm_array import LSTMArraySpec
from model.ir.mapping import EngineSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pe_array import PeArraySpec
from model.ir.pim_array import PimArraySpec
from model.ir.planner import Budget, plan
from model.ir.requantize import RequantizeSpec
from sim.build import WAIVERS
from sim.toolchain import toolchain
from tests.examples import codes_of, example_network
from tests.ffts import fft_conv, fft_linear, network_of
from tests.hdl.test_axi_program import accelerator as on_macros
from tests.lstms import lstm_network, lstm_spec
from tests.package.test_macros import made as with_moves
from tests.sim.test_image_stages import network as pooled
from tests.strategies import requantize_tensors

LINT = WAIVERS.with_name("lint.vlt")
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.toml"))
KEPT = sorted(path.name for path in ZOO.iterdir() if (path / zoo.ORIGIN).exists())
QUICK = ["mnist_mlp"]


TOPS = ("accelerator", "accelerator_axi", "example")
"""Each stands in the next."""


def messages(accelerator: Accelerator, folder: Path, tops: tuple[str, ...] = TOPS) -> None:
    """Fail if lint says anything of accelerator, shell and example, as Verilog of 2005."""
    package = make_package(accelerator, generate_accelerator(accelerator))
    names = [name for name in package.texts if name.endswith(".v")]
    for name in names:
        (folder / name).write_text(package.texts[name])
    tools = toolchain()
    for top in tops:
        command = [*tools.verilator, "--lint-only", "-Wall", "--default-language", "1364-2005"]
        used = [name for name in names if top != "accelerator" or name == "accelerator.v"]
        if top == "accelerator_axi":
            used.remove("example.v")
        done = subprocess.run(
            [*command, str(WAIVERS), str(LINT), "--top-module", top, *used],
            cwd=folder,
            env=os.environ | {"VERILATOR_ROOT": str(tools.verilator_root)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr[:3000]


def sparse_convolution() -> Network:
    """A convolution half of whose blocks of weights are kept."""
    rng, u4, s3 = np.random.default_rng(1), UniformFormat(4, False), UniformFormat(3, True)
    rule, storage = RequantizeSpec(u4, 4, "channel", 4, 8), BlockSparseStorage
    mask = np.kron(np.eye(2), np.ones((2, 3))) > 0
    sizes = np.full(4, 2), np.full(6, 6)
    packed, tensors = storage.pack(codes_of(s3.codes, rng, 8, 36), mask, *sizes)
    spec = ConvSpec(5, 5, 4, 8, 3, 3, 1, 1, 1, u4, s3, rule, storage=packed)
    tensors |= requantize_tensors(rule, 8, rng)
    node = Node("conv", spec, ("x",), 1.0, tensors)
    return Network("sparse", InputSpec("x", (5, 5, 4), u4, 1.0), (node,))


def planned(network: Network, multipliers: int) -> Accelerator:
    return Accelerator(network, plan(network, Budget(multipliers)))


ENGINES: dict[str, tuple[type[EngineSpec] | None, Callable[[], Accelerator]]] = {
    "dense": (PeArraySpec, lambda: planned(example_network(), 24)),
    "block-sparse convolution": (PeArraySpec, lambda: planned(sparse_convolution(), 12)),
    "depthwise, poolings, sums": (None, lambda: planned(pooled(), 16)),
    "circulant": (CirculantArraySpec, lambda: planned(network_of(fft_linear(8), 1), 40)),
    "circulant convolution": (CirculantArraySpec, lambda: planned(network_of(fft_conv(4), 1), 40)),
    "lstm": (LSTMArraySpec, lambda: planned(lstm_network(lstm_spec(4, 6, 3, True), 1, 0.3), 60)),
    "circulant lstm": (LSTMArraySpec, lambda: planned(lstm_network(lstm_spec(4, 6, k=2), 1), 60)),
    "macros": (PimArraySpec, on_macros),
    "macros, rows and columns moved": (PimArraySpec, lambda: with_moves()[0]),
}


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


@pytest.mark.rtl
@pytest.mark.parametrize("name", ENGINES)
def test_lint_of_a_small_network_on_each_engine_is_clean(name: str, tmp_path: Path) -> None:
    kind, make = ENGINES[name]
    accelerator = make()
    engines = [engine.spec for engine in accelerator.mapping.engines]
    assert kind is None or any(isinstance(spec, kind) for spec in engines)
    sparse = [spec for spec in engines if isinstance(spec, PeArraySpec) and spec.tiles is not None]
    assert bool(sparse) == ("block-sparse" in name)
    messages(accelerator, tmp_path, TOPS[-1:])


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
