"""The steps from a recipe to its network: float training, compression, export.

Each step keeps what it makes in a folder named by the hash of everything that decides it, so a
second run reads it, an interrupted run resumes, and a changed recipe makes a new folder:

::

    <build>/float-<hash>/              checkpoint of the float network
    <build>/compress-<hash>/           checkpoints of the solver
    <build>/export-<hash>/network/     the integer network
"""

import hashlib
import json
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

import model
from gyre import compression
from gyre.recipe import EXPORT, Recipe
from model import golden, nets
from model.compress import checkpoint, fit, solver
from model.compress.constraints import padding_of
from model.compress.realise import calibration
from model.compress.tracing import MATRIX
from model.compress.training import accuracy, accuracy_under, lengths_of, real_samples
from model.data import Dataset, Split
from model.export import check_supported, export, realised
from model.ir.network import Network

EVALUATION_FRAMES = 1000
HASH_DIGITS = 16
SECONDS = "seconds.txt"
MACHINE = "machine.json"
THEN = ", then "


def float_network(recipe: Recipe, dataset: Dataset) -> nn.Module:
    """The recipe's network, freshly initialised from its seed.

    Raises BadInput, before any training, if the network holds layers that export refuses, or lacks
    layers that the recipe's constraints name, or cannot meet a constraint.
    """
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        module = nets.build(
            recipe.network.name, dataset.shape, dataset.classes, recipe.network.options
        )
    check_supported(module, real_samples(dataset.train, 16))
    solver.check_layers(module, recipe.compress.constraints())
    return module


def paddings(recipe: Recipe, module: nn.Module) -> list[str]:
    """What the recipe's constraints pad of the network's layers, a line each."""
    lines = []
    for name, constraint in recipe.compress.constraints().items():
        found = padding_of(constraint, module.get_submodule(name).weight.detach())
        if found is not None:
            lines.append(f"{name}: {found}, padded")
    return lines


def train_float(recipe: Recipe, dataset: Dataset, build: Path) -> nn.Module:
    """The trained float network (evaluation mode), read from ``build`` if it is there."""
    key = keys(recipe, dataset)["float"]
    folder = build / f"float-{key}"
    module = float_network(recipe, dataset)
    with _timed(folder):
        return fit(
            module,
            dataset,
            recipe.float_,
            seed=recipe.seed,
            title="float",
            folder=folder,
            facts=key,
        )


def compress(recipe: Recipe, dataset: Dataset, module: nn.Module, build: Path) -> nn.Module:
    """The compressed network with quantizers, of the trained float network ``module``.

    Its factors are those that hardware multiplies by.
    """
    function, _ = solver.find(recipe.compress.solver)
    key = keys(recipe, dataset)["compress"]
    folder = build / f"compress-{key}"
    with _timed(folder):
        compressed = function(
            module,
            dataset,
            recipe.compress.constraints(),
            recipe.trained_format,
            recipe.compress.solver_options(),
            seed=recipe.seed,
            folder=folder,
        )
    bits = recipe.format.model_dump(exclude=set(EXPORT))
    return realised(compressed, real_samples(calibration(dataset)), **bits)


def export_network(recipe: Recipe, dataset: Dataset, module: nn.Module, build: Path) -> Network:
    """The integer network of the compressed network ``module``, saved under ``build``.

    Its key covers Gyre's own export code too, which may change what comes out.
    """
    folder = build / f"export-{keys(recipe, dataset)['export']}" / "network"
    if folder.exists():
        return Network.load(folder)
    samples = real_samples(calibration(dataset))
    network = export(module, samples[:1], samples, name=recipe.name, **dict(recipe.format))
    network.save(folder)
    return network


def keys(recipe: Recipe, dataset: Dataset) -> dict[str, str]:
    """What names the folder of each step, ``<step>-<key>``: a hash of all that decides it."""
    texts = {
        "float": recipe.digest("seed", "data", "network", "float"),
        "compress": recipe.training_hash,
        "export": recipe.name + recipe.hash + _sources("ir", "golden", "export", "compress"),
    }
    return {step: _key(text, dataset) for step, text in texts.items()}


