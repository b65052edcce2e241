"""Accuracy of kept networks on macros that are not ideal: ``python -m gyre.pim_curves``.

Three curves for each system, by the golden model on the test split of its data set:

1. bits of the converters, cells nominal; steps calibrated on validation frames;
2. conductance spread, exact counts: the mean and the least over some seeds;
3. stuck cells, half of them at the lowest and half at the highest level, with and without repair.

The networks are as they were trained: without retraining for the macro.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from model import data, golden
from model.data import Split
from model.export import PIMOptions, to_pim
from model.export.pim import CALIBRATION_FRAMES
from model.ir.network import Network

ROOT = Path(__file__).resolve().parent.parent
ADC_BITS = (3, 4, 5, 6, 7, 8)
SPREADS = (0.0, 0.025, 0.05, 0.1, 0.15, 0.2)
STUCK = (0.0, 0.005, 0.01, 0.02, 0.05)
SPARE_SHARE = 8
"""One of so many columns is spare where stuck cells are looked at, repaired or not."""

SYSTEMS: dict[str, PIMOptions] = {
    "lenet5_crossbar": PIMOptions(rows=32, columns=32, cell_bits=1),
    "lenet5_crossbar_conductance": PIMOptions(rows=32, columns=32, cell_bits=4, form="pairs"),
    "osc_lenet5": PIMOptions(rows=128, columns=128, cell_bits=1),
}
"""Networks of the zoo, each on its macros."""


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
        What else was found.
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
    def of(cls, name: str, count: int) -> "Bench":
        """A system by its name, on the first ``count`` test frames."""
        network, dataset = Network.load(ROOT / "zoo" / name / "network"), data.load("mnist")
        frames = dataset.validation.part(slice(0, CALIBRATION_FRAMES))
        calibration = golden.quantize(network.input, frames.real())
        return cls(network, SYSTEMS[name], dataset.test.part(slice(0, count)), calibration)

    def accuracy(self, network: Network) -> float:
        """Share of the frames that a network classifies rightly."""
        found = golden.predict(golden.run(network, self.codes))
        return float((found == self.labels).double().mean())

    def options_with(self, **changes: object) -> PIMOptions:
        """The macros with some options changed."""
        return PIMOptions.model_validate({**self.options.model_dump(), **changes})

    def ideal(self) -> tuple[float, bool]:
        """Accuracy of nominal cells with exact counts; whether all codes are the exact ones."""
        found = to_pim(self.network, self.options).network
        codes = [golden.run(network, self.codes) for network in (found, self.network)]
        return self.accuracy(found), torch.equal(*codes)

    def adc(self, bits: Iterable[int] = ADC_BITS) -> list[Point]:
        """Accuracy against the bits of the converters."""
        points = []
        for one in bits:
            found = to_pim(self.network, self.options_with(adc_bits=one), self.calibration)
            nodes = [found.network[name] for name in found.placements]
            steps = [str(node.spec.arithmetic.step) for node in nodes]
            points.append(Point(one, (self.accuracy(found.network),), f"steps {', '.join(steps)}"))
        return points

    def spread(self, sigmas: Iterable[float] = SPREADS, seeds: int = 3) -> list[Point]:
        """Accuracy against the conductance spread."""
        points = []
        for sigma in sigmas:
            drawn = (
                to_pim(self.network, self.options_with(spread=sigma, grid_bits=4, seed=seed))
                for seed in range(seeds if sigma else 1)
            )
            points.append(Point(sigma, tuple(self.accuracy(one.network) for one in drawn)))
        return points

    def stuck(
        self, shares: Iterable[float] = STUCK, repair: bool = False, seeds: int = 3
    ) -> list[Point]:
        """Accuracy against the share of stuck cells; the note counts those of the first seed."""
        points = []
        for share in shares:
            accuracies, note = [], ""
            for seed in range(seeds if share else 1):
                options = self.options_with(
                    stuck_low=share / 2,
                    stuck_high=share / 2,
                    seed=seed,
                    repair=repair,
                    spare=self.options.columns // SPARE_SHARE,
                )
                found = to_pim(self.network, options)
                accuracies.append(self.accuracy(found.network))
                if found.repairs and not note:
                    hit, left = (
                        sum(getattr(one, name) for one in found.repairs.values())
                        for name in ("hit", "remaining")
                    )
                    note = f"{hit} cells wrong, {hit - left} repaired, {left} remain"
            points.append(Point(share, tuple(accuracies), note))
        return points


def _table(title: str, unit: str, points: list[Point], factor: float = 1) -> Table:
    table = Table(title=title, title_justify="left")
    for name in (unit, "accuracy, mean %", "least %", "note"):
        table.add_column(name, justify="left" if name == "note" else "right")
    for point in points:
        cells = f"{point.x * factor:g}", f"{100 * point.mean:.2f}", f"{100 * point.least:.2f}"
        table.add_row(*cells, point.note)
    return table


def main(arguments: list[str] | None = None) -> None:
    """Print the curves as tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("systems", nargs="*", default=list(SYSTEMS), help="names of the zoo")
    parser.add_argument("--frames", type=int, default=10_000, help="test frames")
    parser.add_argument("--seeds", type=int, default=3, help="draws of each point")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.systems) - set(SYSTEMS))
    if unknown:
        parser.error(f"unknown systems {', '.join(unknown)}; known: {', '.join(SYSTEMS)}")
    console = Console()
    for name in given.systems:
        bench = Bench.of(name, given.frames)
        accuracy, equal = bench.ideal()
        said = "all codes equal" if equal else "CODES DIFFER"
        console.print(f"{name}: ideal {100 * accuracy:.2f} %, {said}, {len(bench.codes)} frames")
        console.print(_table("converters", "bits", bench.adc()))
        seeds = given.seeds
        console.print(_table("conductance spread", "sigma %", bench.spread(seeds=seeds), 100))
        for repair in (False, True):
            title = "stuck cells, repaired" if repair else "stuck cells"
            points = bench.stuck(repair=repair, seeds=seeds)
            console.print(_table(title, "share %", points, 100))


if __name__ == "__main__":
    main()
