"""The grid of collective low precision and structured compression: accuracy, area, cycles, energy.

`python -m gyre.clp_grid --liberty FILE --clock NS [POINT ...]` takes the variants
``b<bits>_x<fold>`` of `recipes/clp_mnist.toml` down to gates, mapped for the least energy, and
writes the table and a picture with the Pareto front. Each point takes minutes and is kept under the
build folder.
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gyre import synth
from gyre.flow import RESULTS, ROOT, Flow
from gyre.recipe import load, variants
from model.ir.checksums import sha256
from model.ir.errors import BadInput
from sim.build import build_root

RECIPE = ROOT / "recipes" / "clp_mnist.toml"
BASE = "b3_x8"
"""The recipe itself, among its variants."""
TABLE, PICTURE = "clp_grid.md", "clp_grid.svg"


@dataclass(frozen=True)
class Point:
    """A point of the grid: bits of a weight, compression, and what was measured.

    ``accuracy`` is golden's share of the test set, ``area`` in um2 with the memories at typical,
    ``nj`` a frame at low, typical and high.
    """

    name: str
    bits: int
    fold: int
    accuracy: float
    stored_bits: int
    area: float
    cycles: float
    low: float
    typical: float
    high: float
    logic: float
    mismatches: int


def names() -> list[str]:
    """The points of the grid, by bits and compression."""
    found = [name for name in variants(RECIPE) if re.fullmatch(r"b\d+_x\d+", name)]
    return sorted([*found, BASE], key=_place)


def _place(name: str) -> tuple[int, int]:
    match = re.fullmatch(r"b(\d+)_x(\d+)", name)
    if match is None:
        raise BadInput("point", repr(name), f"one of {', '.join(names())}", "correct it")
    return int(match[1]), int(match[2])


def measure(name: str, liberty: Path, period: float) -> Point:
    """A point down to gates; kept under the build folder, by what decides it."""
    if name not in names():
        raise BadInput("point", repr(name), f"one of {', '.join(names())}", "correct it")
    recipe = load(RECIPE, ['mapping.goal="energy"'], None if name == BASE else name)
    result = json.loads((RESULTS / f"{recipe.name}.json").read_text())
    folder = build_root() / "grid" / sha256(f"{recipe.hash} {liberty} {period}".encode())[:16]
    path = folder / "point.json"
    if not path.exists():
        flow = Flow(recipe, folder, begin=lambda text: print(f"{name}: {text}", flush=True))
        path.write_text(json.dumps(synth.synth(flow, liberty, period)))
    return point(name, json.loads(path.read_text()), result)


def point(name: str, report: dict, result: dict) -> Point:
    """A point of a report of the synthesis and a result of the compression."""
    bits, fold = _place(name)
    energy = report["energy"]["total"]
    return Point(
        name=name,
        bits=bits,
        fold=fold,
        accuracy=result["accuracy"]["golden"],
        stored_bits=result["compression"]["bits_stored"],
        area=report["area"]["total"]["typical"],
        cycles=report["simulation"]["cycles_per_frame"],
        low=energy["low"],
        typical=energy["typical"],
        high=energy["high"],
        logic=report["energy"]["logic"],
        mismatches=report["simulation"]["mismatches"],
    )


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both accuracy and energy, by ascending energy."""
    front: list[Point] = []
    for candidate in sorted(points, key=lambda p: (p.typical, -p.accuracy)):
        if not front or candidate.accuracy > front[-1].accuracy:
            front.append(candidate)
    return front


def table(points: Sequence[Point]) -> str:
    """The points as a table of Markdown; those of the front are bold."""
    front = {p.name for p in pareto(points)}
    rows = [
        "| point | golden % | stored bits | mm2 | cycles | nJ: low / typical / high | gates |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for p in sorted(points, key=lambda p: (p.bits, p.fold)):
        name = f"{p.bits} bit, {p.fold}x"
        rows.append(
            f"| {f'**{name}**' if p.name in front else name} | {100 * p.accuracy:.2f} |"
            f" {p.stored_bits:,} | {p.area / 1e6:.3f} | {p.cycles:,.0f} |"
            f" {p.low:.1f} / {p.typical:.1f} / {p.high:.1f} | {p.logic:.1f} |"
        )
    return "\n".join(rows) + "\n"


def picture(points: Sequence[Point]) -> str:
    """Accuracy over energy as SVG, with the front as a line."""
    width, height, left, base, right, top = 720, 420, 70, 50, 20, 20
    most = 1.05 * max(p.typical for p in points)
    low = min(p.accuracy for p in points)
    high = max(p.accuracy for p in points)
    pad = 0.1 * (high - low) or 0.001
    low, high = low - pad, high + pad

    def x(value: float) -> float:
        return left + value / most * (width - left - right)

    def y(value: float) -> float:
        return height - base - (value - low) / (high - low) * (height - base - top)

    colours = {1: "#1b9e77", 2: "#d95f02", 3: "#7570b3"}
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
    for n in range(6):
        value = most * n / 5
        parts.append(
            f'<text x="{x(value):.1f}" y="{height - base + 16}" text-anchor="middle">'
            f"{value:.0f}</text>"
        )
        share = low + (high - low) * n / 5
        parts.append(
            f'<text x="{left - 6}" y="{y(share) + 4:.1f}" text-anchor="end">'
            f"{100 * share:.2f}</text>"
        )
    line = " ".join(f"{x(p.typical):.1f},{y(p.accuracy):.1f}" for p in pareto(points))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#888888" stroke-dasharray="4 3"/>')
    for p in points:
        place = f'cx="{x(p.typical):.1f}" cy="{y(p.accuracy):.1f}"'
        parts.append(f'<circle {place} r="4" fill="{colours.get(p.bits, "black")}"/>')
        parts.append(
            f'<text x="{x(p.typical) + 6:.1f}" y="{y(p.accuracy) - 5:.1f}">'
            f"{p.bits} bit, {p.fold}x</text>"
        )
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    """Measure the points and write the table and the picture beside the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--liberty", type=Path, required=True)
    parser.add_argument("--clock", type=float, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("points", nargs="*", default=names())
    given = parser.parse_args()
    points = []
    for name in given.points:
        points.append(measure(name, given.liberty, given.clock))
        print(json.dumps(asdict(points[-1])), flush=True)
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / TABLE).write_text(table(points))
        (given.out / PICTURE).write_text(picture(points))


if __name__ == "__main__":
    main()
