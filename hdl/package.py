"""The package of a generated accelerator: Verilog, .hex files, a manifest, and their checksums.

::

    accelerator.v       the design: synthesizable Verilog, one file
    accelerator_axi.v   the AXI shell around it
    <node>_*.hex        contents of their memories, read by name from the tool's working folder
    accelerator_tb.v    a test bench that checks itself, with golden frames in tb_*.hex
    example.v           how to instantiate the shell
    accelerator.core    the same for FuseSoC
    manifest.json       ports, formats, scales, frame order, registers, mapping, expected cycles
    SHA256SUMS          over all of these

Under another name than ``accelerator`` all modules and .hex files carry that name, so that several
packages fit into one project.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from hdl.accelerator import Accelerator
from hdl.axi.registers import HASH_FILE
from hdl.axi.shell import MODULE, AxiShell, generate_shell
from hdl.keywords import KEYWORDS
from hdl.testbench import GoldenFrames, TestBench, make_test_bench
from hdl.verilog import Design
from model.ir import axi
from model.ir.checksums import read_stated, read_verified
from model.ir.errors import BadInput
from model.ir.folders import check_folder, write_folder
from model.ir.pe_array import PeArraySpec
from model.ir.spec import check_name

MANIFEST = "manifest.json"
SOURCE = "accelerator.v"
EXAMPLE = "example.v"
_REMEDY = "generate the package again"
_HEX = re.compile(r"[a-z][a-z0-9_]*\.hex")
_OWN = re.compile(r"[a-z][a-z0-9_]*\.(hex|v|core)")
_FILE = re.compile(r'"(?=[a-z0-9_]+\.hex")')
_DEFINED = re.compile(r"^module (\S+?)(?=[\s(])", re.M)
_USED = re.compile(r"^(module |  )(\\\S+|[A-Za-z_][\w$]*)(?=[\s(])", re.M)


def check_top(name: str) -> None:
    """Raise BadInput unless ``name`` can name a module, here and in every tool."""
    check_name("--top", name)
    if name in KEYWORDS:
        raise BadInput("--top", repr(name), "a name that is no keyword of Verilog", "rename it")


@dataclass(frozen=True)
class Package:
    """All files of a package by their names, the memories' among them, and its manifest."""

    texts: dict[str, str]
    manifest: dict[str, Any]


def renamed(verilog: str, top: str) -> str:
    """The text with every module and .hex file under the name ``top``."""
    names = {}
    for name in _DEFINED.findall(verilog):
        plain = name.lstrip("\\")
        if plain == MODULE or plain.startswith((f"{MODULE}.", f"{MODULE}_axi")):
            names[name] = name.replace(MODULE, top, 1)
        else:
            names[name] = f"\\{top}_{plain}" if plain != name else f"{top}_{name}"

    def new(match: re.Match) -> str:
        return match[1] + names.get(match[2], match[2])

    return _FILE.sub(f'"{top}_', _USED.sub(new, verilog))


def make_package(
    accelerator: Accelerator,
    design: Design,
    frames: GoldenFrames | None = None,
    top: str = MODULE,
) -> Package:
    """Everything that a package holds; without golden frames it has no test bench."""
    check_top(top)
    shell_name = f"{top}_axi"
    shell, own = generate_shell(accelerator, design.verilog, f"{MODULE}_axi")
    verilog, hexes = design.verilog, design.files | own
    prefix = ""
    if top != MODULE:
        prefix = f"{top}_"
        together = renamed(f"{verilog}\n{_BETWEEN}\n{shell}", top)
        verilog, shell = together.split(f"\n{_BETWEEN}\n")
        hexes = {prefix + name: text for name, text in hexes.items()}
    texts = {f"{top}.v": verilog, f"{top}_axi.v": shell}
    bench: TestBench | None = None
    if frames is not None:
        bench = make_test_bench(
            accelerator,
            f"{verilog}\n{shell}",
            hexes,
            frames,
            shell=shell_name,
            name=f"{top}_tb",
            prefix=prefix,
        )
        texts |= {f"{top}_tb.v": bench.verilog} | bench.files
    texts[EXAMPLE] = _example(accelerator, shell_name)
    texts[f"{top}.core"] = _core(top, sorted(hexes), bench)
    data = manifest(accelerator, replace(design, top=top))
    data["files"] = sorted(hexes)
    data["indices"] = {prefix + name: limit for name, limit in data["indices"].items()}
    data["others"] = sorted(texts)
    data["axi"] = _axi_manifest(accelerator, shell_name)
    if frames is not None:
        data["test_bench"] = {"top": f"{top}_tb", "frames": len(frames.codes)}
    return Package(texts | hexes, data)


def _ports(component: wiring.Component) -> dict[str, dict[str, Any]]:
    """Direction and width of every port of a component."""
    ports = {}
    for path, member, value in component.signature.flatten(component):
        ports["__".join(str(part) for part in path)] = {
            "direction": "input" if member.flow == wiring.In else "output",
            "bits": len(value.as_value() if hasattr(value, "as_value") else value),
        }
    return ports


def _axi_manifest(accelerator: Accelerator, name: str) -> dict[str, Any]:
    """What a driver of the shell needs to know."""
    shell = AxiShell(accelerator)
    cells = accelerator.cells
    words = max((layer.words for layer in cells), default=0)
    port = {"program": [layer.to_json() for layer in cells]} if cells else {}
    return {
        "top": name,
        "clock": "aclk, rising edge; aresetn is synchronous, active low",
        "ports": _ports(shell),
        "input_bits_per_code": shell.i_bits,
        "output_bits_per_code": shell.o_bits,
        "frames": "a transfer is a beat, lane 0 in the lowest bits; TLAST ends a frame",
        "registers": axi.to_json(words),
    } | port


