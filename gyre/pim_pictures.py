"""Pictures of networks on macros: ``python -m gyre.pim_pictures FOLDER ... --out docs/pictures``.

Each folder is the output of `gyre run` for a recipe on macros. Two pictures are made of it:

- ``<recipe>_occupancy.png``: every macro of one copy of each layer, a pixel a cell, dark where it
  holds a part of a weight, light where the macro has room, layer after layer;
- ``<recipe>_energy.svg``: the shares of a frame's energy, of each part, low, typical and high.
"""

import argparse
import json
import struct
import zlib
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from gyre.report import read_report
from hdl.package import MANIFEST
from model.ir.mapping import Mapping
from model.ir.network import Network
from model.ir.pim_array import PimArraySpec
from sim.energy import engineering

ACROSS = 24
"""Macros of 32 columns side by side; of wider ones fewer."""

GAP = 2
"""Pixels between macros."""

PAPER, ROOM = (255, 255, 255), (226, 226, 226)
INKS = ((31, 78, 121), (156, 87, 0), (56, 118, 29), (116, 27, 71), (60, 60, 60))
BAR, LINE, LEFT = 320, 22, 210


def occupancy(network: Network, mapping: Mapping) -> np.ndarray:
    """The occupancy map, uint8 [height, width, 3]."""
    rows = []
    layers = 0
    for stage, node in zip(mapping.stages, network.nodes, strict=True):
        spec = None if stage.engine is None else mapping.engine(stage.engine)
        if not isinstance(spec, PimArraySpec):
            continue
        held = spec.placement(node).weight >= 0  # [macros, R, C]
        colours = np.array([ROOM, INKS[layers % len(INKS)]], dtype=np.uint8)
        rows += _rows(colours[held.astype(np.int64)])
        layers += 1
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_padded(row, width) for row in rows])


def _rows(macros: np.ndarray) -> list[np.ndarray]:
    """Macros [n, R, C, 3] as rows of pictures."""
    across = max(1, ACROSS * 32 // macros.shape[2])
    framed = np.pad(macros, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=PAPER[0])
    return [
        np.concatenate(list(framed[n : n + across]), axis=1) for n in range(0, len(framed), across)
    ]


def _padded(row: np.ndarray, width: int) -> np.ndarray:
    return np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=PAPER[0])


def png(picture: np.ndarray) -> bytes:
    """A picture uint8 [height, width, 3] as a PNG file."""
    height, width, _ = picture.shape
    lines = np.pad(picture.reshape(height, -1), ((0, 0), (1, 0)))  # each line begins: no filter

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
        + chunk(b"IEND", b"")
    )


def shares(name: str, energy: dict[str, Any]) -> str:
    """The shares of a frame's energy as an SVG: a bar is typical, its line from low to high."""
    parts = sorted(energy["parts"], key=lambda part: -part["share"]["typical"])
    total = engineering(energy["total"]["typical"], energy["unit"])
    width, height = LEFT + BAR + 150, LINE * (len(parts) + 2)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="8" y="16" font-weight="bold">{escape(name)}: {total} a frame</text>',
    ]
    for n, part in enumerate(parts, start=1):
        top, share = LINE * n + 6, part["share"]
        ends = sorted(share[level] for level in ("low", "typical", "high"))
        value = engineering(part["total"]["typical"], energy["unit"])
        lines += [
            f'<text x="8" y="{top + 12}">{escape(part["part"])}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{BAR * share["typical"]:.1f}" height="14" '
            'fill="#1f4e79"/>',
            f'<line x1="{LEFT + BAR * ends[0]:.1f}" x2="{LEFT + BAR * ends[2]:.1f}" y1="{top + 7}" '
            f'y2="{top + 7}" stroke="#9c5700" stroke-width="2"/>',
            f'<text x="{LEFT + BAR + 8}" y="{top + 12}">{100 * share["typical"]:.1f} %, '
            f"{value}</text>",
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Make the pictures of each folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="outputs of `gyre run`")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    for folder in given.folders:
        report = read_report(folder)
        form = json.loads((folder / "verilog" / MANIFEST).read_text())
        mapping = Mapping.from_json(form["mapping"], "mapping")
        network, name = Network.load(folder / "network"), report["recipe"]
        (given.out / f"{name}_occupancy.png").write_bytes(png(occupancy(network, mapping)))
        (given.out / f"{name}_energy.svg").write_text(shares(name, report["energy"]))


if __name__ == "__main__":
    main()
