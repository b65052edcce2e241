"""From a network to standard cells: area, timing, and energy a classification, module by module.

`gyre synth RECIPE --liberty FILE --clock NS`. Method and what it leaves out: docs/pe.md.
"""

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from gyre.flow import Flow
from hdl.accelerator import Accelerator
from hdl.verilog import generate_accelerator
from model import golden
from model.ir.errors import BadInput
from sim import technology
from sim.build import BuildError
from sim.gates import sta_power
from sim.gates.liberty import Library, read_liberty
from sim.gates.power import Access, Part, accesses, measure
from sim.gates.simulation import Activity, GateSimulator, margin
from sim.gates.synthesis import Netlist, find_yosys, synthesize
from sim.gates.timing import Timing, analyse, check_period, find_sta
from sim.technology import LEVELS, MemoryTechnology, Range

FILE = "synth.json"
FRAMES = 24
"""Frames that are counted, in the middle of those that are simulated."""
LEAST_FRAMES = 20
WIRES = 1.5
"""Factor on the gates' energy that stands for wires and the clock tree, printed beside the rest."""
NOT_COUNTED = (
    "wires",
    "the clock tree",
    "glitches",
    "input and output pads",
    "the memories' decoders beyond their constant",
)


def synth(
    flow: Flow,
    liberty: Path,
    period: float,
    *,
    frames: int = FRAMES,
    gating: bool = True,
    memory: str = "sram",
) -> dict[str, Any]:
    """Synthesize the accelerator of a flow; returns the report and writes it to the flow's folder.

    What a missing tool would have given is left out, and ``missing`` says so.
    """
    check_period(period)
    if frames < LEAST_FRAMES:
        raise BadInput("--frames", frames, f"at least {LEAST_FRAMES}", "give more")
    library = read_liberty(liberty)
    library.flip_flop  # noqa: B018  refused before anything is trained or built
    constants = technology.load_memory(memory)
    split = flow.dataset.test
    total = frames + 2 * margin(flow.accelerator)
    codes = golden.quantize(flow.trained.network.input, split.real()[:total])
    report = of_accelerator(
        flow.accelerator, codes, library, constants, period, gating=gating, begin=flow.begin
    )
    report = {"name": flow.recipe.name, **report}
    flow.out.mkdir(parents=True, exist_ok=True)
    (flow.out / FILE).write_text(json.dumps(report, indent=1) + "\n")
    flow.say(f"synthesis  {flow.out / FILE}")
    return report