def forget(recipe: Recipe, dataset: Dataset, build: Path) -> None:
    """Remove what the steps of this recipe have made, and nothing of other recipes."""
    for step, key in keys(recipe, dataset).items():
        shutil.rmtree(build / f"{step}-{key}", ignore_errors=True)


def golden_accuracy(network: Network, split: Split) -> float:
    """Share of the split's samples that golden classifies rightly; sequences at their last step."""
    right = 0
    for start in range(0, len(split), EVALUATION_FRAMES):
        some = split.part(slice(start, start + EVALUATION_FRAMES))
        codes = golden.quantize(network.input, some.real())
        classes = golden.predict(golden.run(network, codes), lengths_of(some))
        right += int((classes.numpy() == some.labels).sum())
    return right / len(split)


def accuracies(float_module: nn.Module, compressed: nn.Module, split: Split) -> dict[str, float]:
    """Accuracy of the two torch forms of one network, under the keys of the report."""
    return {"float": accuracy(float_module, split), "compressed": accuracy(compressed, split)}


def under_mismatch(recipe: Recipe, compressed: nn.Module, split: Split) -> dict[str, float]:
    """Accuracy of the devices that the recipe's ``[evaluate]`` asks for; empty if of none.

    ``devices`` is their number; ``mean``, ``least`` and ``deviation`` (standard deviation) are of
    their shares of the split.
    """
    asked = recipe.evaluate
    if not asked.samples:
        return {}
    found = accuracy_under(compressed, split, asked.mismatch, asked.samples)
    return {
        "devices": len(found),
        "mean": statistics.fmean(found),
        "least": min(found),
        "deviation": statistics.stdev(found) if len(found) > 1 else 0.0,
    }


def seconds(recipe: Recipe, dataset: Dataset, build: Path) -> dict[str, float]:
    """Wall time that the trainings of a recipe have taken, as far as it was recorded."""
    found = {}
    for step, key in keys(recipe, dataset).items():
        path = build / f"{step}-{key}" / SECONDS
        if path.exists():
            found[step] = float(path.read_text())
    return found


def machine(recipe: Recipe, dataset: Dataset, build: Path) -> dict[str, Any] | None:
    """Where the trainings of a recipe have run, as of a result; None if nothing recorded it.

    Of steps that ran in different places the last one counts, and the devices of all are named.
    """
    found: dict[str, Any] | None = None
    for step, key in keys(recipe, dataset).items():
        path = build / f"{step}-{key}" / MACHINE
        if path.exists():
            found = _joined(found, json.loads(path.read_text()))
    return found


def _joined(before: dict[str, Any] | None, after: dict[str, Any]) -> dict[str, Any]:
    """The record of a training that began in one place and ended in another."""
    if before is None or after["device"] in before["device"].split(THEN):
        return after if before is None else {**after, "device": before["device"]}
    return {**after, "device": THEN.join([before["device"], after["device"]])}


@contextmanager
def _timed(folder: Path) -> Iterator[None]:
    """Note time and place of what is done inside in a step's folder, if epochs are trained.

    The time is added to what was noted before. What only reads a finished training notes nothing.
    """
    done, here, begin = checkpoint.epochs(folder), compression.machine(), time.perf_counter()
    try:
        yield
    finally:
        if checkpoint.epochs(folder) > done:
            path, place = folder / SECONDS, folder / MACHINE
            before = float(path.read_text()) if path.exists() else 0.0
            earlier = json.loads(place.read_text()) if place.exists() else None
            text = json.dumps(_joined(earlier, here), indent=1) + "\n"
            checkpoint.replace(place, text.encode())
            checkpoint.replace(path, f"{before + time.perf_counter() - begin:.3f}\n".encode())


def float_weights(module: nn.Module) -> int:
    """Weights of the uncompressed network: its matrices; no biases, peepholes, normalization."""
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, MATRIX))


def _key(text: str, dataset: Dataset) -> str:
    return hashlib.sha256(f"{text} {dataset.hash}".encode()).hexdigest()[:HASH_DIGITS]


def _sources(*packages: str) -> str:
    """SHA-256 over the source files of some packages of ``model``."""
    digest = hashlib.sha256()
    root = Path(model.__path__[0])
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
