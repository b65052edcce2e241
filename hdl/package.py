"""The package of a generated accelerator: Verilog, .hex files, a manifest, and their checksums.

::

    accelerator.v     the design: synthesizable Verilog, one file
    <node>_*.hex      contents of its memories, read by name from the tool's working folder
    manifest.json     ports, formats, scales, frame order, mapping, expected cycles, file list
    SHA256SUMS        over all of these
"""

import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from hdl.accelerator import Accelerator
from hdl.verilog import Design
from model.ir.checksums import read_stated, read_verified
from model.ir.errors import BadInput
from model.ir.folders import write_folder
from model.ir.pe_array import PeArraySpec

MANIFEST = "manifest.json"
SOURCE = "accelerator.v"
_REMEDY = "generate the package again"
_HEX = re.compile(r"[a-z][a-z0-9_]*\.hex")


def manifest(accelerator: Accelerator, design: Design) -> dict[str, Any]:
    """What a user of the package needs to know, as plain data."""
    network, mapping = accelerator.network, accelerator.mapping
    costs = [cost for _, cost in mapping.costs(network)]
    ports = {"clk": {"direction": "input", "bits": 1}, "rst": {"direction": "input", "bits": 1}}
    for path, member, value in accelerator.signature.flatten(accelerator):
        ports["__".join(str(part) for part in path)] = {
            "direction": "input" if member.flow == wiring.In else "output",
            "bits": len(value.as_value() if hasattr(value, "as_value") else value),
        }

    def stream(edge: str, scale: float) -> dict[str, Any]:
        return {
            "edge": edge,
            "shape": list(network.shape(edge)),
            "order": "row-major, channels last; lane 0 in the lowest bits of the payload",
            "format": network.format(edge).to_json(),
            "scale": scale,
            "lanes": mapping.lanes(network, edge),
            "beats_per_frame": mapping.beats(network, edge).count,
            "payload": "codes, then first (1 bit), then last (1 bit) at the top",
        }

    return {
        "generator": f"gyre {metadata.version('gyre')}" if _installed() else "gyre",
        "top": design.top,
        "network": {"name": network.name, "sha256": network.hash()},
        "clock": "clk, rising edge; rst is synchronous, active high",
        "ports": ports,
        "input": stream(network.input.name, network.input.scale),
        "output": stream(network.output.name, network.output.scale),
        "cycles_per_frame": max(cost.cycles for cost in costs),
        "latency_cycles_bound": sum(cost.latency for cost in costs),
        "mapping": mapping.to_json(),
        "indices": index_limits(accelerator),
        "files": sorted(design.files),
    }


def index_limits(accelerator: Accelerator) -> dict[str, dict[str, int]]:
    """Of each index memory: activation words that an entry may name, and bits of marks below."""
    network, mapping = accelerator.network, accelerator.mapping
    limits = {}
    for stage, node in zip(mapping.stages, network.nodes, strict=True):
        spec = None if stage.engine is None else mapping.engine(stage.engine)
        if isinstance(spec, PeArraySpec) and spec.tiles is not None:
            marks = int(spec.per_fold(node.spec) is None)
            words = spec.col_folds(node.spec)
            limits[f"{node.name}_index.hex"] = {"words": words, "marks": marks}
    return limits


def _check_indices(folder: Path, texts: dict[str, str], limits: dict[str, dict[str, int]]) -> None:
    """Raise BadInput for an entry of an index memory that names no activation word."""
    for name, limit in limits.items():
        for place, line in enumerate(texts[name].split()):
            found = int(line, 16) >> limit["marks"]
            if found >= limit["words"]:
                raise BadInput(
                    f"{folder / name}: entry {place}",
                    f"activation word {found}",
                    f"a number below {limit['words']}",
                    _REMEDY,
                )


def _installed() -> bool:
    try:
        metadata.version("gyre")
    except metadata.PackageNotFoundError:
        return False
    return True


def belongs(name: str) -> bool:
    """Whether a package holds a file of that name, besides the checksums."""
    return name in (SOURCE, MANIFEST) or _HEX.fullmatch(name) is not None


def write_package(accelerator: Accelerator, design: Design, folder: Path) -> None:
    """Write the package into ``folder``, all or nothing, over a package that is there already."""
    text = json.dumps(manifest(accelerator, design), indent=1) + "\n"
    files = {SOURCE: design.verilog, **design.files, MANIFEST: text}
    write_folder(folder, "package", belongs, {name: text.encode() for name, text in files.items()})


def read_package(folder: Path) -> tuple[Design, dict[str, Any]]:
    """The design and the manifest of a package, once every checksum agrees."""
    where = str(folder / MANIFEST)
    try:
        read = json.loads(read_stated(folder, MANIFEST, _REMEDY))
        top, names = read["top"], read["files"]
        if not isinstance(top, str) or not isinstance(names, list):
            raise TypeError("wrong types")
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(where, f"unreadable data ({error})", "a manifest", _REMEDY) from error
    bad = [name for name in names if not isinstance(name, str) or not _HEX.fullmatch(name)]
    if bad:
        raise BadInput(f"{where}: files", repr(bad[0]), "plain .hex file names", _REMEDY)
    files = read_verified(folder, [SOURCE, MANIFEST, *names], _REMEDY)
    texts = {name: files[name].decode() for name in names}
    try:
        _check_indices(folder, texts, read["indices"])
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise BadInput(where, f"unreadable data ({error})", "a manifest", _REMEDY) from error
    return Design(top, files[SOURCE].decode(), texts), read
