from pathlib import Path

import pooch
import pytest


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty $GYRE_DATA, and no net and no cache."""
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setenv("GYRE_DATA", str(root))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)

    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no net in tests")

    monkeypatch.setattr(pooch, "retrieve", offline)
    return root
