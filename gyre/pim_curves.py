"""Accuracy of kept networks on macros that are not ideal: ``python -m gyre.pim_curves``.

Three curves for each system, by the golden model on the test split of its data set:

1. conductance spread, exact counts, over some seeds;
2. stuck cells, half of them at the lowest and half at the highest level, with and without repair,
   over some seeds;
3. bits of the converters, cells nominal; steps calibrated on validation frames.

A system has two networks: one trained for ideal cells, and one retrained for cells that deviate.
Every finished point is kept in ``build/pim_curves/<network>.json`` with the hash of the network on
its macros, all cells and steps included, so that a sweep that was cut short goes on, and a change
of the conversion that changes a network measures its points anew. ``--record`` writes what is
finished to ``docs/results/pim/``: the points, the page of tables and the picture.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from gyre import pim_chart, pim_fast
from model import data, golden
from model.data import Split
from model.export import PIMOptions, to_pim
from model.export.pim import CALIBRATION_FRAMES
from model.ir.arithmetic import ExactArithmetic
from model.ir.errors import BadInput
from model.ir.fft_arithmetic import FFTArithmetic
from model.ir.network import Network, Node

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "zoo"
BUILD = ROOT / "build" / "pim_curves"
KEPT = ROOT / "docs" / "results" / "pim"
POINTS, PAGE, PICTURE = "curves.json", "curves.md", "curves.svg"
ADC_BITS = (3, 4, 5, 6, 7, 8)
SPREADS = (0.025, 0.05, 0.1, 0.15, 0.2)
STUCK = (0.005, 0.01, 0.02, 0.05)
SPARE_SHARE = 8
"""One of so many columns is spare where stuck cells are looked at, repaired or not."""
SPREAD_GRID_BITS = 4
CHECKED_FRAMES = 500
"""Frames on which ideal macros are held to exact arithmetic, code by code."""


@dataclass(frozen=True)
class System:
    """Networks of the zoo on their macros.

    Parameters
    ----------
    title : str
        What it is called.
    options : PIMOptions
        The macros, ideal.
    networks : dict of str to str
        What a network was trained for, to its name in the zoo.
    """

    title: str
    options: PIMOptions
    networks: dict[str, str]


SYSTEMS: dict[str, System] = {
    "sot": System(
        "SOT-MRAM: 1-bit cells, two's complement, macros of 32 x 32",
        PIMOptions(rows=32, columns=32, cell_bits=1),
        {"ideal": "lenet5_crossbar", "deviating": "lenet5_crossbar_spread"},
    ),
    "memristor": System(
        "memristor: 4-bit cells, pairs, crossbars of 32 x 32",
        PIMOptions(rows=32, columns=32, cell_bits=4, form="pairs"),
        {"ideal": "lenet5_crossbar_conductance", "deviating": "lenet5_crossbar_conductance_spread"},
    ),
    "sac": System(
        "SAC: 1-bit cells, two's complement, circulant flow, macros of 128 x 128",
        PIMOptions(rows=128, columns=128, cell_bits=1),
        {"ideal": "osc_lenet5", "deviating": "osc_lenet5_spread"},
    ),
}


@dataclass(frozen=True)
class Task:
    """One evaluation: ``kind`` is ideal, spread, stuck, repaired or adc; ``x`` its abscissa."""

    kind: str
    x: float = 0.0
    seed: int = 0

    @property
    def key(self) -> str:
        """Names it in the file of finished points."""
        return f"{self.kind} {self.x:g} {self.seed}"


IDEAL = Task("ideal").key


@dataclass(frozen=True)
class Measured:
    """The result of one evaluation.

    Parameters
    ----------
    accuracy : float
        Share of the frames.
    note : str
        What else was found.
    network : str
        Hash of the network on its macros.
    """

    accuracy: float
    note: str
    network: str


@dataclass(frozen=True)
class Point:
    """A point of a curve.

    Parameters
    ----------
    x : float
        Bits, standard deviation or share.
    accuracies : tuple of float
        One for each seed.
    note : str
        What else was found, for the first seed.
    """

    x: float
    accuracies: tuple[float, ...]
    note: str = ""

    @property
    def mean(self) -> float:
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def least(self) -> float:
        return min(self.accuracies)


def tasks(seeds: int, bits: Sequence[int] = ADC_BITS) -> list[Task]:
    """Every evaluation of a network, the cheap ones first."""
    found = [Task("ideal")]
    found += [Task("spread", x, seed) for x in SPREADS for seed in range(seeds)]
    for kind in ("stuck", "repaired"):
        found += [Task(kind, x, seed) for x in STUCK for seed in range(seeds)]
    return found + [Task("adc", one) for one in bits]


def exact(network: Network) -> Network:
    """The network with exact arithmetic where its fft arithmetic keeps the accumulators' scale.

    Raises BadInput for one that does not: its requantization is of another scale.
    """

    def plain(node: Node) -> Node:
        arithmetic = getattr(node.spec, "arithmetic", None)
        if not isinstance(arithmetic, FFTArithmetic):
            return node
        if arithmetic.exponent:
            raise BadInput(
                f"{node.name}: fft arithmetic",
                f"accumulators of 2^{arithmetic.exponent} times the exact ones",
                "the scale of exact arithmetic, as blocks of k = 2 and 4 have it",
                "export the network with arithmetic = 'exact'",
            )
        return replace(node, spec=replace(node.spec, arithmetic=ExactArithmetic()))

    return replace(network, nodes=tuple(plain(node) for node in network.nodes))


class Bench:
    """A network with the frames that it is measured on.

    Parameters
    ----------
    network : Network
        Of exact arithmetic.
    options : PIMOptions
        Its macros, ideal.
    frames : Split
        Of the test.
    calibration : int64 tensor
        Codes of other frames.
    """

    def __init__(
        self, network: Network, options: PIMOptions, frames: Split, calibration: torch.Tensor
    ) -> None:
        self.network, self.options, self.calibration = network, options, calibration
        self.codes = golden.quantize(network.input, frames.real())
        self.labels = torch.from_numpy(frames.labels)

    @classmethod
    def of(cls, name: str, options: PIMOptions, count: int) -> "Bench":
        """A network of the zoo, on the first ``count`` test frames of MNIST."""
        network, dataset = exact(Network.load(ZOO / name / "network")), data.load("mnist")
        frames = dataset.validation.part(slice(0, CALIBRATION_FRAMES))
        calibration = golden.quantize(network.input, frames.real())
        return cls(network, options, dataset.test.part(slice(0, count)), calibration)

    @cached_property
    def identity(self) -> str:
        """A hash of the frames."""
        digest = hashlib.sha256()
        for tensor in (self.codes, self.labels):
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def accuracy(self, network: Network) -> float:
        """Share of the frames that a network classifies rightly."""
        found = golden.predict(pim_fast.run(network, self.codes))
        return float((found == self.labels).double().mean())

    def _options(self, task: Task) -> PIMOptions:
        changes: dict[str, Any] = {"seed": task.seed}
        if task.kind == "adc":
            changes |= {"adc_bits": int(task.x)}
        elif task.kind == "spread":
            changes |= {"spread": task.x, "grid_bits": SPREAD_GRID_BITS}
        elif task.kind != "ideal":
            changes |= {
                "stuck_low": task.x / 2,
                "stuck_high": task.x / 2,
                "repair": task.kind == "repaired",
                "spare": self.options.columns // SPARE_SHARE,
            }
        return PIMOptions.model_validate({**self.options.model_dump(), **changes})

    def convert(self, task: Task) -> tuple[Network, str]:
        """The network of one evaluation on its macros, and what else was found."""
        found = to_pim(self.network, self._options(task), self.calibration)
        note = ""
        if task.kind == "adc":
            nodes = [found.network[name] for name in found.placements]
            note = "steps " + ", ".join(str(node.spec.arithmetic.step) for node in nodes)
        elif found.repairs:
            hit, left = (
                sum(getattr(one, name) for one in found.repairs.values())
                for name in ("hit", "remaining")
            )
            note = f"{hit} cells wrong, {hit - left} repaired, {left} remain"
        return found.network, note

    def measure(self, task: Task, known: Measured | None = None) -> Measured:
        """The result of one evaluation: the known one, if it is of the very network.

        Raises BadInput if ideal macros do not give the very codes of exact arithmetic.
        """
        network, note = self.convert(task)
        if known is not None and known.network == network.hash():
            return known
        if task.kind == "ideal":
            some = self.codes[:CHECKED_FRAMES]
            if not torch.equal(pim_fast.run(network, some), golden.run(self.network, some)):
                raise BadInput(
                    "codes of ideal macros", "others", "those of exact arithmetic", "mend pim_fast"
                )
        return Measured(self.accuracy(network), note, network.hash())


class Finished:
    """The finished points of a network, kept in a file from point to point.

    What the file holds of other frames is dropped.
    """

    def __init__(self, path: Path, frames: str) -> None:
        self.path, self.frames = path, frames
        self.points: dict[str, Measured] = {}
        if path.exists():
            form = json.loads(path.read_text())
            if form["frames"] == frames:
                self.points = {key: Measured(**point) for key, point in form["points"].items()}

    def measure(self, task: Task, by: Callable[[Task, Measured | None], Measured]) -> None:
        """Measure a point, which ``by`` may take from what is known of it."""
        known = self.points.get(task.key)
        found = by(task, known)
        if found != known:
            self.points[task.key] = found
            form = {"frames": self.frames, "points": plain(self.points)}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_suffix(".part")
            part.write_text(json.dumps(form, indent=1))
            part.replace(self.path)


def plain(points: dict[str, Measured]) -> dict[str, dict[str, Any]]:
    """Points as JSON data."""
    return {key: asdict(point) for key, point in points.items()}


def curve(points: dict[str, dict[str, Any]], kind: str) -> list[Point]:
    """A curve of finished points as JSON data, ascending; deviations begin at the ideal macro."""
    found: dict[float, list[tuple[int, float, str]]] = {}
    for key, point in points.items():
        own, x, seed = key.split()
        if own == kind:
            one = int(seed), point["accuracy"], point["note"]
            found.setdefault(float(x), []).append(one)
    if found and kind != "adc" and IDEAL in points:
        found[0.0] = [(0, points[IDEAL]["accuracy"], "")]
    return [
        Point(x, tuple(accuracy for _, accuracy, _ in sorted(some)), min(some)[2])
        for x, some in sorted(found.items())
    ]


CURVES = (
    ("spread", "conductance spread", "sigma, %", 100),
    ("stuck", "stuck cells", "share, %", 100),
    ("repaired", "stuck cells, repaired", "share, %", 100),
    ("adc", "converters", "bits", 1),
)
"""Kind, title, what stands on the axis, and its factor."""


def page(kept: dict[str, Any]) -> str:
    """The page of tables of what is kept: mean and least over the draws of each point."""
    text = (
        "# Curves of macros that are not ideal\n\n"
        "Written by `python -m gyre.pim_curves --record`. Accuracy in %: mean / least of the draws;"
        "\nthe notes are of the first draw on the network that was trained for ideal cells.\n\n"
        f"![curves]({PICTURE})\n"
    )
    for system in SYSTEMS.values():
        trained = {what: kept[name] for what, name in system.networks.items() if name in kept}
        if not trained:
            continue
        text += f"\n## {system.title}\n\n"
        for what, form in trained.items():
            accuracy = 100 * form["points"][IDEAL]["accuracy"]
            text += (
                f"- trained for {what} cells: `{system.networks[what]}`, {form['frames']:,} test "
                f"frames, {accuracy:.2f} % on ideal macros\n"
            )
        for kind, title, unit, factor in CURVES:
            curves = {what: curve(form["points"], kind) for what, form in trained.items()}
            curves = {what: points for what, points in curves.items() if points}
            if not curves:
                continue
            heads = [f"{title}, {unit}", *(f"trained for {what} cells" for what in curves), "note"]
            text += f"\n| {' | '.join(heads)} |\n| ---: {'| ---: ' * len(curves)}| --- |\n"
            for x in sorted({point.x for points in curves.values() for point in points}):
                own = {what: p for what, points in curves.items() for p in points if p.x == x}
                cells = [_text(own[what]) if what in own else "" for what in curves]
                note = own["ideal"].note if "ideal" in own else ""
                text += f"| {x * factor:g} | {' | '.join(cells)} | {note} |\n"
    return text


def _text(point: Point) -> str:
    mean = f"{100 * point.mean:.2f}"
    return mean if len(point.accuracies) == 1 else f"{mean} / {100 * point.least:.2f}"


PANELS = (
    ("spread", "sigma, %", 100, ("spread",)),
    ("stuck cells", "share, %", 100, ("stuck", "repaired")),
    ("converters", "bits", 1, ("adc",)),
)
"""Title of a panel, its axis and the axis' factor, and kinds of curves."""


