"""Runs a cocotb test bench in a simulator that is already built."""

import contextlib
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

HIDDEN = ("COCOTB_TEST_FILTER", "COCOTB_TESTCASE", "COCOTB_RESULTS_FILE", "MAKEFLAGS")
"""Variables of the environment that would change what a test bench does."""


class SimulationError(RuntimeError):
    """A simulation that broke a rule or did not end; the message says which and where."""


class _Quiet:
    """Hides variables and output of this process while any thread runs a test bench."""

    def __init__(self) -> None:
        self.lock, self.users = threading.Lock(), 0
        self.stack = contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            self.users += 1
            if self.users == 1:
                saved = {name: os.environ.pop(name) for name in HIDDEN if name in os.environ}
                self.stack.callback(os.environ.update, saved)
                self.stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
                self.stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if not self.users:
                    self.stack.close()


_quiet = _Quiet()


def run_bench(
    folder: Path, top: str, module: str, run: Path, *, seed: int = 1, env: dict[str, str], **kwargs
) -> None:
    """Run the test bench ``module`` in the folder ``run``; raises SimulationError if a test fails.

    ``seed`` also seeds the simulator's initial values of registers without a reset. Several threads
    may call it at once.
    """
    runner = get_runner("verilator")
    results = run / "results.xml"
    log = run / "simulation.log"
    try:
        with _quiet():
            runner.test(
                test_module=module,
                hdl_toplevel=top,
                hdl_toplevel_lang="verilog",
                build_dir=folder,
                test_dir=run,
                results_xml=str(results),
                log_file=log,
                seed=seed,
                plusargs=["+verilator+rand+reset+2", f"+verilator+seed+{seed}"],
                extra_env={"COCOTB_ANSI_OUTPUT": "0"} | env,
                **kwargs,
            )
    except (SystemExit, RuntimeError, OSError) as error:
        if not results.exists():  # else a test has failed, which the results say too
            raise SimulationError(f"{module} did not run ({error}):\n{_tail(log)}") from error
    count, failed = get_results(results)
    if failed or not count:
        raise SimulationError(f"{module}: {failed} of {count} tests failed:\n{_tail(log)}")


def _tail(log: Path, lines: int = 25) -> str:
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
