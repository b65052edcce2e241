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
    files = {name: _read(folder / name, remedy) for name in names}
    sums = _read(folder / NAME, remedy)
    for name, data in sorted(files.items()):
        _check_stated(folder / name, data, sums, remedy)
    if sums != _sums(files):
        raise BadInput(
            str(folder / NAME), "surplus or damaged lines", f"one line for each of {names}", remedy
        )
    return files


def read_stated(folder: Path, name: str, remedy: str) -> bytes:
    """Read one file of ``folder`` and return its bytes once its checksum agrees.

    It may then say which other files there are; :func:`read_verified` checks them all.
    """
    data = _read(folder / name, remedy)
    _check_stated(folder / name, data, _read(folder / NAME, remedy), remedy)
    return data


def _read(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(str(path), error.strerror, "a readable file", remedy) from error


def _check_stated(path: Path, data: bytes, sums: bytes, remedy: str) -> None:
    """Raise BadInput unless the checksum file ``sums`` has the line of a file's data."""
    if _sums({path.name: data}).rstrip(b"\n") not in sums.split(b"\n"):
        raise BadInput(
            str(path),
            f"sha256 {sha256(data)[:16]}...",
            f"the checksum that {NAME} states",
            remedy,
        )


def _sums(files: dict[str, bytes]) -> bytes:
    return "".join(f"{sha256(files[name])}  {name}\n" for name in sorted(files)).encode()
