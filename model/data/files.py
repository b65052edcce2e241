"""Files of data sets: found, fetched and verified."""

import hashlib
import os
from pathlib import Path

import pooch

from model.ir.errors import BadInput

VARIABLE = "GYRE_DATA"
TIMEOUT_SECONDS = 20


def locate(
    name: str,
    sums: dict[str, str],
    urls: tuple[str, ...],
    *,
    folder: str | None = None,
    packed: str = "",
    source: str = "",
) -> dict[str, Path]:
    """Paths of the files of data set ``name``.

    Each file is looked for in ``$GYRE_DATA/<folder>/``, then in the user's cache, then fetched into
    that cache from the first of ``urls`` (folders) that gives it with the right checksum.

    Parameters
    ----------
    name : str
        Name of the data set.
    sums : dict of str to str
        File name to SHA-256 in hexadecimal.
    urls : tuple of str
        Folders on the net that hold the files; each ends in a slash.
    folder : str, optional
        Name of the folder of the files; ``name`` by default.
    packed : str
        A suffix, such as ".xz": a file may be there under its own name or with the suffix.
    source : str
        Where a user gets the files, for the message; needed where ``urls`` is empty.

    Raises one BadInput that names every missing file.
    """
    folder = folder or name
    given = Path(os.environ[VARIABLE]) / folder if os.environ.get(VARIABLE) else None
    cache = Path(pooch.os_cache("gyre")) / folder
    paths: dict[str, Path] = {}
    missing: list[str] = []
    for file, digest in sums.items():
        places = [
            place / form
            for place in (given, cache)
            if place is not None
            for form in ([file, file + packed] if packed else [file])
        ]
        found = next((path for path in places if path.is_file()), None)
        if found is not None:
            paths[file] = found
        elif not missing and _fetch(urls, file, digest, cache):
            paths[file] = cache / file
        else:
            missing.append(file)
    if missing:
        place = given if given is not None else f"${VARIABLE}/{folder}"
        origin = f" ({source})" if source else ""
        raise BadInput(
            f"data set {name}",
            f"no {', '.join(missing)} in {place} or {cache}, and no download",
            f"the files {', '.join(sums)}" + (f", each so or with {packed}" if packed else ""),
            f"put them{origin} in a folder {folder} and set {VARIABLE} to the folder that holds it",
        )
    return paths


def _fetch(urls: tuple[str, ...], file: str, digest: str, cache: Path) -> bool:
    for url in urls:
        try:
            pooch.retrieve(
                url + file,
                known_hash=f"sha256:{digest}",
                fname=file,
                path=cache,
                downloader=pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS),
            )
        except (OSError, ValueError):  # no connection; a file with another checksum
            continue
        return True
    return False


def read_bytes(path: Path) -> bytes:
    """Bytes of a file; raises BadInput if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(
            str(path), error.strerror, "a readable file", f"put the original file at {path}"
        ) from error


def check_digest(path: Path, data: bytes, digest: str) -> None:
    """Raise BadInput, naming ``path``, unless the SHA-256 of ``data`` is ``digest``."""
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise BadInput(
            str(path),
            f"{len(data)} bytes with sha256 {found}",
            f"sha256 {digest}",
            f"remove {path} and put the original file in its place",
        )


def read_verified(path: Path, digest: str) -> bytes:
    """Bytes of a file; raises BadInput unless their SHA-256 is ``digest``."""
    data = read_bytes(path)
    check_digest(path, data, digest)
    return data
