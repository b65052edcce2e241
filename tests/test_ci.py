"""CI must not pass because a tool is missing: the skip's reason is what .ci/run looks for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import require_tools

ROOT = Path(__file__).resolve().parents[1]


def test_a_skip_for_a_missing_tool_is_found_by_the_pattern_of_ci(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "from tests.tools import require_tools\n"
        "def test_needs_it(): require_tools('no-such-program')\n"
    )
    log = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    (pattern,) = re.findall(r"grep -E '(.*)'", (ROOT / ".ci" / "run").read_text())
    (line,) = [line for line in log.splitlines() if re.search(pattern, line)]
    assert "missing tool: no-such-program" in line


def test_a_tool_that_is_there_does_not_skip() -> None:
    require_tools("sh")
    with pytest.raises(pytest.skip.Exception, match=r"missing tool: no-such-program"):
        require_tools("sh", "no-such-program")


def test_ci_runs_the_readme_s_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    readme = (ROOT / "README.md").read_text()
    for command in ("make test", "make sim"):
        assert re.search(rf"^{command}\b", script, re.MULTILINE), command
        assert f"`{command}" in readme
