"""A user's own module that hides one of ours is reported in one sentence, with the remedy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_script(folder: Path, *flags: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run a script in ``folder`` that imports gyre, with this checkout on the path."""
    script = folder / "script.py"
    script.write_text(f"{before}\nimport gyre\nprint('imported')\n")
    return subprocess.run(
        [sys.executable, *flags, str(script)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_beside_unrelated_modules(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text("")
    result = run_script(tmp_path)
    assert (result.returncode, result.stdout) == (0, "imported\n"), result.stderr


@pytest.mark.parametrize("name", ["model", "hdl", "sim", "tb"])
def test_names_the_file_that_hides_a_package_and_the_remedy(tmp_path: Path, name: str) -> None:
    own = tmp_path / f"{name}.py"
    own.write_text("")
    result = run_script(tmp_path)
    assert result.returncode != 0
    assert result.stderr.strip().splitlines()[-1] == (
        f"ImportError: {own} hides gyre's own package '{name}': "
        "rename it, or start Python as `python -P`."
    )


def test_finds_a_module_that_was_imported_before(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("")
    result = run_script(
        tmp_path, before="import sys, model\nsys.path.remove(sys.path[0])\nmodel.__spec__ = None"
    )
    assert f"ImportError: {tmp_path / 'model.py'} hides gyre's" in result.stderr


def test_the_named_remedy_works(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("raise RuntimeError('the wrong model')\n")
    result = run_script(tmp_path, "-P", before="import model.ir.numerics")
    assert (result.returncode, result.stdout) == (0, "imported\n"), result.stderr


def test_importing_gyre_stays_light(tmp_path: Path) -> None:
    result = run_script(tmp_path, before="import sys")
    assert result.returncode == 0, result.stderr
    script = tmp_path / "light.py"
    script.write_text(
        "import sys, gyre\nassert not {'torch', 'numpy', 'amaranth'} & {*sys.modules}\n"
    )
    light = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert light.returncode == 0, light.stderr
