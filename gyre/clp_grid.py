"""The grid of collective low precision and structured compression: accuracy, area, cycles, energy.

`python -m gyre.clp_grid --liberty FILE --clock NS [--area] [POINT ...]` takes the variants
``b<bits>_x<fold>`` of `recipes/clp_mnist.toml` down to gates, mapped for the least energy. Each
point takes minutes and is kept in ``docs/results/clp_grid`` (with ``--area`` without simulation,
so without energy); a kept point of the same recipe, library and clock is taken as it is. Then it
writes the table of all that is kept, and a picture of it with the Pareto front; ``--page`` does
that alone.
"""

import argparse
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gyre import synth
from gyre.flow import RESULTS, ROOT, Flow
from gyre.recipe import Recipe, load, variants
from model import golden
from model.ir.checksums import sha256
from model.ir.errors import BadInput
from sim import technology
from sim.build import build_root
from sim.gates.liberty import read_liberty
from sim.gates.simulation import margin
from sim.gates.timing import check_period

RECIPE = ROOT / "recipes" / "clp_mnist.toml"
BASE = "b3_x8"
"""The recipe itself, among its variants."""
KEPT = RESULTS / "clp_grid"
TABLE, PICTURE = RESULTS / "clp_grid.md", ROOT / "docs" / "pictures" / "clp_grid.svg"
FRAMES = synth.LEAST_FRAMES
HEAD = """\
# The grid of bits and blocks

Written by `python -m gyre.clp_grid` ([pe.md](../pe.md) has the method and the library); bold is the
Pareto front of accuracy and energy among the points whose energy was measured. Areas of memories
and the middle energy are at typical constants; *frames* were counted in the gate netlist, whose
outputs equalled golden.

"""
PUBLISHED = 20.0, 0.984
"""nJ a classification and accuracy of the published 3-bit, 8x network (arXiv 1804.07370, 40 nm)."""
COLOURS = {1: "#1b9e77", 2: "#d95f02", 3: "#7570b3"}


@dataclass(frozen=True)
class Energy:
    """nJ a classification: in all at ``low``, ``typical`` and ``high``, and that of the ``gates``.

    Of ``frames`` frames of the gate netlist, which had so many ``mismatches``.
    """

    low: float
    typical: float
    high: float
    gates: float
    frames: int
    mismatches: int


@dataclass(frozen=True)
class Point:
    """A point of the grid, and what it is of: ``recipe``, ``mapping``, ``liberty`` (hashes).

    ``cells`` and ``memories`` are areas in um2, those of memories at typical; ``least`` is the
    shortest clock in ns, None without OpenSTA; ``energy`` is None if nothing was simulated.
    """

    name: str
    recipe: str
    mapping: str
    liberty: str
    clock: float
    cells: float
    memories: float
    cycles: int
    least: float | None
    energy: Energy | None

    @property
    def bits(self) -> int:
        """Bits of a weight."""
        return _place(self.name)[0]

    @property
    def fold(self) -> int:
        """Compression in weights, nominally."""
        return _place(self.name)[1]

    @property
    def result(self) -> dict:
        """The kept result of its compression."""
        return json.loads((RESULTS / f"{recipe_of(self.name).name}.json").read_text())

    @property
    def accuracy(self) -> float:
        """Golden's share of the test set."""
        return self.result["accuracy"]["golden"]

    @property
    def typical(self) -> float:
        """nJ a classification at typical; infinite if it is not known."""
        return float("inf") if self.energy is None else self.energy.typical


def names() -> list[str]:
    """The points of the grid, by bits and compression."""
    found = [name for name in variants(RECIPE) if re.fullmatch(r"b\d+_x\d+", name)]
    return sorted([*found, BASE], key=_place)


def _place(name: str) -> tuple[int, int]:
    match = re.fullmatch(r"b(\d+)_x(\d+)", name)
    if match is None:
        raise BadInput("point", repr(name), f"one of {', '.join(names())}", "correct it")
    return int(match[1]), int(match[2])


