"""The CIFAR-10 campaign: each recipe of ``recipes/campaign``, from float training to RTL.

``python -m gyre.campaign`` runs every point (a recipe or one of its variants) at its full width; it
needs an accelerator for that. For each point it trains the float network and the compressed one,
measures both on the test set, puts the network into the zoo if it is small, and runs test frames in
RTL. Each point's row is kept in ``docs/results/campaign`` and the page of results is written after
each, so an interrupted campaign goes on where it was: finished points are read, and trainings
resume from the checkpoint of their last epoch.

    python -m gyre.campaign                                      everything, at full width
    python -m gyre.campaign --set width=16 --set epochs=0.025    what two cores can train
    python -m gyre.campaign osc_cifar10:k16                      one point
    python -m gyre.campaign convnet_50x_cifar10 --float          the float network alone
"""

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gyre import campaign_rows as rows
from gyre import compression, flow, training
from gyre.flow import ROOT, Flow
from gyre.recipe import Recipe, load, variants
from gyre.results import PAGE, RTL
from model import data
from model.compress import execution
from model.compress.training import accuracy
from model.ir.errors import BadInput
from sim.bench import SimulationError
from sim.build import BuildError, build_root

RECIPES = ROOT / "recipes" / "campaign"
ZOO_BYTES = 4 << 20
"""Most bytes of a network that the zoo takes."""

MINUTES = 60.0
"""Time for the test frames of one network in RTL, beside the checks and the least count."""


@dataclass(frozen=True)
class Point:
    """A recipe of the campaign, or a variant, at a scale.

    Parameters
    ----------
    path : Path
        The recipe's file.
    variant : str
        Empty for the recipe as it stands.
    width : int or None
        Width of the network; None for the recipe's own.
    epochs : float
        Share of each training's epochs, of which one is left at least.
    """

    path: Path
    variant: str = ""
    width: int | None = None
    epochs: float = 1.0

    @property
    def label(self) -> str:
        """What names it on the command line."""
        return f"{self.path.stem}:{self.variant}" if self.variant else self.path.stem

    @property
    def plain(self) -> Recipe:
        """The recipe at full scale."""
        return load(self.path, variant=self.variant or None)

    @property
    def scale(self) -> rows.Scale:
        """How much of the recipe it is."""
        full = self.plain.network.options["width"]
        return rows.Scale(self.width or full, full, self.epochs)

    @property
    def sets(self) -> list[str]:
        """What replaces keys of the recipe, as after ``--set``; the name tells the scale."""
        plain, scale = self.plain, self.scale
        sets = []
        suffix = ""
        if scale.width != scale.full:
            suffix += f"_w{scale.width}"
            sets.append(f"network.options.width={scale.width}")
        if scale.epochs != 1:
            suffix += f"_e{1000 * scale.epochs:g}".replace(".", "p")
            sets += _shortened(plain, scale.epochs)
        if suffix:
            sets.append(f"name={plain.name}{suffix}")
            if plain.goal.more_than:
                sets.append(f"goal.more_than={plain.goal.more_than}{suffix}")
        return sets

    @property
    def recipe(self) -> Recipe:
        """The recipe at this scale."""
        return load(self.path, self.sets, self.variant or None)

    @property
    def source(self) -> str:
        """The arguments that name the recipe to ``gyre compress``."""
        try:
            file = self.path.relative_to(ROOT)
        except ValueError:
            file = self.path
        variant = f" --variant {self.variant}" if self.variant else ""
        return f"{file}{variant}" + "".join(f" --set {text}" for text in self.sets)

    @property
    def command(self) -> str:
        """What makes its row again."""
        text = f"python -m gyre.campaign {self.label}"
        if self.width is not None:
            text += f" --set width={self.width}"
        return text + (f" --set epochs={self.epochs:g}" if self.epochs != 1 else "")


def _shortened(recipe: Recipe, share: float) -> list[str]:
    """Replacements that leave a share of each training's epochs, restarts and ADMM's intervals."""
    options = recipe.compress.solver_options().model_dump()
    sets = []
    for key, value in [("float", recipe.float_.model_dump()), *options.items()]:
        place = key if key == "float" else f"compress.options.{key}"
        if isinstance(value, dict) and "epochs" in value:
            sets += [
                f"{place}.{name}={max(1, math.floor(share * value[name] + 0.5))}"
                for name in ("epochs", "restart")
                if value[name]
            ]
        elif key == "interval":
            sets.append(f"{place}={max(1, math.floor(share * value + 0.5))}")
    return sets


