"""The zoo: compressed networks kept with the project, each with how it was made.

::

    zoo/<name>/network/       the integer network, with its checksums
    zoo/<name>/origin.json    recipe, hashes of recipe and data, accuracies, versions, the command
    zoo/<name>/SHA256SUMS     checksum of the origin
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gyre.recipe import Recipe, replaced
from model.data import Dataset
from model.ir.checksums import read_verified, write_sums
from model.ir.errors import BadInput
from model.ir.network import Network

ORIGIN = "origin.json"
NETWORK = "network"

HARDWARE = ("mapping", "simulate")
"""Sections of a recipe that a kept network may still be given."""


@dataclass(frozen=True)
class Origin:
    """How a network of the zoo came about.

    Parameters
    ----------
    recipe, data, network : str
        Hashes of the recipe's trained part, of the data set, and of the network itself.
    data_name : str
        Name of the data set.
    seed : int
        The recipe's.
    weights : int
        Weights of the uncompressed network.
    accuracy : dict of str to float
        ``float``, ``compressed`` and ``golden``: shares of the test split, when it was made.
    form : dict
        The whole recipe, as it was when the network was made.
    torch : str
        Version of torch that trained it.
    command : str
        What makes it again.
    """

    recipe: str
    data: str
    network: str
    data_name: str
    seed: int
    weights: int
    accuracy: dict[str, float]
    form: dict[str, Any]
    torch: str
    command: str


def write_entry(
    zoo: Path,
    recipe: Recipe,
    dataset: Dataset,
    network: Network,
    *,
    weights: int,
    accuracy: dict[str, float],
    command: str,
) -> Path:
    """Put a network into the zoo, over the one of the same name; returns its folder."""
    folder = zoo / recipe.name
    origin = Origin(
        recipe=recipe.hash,
        data=dataset.hash,
        network=network.hash(),
        data_name=dataset.name,
        seed=recipe.seed,
        weights=weights,
        accuracy=accuracy,
        form=recipe.model_dump(mode="json", by_alias=True, exclude_none=True),
        torch=torch.__version__,
        command=command,
    )
    network.save(folder / NETWORK)
    (folder / ORIGIN).write_text(json.dumps(asdict(origin), indent=1) + "\n")
    write_sums(folder, [ORIGIN])
    return folder


def read_entry(folder: Path) -> tuple[Network, Origin]:
    """A network of the zoo and its origin; raises BadInput if either is damaged."""
    path = folder / ORIGIN
    if not path.exists():
        raise BadInput(
            str(folder),
            f"a folder without {ORIGIN}",
            "a recipe (TOML) or a folder of the zoo",
            "name one of these",
        )
    remedy = "restore the folder from the repository, or train with --retrain"
    try:
        form: Any = json.loads(read_verified(folder, [ORIGIN], remedy)[ORIGIN])
        origin = Origin(**form)
    except (ValueError, TypeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(str(path), f"unreadable ({error})", "an origin file", remedy) from error
    network = Network.load(folder / NETWORK)
    if network.hash() != origin.network:
        raise BadInput(
            str(path),
            f"the hash of another network ({origin.network[:12]})",
            network.hash()[:12],
            remedy,
        )
    return network, origin


def find_in_zoo(zoo: Path, recipe: Recipe, dataset: Dataset) -> tuple[Network, Origin] | None:
    """The zoo's network of a recipe, if it was made of this very recipe and data, else None."""
    folder = zoo / recipe.name
    if not (folder / ORIGIN).exists():
        return None
    network, origin = read_entry(folder)
    return (
        (network, origin) if (origin.recipe, origin.data) == (recipe.hash, dataset.hash) else None
    )


def recipe_of(origin: Origin, sets: Sequence[str] = ()) -> Recipe:
    """The recipe that a network of the zoo was made by, with keys of its hardware replaced.

    Raises BadInput for a key that decides the network itself.
    """
    for text in sets:
        if text.split(".")[0] not in HARDWARE:
            raise BadInput(
                f"--set {text}",
                "a key that decides the network, with a network that is kept",
                f"one of the sections {' and '.join(HARDWARE)}",
                "name the recipe instead",
            )
    return replaced(origin.form, sets, "origin")
