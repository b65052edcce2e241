"""``make results``: compresses every recipe and variant, runs those with hardware, writes the page.

A result that is kept in ``docs/results`` and was made of this very recipe and data is taken as it
is; whatever else there is to train is trained (hours on two cores, resumable). Arguments are stems
of recipes to which the work is limited; ``--page`` trains nothing and writes the page of what is
kept.
"""

import dataclasses
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from scipy import stats

from gyre import campaign_rows, compression
from gyre.compression import Result
from gyre.flow import RESULTS, ROOT, Flow
from gyre.recipe import Recipe, load, variants
from gyre.report import show
from model.ir.errors import BadInput

RECIPES = ROOT / "recipes"
PAGE = ROOT / "docs" / "results.md"
CONFIDENCE = 0.95
CHOSEN_ON = "_fold9"  # its test recordings are those that fold 0 is validated on

HEAD = """\
# Results

Written by `make results`. Accuracies are of the test set, which the report reads; everything that
was chosen was chosen on validation. An earlier `lenet5_crossbar_x105` missed its goal on the test
set and was trained anew, so for that row it was read more than once. *Weights* is weights of the
uncompressed network over weights kept; *stored* is 32-bit weights over all bits that are stored
(codes, indices, scales, multipliers, biases); *chip* is the weight memory in bits: spectra for
layers of fft arithmetic. Results from before that arithmetic count 16-bit spectra for every
circulant layer.
"""
COMPRESSION = """
## {title}

{about}
| recipe | published | float % | golden % | loss % | weights | stored | chip | seed | seconds | \
goals |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |
"""
POOLED = """
## Pooled over folds

Each sample is tested once, by the network that was not trained on its fold. The interval is
Student's, {percent:.0f} %, over the losses of the folds. The recipe was chosen on the validation
recordings of fold 0, which are the test recordings of fold 9; so the last column leaves that fold
out.

| networks | folds | samples | float % | golden % | loss % | interval % | goal | without fold 9 |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |
"""
RTL = """
## In RTL

`gyre run` on these recipes: the whole test set in RTL on Verilator, compared with golden in every
code; for other networks in RTL see the README's figures. Seconds are wall time beside other work,
with whatever was cached.

| recipe | test frames in RTL | mismatches | float % | compressed % | golden % | RTL % | weights | \
stored bits | cycles a frame | bound | utilisation | multipliers | memory bits | seconds |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | \
---: |
"""


def rtl_row(report: dict, seconds: float) -> str:
    """The line of one report."""
    rtl, figures, resources = report["rtl"], report["compression"], report["resources"]
    cells = [
        f"`{report['recipe']}`",
        f"{rtl['frames']:,}",
        str(rtl["mismatches"]),
        *(f"{100 * report['accuracy'][k]:.2f}" for k in ("float", "compressed", "golden", "rtl")),
        f"{figures['ratio_weights']:.2f}x",
        f"{figures['ratio_bits']:.2f}x",
        f"{rtl['cycles_per_frame']:.2f}",
        str(rtl["bound_cycles_per_frame"]),
        f"{rtl['utilisation']:.3f}",
        str(resources["multipliers"]),
        f"{resources['memory_bits']:,}",
        f"{seconds:.0f}",
    ]
    return "| " + " | ".join(cells) + " |\n"


def compression_row(result: Result, others: list[Result]) -> str:
    """The line of one result; ``others`` are those that its goal may name."""
    figures = result.compression
    missed = result.missed() + result.more(others)
    wanted = any(value for key, value in result.goal.items() if key.endswith(("_min", "_max")))
    cells = [
        f"`{result.name}`",
        result.goal.get("published", ""),
        f"{100 * result.accuracy['float']:.2f}",
        f"{100 * result.accuracy['golden']:.2f}",
        f"{100 * result.loss:.2f}",
        f"{figures['ratio_weights']:.2f}x",
        f"{figures['ratio_bits']:.2f}x",
        f"{figures['bits_on_chip']:,}",
        str(result.seed),
        " + ".join(
            f"{result.seconds[key]:.0f}" for key in ("float", "compress") if key in result.seconds
        ),
        "missed: " + "; ".join(missed) if missed else "reached" if wanted else "",
    ]
    return "| " + " | ".join(cells) + " |\n"


def pooled_row(name: str, results: list[Result]) -> str:
    """The line of the results of several folds."""
    samples = sum(result.samples for result in results)
    shares = {
        key: sum(result.right[key] for result in results) / samples for key in ("float", "golden")
    }
    losses = [result.loss for result in results]
    loss = shares["float"] - shares["golden"]
    goal = next((g for r in results if (g := r.goal.get("loss_pooled_max"))), None)
    reached = ""
    if goal is not None:
        reached = f"<= {100 * goal:.2f}: {'reached' if loss <= goal + 1e-9 else 'missed'}"
    low, high = interval(losses)
    cells = [
        f"`{name}`",
        str(len(results)),
        f"{samples:,}",
        *(f"{100 * shares[key]:.2f}" for key in ("float", "golden")),
        f"{100 * loss:.2f}",
        f"{100 * low:.2f} to {100 * high:.2f}",
        reached,
        f"{100 * _loss([r for r in results if not r.name.endswith(CHOSEN_ON)]):.2f}",
    ]
    return "| " + " | ".join(cells) + " |\n"


