"""What the CIFAR-10 campaign has found: kept records, and their section of the page of results.

::

    docs/results/campaign/<name>.json          a compressed network, with its figures in RTL
    docs/results/campaign/<name>_float.json    a float network that was trained alone
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gyre.compression import Result
from gyre.flow import RESULTS
from model.compress import checkpoint
from model.ir.errors import BadInput

KEPT = RESULTS / "campaign"
HEADING = "\n## The CIFAR-10 campaign\n"
ABOUT = """
`python -m gyre.campaign` trains and runs these recipes of [recipes/campaign](../recipes/campaign)
([how](campaign.md)). A row that is *width-scaled* is of a narrower network than the recipe's, or of
a part of its epochs, and is not held to the goals: it shows that the way is whole, not what the
method reaches. Accuracies are of the test set; seconds are wall time, beside other work.
"""
NONE = "\nNo recipe of it has been run yet.\n"
TABLE = """
| recipe | scale | published | float % | golden % | loss % | weights | stored | RTL frames | \
mismatches | cycles a frame | device | seed | seconds | goals | command |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | \
--- | --- |
"""
FLOATS = """
Float networks that were trained alone:

| recipe | scale | float % | epochs | device | seed | seconds | command |
| --- | --- | ---: | ---: | --- | ---: | ---: | --- |
"""


@dataclass(frozen=True)
class Scale:
    """How much of a recipe was run.

    Parameters
    ----------
    width, full : int
        Width of the network, and that of the recipe.
    epochs : float
        Share of the recipe's epochs.
    """

    width: int
    full: int
    epochs: float = 1.0

    @property
    def whole(self) -> bool:
        """Whether it is the recipe as it stands."""
        return self.width == self.full and self.epochs == 1

    def __str__(self) -> str:
        if self.whole:
            return f"full width, {self.full}"
        share = "" if self.epochs == 1 else f", {100 * self.epochs:g} % of the epochs"
        wide = f"{self.width} of {self.full}" if self.width != self.full else f"{self.full}"
        return f"width-scaled: {wide}{share}"


@dataclass(frozen=True)
class Row:
    """One compressed network of the campaign.

    Parameters
    ----------
    stem, variant : str
        The recipe's file and variant; the variant is empty if it is the recipe itself.
    scale : Scale
        How much of it was run.
    result : Result
        Accuracy and compression.
    bytes : int
        Size of the integer network as a folder.
    rtl : dict
        ``frames``, ``mismatches``, ``equal`` (all checks of a run together), ``cycles_per_frame``,
        ``seconds`` of the frames and ``multipliers``; empty where nothing was simulated yet.
    """

    stem: str
    variant: str
    scale: Scale
    result: Result
    bytes: int
    rtl: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of its file, and of its network in the zoo."""
        return self.result.name

    def line(self, others: list[Result]) -> str:
        """Its line of the table."""
        result, figures = self.result, self.result.compression
        goals = ""
        if self.scale.whole:
            missed = result.missed() + result.more(others)
            goals = "missed: " + "; ".join(missed) if missed else "reached"
        rtl = self.rtl
        cells = [
            f"`{result.name}`",
            str(self.scale),
            result.goal.get("published", ""),
            *(f"{100 * result.accuracy[key]:.2f}" for key in ("float", "golden")),
            f"{100 * result.loss:.2f}",
            f"{figures['ratio_weights']:.2f}x",
            f"{figures['ratio_bits']:.2f}x",
            f"{rtl['frames']:,}" if rtl else "none yet",
            str(rtl["mismatches"]) if rtl else "",
            f"{rtl['cycles_per_frame']:,.2f}" if rtl else "",
            *_place(result.machine, result.seed),
            _seconds(result.seconds),
            goals,
            f"`{result.command}`",
        ]
        return "| " + " | ".join(cells) + " |\n"


@dataclass(frozen=True)
class FloatRow:
    """One float network that was trained alone.

    Parameters
    ----------
    stem, variant, scale :
        As of :class:`Row`.
    name : str
        Name of its file.
    accuracy : float
        Share of the test split.
    epochs, seed : int
        Of its training.
    seconds : float
        Wall time of its training.
    machine : dict
        As of a result.
    command : str
        What makes it again.
    """

    stem: str
    variant: str
    scale: Scale
    name: str
    accuracy: float
    epochs: int
    seed: int
    seconds: float
    machine: dict[str, Any]
    command: str

    def line(self) -> str:
        """Its line of the table."""
        cells = [
            f"`{self.name}`",
            str(self.scale),
            f"{100 * self.accuracy:.2f}",
            str(self.epochs),
            *_place(self.machine, self.seed),
            f"{self.seconds:.0f}",
            f"`{self.command}`",
        ]
        return "| " + " | ".join(cells) + " |\n"


def _place(machine: dict[str, Any], seed: int) -> tuple[str, str]:
    precision = f", {machine['precision']}" if "precision" in machine else ""
    device = f"{machine['device']}{precision}, torch {machine['torch']}"
    return device, str(seed)


def _seconds(seconds: dict[str, float]) -> str:
    return " + ".join(f"{seconds[k]:.0f}" for k in ("float", "compress") if k in seconds)


def write(row: Row | FloatRow, folder: Path | None = None) -> Path:
    """Keep a row, all or nothing; returns its file."""
    folder = KEPT if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{row.name}.json"
    checkpoint.replace(path, (json.dumps(asdict(row), indent=1) + "\n").encode())
    return path


def read(path: Path) -> Row | FloatRow:
    """A kept row; raises BadInput if it is missing or unreadable."""
    remedy = "restore the file from the repository, or run `python -m gyre.campaign` again"
    try:
        form = json.loads(path.read_text())
        form["scale"] = Scale(**form["scale"])
        if "result" not in form:
            return FloatRow(**form)
        return Row(**{**form, "result": Result(**form["result"])})
    except OSError as error:
        raise BadInput(str(path), error.strerror, "a row of the campaign", remedy) from error
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(
            str(path), f"unreadable ({error})", "a row of the campaign", remedy
        ) from error


def read_all(folder: Path | None = None) -> list[Row | FloatRow]:
    """The kept rows, by name."""
    return [read(path) for path in sorted((KEPT if folder is None else folder).glob("*.json"))]


def section(rows: list[Row | FloatRow]) -> str:
    """The section of the page: compressed networks, then float ones."""
    full = [row for row in rows if isinstance(row, Row)]
    floats = [row for row in rows if isinstance(row, FloatRow)]
    text = HEADING + ABOUT
    if not rows:
        return text + NONE
    if full:
        results = [row.result for row in full]
        text += TABLE + "".join(row.line(results) for row in full)
    if floats:
        text += FLOATS + "".join(row.line() for row in floats)
    return text


def put(page: str, text: str, before: str) -> str:
    """A page with its section replaced by ``text``; a new one comes before ``before``, or last."""
    head, heading, rest = page.partition(HEADING)
    if heading:
        _, following, tail = rest.partition("\n## ")
        return head + text + following + tail
    head, found, tail = page.partition(before)
    return head + text + found + tail
