"""What a test needs from the machine."""

import shutil

import pytest


def require_tools(*names: str) -> None:
    """Skip the test unless every named program is on the PATH; CI fails on such a skip."""
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"missing tool: {name}")