def of_accelerator(
    accelerator: Accelerator,
    codes: torch.Tensor | None,
    library: Library,
    constants: MemoryTechnology,
    period: float,
    *,
    gating: bool = True,
    begin: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """The report of an accelerator; ``codes`` are the input codes of the frames to simulate.

    Those of the margin at either end are compared, but not counted. None simulates nothing: area
    and timing are all that is found.
    """
    network, mapping = accelerator.network, accelerator.mapping
    missing: list[str] = []
    costs = [cost for _, cost in mapping.costs(network)]
    report: dict[str, Any] = {
        "library": library.name,
        "memory": constants.title,
        "clock_ns": period,
        "gating": gating and library.clock_gate is not None,
        "cycles_per_frame": max(cost.cycles for cost in costs),
        "multipliers": sum(cost.multiplier_count for cost in costs),
        "missing": missing,
        "not_counted": list(NOT_COUNTED),
    }
    begun = time.perf_counter()
    try:
        find_yosys()
    except BadInput as error:
        missing.append(str(error))
        return report
    begin("synthesize to standard cells")
    netlist = synthesize(
        generate_accelerator(accelerator).verilog,
        "accelerator",
        library,
        period=period,
        gating=gating,
    )
    try:
        find_sta()
        begin("analyse timing")
        report["timing"] = _timing(analyse(netlist, library, constants, period))
    except BadInput as error:
        missing.append(str(error))
    if codes is None:
        parts = measure(netlist, library, None, period * 1e-9)
        report["area"] = _area(netlist, library, parts, constants)
        report["seconds"] = time.perf_counter() - begun
        return report
    begin("build and run the gate netlist")
    result, activity = GateSimulator(accelerator, netlist, library, len(codes)).measure(codes)
    expected = golden.run(network, codes)
    report["simulation"] = {
        "frames": len(codes),
        "counted": activity.frames,
        "mismatches": int((result.outputs != expected).sum()),
        "cycles_per_frame": activity.cycles / activity.frames,
    }
    parts = measure(
        netlist,
        library,
        activity,
        period * 1e-9,
        constants.input_pin.range.typical,
    )
    seconds = period * 1e-9 * activity.cycles / activity.frames
    report |= _energy(parts, accesses(netlist, activity), constants, seconds)
    report["area"] = _area(netlist, library, parts, constants)
    if "timing" in report:
        try:
            report["opensta"] = _beside(netlist, library, constants, activity, period)
        except BuildError as error:  # another version of OpenSTA, say
            missing.append(f"energy by OpenSTA: {str(error).splitlines()[0]}")
    report["seconds"] = time.perf_counter() - begun
    return report


def _beside(
    netlist: Netlist,
    library: Library,
    constants: MemoryTechnology,
    activity: Activity,
    period: float,
) -> dict[str, Any]:
    """Section ``opensta`` of the report: its energy of logic and registers, and our own."""
    theirs, ours = sta_power.compare(netlist, library, constants, activity, period * 1e-9)
    wired, _ = sta_power.compare(netlist, library, constants, activity, period * 1e-9, wires=True)
    return {
        "unit": "nJ a frame",
        "opensta": {key: value * 1e9 for key, value in asdict(theirs).items()},
        "own": {key: value * 1e9 for key, value in asdict(ours).items()},
        "nets_with_wires": wired.nets * 1e9,
    }


def _timing(timing: Timing) -> dict[str, Any]:
    return {
        "met": timing.met,
        "slack_ns": timing.slack,
        "least_ns": timing.least,
        "begins": timing.ends[0],
        "ends": timing.ends[1],
        "critical_path": timing.path,
    }


def modules(parts: dict[tuple[str, ...], Part]) -> dict[str, Part]:
    """Parts by the names of their modules, the members of an array together."""
    found: dict[str, Part] = defaultdict(Part)
    for path, part in parts.items():
        name = ".".join(re.sub(r"_\d+$", "", step) for step in path)
        found[name or "top"] += part
    return dict(sorted(found.items()))


def _area(
    netlist: Netlist,
    library: Library,
    parts: dict[tuple[str, ...], Part],
    constants: MemoryTechnology,
) -> dict[str, Any]:
    bits = sum(access.bits for access in accesses(netlist, None))
    memory = constants.bit_area.range * bits
    cells = sum((part.area for part in parts.values()), 0.0)
    return {
        "unit": "um2",
        "cells": cells,
        "memories": {name: value * 1e6 for name, value in memory.plain().items()},
        "total": {name: cells + value * 1e6 for name, value in memory.plain().items()},
    }


def _energy(
    parts: dict[tuple[str, ...], Part],
    found: list[Access],
    constants: MemoryTechnology,
    seconds: float,
) -> dict[str, Any]:
    """Sections ``energy``, ``modules`` and ``memories`` of the report; in nJ a frame."""
    logic = sum(parts.values(), Part()).energy
    total, flat = technology.ZERO, technology.ZERO
    memories = []
    for access in found:
        moved = access.read_bits + access.written_bits
        each = constants.energy(access.bits / 8)
        leaking = constants.bit_leakage.range * (access.bits * seconds)
        joules = each * moved + leaking
        total += joules
        flat += constants.flat(access.bits / 8) * moved + leaking
        memories.append(
            {
                "name": access.name,
                "width": access.width,
                "depth": access.depth,
                "reads": access.reads,
                "read_bits": access.read_bits,
                "written_bits": access.written_bits,
                "nj": _nano(joules),
            }
        )
    both = Range(*(getattr(total, name) + logic.total for name in LEVELS))
    wired = Range(*(getattr(total, name) + WIRES * logic.total for name in LEVELS))
    return {
        "energy": {
            "unit": "nJ a frame",
            "logic": logic.total * 1e9,
            "switching": logic.switching * 1e9,
            "clock": logic.clock * 1e9,
            "leakage": logic.leakage * 1e9,
            "memories": _nano(total),
            "total": _nano(both),
            "memory_share": total.typical / both.typical,
            "with_wires": _nano(wired),
            "wires_factor": WIRES,
            "if_small_memories_cost_as_8_kb": _nano(flat)["typical"] + logic.total * 1e9,
            "microwatts": both.typical / seconds * 1e6,
        },
        "modules": [
            {
                "name": name,
                "cells": part.cells,
                "registers": part.registers,
                "area": part.area,
                "switching": part.energy.switching * 1e9,
                "clock": part.energy.clock * 1e9,
                "leakage": part.energy.leakage * 1e9,
                "nj": part.energy.total * 1e9,
            }
            for name, part in modules(parts).items()
        ],
        "memories": memories,
    }


def _nano(value: Range) -> dict[str, float]:
    return (value * 1e9).plain()


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report: tables of modules and memories, then what counts."""
    if "modules" in report:
        table = Table(title="modules, nJ a frame", title_justify="left")
        table.add_column("module", no_wrap=True)
        for name in ("cells", "um2", "switch", "clock", "leak", "nJ"):
            table.add_column(name, justify="right")
        for part in report["modules"]:
            table.add_row(
                part["name"],
                f"{part['cells']:,}",
                f"{part['area']:,.0f}",
                *(f"{part[key]:.3f}" for key in ("switching", "clock", "leakage", "nj")),
            )
        console.print(table, soft_wrap=False)
        table = Table(title="memories, nJ a frame", title_justify="left")
        table.add_column("memory", no_wrap=True)
        for name in ("width", "depth", "bits read", "written", *LEVELS):
            table.add_column(name, justify="right")
        for memory in report["memories"]:
            table.add_row(
                memory["name"],
                f"{memory['width']:,}",
                f"{memory['depth']:,}",
                f"{memory['read_bits']:,.0f}",
                f"{memory['written_bits']:,.0f}",
                *(f"{memory['nj'][name]:.3f}" for name in LEVELS),
            )
        console.print(table, soft_wrap=False)
    for line in facts(report):
        console.print(line, markup=False)


def facts(report: dict[str, Any]) -> list[str]:
    """What counts, a line each."""
    lines = [
        f"library    {report['library']}, {report['clock_ns']:g} ns; memories: {report['memory']}",
        f"cycles     {report['cycles_per_frame']:,} a frame; {report['multipliers']} multipliers",
    ]
    if "area" in report:
        area = report["area"]
        lines.append(
            f"area       {area['cells']:,.0f} um2 of cells, {area['memories']['typical']:,.0f} of"
            f" memories ({area['memories']['low']:,.0f} to {area['memories']['high']:,.0f})"
        )
    if "timing" in report:
        timing = report["timing"]
        verdict = "kept" if timing["met"] else "MISSED"
        lines.append(
            f"clock      {verdict}: slack {timing['slack_ns']:.3f} ns, at least"
            f" {timing['least_ns']:.3f} ns; from {timing['begins']} to {timing['ends']}"
        )
    if "simulation" in report:
        simulation = report["simulation"]
        lines.append(
            f"netlist    {simulation['frames']} test frames, {simulation['mismatches']} mismatches;"
            f" {simulation['counted']} counted, {simulation['cycles_per_frame']:,.2f} cycles each"
        )
    if "energy" in report:
        energy = report["energy"]
        total, wired = energy["total"], energy["with_wires"]
        lines += [
            f"energy     {total['typical']:.2f} nJ a frame ({total['low']:.2f} to"
            f" {total['high']:.2f}), memories {100 * energy['memory_share']:.0f} %",
            f"gates      {energy['logic']:.2f} nJ: switching {energy['switching']:.2f}, clock"
            f" {energy['clock']:.2f}, leakage {energy['leakage']:.2f}",
            f"wires      {wired['typical']:.2f} nJ ({wired['low']:.2f} to {wired['high']:.2f}) with"
            f" {energy['wires_factor']} times the gates",
            f"           {energy['if_small_memories_cost_as_8_kb']:.2f} nJ if small memories cost a"
            " bit what 8 KB do",
        ]
    if "opensta" in report:
        theirs, ours = report["opensta"]["opensta"], report["opensta"]["own"]
        pairs = ", ".join(f"{key} {theirs[key]:.3f} ({ours[key]:.3f})" for key in theirs)
        lines += [
            f"opensta    logic and registers, ours in brackets, nJ: {pairs}",
            f"           nets {report['opensta']['nets_with_wires']:.3f} under its wire load",
        ]
    lines += [f"missing    {text}" for text in report["missing"]]
    lines.append(f"not counted: {', '.join(report['not_counted'])}")
    return lines


def failed(report: dict[str, Any]) -> str | None:
    """Why the command fails, or None: the netlist differs from golden, or misses its clock."""
    if report.get("simulation", {}).get("mismatches"):
        return "the gate netlist differs from golden"
    timing = report.get("timing")
    if timing is not None and not timing["met"]:
        return str(
            BadInput(
                "--clock",
                f"{report['clock_ns']:g} ns: the design misses it by {-timing['slack_ns']:.3f} ns",
                f"at least {timing['least_ns']:.3f} ns",
                "give a longer period; the critical path is\n" + timing["critical_path"],
            )
        )
    return None