def _loss(results: list[Result]) -> float:
    """Pooled loss of some results; 0 if there are none."""
    right = sum(result.right["float"] - result.right["golden"] for result in results)
    return right / max(1, sum(result.samples for result in results))


def interval(values: list[float]) -> tuple[float, float]:
    """Student's confidence interval of the mean; the whole line for a single value."""
    n = len(values)
    if n < 2:
        return -math.inf, math.inf
    mean = sum(values) / n
    variance = sum((value - mean) ** 2 for value in values) / (n - 1)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * math.sqrt(variance / n)
    return mean - half, mean + half


def recipes(stems: list[str]) -> Iterator[tuple[Path, str | None]]:
    """Every recipe's file and variant: first as it stands, then its variants."""
    paths = sorted(RECIPES.glob("*.toml"))
    known = [path.stem for path in paths]
    for stem in stems:
        if stem not in known:
            raise BadInput(
                "make results", repr(stem), f"stems of recipes ({', '.join(known)})", "correct it"
            )
    for path in paths:
        if not stems or path.stem in stems:
            for variant in (None, *variants(path)):
                yield path, variant


def kept(recipe: Recipe) -> Result | None:
    """The kept result of a recipe, if it was made of this very recipe, else None.

    It must have as many devices under mismatch as the recipe asks for.

    Goals decide nothing of a result: they are those that the recipe has now.
    """
    path = RESULTS / f"{recipe.name}.json"
    if not path.exists():
        return None
    result = compression.read(path)
    if result.recipe != recipe.hash or result.split != "test":
        return None
    if recipe.evaluate.samples not in (0, result.mismatch.get("devices")):
        return None
    return dataclasses.replace(result, goal=recipe.goal.plain())


def compress(path: Path, variant: str | None, console: Console) -> Result:
    """The result of a recipe: the kept one, or a new one, which is then kept."""
    recipe = load(path, variant=variant)
    source = f"recipes/{path.name}" + (f" --variant {variant}" if variant else "")
    flow = Flow(recipe, source=source, say=console.print)
    found = kept(recipe)
    if found is not None and found.data == flow.dataset.hash:
        return found
    result = flow.compress()
    flow.record(result)
    return result


def page(results: dict[str, list[Result]], rtl: str, missing: Sequence[str] = ()) -> str:
    """The whole page: results by recipe file, what is missing, and the rows of RTL."""
    text, pools = HEAD, {}
    if missing:
        text += f"\nNot run yet: {', '.join(f'`{name}`' for name in missing)}.\n"
    for stem, rows in results.items():
        first = rows[0]
        machine = first.machine
        about = (
            f"{first.data_name}, {first.samples:,} {first.split} samples; trained on "
            f"{machine['device']}, {machine['threads']} threads a training, torch "
            f"{machine['torch']}; seconds are wall time, beside other trainings. Rows: "
            f"`{first.command}`"
            + (" and its variants (`--variant NAME`).\n" if len(rows) > 1 else ".\n")
        )
        text += COMPRESSION.format(title=stem, about=about)
        for result in rows:
            text += compression_row(result, rows)
            if result.goal.get("pool"):
                pools.setdefault(result.goal["pool"], []).append(result)
    if pools:
        text += POOLED.format(percent=100 * CONFIDENCE)
        for name, rows in pools.items():
            text += pooled_row(name, rows)
    return text + campaign_rows.section(campaign_rows.read_all()) + (RTL + rtl if rtl else "")


def main() -> None:
    """Run all recipes; the page is written only if every one of them could run."""
    console = Console(highlight=False)
    os.chdir(ROOT)
    arguments = sys.argv[1:]
    only_page = "--page" in arguments
    stems = [text for text in arguments if text != "--page"]
    results: dict[str, list[Result]] = {}
    rtl, bad, missing = "", False, []
    for path, variant in recipes(stems):
        begin = time.perf_counter()
        try:
            recipe = load(path, variant=variant)
            console.rule(recipe.name)
            found = kept(recipe) if only_page else compress(path, variant, console)
            if found is None:
                console.print(f"no kept result of {recipe.name}", style="red")
                if recipe.mapping.engine == "none":  # the others stand in the table of RTL
                    missing.append(recipe.name)
                continue
            results.setdefault(path.stem, []).append(found)
            compression.show(found, console)
            if only_page or recipe.mapping.engine == "none" or variant is not None:
                continue
            flow = Flow(recipe, say=console.print)
            verdict, report = flow.simulate()
        except BadInput as error:
            console.print(f"not run: {error}", style="red", markup=False)
            bad = True
            continue
        show(report, console)
        bad |= not verdict.equal
        rtl += rtl_row(report, time.perf_counter() - begin)
    if bad:
        sys.exit(f"{PAGE.relative_to(ROOT)} is left as it was: not every recipe ran and was equal")
    if stems:
        console.print(f"{PAGE.relative_to(ROOT)} is left as it was: only some recipes were run")
        return
    if only_page:
        rtl = PAGE.read_text().partition(RTL)[2]  # of the last run
    PAGE.write_text(page(results, rtl, missing))
    console.print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
