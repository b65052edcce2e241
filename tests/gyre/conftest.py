"""One tiny recipe, run the whole way once, for all tests of the front door."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gyre.front import TINY, Call, call

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def shared_build() -> Iterator[Path]:
    """A build folder of this session, with the simulators that earlier sessions have built."""
    common = ROOT / "build" / "simulators"
    common.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=ROOT / "build", prefix="tests-"))
    (folder / "simulators").symlink_to(common)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def build(shared_build: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder, in use."""
    monkeypatch.setenv("GYRE_BUILD", str(shared_build))
    return shared_build


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The recipe as a file."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def first_run(shared_build: Path) -> tuple[Path, Call]:
    """The output folder of the recipe's first run, and what the command said."""
    out, recipe = shared_build / "first", shared_build / "tiny.toml"
    recipe.write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GYRE_BUILD", str(shared_build))
        return out, call("run", recipe, "--out", out)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the first run trains a network and builds simulators."""
    for item in items:
        if "first_run" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.rtl)
            item.add_marker(pytest.mark.train)