def panels(kept: dict[str, Any]) -> list[list[pim_chart.Panel]]:
    """What the picture shows: a row for each system."""
    rows = []
    for system in SYSTEMS.values():
        trained = {what: kept[name] for what, name in system.networks.items() if name in kept}
        row = []
        for title, unit, factor, kinds in PANELS:
            lines = []
            for what, form in trained.items():
                for kind in kinds:
                    repaired = kind == "repaired"
                    points = tuple(
                        (point.x * factor, 100 * point.mean, 100 * point.least)
                        for point in curve(form["points"], kind)
                    )
                    name = f"trained for {what} cells{', repaired' * repaired}"
                    second = what == "deviating"
                    lines.append(pim_chart.Line(name, points, second, repaired))
            title = f"{system.title.partition(':')[0]}, {title}"
            row.append(pim_chart.Panel(title, unit, tuple(lines)))
        if trained:
            rows.append(row)
    return rows


def record(kept: dict[str, Any], folder: Path = KEPT) -> None:
    """Write points, page and picture."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / POINTS).write_text(json.dumps(kept, indent=1) + "\n")
    (folder / PAGE).write_text(page(kept))
    (folder / PICTURE).write_text(pim_chart.svg(panels(kept)))


def show(console: Console, name: str, points: dict[str, dict[str, Any]]) -> None:
    """Print a network's curves as tables."""
    for kind, title, unit, factor in CURVES:
        found = curve(points, kind)
        if not found:
            continue
        table = Table(title=f"{name}: {title}", title_justify="left")
        for head in (unit, "accuracy, mean %", "least %", "note"):
            table.add_column(head, justify="left" if head == "note" else "right")
        for point in found:
            accuracies = (f"{100 * each:.2f}" for each in (point.mean, point.least))
            table.add_row(f"{point.x * factor:g}", *accuracies, point.note)
        console.print(table)


