"""What a compression gave: one JSON file of plain figures, and the same as a table.

::

    <out>/compress.json              the result of the last `gyre compress`
    docs/results/<name>.json         results that are kept with the project (--record)
"""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from gyre.recipe import Recipe
from model.compress import execution
from model.data import Dataset
from model.ir.errors import BadInput
from model.ir.network import Network

FILE = "compress.json"
WEIGHT_FLOAT_BITS = 32
GOLDEN_TOLERANCE = 0.001
"""Most that golden's accuracy may differ from the fake-quantized network's, a share."""


@dataclass(frozen=True)
class Result:
    """The figures of one recipe.

    Parameters
    ----------
    name, recipe, data, network : str
        Name of the recipe, hash of its trained part, hash of the data set, hash of the network.
    data_name : str
        Name of the data set.
    split : str
        ``"test"``, or ``"validation"`` for what is still being chosen.
    samples, seed : int
        Samples of that split; seed of the training.
    accuracy : dict
        ``float``, ``compressed`` and ``golden``: shares of the split.
    right : dict
        The same as counts, for pooling over folds.
    compression : dict
        ``weights``, ``kept``, ``ratio_weights``, ``bits_float``, ``bits_stored``, ``ratio_bits``
        and ``bits_on_chip``.
    seconds : dict
        Wall time of the trainings: ``float`` and ``compress``.
    machine : dict
        Where it was trained: ``device`` (of a training that went on elsewhere, all of them),
        ``threads``, ``torch``, and ``precision`` where that is not float32.
    goal : dict
        The recipe's section, if it has one.
    command : str
        What makes it again.
    mismatch : dict
        Of devices that differ: ``devices``, their number, and ``mean``, ``least`` and ``deviation``
        of their accuracies; empty if none were asked for.
    """

    name: str
    recipe: str
    data: str
    network: str
    data_name: str
    split: str
    samples: int
    seed: int
    accuracy: dict[str, float]
    right: dict[str, int]
    compression: dict[str, Any]
    seconds: dict[str, float]
    machine: dict[str, Any]
    goal: dict[str, Any]
    command: str
    mismatch: dict[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """Accuracy of the float network less that of golden."""
        return self.accuracy["float"] - self.accuracy["golden"]

    def missed(self) -> list[str]:
        """The goals that are not reached, a line each."""
        figures = {
            "accuracy_min": self.accuracy["golden"],
            "float_min": self.accuracy["float"],
            "loss_max": self.loss,
            "ratio_weights_min": self.compression["ratio_weights"],
            "ratio_bits_min": self.compression["ratio_bits"],
        }
        lines = []
        gap = abs(self.accuracy["golden"] - self.accuracy["compressed"])
        if gap > max(GOLDEN_TOLERANCE, 1.5 / self.samples):  # one sample of a small set may flip
            lines.append(f"golden: {gap:.4f} from the compressed network, wanted <= 0.001")
        for key, found in figures.items():
            wanted = self.goal.get(key)
            if not wanted:  # a variant drops a goal of its recipe by a 0
                continue
            # accuracies are shares of whole samples: a tie is a tie
            reached = found <= wanted + 1e-9 if key.endswith("max") else found >= wanted - 1e-9
            if not reached:
                lines.append(f"{key}: {found:.4f}, wanted {wanted}")
        return lines

    def more(self, others: Sequence["Result"]) -> list[str]:
        """What it loses beyond the limit against the one of ``others`` that its goal names."""
        name, limit = self.goal.get("more_than"), self.goal.get("more_max")
        if not name or not limit:
            return []
        other = next((r for r in others if r.name == name), None)
        if other is None:
            return [f"more_max: no result of {name}"]
        more = other.accuracy["golden"] - self.accuracy["golden"]
        if more <= limit + 1e-9:
            return []
        return [f"more_max: {more:.4f} more than {name}, wanted {limit}"]


def compression(network: Network, weights: int) -> dict[str, Any]:
    """The section ``compression`` of a result or report.

    ``bits_on_chip`` is the formula of the network's storages; the report of a generated design
    replaces it by a count.
    """
    bits_float, bits_stored = weights * WEIGHT_FLOAT_BITS, network.stored_bits()
    return {
        "weights": weights,
        "kept": network.weights(),
        "ratio_weights": weights / network.weights(),
        "bits_float": bits_float,
        "bits_stored": bits_stored,
        "ratio_bits": bits_float / bits_stored,
        "bits_on_chip": network.chip_bits(),
    }


def make_result(
    recipe: Recipe,
    dataset: Dataset,
    network: Network,
    *,
    split: str,
    weights: int,
    right: dict[str, int],
    samples: int,
    seconds: dict[str, float],
    machine: dict[str, Any],
    command: str,
    mismatch: dict[str, float],
) -> Result:
    """The figures of one compression."""
    return Result(
        name=recipe.name,
        recipe=recipe.hash,
        data=dataset.hash,
        network=network.hash(),
        data_name=dataset.name,
        split=split,
        samples=samples,
        seed=recipe.seed,
        accuracy={key: count / samples for key, count in right.items()},
        right=right,
        compression=compression(network, weights),
        seconds=seconds,
        machine=machine,
        goal=recipe.goal.plain(),
        command=command,
        mismatch=mismatch,
    )


def machine() -> dict[str, Any]:
    """Where trainings of this process run, as of :class:`Result`."""
    where = execution.device()
    form = str(execution.precision(where)).removeprefix("torch.")
    found: dict[str, Any] = {
        "device": processor() if where.type == "cpu" else execution.name_of(where),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    return found if form == "float32" else found | {"precision": form}


def processor() -> str:
    """Name of this machine's processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def write(path: Path, result: Result) -> Path:
    """Write a result, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(json.dumps(asdict(result), indent=1) + "\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def read(path: Path) -> Result:
    """Read a result; raises BadInput if it is missing or unreadable."""
    remedy = "run `gyre compress` again"
    try:
        return Result(**json.loads(path.read_text()))
    except OSError as error:
        raise BadInput(str(path), error.strerror, "the result of a compression", remedy) from error
    except (ValueError, TypeError) as error:
        raise BadInput(str(path), f"unreadable ({error})", "a result", remedy) from error


def show(result: Result, console: Console) -> None:
    """Print a result as a table."""
    figures = result.compression
    table = Table(
        title=f"{result.name}: {result.samples:,} {result.split} samples of {result.data_name}",
        title_justify="left",
        header_style="bold",
    )
    for name in ("float %", "compressed %", "golden %", "loss %", "weights", "stored bits", "chip"):
        table.add_column(name, justify="right")
    table.add_row(
        *(f"{100 * result.accuracy[key]:.2f}" for key in ("float", "compressed", "golden")),
        f"{100 * result.loss:.2f}",
        f"{figures['ratio_weights']:.2f}x",
        f"{figures['ratio_bits']:.2f}x",
        f"{figures['bits_on_chip']:,} bits",
    )
    if found := result.mismatch:
        table.caption_justify = "left"
        table.caption = (
            f"mismatch, {found['devices']} devices: {100 * found['mean']:.2f} ± "
            f"{100 * found['deviation']:.2f} %, least {100 * found['least']:.2f} %"
        )
    console.print(table, soft_wrap=False)
    for line in result.missed():
        console.print(f"goal missed  {line}", style="red", markup=False)