def points(
    labels: Sequence[str] = (), width: int | None = None, epochs: float = 1.0
) -> list[Point]:
    """The points of some labels (all if none), each recipe before its variants.

    A label is the stem of a recipe, which stands for its variants too, or ``stem:variant``. Raises
    BadInput for an unknown label and a scale out of range.
    """
    if width is not None and width < 1:
        raise BadInput("--set width", width, "at least 1", "correct it")
    if not 0 < epochs <= 1:
        raise BadInput("--set epochs", epochs, "a share above 0, up to 1", "correct it")
    every = [
        Point(path, variant, width, epochs)
        for path in sorted(RECIPES.glob("*.toml"))
        for variant in ("", *variants(path))
    ]
    known = [label for p in every for label in (p.path.stem, p.label)]
    for label in labels:
        if label not in known:
            raise BadInput(
                "point of the campaign",
                repr(label),
                f"some of {', '.join(dict.fromkeys(known))}",
                "correct the name",
            )
    return [p for p in every if not labels or p.path.stem in labels or p.label in labels]


def of_row(row: rows.Row | rows.FloatRow) -> Point:
    """The point that a kept row is of."""
    scale = row.scale
    width = None if scale.width == scale.full else scale.width
    return Point(RECIPES / f"{row.stem}.toml", row.variant, width, scale.epochs)


def kept(point: Point, data_hash: str) -> rows.Row | None:
    """The row that is kept of a point, if it is of this very recipe and data, else None."""
    path = rows.KEPT / f"{point.recipe.name}.json"
    if not path.exists():
        return None
    row = rows.read(path)
    same = isinstance(row, rows.Row) and row.result.recipe == point.recipe.hash
    return row if same and row.result.data == data_hash else None


def run(
    point: Point, *, frames: int, minutes: float, say: Callable[[str], None] = lambda text: None
) -> rows.Row:
    """One point: trainings, figures, zoo and RTL, as far as they are not there yet.

    Parameters
    ----------
    point : Point
        What to run.
    frames : int
        Least test frames in RTL; 0 leaves the RTL out.
    minutes : float
        Time for more of them, of which as many as fit into it are run, up to all.
    say : callable
        Told, in a line, what was done.

    Returns the row, which is kept, and so is what there is of it if a step fails.
    """
    recipe = point.recipe
    work = Flow(recipe, source=point.source, say=say, begin=say)
    row = kept(point, work.dataset.hash)
    if row is None:
        result = replace(work.compress(), command=point.command)
        row = rows.Row(point.path.stem, point.variant, point.scale, result, _bytes(work))
        rows.write(row)
    if row.bytes <= ZOO_BYTES and not (flow.ZOO / row.name).exists():
        say(f"kept       {work.keep()}")
    if not frames or row.rtl.get("frames", 0) >= frames:
        return row
    for count in _counts(frames, minutes, len(work.dataset.test)):
        found = _simulated(point, count(row.rtl), say)
        if found is not None:
            row = replace(row, rtl=found)
            rows.write(row)
        if not row.rtl["equal"]:
            break
    return row


def _counts(frames: int, minutes: float, most: int) -> Iterator[Callable[[dict[str, Any]], int]]:
    """How many frames to run: first the least; then what fits into the time, if it is far more."""
    yield lambda rtl: min(frames, most)

    def more(rtl: dict[str, Any]) -> int:
        fit = int(60 * minutes * rtl["frames"] / max(rtl["seconds"], 1e-9))
        return min(most, fit) if min(most, fit) >= 2 * rtl["frames"] else 0

    yield more


