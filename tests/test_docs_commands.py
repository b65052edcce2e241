"""Every command and every file of the documentation's pages for users, run as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tools import require_tools

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, the file it is, and its text."""

    language: str
    file: str | None
    text: str


def blocks(page: str) -> list[Block]:
    matches = BLOCK.finditer((DOCS / page).read_text())
    found = [Block(*match.groups()) for match in matches]
    return [block for block in found if block.language in ("sh", "python")]


class Session:
    """Runs the blocks of pages in a folder that looks like the checkout."""

    def __init__(self, folder: Path, simulators: Path) -> None:
        self.folder = self.cwd = folder
        (folder / "build").mkdir()
        (folder / "build" / "simulators").symlink_to(simulators)
        for name in ("recipes", "zoo", "tests", "model", "hdl", "sim", "tb", "gyre", "docs"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")

    def run(self, page: str) -> str:
        """Run a page from top to bottom; returns what its commands printed."""
        said, self.cwd = "", self.folder
        for block in blocks(page):
            if block.file is not None:
                (self.folder / block.file).write_text(block.text)
            elif block.language == "python":
                pytest.fail(f"{page}: a Python block without a file name is run by nobody")
            else:
                for line in block.text.splitlines():
                    said += self.command(line)
        return said

    def command(self, line: str) -> str:
        words = shlex.split(line)
        if words[0] == "cd":
            self.cwd = self.folder / words[1]
            return ""
        start = {"gyre": [sys.executable, "-m", "gyre.cli"], "python": [sys.executable]}
        if words[0] not in start:
            require_tools(words[0])
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "GYRE_BUILD": str(self.folder / "build"),
            "COLUMNS": "80",
        }
        done = subprocess.run(
            start.get(words[0], [words[0]]) + words[1:],
            cwd=self.cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def session(tmp_path: Path) -> Session:
    simulators = ROOT / "build" / "simulators"
    simulators.mkdir(parents=True, exist_ok=True)
    return Session(tmp_path, simulators)


@pytest.mark.rtl
@pytest.mark.train
@pytest.mark.timeout(900)
def test_getting_started(session: Session) -> None:
    require_tools("g++", "iverilog")
    said = session.run("getting_started.md")
    assert said.count("EQUAL, bit for bit") == 2  # the run and the report
    assert "PASS: 3 frames" in said
    out = session.folder / "build" / "digits"
    assert (out / "wave.vcd").stat().st_size > 1000
    assert "EQUAL" in (out / "report.html").read_text()


@pytest.mark.rtl
@pytest.mark.train
@pytest.mark.timeout(900)
def test_own_network_and_adding_an_engine(session: Session) -> None:
    require_tools("g++")
    assert re.search(r"equal in 297 frames", session.run("own_network.md"))
    assert (session.folder / "my_package" / "my_net_axi.v").exists()
    assert "equal: True, multipliers [2, 1], 1024.0 cycles" in session.run("adding_an_engine.md")


def test_network_only(session: Session) -> None:
    said = session.run("network_only.md")
    assert "fc1 linear" in said
    for folder in ("network_only", "from_the_zoo/verilog"):
        assert (session.folder / "build" / folder / "accelerator_axi.v").exists()


def test_own_network_is_as_short_as_it_says() -> None:
    files = {block.file: block.text for block in blocks("own_network.md") if block.file}
    assert len(files["my_net.py"].splitlines()) <= 20
    assert sum(bool(line) for line in files["to_verdict.py"].splitlines()) <= 10


@pytest.mark.parametrize(
    "page", ["getting_started.md", "own_network.md", "network_only.md", "adding_an_engine.md"]
)
def test_the_readme_leads_to_each_page(page: str) -> None:
    assert f"docs/{page}" in (ROOT / "README.md").read_text()
