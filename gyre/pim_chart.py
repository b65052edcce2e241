"""Line charts of errors as SVG: panels in rows, errors on a logarithmic axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 330, 240
LEFT, TOP, RIGHT, BOTTOM = 48, 28, 12, 40
TICKS = (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
INKS = ("#1f4e79", "#c05a00")
KEY = 22


@dataclass(frozen=True)
class Line:
    """A line of a panel.

    Parameters
    ----------
    name : str
        Stands in the key.
    points : tuple of (float, float, float)
        Abscissa, accuracy in %, and the least one of several draws.
    second : bool
        Of the second colour.
    dashed : bool
        Whether the line is dashed.
    """

    name: str
    points: tuple[tuple[float, float, float], ...]
    second: bool = False
    dashed: bool = False

    @property
    def style(self) -> str:
        """Colour and dashes, as SVG attributes."""
        return f'stroke="{INKS[self.second]}"' + ' stroke-dasharray="6 4"' * self.dashed


@dataclass(frozen=True)
class Panel:
    """A panel: its title, what stands on the axis, and its lines."""

    title: str
    unit: str
    lines: tuple[Line, ...]


def height(error: float) -> float:
    """Where an error in % stands: 0 at the bottom of a panel, 1 at the top, kept inside."""
    low, high = math.log(TICKS[0]), math.log(TICKS[-1])
    return (math.log(min(max(error, TICKS[0]), TICKS[-1])) - low) / (high - low)


def svg(rows: Sequence[Sequence[Panel]]) -> str:
    """Panels in rows, and one key of all lines below them."""
    lines = {line.name: line for row in rows for panel in row for line in panel.lines}
    width = WIDTH * max((len(row) for row in rows), default=1)
    above = HEIGHT * len(rows)
    found = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{above + KEY * (len(lines) + 1)}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{above + KEY * (len(lines) + 1)}" fill="white"/>',
    ]
    for down, row in enumerate(rows):
        for across, panel in enumerate(row):
            found.append(f'<g transform="translate({across * WIDTH},{down * HEIGHT})">')
            found += [*_panel(panel), "</g>"]
    for n, line in enumerate(lines.values()):
        y = above + KEY * n + 12
        found.append(f'<line x1="{LEFT}" x2="{LEFT + 40}" y1="{y}" y2="{y}" {line.style}/>')
        found.append(f'<text x="{LEFT + 50}" y="{y + 4}">{escape(line.name)}</text>')
    text = "error, % (100 less accuracy); a point is the mean of the draws, a bar goes to the worst"
    found.append(f'<text x="{LEFT}" y="{above + KEY * len(lines) + 14}">{text}</text>')
    return "\n".join([*found, "</svg>"]) + "\n"


def _panel(panel: Panel) -> list[str]:
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    found = [f'<text x="{LEFT}" y="16" font-weight="bold">{escape(panel.title)}</text>']
    places = sorted({x for line in panel.lines for x, _, _ in line.points})
    if not places:
        return found
    low, span = places[0], (places[-1] - places[0]) or 1.0

    def at(x: float, error: float) -> tuple[float, float]:
        return LEFT + wide * (x - low) / span, TOP + high * (1 - height(error))

    for tick in TICKS:
        _, y = at(low, tick)
        found.append(
            f'<line x1="{LEFT}" x2="{LEFT + wide}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        )
        found.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for place in places:
        x, _ = at(place, 1)
        found.append(
            f'<text x="{x:.1f}" y="{TOP + high + 15}" text-anchor="middle">{place:g}</text>'
        )
    found.append(
        f'<text x="{LEFT + wide / 2}" y="{TOP + high + 32}" text-anchor="middle">'
        f"{escape(panel.unit)}</text>"
    )
    for line in panel.lines:
        means = [at(x, 100 - mean) for x, mean, _ in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in means)
        found.append(f'<polyline points="{path}" fill="none" {line.style} stroke-width="1.5"/>')
        for (x, y), (_, _, least) in zip(means, line.points, strict=True):
            _, worst = at(low, 100 - least)
            ink = INKS[line.second]
            found.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{ink}"/>')
            found.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{worst:.1f}" stroke="{ink}"/>'
            )
    return found