def recipe_of(name: str) -> Recipe:
    """The recipe of a point."""
    if name not in names():
        raise BadInput("point", repr(name), f"one of {', '.join(names())}", "correct it")
    return load(RECIPE, ['mapping.goal="energy"'], None if name == BASE else name)


def _hashes(recipe: Recipe) -> tuple[str, str]:
    return recipe.hash, sha256(recipe.mapping.model_dump_json().encode())


def kept(name: str) -> Point | None:
    """The kept point, if it was made of this very recipe."""
    path, recipe = KEPT / f"{name}.json", recipe_of(name)
    if not path.exists():
        return None
    form = json.loads(path.read_text())
    energy = form.pop("energy")
    point = Point(**form, energy=None if energy is None else Energy(**energy))
    return point if (point.recipe, point.mapping) == _hashes(recipe) else None


def measure(name: str, liberty: Path, period: float, *, area: bool = False) -> Point:
    """A point down to gates: the kept one, or a new one, which is then kept.

    With ``area`` nothing is simulated. Raises BadInput for what is no point, a file that is no
    library, a period that is none, and if there is no Yosys.
    """
    recipe = recipe_of(name)
    check_period(period)
    library = read_liberty(liberty)
    found, file = kept(name), sha256(liberty.read_bytes())
    same = found is not None and (found.liberty, found.clock) == (file, period)
    if same and (area or found.energy is not None):
        return found
    flow = Flow(recipe, build_root() / "grid" / name)
    codes = None
    if not area:
        frames = FRAMES + 2 * margin(flow.accelerator)
        codes = golden.quantize(flow.trained.network.input, flow.dataset.test.real()[:frames])
    report = synth.of_accelerator(
        flow.accelerator,
        codes,
        library,
        technology.load_memory("sram"),
        period,
        begin=lambda text: print(f"{name}: {text}", flush=True),
    )
    if "area" not in report:
        raise BadInput(f"point {name}", "no synthesis", "Yosys", "; ".join(report["missing"]))
    made = point(name, report, file, recipe)
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{name}.json").write_text(json.dumps(asdict(made), indent=1) + "\n")
    return made


