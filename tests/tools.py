"""What many tests need."""

import shutil
from collections.abc import Callable

import pytest

from model.ir.errors import BadInput


def require_tools(*names: str) -> None:
    """Skip the test unless every named program is on the PATH; CI fails on such a skip."""
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"missing tool: {name}")


def refused(action: Callable[[], object]) -> BadInput:
    """The BadInput that an action raises; the test fails if it raises none."""
    with pytest.raises(BadInput) as caught:
        action()
    return caught.value


def optional_tools(*names: str) -> None:
    """Skip the test unless every named program is there; the project does without them."""
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"not installed: {name}, which only the gate flow needs")
