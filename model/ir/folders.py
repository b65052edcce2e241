"""Folders that are written whole: their files and checksums appear together or not at all."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from model.ir.checksums import NAME as SUMS
from model.ir.checksums import write_sums
from model.ir.errors import BadInput


def check_folder(folder: Path, kind: str, belongs: Callable[[str], bool]) -> None:
    """Raise BadInput unless a folder can be written here without harm to anything else.

    Parameters
    ----------
    folder : Path
        Where; it may be missing, empty, or hold an older folder of the same kind.
    kind : str
        What is written, for the message.
    belongs : callable
        Whether a file of that name belongs to such a folder.
    """
    remedy = "choose another folder"
    for path in folder.parents:
        if path.exists() and not path.is_dir():
            raise BadInput(str(path), "a file", "a folder", remedy)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BadInput(str(folder), "a file", "a folder", remedy)
    surplus = sorted(p.name for p in folder.iterdir() if p.name != SUMS and not belongs(p.name))
    if surplus:
        raise BadInput(
            str(folder),
            f"a folder that holds something else ({surplus[0]})",
            f"a new, an empty or a {kind} folder",
            remedy,
        )


def write_folder(
    folder: Path, kind: str, belongs: Callable[[str], bool], files: Mapping[str, bytes]
) -> None:
    """Write files and their checksums as a folder, all or nothing, over an older one.

    Raises BadInput, as :func:`check_folder` does, before anything is written.
    """
    check_folder(folder, kind, belongs)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{kind}-") as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        for name, data in files.items():
            (new / name).write_bytes(data)
        write_sums(new, list(files))
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(new, folder)
        except BaseException:
            if old.exists():
                os.replace(old, folder)
            raise
