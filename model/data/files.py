"""Files of data sets: found, fetched and verified."""

import hashlib
import os
from pathlib import Path

import pooch

from model.ir.errors import BadInput

VARIABLE = "GYRE_DATA"
TIMEOUT_SECONDS = 20


def locate(name: str, sums: dict[str, str], urls: tuple[str, ...]) -> dict[str, Path]:
    """Paths of the files of data set ``name``.

    Each file is looked for in ``$GYRE_DATA/<name>/``, then in the user's cache, then fetched into
    that cache from the first of ``urls`` (folders) that gives it with the right checksum.

    Parameters
    ----------
    name : str
        Name of the data set and of its folder.
    sums : dict of str to str
        File name to SHA-256 in hexadecimal.
    urls : tuple of str
        Folders on the net that hold the files; each ends in a slash.

    Raises one BadInput that names every missing file.
    """
    folder = Path(os.environ[VARIABLE]) / name if os.environ.get(VARIABLE) else None
    cache = Path(pooch.os_cache("gyre")) / name
    paths: dict[str, Path] = {}
    missing: list[str] = []
    for file, digest in sums.items():
        if folder is not None and (folder / file).is_file():
            paths[file] = folder / file
        elif (cache / file).is_file() or (not missing and _fetch(urls, file, digest, cache)):
            paths[file] = cache / file
        else:
            missing.append(file)
    if missing:
        place = folder if folder is not None else f"${VARIABLE}/{name}"
        raise BadInput(
            f"data set {name}",
            f"no {', '.join(missing)} in {place} or {cache}, and no download",
            f"the files {', '.join(sums)}",
            f"put them in a folder {name} and set {VARIABLE} to the folder that holds it",
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


def read_verified(path: Path, digest: str) -> bytes:
    """Bytes of a file; raises BadInput unless their SHA-256 is ``digest``."""
    remedy = f"remove {path} and put the original file in its place"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(str(path), error.strerror, "a readable file", remedy) from error
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise BadInput(
            str(path), f"{len(data)} bytes with sha256 {found}", f"sha256 {digest}", remedy
        )
    return data
