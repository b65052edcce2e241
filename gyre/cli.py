"""The command line: recipe in, verdict out.

Exit status: 0 if all is well, 1 if hardware and golden differ or a simulation fails, 2 for bad
input, 130 for an interruption. Errors are one line, unless ``GYRE_TRACEBACK`` is set.
"""

import enum
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

from model.ir.errors import BadInput

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From a PyTorch network to bit-exactly verified hardware.",
)

RecipeArgument = Annotated[
    Path, typer.Argument(help="a recipe (TOML), or a folder of the zoo", metavar="RECIPE")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="replace a key of the recipe: section.key=value")
]
VariantOption = Annotated[
    str | None, typer.Option("--variant", help="one of the recipe's variants")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="folder of the results [build/<recipe name>]")
]
RetrainOption = Annotated[
    bool, typer.Option("--retrain", help="train anew, although the zoo has the network")
]
ProcessesOption = Annotated[
    int | None,
    typer.Option("--processes", help="most simulators that run at once [one per core]", min=1),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="where to train: auto, cpu or an accelerator, cuda say [auto]"),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option("--precision", help="of products: auto, float32, bfloat16 or float16 [auto]"),
]


class Split(enum.StrEnum):
    """What an accuracy is measured on."""

    TEST = "test"
    VALIDATION = "validation"


def _console(stderr: bool = False) -> Console:
    return Console(stderr=stderr, soft_wrap=True, highlight=False)


def _fail(error: object) -> None:
    _console(stderr=True).print(f"gyre: {error}", style="red", markup=False)


