"""The report of a run as one HTML page that needs nothing else: no script, no other file.

Figures are SVG within the page, weight maps are PNG within it. The same report and network give the
same bytes.
"""

import base64
import html
import io
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from gyre.report import facts, head
from model.ir.errors import BadInput
from model.ir.lstm import LSTMSpec
from model.ir.matrix import MatrixSpec
from model.ir.network import Network

FILE = "report.html"
MAP_SIDE = 512
"""Most pixels of a weight map along a side: of a larger matrix each pixel shows several weights."""

STEPS = ("float", "compressed", "golden", "rtl")
COLOURS = {"measured": "#1f6f8b", "bound": "#d9a441"}


def matrices(network: Network) -> Iterator[tuple[str, np.ndarray, str]]:
    """Name, weight values [rows, columns] and storage of every weight matrix."""
    for node in network.nodes:
        if isinstance(node.spec, MatrixSpec):
            yield node.name, node.spec.values(dict(node.tensors)), node.spec.storage.describe()
        elif isinstance(node.spec, LSTMSpec):
            for part, spec in node.spec.parts().items():
                tensors = {name: node.tensors[f"{part}_{name}"] for name in spec.tensor_shapes()}
                yield f"{node.name}.{part}", spec.values(tensors), spec.storage.describe()


def weight_map(values: np.ndarray) -> np.ndarray:
    """A matrix as pixels, uint8 [rows, columns, 3]: white is 0, blue below, red above.

    Where a pixel stands for several weights it shows the largest magnitude among them, so that a
    pixel is white only if all of its weights are 0.
    """
    rows, columns = values.shape
    for axis, size in ((0, rows), (1, columns)):
        step = -(-size // MAP_SIDE)
        if step > 1:
            pad = [(0, 0), (0, 0)]
            pad[axis] = (0, -size % step)
            values = np.pad(values, pad)
            shape = list(values.shape)
            shape[axis : axis + 1] = [shape[axis] // step, step]
            groups = values.reshape(shape)
            largest = np.abs(groups).argmax(axis=axis + 1, keepdims=True)
            values = np.take_along_axis(groups, largest, axis + 1).squeeze(axis + 1)
    peak = max(int(np.abs(values).max(initial=0)), 1)
    # even the smallest weight is well apart from white
    shade = np.where(values == 0, 0.0, 0.25 + 0.75 * np.abs(values) / peak)
    pixels = np.full((*values.shape, 3), 255.0)
    light = 255 * (1 - shade)
    pixels[values > 0] = np.stack([np.full_like(light, 255), light, light], -1)[values > 0]
    pixels[values < 0] = np.stack([light, light, np.full_like(light, 255)], -1)[values < 0]
    return pixels.round().astype(np.uint8)


def make_page(report: dict[str, Any], network: Network, commands: list[str]) -> str:
    """The page of a report and its network; ``commands`` make it again.

    Raises BadInput if the report is of another network.
    """
    if report["network"] != network.hash():
        raise BadInput(
            "report",
            f"figures of another network ({str(report['network'])[:12]})",
            f"those of {network.hash()[:12]}",
            "run `gyre run` again",
        )
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = lambda value: "" if value is None else f"{value:,}"
    environment.filters["percent"] = lambda value: "" if value is None else f"{100 * value:.1f} %"
    environment.filters["ratio"] = lambda value: "" if value is None else f"{value:.2f}"
    text = resources.files("gyre").joinpath("templates/report.html").read_text()
    with matplotlib.rc_context({"svg.hashsalt": "gyre", "font.family": "sans-serif"}):
        figures = {
            "accuracy": _accuracy(report),
            "cycles": _cycles(report),
            "memory": _memory(report),
        }
        energy = _energy(report)
    maps = [
        {
            "name": name,
            "storage": storage,
            "rows": values.shape[0],
            "columns": values.shape[1],
            "kept": float((values != 0).mean()),
            "image": _png(weight_map(values)),
            "high": max(24, min(360, 2 * values.shape[0])),
        }
        for name, values, storage in matrices(network)
    ]
    return environment.from_string(text).render(
        report=report,
        equal=report["rtl"]["equal"],
        head=head(report),
        facts=list(facts(report)),
        figures={name: _safe(svg) for name, svg in figures.items()},
        energy=None if energy is None else _safe(energy),
        shares=_shares(report),
        maps=maps,
        commands=commands,
    )


def write_page(folder: Path, page: str) -> Path:
    """Write ``report.html``, all or nothing."""
    part = folder / f".{FILE}.part"
    try:
        part.write_text(page)
        os.replace(part, folder / FILE)
    finally:
        part.unlink(missing_ok=True)
    return folder / FILE


def _safe(svg: str) -> Any:
    """A figure's text as it stands: it holds no text of others but escaped labels."""
    from markupsafe import Markup

    return Markup(svg)


def _svg(figure: Figure, title: str) -> str:
    """A figure as SVG that a reader of the screen can name."""
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)


def _bars(names: list[str], series: dict[str, list[float]], title: str, log: bool = False) -> str:
    """Horizontal bars, a group a name."""
    figure = Figure(figsize=(6.4, 0.8 + 0.24 * len(names) * len(series)))
    axes = figure.add_subplot()
    height = 0.8 / len(series)
    for n, (label, values) in enumerate(series.items()):
        places = np.arange(len(names)) + (n - (len(series) - 1) / 2) * height
        colour = list(COLOURS.values())[n % 2]
        bars = axes.barh(places, values, height, label=label, color=colour)
        axes.bar_label(bars, labels=[f"{value:,.6g}" for value in values], padding=3, fontsize=7)
    axes.set_yticks(np.arange(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    if log:
        axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=9, loc="left")
    if len(series) > 1:
        axes.legend(fontsize=7, frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return _svg(figure, title)


def _accuracy(report: dict[str, Any]) -> str:
    names = [name for name in STEPS if name in report["accuracy"]]
    values = [round(100 * report["accuracy"][name], 2) for name in names]
    return _bars(names, {"%": values}, "accuracy on the test set, %")


def _cycles(report: dict[str, Any]) -> str:
    layers = report["layers"]
    return _bars(
        [layer["name"] for layer in layers],
        {
            "cycles": [layer["cycles"] for layer in layers],
            "bound": [layer["bound_cycles"] for layer in layers],
        },
        "cycles a frame, and the bound of any schedule",
    )


def _memory(report: dict[str, Any]) -> str:
    layers = [layer for layer in report["layers"] if layer["weight_bits"]]
    return _bars(
        [layer["name"] for layer in layers],
        {"kbit": [round(layer["weight_bits"] / 1000, 3) for layer in layers]},
        "weight memory on the chip, kbit",
    )


def _shares(report: dict[str, Any]) -> list[tuple[str, float]]:
    """Typical shares of the energy by part, the largest first, where the report has them."""
    parts = report.get("energy", {}).get("parts", [])
    shares = [(part["part"], part["share"]["typical"]) for part in parts]
    return sorted((entry for entry in shares if entry[1] > 0), key=lambda entry: -entry[1])


def _energy(report: dict[str, Any]) -> str | None:
    shares = _shares(report)
    if not shares:
        return None
    names = [name for name, _ in shares]
    return _bars(names, {"%": [round(100 * share, 2) for _, share in shares]}, "energy, shares, %")


def _png(pixels: np.ndarray) -> str:
    """Pixels as the text of a PNG."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return base64.b64encode(out.getvalue()).decode()
