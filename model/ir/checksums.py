"""SHA256SUMS: the checksum file of a folder, in the form that ``sha256sum --check`` reads."""

import hashlib
from pathlib import Path

from model.ir.errors import BadInput

NAME = "SHA256SUMS"


def sha256(data: bytes) -> str:
    """The SHA-256 digest of ``data`` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write_sums(folder: Path, names: list[str]) -> None:
    """Write ``folder/SHA256SUMS`` over the named files of the folder."""
    (folder / NAME).write_bytes(_sums({name: (folder / name).read_bytes() for name in names}))


def read_verified(folder: Path, names: list[str], remedy: str) -> dict[str, bytes]:
    """Read the named files of ``folder`` and return their bytes once all checksums agree.

    The checksum file must cover exactly these names; a difference anywhere, the checksum file
    included, raises BadInput with the name of the file.
    """
    files: dict[str, bytes] = {}
    for name in [*names, NAME]:
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise BadInput(str(folder / name), error.strerror, "a readable file", remedy) from error
    found = files.pop(NAME)
    if found != _sums(files):
        lines = set(found.split(b"\n"))
        for name, line in zip(sorted(files), _sums(files).split(b"\n"), strict=False):
            if line not in lines:
                raise BadInput(
                    str(folder / name),
                    f"sha256 {sha256(files[name])[:16]}...",
                    f"the checksum that {NAME} states",
                    remedy,
                )
        raise BadInput(
            str(folder / NAME), "surplus or damaged lines", f"one line for each of {names}", remedy
        )
    return files


def _sums(files: dict[str, bytes]) -> bytes:
    return "".join(f"{sha256(files[name])}  {name}\n" for name in sorted(files)).encode()
