"""The command line: recipe in, verdict out.

Exit status: 0 if all is well, 1 if hardware and golden differ or a simulation fails, 2 for bad
input. Errors are one line, unless ``GYRE_TRACEBACK`` is set.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from model.ir.errors import BadInput

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From a PyTorch network to bit-exactly verified hardware.",
)

RecipeArgument = Annotated[Path, typer.Argument(help="a recipe (TOML)", metavar="RECIPE")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="replace a key of the recipe: section.key=value")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="folder of the results [build/<recipe name>]")
]
RetrainOption = Annotated[
    bool, typer.Option("--retrain", help="train anew, although the zoo has the network")
]


def _console(stderr: bool = False) -> Console:
    return Console(stderr=stderr, soft_wrap=True, highlight=False)


def _flow(recipe: Path, sets: list[str] | None, out: Path | None, retrain: bool = False):
    from gyre.flow import Flow, ZooFlow  # torch takes seconds to import: not for --help
    from gyre.recipe import load

    def say(text: str) -> None:
        _console().print(text)

    if recipe.is_dir():
        if sets or retrain:
            raise BadInput(
                str(recipe),
                "a kept network together with --set or --retrain",
                "a recipe",
                "name the recipe instead",
            )
        return ZooFlow(recipe, out, say=say)
    return Flow(load(recipe, sets or []), out, retrain=retrain, say=say)


def _verdict(flow) -> None:
    from gyre.report import show

    verdict, report = flow.simulate()
    show(report, _console())
    _console().print(f"report     {flow.out / 'report.json'}")
    if not verdict.equal:
        raise typer.Exit(1)


@app.command()
def run(
    recipe: RecipeArgument,
    sets: SetOption = None,
    out: OutOption = None,
    retrain: RetrainOption = False,
) -> None:
    """All steps: network, Verilog, simulation, verdict."""
    _verdict(_flow(recipe, sets, out, retrain))


@app.command()
def compress(
    recipe: RecipeArgument,
    sets: SetOption = None,
    out: OutOption = None,
    retrain: RetrainOption = False,
    keep: Annotated[bool, typer.Option("--keep", help="put the network into the zoo")] = False,
) -> None:
    """Train the float network and compress it."""
    flow = _flow(recipe, sets, out, retrain)
    network = flow.trained.network
    _console().print(f"weights    {flow.trained.weights:,} -> {network.weights():,}")
    if keep:
        _console().print(f"kept       {flow.keep()}")


@app.command()
def export(
    recipe: RecipeArgument,
    sets: SetOption = None,
    out: OutOption = None,
    retrain: RetrainOption = False,
) -> None:
    """Write the integer network."""
    _flow(recipe, sets, out, retrain).export()


@app.command()
def verilog(
    recipe: RecipeArgument,
    sets: SetOption = None,
    out: OutOption = None,
    retrain: RetrainOption = False,
) -> None:
    """Write Verilog, .hex files and a manifest."""
    _flow(recipe, sets, out, retrain).verilog()


@app.command()
def simulate(
    recipe: Annotated[
        Path, typer.Argument(help="a recipe, or a folder of the zoo", metavar="RECIPE")
    ],
    sets: SetOption = None,
    out: OutOption = None,
) -> None:
    """Simulate the test set in RTL and compare it with golden, exactly."""
    _verdict(_flow(recipe, sets, out))


@app.command()
def report(
    recipe: RecipeArgument,
    sets: SetOption = None,
    out: OutOption = None,
) -> None:
    """Show the report of the last run."""
    from gyre.report import read_report, show

    flow = _flow(recipe, sets, out)
    show(read_report(flow.out), _console())


def main() -> None:
    """Entry point of the console script."""
    if os.environ.get("GYRE_TRACEBACK"):
        app()
    from sim.bench import SimulationError
    from sim.build import BuildError

    try:
        app()
    except BadInput as error:
        _console(stderr=True).print(f"gyre: {error}", style="red", markup=False)
        sys.exit(2)
    except (SimulationError, BuildError) as error:
        _console(stderr=True).print(f"gyre: {error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        _console(stderr=True).print("gyre: interrupted; the same command resumes", style="red")
        sys.exit(130)


if __name__ == "__main__":
    main()