class _Steps:
    """Tells what the flow does: a line for what is done, a spinner for what is going on.

    Where the output is no terminal, what is going on is a line too.
    """

    def __init__(self) -> None:
        self.console = _console()
        self.live: Progress | None = None

    def done(self, text: str) -> None:
        self.stop()
        self.console.print(text, markup=False)

    def begin(self, text: str) -> None:
        self.stop()
        if not self.console.is_terminal:
            self.console.print(text, markup=False)
            return
        columns = SpinnerColumn(), "{task.description}", TimeElapsedColumn()
        self.live = Progress(*columns, console=self.console, transient=True)
        self.live.add_task(text, total=None)
        self.live.start()

    def stop(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None


@contextmanager
def _flow(
    recipe: Path,
    sets: list[str] | None,
    out: Path | None,
    retrain: bool = False,
    keep: bool = False,
    variant: str | None = None,
    processes: int | None = None,
    device: str | None = None,
    precision: str | None = None,
) -> Iterator:
    from gyre.flow import Flow, ZooFlow  # torch takes seconds to import: not for --help
    from gyre.recipe import load
    from model.compress import execution

    steps, stack = _Steps(), ExitStack()
    try:
        stack.enter_context(execution.chosen(device, precision))
        execution.precision(execution.device())  # refused before anything is made
        if recipe.is_dir():
            if retrain or keep or variant:
                raise BadInput(
                    str(recipe),
                    "a kept network together with --variant, --retrain or --keep",
                    "a recipe",
                    "name the recipe instead",
                )
            options = {"processes": processes, "say": steps.done, "begin": steps.begin}
            yield ZooFlow(recipe, out, sets=sets or [], **options)
        else:
            source = " ".join(
                [str(recipe), *([f"--variant {variant}"] if variant else [])]
                + [f"--set {text}" for text in sets or []]
            )
            options = {"retrain": retrain, "say": steps.done, "begin": steps.begin}
            options["processes"] = processes
            yield Flow(load(recipe, sets or [], variant), out, source=source, **options)
    except KeyboardInterrupt:
        steps.stop()
        _fail("interrupted; the same command resumes")
        raise typer.Exit(130) from None
    finally:
        steps.stop()
        stack.close()


def _verdict(flow) -> None:
    from gyre.report import show

    verdict, report = flow.simulate()
    show(report, _console())
    if not verdict.equal:
        raise typer.Exit(1)


@app.command()
def run(
    recipe: RecipeArgument,
    sets: SetOption = None,
    out: OutOption = None,
    retrain: RetrainOption = False,
    variant: VariantOption = None,
    processes: ProcessesOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
) -> None:
    """All steps: network, Verilog, simulation, verdict."""
    with _flow(
        recipe,
        sets,
        out,
        retrain,
        variant=variant,
        processes=processes,
        device=device,
        precision=precision,
    ) as flow:
        _verdict(flow)


@app.command()
def compress(
    recipe: RecipeArgument,
    sets: SetOption = None,
    out: OutOption = None,
    retrain: RetrainOption = False,
    keep: Annotated[bool, typer.Option("--keep", help="put the network into the zoo")] = False,
    record: Annotated[
        bool, typer.Option("--record", help="put the result into docs/results")
    ] = False,
    on: Annotated[
        Split, typer.Option("--on", help="what is measured; choose on validation")
    ] = Split.TEST,
    variant: VariantOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Train the float network, compress it, and measure accuracy and compression."""
    with _flow(
        recipe, sets, out, retrain, keep, variant, device=device, precision=precision
    ) as flow:
        from gyre.compression import show

        if on is Split.VALIDATION and (keep or record):
            raise BadInput(
                "--on", "validation together with --keep or --record", "test", "leave it out"
            )
        result = flow.compress(on.value)
        if keep:
            flow.say(f"kept       {flow.keep()}")
        if record:
            flow.say(f"recorded   {flow.record(result)}")
        show(result, _console())


@app.command()
def export(
    recipe: RecipeArgument,
    sets: SetOption = None,
    out: OutOption = None,
    retrain: RetrainOption = False,
    variant: VariantOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Write the integer network."""
    with _flow(
        recipe, sets, out, retrain, variant=variant, device=device, precision=precision
    ) as flow:
        flow.export()


@app.command()
def verilog(
    recipe: RecipeArgument,
    sets: SetOption = None,
    out: OutOption = None,
    retrain: RetrainOption = False,
    variant: VariantOption = None,
    top: Annotated[
        str, typer.Option("--top", help="name of the top module, and before all others")
    ] = "accelerator",
    device: DeviceOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Write the package: Verilog, .hex files, AXI shell, manifest, test bench, FuseSoC core."""
    with _flow(
        recipe, sets, out, retrain, variant=variant, device=device, precision=precision
    ) as flow:
        flow.verilog(top)


@app.command()
def simulate(
    recipe: Annotated[
        Path, typer.Argument(help="a recipe, or a folder of the zoo", metavar="RECIPE")
    ],
    sets: SetOption = None,
    out: OutOption = None,
    variant: VariantOption = None,
    processes: ProcessesOption = None,
    wave: Annotated[
        str | None,
        typer.Option("--wave", help="write a VCD of these stages alone: names with commas, or all"),
    ] = None,
    frames: Annotated[
        str | None, typer.Option("--frames", help="frames of the VCD: FIRST:END [0:1]")
    ] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Simulate the test set in RTL and compare it with golden, exactly."""
    with _flow(
        recipe, sets, out, variant=variant, processes=processes, device=device, precision=precision
    ) as flow:
        if wave is None and frames is not None:
            raise BadInput("--frames", "no --wave", "a VCD to take them", "give --wave too")
        if wave is None:
            _verdict(flow)
        elif (difference := flow.wave(wave, frames or "0:1")) is not None:
            _fail(f"RTL differs from golden: {difference}")
            raise typer.Exit(1)


@app.command()
def synth(
    recipe: Annotated[
        Path, typer.Argument(help="a recipe, or a folder of the zoo", metavar="RECIPE")
    ],
    liberty: Annotated[Path, typer.Option("--liberty", help="library of standard cells")],
    clock: Annotated[float, typer.Option("--clock", help="period in ns")],
    frames: Annotated[
        int, typer.Option("--frames", help="test frames to count in gates, at least 20")
    ] = 24,
    sets: SetOption = None,
    out: OutOption = None,
    variant: VariantOption = None,
) -> None:
    """Synthesize to standard cells: area, timing, and energy from simulated activity."""
    with _flow(recipe, sets, out, variant=variant) as flow:
        from gyre.synth import failed, show
        from gyre.synth import synth as run_synthesis

        report = run_synthesis(flow, liberty, clock, frames=frames)
        show(report, _console())
        if why := failed(report):
            _fail(why)
            raise typer.Exit(1)


@app.command()
def report(
    recipe: RecipeArgument,
    sets: SetOption = None,
    out: OutOption = None,
    variant: VariantOption = None,
) -> None:
    """Show the report of the last run, and write it as one HTML page."""
    from gyre.report import read_report, show

    with _flow(recipe, sets, out, variant=variant) as flow:
        found = read_report(flow.out)
        show(found, _console())
        flow.page(found)
    if not found["rtl"]["equal"]:
        raise typer.Exit(1)


@app.command()
def fpga(
    recipe: Annotated[
        Path, typer.Argument(help="a recipe, or a folder of the zoo", metavar="RECIPE")
    ],
    device: Annotated[str, typer.Option("--device", help="an FPGA")] = "ecp5-85k",
    place: Annotated[
        bool, typer.Option("--place/--no-place", help="or synthesis alone, without Fmax")
    ] = True,
    sets: SetOption = None,
    out: OutOption = None,
    variant: VariantOption = None,
) -> None:
    """Place and route with Yosys and nextpnr: what an FPGA really needs, and how fast it is."""
    with _flow(recipe, sets, out, variant=variant) as flow:
        found = flow.fpga(device, place=place)
        used, most, guess = found["used"], found["available"], found["estimate"]
        for name, available in most.items():
            error = found["error"][name]
            off = "" if error is None else f" ({100 * error:+.1f} %)"
            inside = f" and {used['ff_in_dsp']:,} in DSPs" if name == "ff" else ""
            flow.say(
                f"{name:<10} {used[name]:,} of {available:,}{inside}; estimate {guess[name]:,}{off}"
            )
        if place:
            flow.say(f"fmax       {used['fmax_mhz']} MHz")


def main() -> None:
    """Entry point of the console script."""
    if os.environ.get("GYRE_TRACEBACK"):
        app()
    from sim.bench import SimulationError
    from sim.build import BuildError

    try:
        app()
    except BadInput as error:
        _fail(error)
        sys.exit(2)
    except OSError as error:
        thing = error.filename or "the system"
        _fail(
            BadInput(
                thing,
                error.strerror or error,
                "a place that can be read and written",
                "correct the path or its permissions, or make room",
            )
        )
        sys.exit(2)
    except (SimulationError, BuildError) as error:
        _fail(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
