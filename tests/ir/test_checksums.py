"""Every damage of a checksummed folder is found and named."""

import subprocess
from pathlib import Path

import pytest

from model.ir.checksums import NAME, read_verified, sha256, write_sums
from model.ir.errors import BadInput
from tests.tools import require_tools

FILES = {"a.json": b"{}\n", "b.bin": bytes(range(256))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    write_sums(tmp_path, list(FILES))
    return tmp_path


def damage(folder: Path) -> str:
    """The message about a damaged folder."""
    with pytest.raises(BadInput) as caught:
        read_verified(folder, list(FILES), "make it again")
    assert caught.value.remedy == "make it again"
    return str(caught.value)


def test_returns_the_bytes_of_an_intact_folder(folder: Path) -> None:
    assert read_verified(folder, list(FILES), "make it again") == FILES


def test_digest_is_sha256() -> None:
    # the one-block example of FIPS 180-2
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_form_is_that_of_the_common_tool(folder: Path) -> None:
    require_tools("sha256sum")
    subprocess.run(["sha256sum", "--check", "--strict", NAME], cwd=folder, check=True)


@pytest.mark.parametrize("name", FILES)
def test_names_a_changed_file(folder: Path, name: str) -> None:
    (folder / name).write_bytes(FILES[name] + b"\n")
    message = damage(folder)
    assert message.startswith(f"{folder / name}: found sha256 ")
    assert "expected the checksum that SHA256SUMS states" in message


@pytest.mark.parametrize("name", [*FILES, NAME])
def test_names_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert damage(folder).startswith(f"{folder / name}: found No such file or directory")


@pytest.mark.parametrize("name", [*FILES, NAME])
def test_names_an_unreadable_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    assert damage(folder).startswith(f"{folder / name}: found Is a directory")


@pytest.mark.parametrize("change", ["surplus", "twice", "order", "empty", "blank", "carriage"])
def test_refuses_a_checksum_file_of_another_form(folder: Path, change: str) -> None:
    sums = folder / NAME
    lines = sums.read_bytes().splitlines(keepends=True)
    sums.write_bytes(
        {
            "surplus": b"".join(lines) + sha256(b"").encode() + b"  c.bin\n",
            "twice": b"".join([*lines, lines[0]]),
            "order": b"".join(reversed(lines)),
            "empty": b"",
            "blank": b"".join(lines) + b"\n",
            "carriage": b"".join(lines).replace(b"\n", b"\r\n"),
        }[change]
    )
    assert NAME in damage(folder)
