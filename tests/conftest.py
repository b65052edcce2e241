"""Settings of all tests."""

import os

from hypothesis import HealthCheck, settings

# Each xdist worker has one core; threads of torch beyond that only get in each other's way.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Deterministic, and without a deadline: the machine may be busy.
settings.register_profile(
    "gyre",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("gyre")


def pytest_make_parametrize_id(config: object, val: object, argname: str) -> str | None:
    """Bytes stay out of the names of tests: workers that collect apart must find the same names."""
    return argname if isinstance(val, bytes) else None
