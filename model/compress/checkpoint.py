"""Checkpoints: safetensors and JSON, data only, replaced all at once.

A folder holds ``checkpoint.json`` and the tensor file that it names with its SHA-256. The tensors
are written first and the JSON is then put in place in one step, so an interruption leaves the
checkpoint before it.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from model.ir.errors import BadInput

NAME = "checkpoint.json"


def save(folder: Path, identity: str, epoch: int, tensors: dict[str, Tensor]) -> None:
    """Replace the checkpoint of ``folder``.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    identity : str
        What is being trained; see :func:`load`.
    epoch : int
        Epochs that are done.
    tensors : dict of str to tensor
        The whole state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in tensors.items()})
    file = f"epoch-{epoch:04d}.safetensors"
    replace(folder / file, data)
    record = {
        "identity": identity,
        "epoch": epoch,
        "file": file,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    replace(folder / NAME, (json.dumps(record, indent=1) + "\n").encode())
    for old in folder.glob("epoch-*.safetensors"):
        if old.name != file:
            old.unlink()


def load(folder: Path, identity: str) -> tuple[int, dict[str, Tensor]] | None:
    """Epochs done and tensors of the checkpoint of ``folder``, or None if there is none.

    Raises BadInput if the checkpoint is damaged, or was made for another identity.
    """
    path = folder / NAME
    if not path.exists():
        return None
    remedy = f"remove the folder {folder}, or choose another, and train again"
    try:
        record = json.loads(path.read_bytes())
        file = folder / Path(record["file"]).name
        data = file.read_bytes()
        found, epoch, digest = record["identity"], int(record["epoch"]), record["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(str(path), f"unreadable ({error})", "a checkpoint", remedy) from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise BadInput(str(file), "another sha256", f"the checksum that {NAME} states", remedy)
    if found != identity:
        raise BadInput(
            str(path),
            f"a checkpoint of another recipe, network or data set ({found[:12]})",
            f"a checkpoint of this one ({identity[:12]})",
            remedy,
        )
    try:
        return epoch, safetensors.torch.load(data)
    except SafetensorError as error:
        raise BadInput(str(file), f"unreadable ({error})", "a checkpoint", remedy) from error


def epochs(folder: Path) -> int:
    """Epochs done in all, of the checkpoints in a folder and below it; 0 of what is unreadable."""
    done = 0
    for path in folder.rglob(NAME):
        try:
            done += int(json.loads(path.read_bytes())["epoch"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return done


def replace(path: Path, data: bytes) -> None:
    """Write a file all at once: whoever reads it finds what was there before, or all of ``data``.

    Nothing else is left behind, whatever stops the writing.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # the name must not come before what it names
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def identify(module: nn.Module, **facts: Any) -> str:
    """SHA-256 over a module's tensors' names and shapes and over facts with a stable ``repr``."""
    shapes = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    text = json.dumps([shapes, {key: repr(facts[key]) for key in sorted(facts)}])
    return hashlib.sha256(text.encode()).hexdigest()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by parameter number and name, as tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{key}": torch.as_tensor(value)
        for number, entries in state.items()
        for key, value in entries.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` gave."""
    state = optimizer.state_dict()
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        entries.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({**state, "state": entries})
