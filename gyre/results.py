"""``make results``: runs every recipe and writes the table of ``docs/results.md``."""

import os
import sys
import time
from pathlib import Path

from rich.console import Console

from gyre.flow import Flow
from gyre.recipe import load
from gyre.report import show
from model.ir.errors import BadInput

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "recipes"
PAGE = ROOT / "docs" / "results.md"

HEAD = """\
# Results

Each row was written by `make results`, which runs `gyre run` on the recipe: the whole test set in
RTL on Verilator, compared with golden in every code. Accuracies are of the test set; float and
compressed are those of the training run where the network came from the zoo.

| recipe | test frames in RTL | mismatches | float % | compressed % | golden % | RTL % | weights | \
stored bits | cycles a frame | bound | utilisation | multipliers | memory bits | seconds |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | \
---: |
"""


def row(report: dict, seconds: float) -> str:
    """The line of one report."""
    rtl, compression, resources = report["rtl"], report["compression"], report["resources"]
    cells = [
        f"`{report['recipe']}`",
        f"{rtl['frames']:,}",
        str(rtl["mismatches"]),
        *(f"{100 * report['accuracy'][k]:.2f}" for k in ("float", "compressed", "golden", "rtl")),
        f"{compression['ratio_weights']:.2f}x",
        f"{compression['ratio_bits']:.2f}x",
        f"{rtl['cycles_per_frame']:.2f}",
        str(rtl["bound_cycles_per_frame"]),
        f"{rtl['utilisation']:.3f}",
        str(resources["multipliers"]),
        f"{resources['memory_bits']:,}",
        f"{seconds:.0f}",
    ]
    return "| " + " | ".join(cells) + " |\n"


def main() -> None:
    """Run all recipes; the page is written only if every one of them could run."""
    console = Console(highlight=False)
    os.chdir(ROOT)
    page, bad = HEAD, False
    for path in sorted(RECIPES.glob("*.toml")):
        console.rule(path.name)
        begin = time.perf_counter()
        try:
            flow = Flow(load(path), say=console.print)
            verdict, report = flow.simulate()
        except BadInput as error:
            console.print(f"not run: {error}", style="red", markup=False)
            bad = True
            continue
        show(report, console)
        bad |= not verdict.equal
        page += row(report, time.perf_counter() - begin)
    if bad:
        sys.exit(f"{PAGE.relative_to(ROOT)} is left as it was: not every recipe ran and was equal")
    PAGE.write_text(page)
    console.print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
