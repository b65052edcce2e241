"""What the benches of the hardware need."""

import pytest

from tests.tools import require_tools


@pytest.fixture(autouse=True)
def _compiler(request: pytest.FixtureRequest) -> None:
    """A test that runs a simulator needs a compiler for it."""
    if request.node.get_closest_marker("rtl"):
        require_tools("g++")