def main(arguments: list[str] | None = None) -> None:
    """Measure what is not finished, and print the curves as tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("systems", nargs="*", default=list(SYSTEMS), help=", ".join(SYSTEMS))
    parser.add_argument("--frames", type=int, default=10_000, help="test frames")
    parser.add_argument("--seeds", type=int, default=3, help="draws of each point")
    parser.add_argument("--adc", type=int, nargs="*", default=list(ADC_BITS), metavar="BITS")
    parser.add_argument("--record", action="store_true", help="write docs/results/pim")
    parser.add_argument("--finished", action="store_true", help="measure nothing more")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.systems) - set(SYSTEMS))
    if unknown:
        parser.error(f"unknown systems {', '.join(unknown)}; known: {', '.join(SYSTEMS)}")
    console = Console()
    chosen = {
        n: SYSTEMS[system] for system in given.systems for n in SYSTEMS[system].networks.values()
    }
    kept: dict[str, Any] = {}
    if (KEPT / POINTS).exists():
        kept = json.loads((KEPT / POINTS).read_text())
    wanted = [] if given.finished else tasks(given.seeds, given.adc)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for name, system in chosen.items():
            if not (ZOO / name).exists():
                console.print(f"{name}: not in the zoo (gyre compress RECIPE --keep)")
                continue
            bench = Bench.of(name, system.options, given.frames)
            finished = Finished(BUILD / f"{name}_{given.frames}.json", bench.identity)
            bar = progress.add_task(name, total=len(wanted))
            for task in wanted:
                progress.update(bar, description=f"{name}: {task.key}")
                finished.measure(task, bench.measure)
                progress.advance(bar)
            points = plain(finished.points)
            show(console, name, points)
            if IDEAL in points:
                kept[name] = {"frames": given.frames, "network": bench.network.hash()}
                kept[name]["points"] = points
    if given.record:
        record(kept)
        console.print(f"written to {KEPT}")


if __name__ == "__main__":
    main()