def _simulated(point: Point, frames: int, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The figures of so many test frames in RTL; None for no frames."""
    if not frames:
        return None
    recipe = load(point.path, [*point.sets, f"simulate.frames={frames}"], point.variant or None)
    verdict, found = Flow(recipe, source=point.source, say=say, begin=say).simulate()
    return {
        "frames": verdict.frames,
        "mismatches": verdict.mismatches,
        "equal": verdict.equal,
        "cycles_per_frame": found["rtl"]["cycles_per_frame"],
        "seconds": found["rtl"]["sim_seconds"],
        "multipliers": found["resources"]["multipliers"],
    }


def _bytes(work: Flow) -> int:
    """Bytes of a flow's integer network as a folder."""
    folder = work.export()
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run_float(point: Point) -> rows.FloatRow:
    """The float network of a point alone, trained as far as its scale says; its row is kept."""
    recipe, build = point.recipe, build_root() / "trained"
    dataset = data.load(recipe.data.name, recipe.data.options)
    module = training.train_float(recipe, dataset, build)
    row = rows.FloatRow(
        point.path.stem,
        point.variant,
        point.scale,
        f"{recipe.name}_float",
        accuracy(module, dataset.test),
        recipe.float_.epochs,
        recipe.seed,
        training.seconds(recipe, dataset, build).get("float", 0.0),
        training.machine(recipe, dataset, build) or compression.machine(),
        f"{point.command} --float",
    )
    rows.write(row)
    return row


def write_page() -> None:
    """Put the kept rows into the page of results."""
    PAGE.write_text(rows.put(PAGE.read_text(), rows.section(rows.read_all()), RTL))


def campaign(
    chosen: Sequence[Point], *, frames: int, minutes: float, floats: bool, console: Console
) -> int:
    """Run some points; returns the exit status: 0, 1 if hardware and golden differ, 2 if bad input.

    A point that cannot be run is told of and the next one begins; but where the accelerator has
    failed nothing more can be trained, so the campaign ends there, with AcceleratorFailed.
    """
    status = 0
    for number, point in enumerate(chosen, 1):
        console.rule(f"{number} of {len(chosen)}: {point.recipe.name}")

        def say(text: str) -> None:
            console.print(text, markup=False)

        try:
            if floats:
                row = run_float(point)
                say(f"float      {100 * row.accuracy:.2f} % after {row.epochs} epochs")
            else:
                found = run(point, frames=frames, minutes=minutes, say=say)
                compression.show(found.result, console)
                if found.rtl and not found.rtl["equal"]:
                    say(f"NOT EQUAL: {found.name} in RTL")
                    status = max(status, 1)
        except execution.AcceleratorFailed:
            raise
        except BadInput as error:
            console.print(f"not run: {error}", style="red", markup=False)
            status = 2
        except (SimulationError, BuildError) as error:
            console.print(f"not simulated: {error}", style="red", markup=False)
            status = max(status, 1)
        write_page()
    return status


def plan(chosen: Sequence[Point]) -> Table:
    """What will be run, as a table."""
    where = execution.device()
    form = str(execution.precision(where)).removeprefix("torch.")
    table = Table(title=f"campaign on {where}, {form}", title_justify="left")
    for name in ("point", "name", "scale", "epochs"):
        table.add_column(name)
    for point in chosen:
        recipe = point.recipe
        options = recipe.compress.solver_options().model_dump()
        parts = [v["epochs"] for v in options.values() if isinstance(v, dict) and "epochs" in v]
        epochs = " + ".join(map(str, [recipe.float_.epochs, *parts]))
        table.add_row(point.label, recipe.name, str(point.scale), epochs)
    return table


def scale_of(sets: Sequence[str]) -> dict[str, Any]:
    """``width`` and ``epochs`` of some ``key=value``; raises BadInput for another key or value."""
    kinds: dict[str, Callable[[str], Any]] = {"width": int, "epochs": float}
    found = {}
    for text in sets:
        key, _, value = text.partition("=")
        key = key.strip().removeprefix("network.options.")
        try:
            found[key] = kinds[key](value)
        except (KeyError, ValueError) as error:
            raise BadInput(
                "--set", repr(text), "width=COUNT or epochs=SHARE", "write it so"
            ) from error
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the campaign; exit status as of the command line of Gyre."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("points", nargs="*", help="recipes, or RECIPE:VARIANT [all]")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="width=16, epochs=0.025"
    )
    parser.add_argument("--device", help="where to train: auto, cpu or an accelerator [auto]")
    parser.add_argument("--precision", help="auto, float32, bfloat16 or float16 [auto]")
    parser.add_argument("--frames", type=int, default=100, help="least test frames in RTL [100]")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="time for more of them, each point [60]"
    )
    parser.add_argument("--float", action="store_true", help="the float networks alone")
    parser.add_argument("--plan", action="store_true", help="say what would be run")
    given = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    os.chdir(ROOT)
    try:
        with execution.chosen(given.device, given.precision):
            chosen = points(given.points, **scale_of(given.set))
            console.print(plan(chosen))
            if given.plan:
                return
            for name in {p.recipe.data.name for p in chosen}:
                data.load(name)  # what is missing is told before anything is trained
            status = campaign(
                chosen,
                frames=given.frames,
                minutes=given.minutes,
                floats=given.float,
                console=console,
            )
    except KeyboardInterrupt:
        console.print("interrupted; the same command resumes", style="red")
        sys.exit(130)
    except BadInput as error:
        console.print(f"campaign: {error}", style="red", markup=False)
        sys.exit(2)
    sys.exit(status)


if __name__ == "__main__":
    main()