def _example(accelerator: Accelerator, name: str) -> str:
    """A module that instantiates the shell, as a text to copy from."""
    ports = _ports(AxiShell(accelerator))

    def wide(bits: int) -> str:
        return f"[{bits - 1}:0] " if bits > 1 else ""

    declared = ",\n".join(
        f"    {port['direction']} wire {wide(port['bits'])}{key}" for key, port in ports.items()
    )
    joined = ",\n".join(f"      .{key}({key})" for key in ports)
    return (
        "// How to instantiate the accelerator: connect s_axis and m_axis to a DMA, s_axi to the\n"
        "// interconnect of the processor. The .hex files must lie where the tool looks for them.\n"
        f"module example (\n{declared}\n);\n  {name} accelerator (\n{joined}\n  );\n"
        "endmodule\n"
    )


def _core(top: str, hexes: list[str], bench: TestBench | None) -> str:
    """The package for FuseSoC."""

    def files(names: list[str], kind: str) -> str:
        if kind == "user":
            return "".join(
                f"      - {name}: {{file_type: user, copyto: {name}}}\n" for name in names
            )
        return "".join(f"      - {name}\n" for name in names) + f"    file_type: {kind}\n"

    text = f"CAPI=2:\nname: gyre:generated:{top}:0\ndescription: Accelerator generated by Gyre\n"
    text += "\nfilesets:\n  rtl:\n    files:\n"
    text += files([f"{top}.v", f"{top}_axi.v"], "verilogSource-2005")
    text += "  memories:\n    files:\n" + files(hexes, "user")
    if bench is not None:
        text += "  bench:\n    files:\n" + files([f"{top}_tb.v"], "verilogSource-2005")
        text += "  frames:\n    files:\n" + files(sorted(bench.files), "user")
    text += "\ntargets:\n"
    text += f"  default: &default\n    filesets: [rtl, memories]\n    toplevel: {top}_axi\n"
    if bench is not None:
        text += (
            "  sim:\n    <<: *default\n    default_tool: icarus\n"
            f"    filesets: [rtl, memories, bench, frames]\n    toplevel: {top}_tb\n"
            "    tools:\n      icarus:\n        iverilog_options: [-g2005]\n"
            "      verilator:\n        mode: binary\n"
            "        verilator_options: [--timing, -Wno-fatal, -Wno-lint]\n"
        )
    return text


_BETWEEN = "// ---- the shell ----"


def manifest(accelerator: Accelerator, design: Design) -> dict[str, Any]:
    """What a user of the package needs to know, as plain data."""
    network, mapping = accelerator.network, accelerator.mapping
    costs = [cost for _, cost in mapping.costs(network)]
    ports = {"clk": {"direction": "input", "bits": 1}, "rst": {"direction": "input", "bits": 1}}
    ports |= _ports(accelerator)

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


def belongs(folder: Path, top: str = MODULE) -> Callable[[str], bool]:
    """Whether a package of that name holds a file, or the package that is in the folder now."""
    tops = {top}
    with suppress(OSError, ValueError, KeyError, TypeError):  # there is none, or it is damaged
        tops.add(str(json.loads((folder / MANIFEST).read_bytes())["top"]))
    names = {MANIFEST, EXAMPLE}
    for name in tops:
        names |= {f"{name}.v", f"{name}_axi.v", f"{name}_tb.v", f"{name}.core"}
    return lambda name: name in names or _HEX.fullmatch(name) is not None


def write_package(
    accelerator: Accelerator,
    design: Design,
    folder: Path,
    frames: GoldenFrames | None = None,
    top: str = MODULE,
) -> None:
    """Write the package into ``folder``, all or nothing, over a package that is there already."""
    check_top(top)
    check_folder(folder, "package", belongs(folder, top))  # before the shell is generated
    made = make_package(accelerator, design, frames, top)
    files = made.texts | {MANIFEST: json.dumps(made.manifest, indent=1) + "\n"}
    write_folder(
        folder,
        "package",
        belongs(folder, top),
        {name: text.encode() for name, text in files.items()},
    )


def read_package(folder: Path) -> tuple[Design, dict[str, Any]]:
    """The design and the manifest of a package, once every checksum agrees."""
    where = str(folder / MANIFEST)
    try:
        read = json.loads(read_stated(folder, MANIFEST, _REMEDY))
        top, names, others = read["top"], read["files"], read["others"]
        if not isinstance(top, str) or not isinstance(names, list) or not isinstance(others, list):
            raise TypeError("wrong types")
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(where, f"unreadable data ({error})", "a manifest", _REMEDY) from error
    for key, listed, pattern, kind in (
        ("files", names, _HEX, "plain .hex file names"),
        ("others", others, _OWN, "plain names of the package's files"),
    ):
        bad = [name for name in listed if not isinstance(name, str) or not pattern.fullmatch(name)]
        if bad:
            raise BadInput(f"{where}: {key}", repr(bad[0]), kind, _REMEDY)
    source = f"{top}.v"
    if source not in others:
        raise BadInput(f"{where}: others", repr(others)[:80], f"{source} among them", _REMEDY)
    files = read_verified(folder, [*others, MANIFEST, *names], _REMEDY)
    own = [name for name in names if not name.endswith(HASH_FILE)]
    texts = {name: files[name].decode() for name in own}
    try:
        _check_indices(folder, texts, read["indices"])
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise BadInput(where, f"unreadable data ({error})", "a manifest", _REMEDY) from error
    return Design(top, files[source].decode(), texts), read
