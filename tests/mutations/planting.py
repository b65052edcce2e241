"""Plant a fault in a copy of the project, and run a probe there.

A probe is a module of this folder. It runs in the copy, in its own process, and ends with status
``DETECTED`` after a line ``MISMATCH ...`` if a result is wrong, with 0 if none is, and with any
other status if it could not tell.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sim.build import build_root
from tests.mutations.faults import Mutation

ROOT = Path(__file__).resolve().parents[2]
# Below build/ and not in the system's temporary folder, which some of the tools cannot see.
TREES = ROOT / "build" / "mutations"
FOLDERS = ("model", "hdl", "sim", "tb", "gyre", "tests")
DETECTED = 3


@contextmanager
def planted(fault: Mutation | None) -> Iterator[Path]:
    """A copy of the project with the fault in it, or without any; gone afterwards.

    The copy has a name of its own for each process and fault, so that tests can run in parallel.
    """
    # Without a colon above all, which would end the tree's path on PYTHONPATH.
    name = re.sub(r"\W+", "_", fault.what) if fault else "control"
    tree = TREES / f"{name}-{os.getpid()}"
    try:
        for folder in FOLDERS:
            if (ROOT / folder).is_dir():
                shutil.copytree(
                    ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__")
                )
        if fault:
            edit(tree / fault.file, fault.old, fault.new)
        yield tree
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def edit(path: Path, old: str, new: str) -> None:
    """Replace the one occurrence of ``old`` in a file."""
    text = path.read_text()
    count = text.count(old)
    if count != 1:
        raise AssertionError(f"{path.name} must hold {old!r} exactly once, not {count} times")
    path.write_text(text.replace(old, new))


def run_probe(probe: str, tree: Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run a probe against the project in ``tree``."""
    environment = os.environ | {
        "PYTHONPATH": str(tree),
        # All copies share one build folder: Verilator's runtime is compiled once.
        "GYRE_BUILD": str(build_root()),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", f"tests.mutations.{probe}"],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