def point(name: str, report: dict, liberty: str, recipe: Recipe) -> Point:
    """A point of a report of the synthesis."""
    energy = None
    if "energy" in report:
        simulation = report["simulation"]
        energy = Energy(
            **report["energy"]["total"],
            gates=report["energy"]["logic"],
            frames=simulation["counted"],
            mismatches=simulation["mismatches"],
        )
    return Point(
        name,
        *_hashes(recipe),
        liberty,
        report["clock_ns"],
        report["area"]["cells"],
        report["area"]["memories"]["typical"],
        report["cycles_per_frame"],
        report["timing"]["least_ns"] if "timing" in report else None,
        energy,
    )


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both accuracy and energy, by ascending energy.

    Points without energy are none of them.
    """
    front: list[Point] = []
    known = [p for p in points if p.energy is not None]
    for candidate in sorted(known, key=lambda p: (p.typical, -p.accuracy)):
        if not front or candidate.accuracy > front[-1].accuracy:
            front.append(candidate)
    return front


def table(points: Sequence[Point]) -> str:
    """The points as a table of Markdown; those of the front are bold."""
    front = {p.name for p in pareto(points)}
    rows = [
        "| point | golden % | stored bits | mm2: cells, memories | least clock, ns | cycles |"
        " nJ: low / typical / high | gates | frames |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for p in sorted(points, key=lambda p: (p.bits, p.fold)):
        name = f"{p.bits} bit, {p.fold}x"
        energy = "| | | |"
        if (e := p.energy) is not None:
            energy = (
                f"| {e.low:.1f} / {e.typical:.1f} / {e.high:.1f} | {e.gates:.1f} | {e.frames} |"
            )
        rows.append(
            f"| {f'**{name}**' if p.name in front else name} | {100 * p.accuracy:.2f} |"
            f" {p.result['compression']['bits_stored']:,} |"
            f" {p.cells / 1e6:.3f}, {p.memories / 1e6:.3f} |"
            f" {'' if p.least is None else f'{p.least:.2f}'} | {p.cycles:,} {energy}"
        )
    return "\n".join(rows) + "\n"


def picture(points: Sequence[Point]) -> str:
    """Accuracy over energy (logarithmic) as SVG, with the front as a line and what is published.

    Points without energy are left out.
    """
    points = [p for p in points if p.energy is not None]
    width, height, left, base, right, top = 720, 420, 70, 50, 20, 20
    energies = [PUBLISHED[0], *(p.typical for p in points)]
    least, most = min(energies) / 1.5, 1.2 * max(energies)
    low = min(PUBLISHED[1], *(p.accuracy for p in points))
    high = max(PUBLISHED[1], *(p.accuracy for p in points))
    pad = 0.1 * (high - low) or 0.001
    low, high = low - pad, high + pad

    def x(value: float) -> float:
        return left + math.log(value / least) / math.log(most / least) * (width - left - right)

    def y(value: float) -> float:
        return height - base - (value - low) / (high - low) * (height - base - top)

    def label(text: str, energy: float, accuracy: float, on_front: bool) -> str:
        """Above the front's rising line, or below it."""
        dx, dy, anchor = (-7, -5, "end") if on_front else (7, 12, "start")
        place = f'x="{x(energy) + dx:.1f}" y="{y(accuracy) + dy:.1f}"'
        return f'<text {place} text-anchor="{anchor}">{text}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<path d="M{left} {top}V{height - base}H{width - right}" fill="none" stroke="black"/>',
        f'<text x="{width / 2}" y="{height - 12}" text-anchor="middle">'
        "nJ a classification (memories at typical)</text>",
        f'<text x="16" y="{height / 2}" transform="rotate(-90 16 {height / 2})"'
        ' text-anchor="middle">accuracy, %</text>',
    ]
    for value in (digit * 10**power for power in range(4) for digit in (1, 2, 5)):
        if least <= value <= most:
            parts.append(
                f'<text x="{x(value):.1f}" y="{height - base + 16}" text-anchor="middle">'
                f"{value}</text>"
            )
    for n in range(6):
        share = low + (high - low) * n / 5
        parts.append(
            f'<text x="{left - 6}" y="{y(share) + 4:.1f}" text-anchor="end">'
            f"{100 * share:.2f}</text>"
        )
    front = pareto(points)
    line = " ".join(f"{x(p.typical):.1f},{y(p.accuracy):.1f}" for p in front)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#888888" stroke-dasharray="4 3"/>')
    for p in points:
        place = f'cx="{x(p.typical):.1f}" cy="{y(p.accuracy):.1f}"'
        parts.append(f'<circle {place} r="4" fill="{COLOURS.get(p.bits, "black")}"/>')
        parts.append(label(f"{p.bits} bit, {p.fold}x", p.typical, p.accuracy, p in front))
    published = f"M{x(PUBLISHED[0]):.1f} {y(PUBLISHED[1]):.1f}m-5 0h10m-5 -5v10"
    parts.append(f'<path d="{published}" stroke="black" stroke-width="2"/>')
    parts.append(label("published, 40 nm", *PUBLISHED, False))
    return "\n".join([*parts, "</svg>\n"])


def main(arguments: list[str] | None = None) -> None:
    """Measure the points; write the table and the picture of all that are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--liberty", type=Path)
    parser.add_argument("--clock", type=float)
    parser.add_argument("--area", action="store_true", help="area, timing and cycles alone")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    parser.add_argument("points", nargs="*")
    given = parser.parse_args(arguments)
    if not given.page:
        if given.liberty is None or given.clock is None:
            parser.error("--liberty and --clock are needed, or --page")
        for name in given.points or names():
            made = measure(name, given.liberty, given.clock, area=given.area)
            print(json.dumps(asdict(made)), flush=True)
            write()
    write()


def write() -> None:
    """Write the table and the picture of the kept points."""
    points = [found for name in names() if (found := kept(name)) is not None]
    TABLE.write_text(HEAD + table(points))
    if pareto(points):
        PICTURE.write_text(picture(points))


if __name__ == "__main__":
    main()
