"""The report of a run: one JSON file of plain figures, and the same as tables."""

import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from hdl.accelerator import Accelerator
from model.ir.errors import BadInput
from sim.verify import Verdict

FILE = "report.json"
WEIGHT_FLOAT_BITS = 32


def make_report(
    *,
    name: str,
    seed: int,
    dataset: dict[str, Any],
    accelerator: Accelerator,
    weights: int,
    accuracy: dict[str, float],
    source: str,
    verdict: Verdict,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """All figures of a run, as plain data. The keys are part of the command line's contract."""
    network, mapping = accelerator.network, accelerator.mapping
    costs = {node.name: cost for node, cost in mapping.costs(network)}
    result = verdict.result
    bits_float = weights * WEIGHT_FLOAT_BITS
    bits_stored = network.stored_bits()
    layers = []
    for stage, node in zip(mapping.stages, network.nodes, strict=True):
        cost = costs[node.name]
        entry: dict[str, Any] = {
            "name": node.name,
            "engine": None if stage.engine is None else mapping.engine(stage.engine).kind,
            "arithmetic": node.spec.arithmetic.kind if cost.macs else None,
            "cycles": cost.cycles,
            "bound_cycles": cost.bound_cycles,
            "multipliers": cost.multiplier_count,
            "multiplier_bits": cost.multiplier_bits,
            "macros": 0,
            "weight_bits": cost.weight_bits,
            "density": 1.0 if cost.macs else None,
            "weight_reuse": None,
            "activation_reuse": None,
            "lanes": stage.lanes,
        }
        steps = result.counters.get(f"steps_{node.name}")
        if steps:  # words counted in RTL: each step reads one weight and one activation word
            done = cost.macs * result.frames
            entry["weight_reuse"] = done / (steps * cost.weight_words // cost.steps)
            entry["activation_reuse"] = done / (steps * cost.activation_words // cost.steps)
        layers.append(entry)
    multipliers = sum(cost.multiplier_count for cost in costs.values())
    macs = sum(cost.macs for cost in costs.values())
    return {
        "recipe": name,
        "dataset": dataset,
        "seed": seed,
        "source": source,
        "network": network.hash(),
        "accuracy": accuracy,
        "compression": {
            "weights": weights,
            "kept": network.weights(),
            "ratio_weights": weights / network.weights(),
            "bits_float": bits_float,
            "bits_stored": bits_stored,
            "ratio_bits": bits_float / bits_stored,
            "bits_on_chip": sum(cost.weight_bits for cost in costs.values()),
        },
        "rtl": {
            "frames": verdict.frames,
            "mismatches": verdict.mismatches,
            "equal": verdict.equal,
            "checks": verdict.checks,
            "differences": [f"{check}: {text}" for check, text in verdict.differences],
            "cycles_per_frame": result.cycles_per_frame,
            "latency_cycles": result.latency_cycles,
            "bound_cycles_per_frame": mapping.bound_cycles(network),
            "utilisation": macs / (result.cycles_per_frame * multipliers)
            if result.frames > 1
            else None,
            "sim_seconds": result.seconds,
            "cycles_per_second": result.cycles_per_second,
        },
        "layers": layers,
        "resources": {
            "multipliers": multipliers,
            "multiplier_bits": sum(cost.multiplier_bits for cost in costs.values()),
            "memory_bits": sum(cost.memory_bits for cost in costs.values()),
            "weight_bits": sum(cost.weight_bits for cost in costs.values()),
            "parameter_bits": sum(cost.parameter_bits for cost in costs.values()),
            "buffer_bits": sum(cost.buffer_bits for cost in costs.values()),
        },
        "seconds": seconds,
    }


def write_report(folder: Path, report: dict[str, Any]) -> Path:
    """Write ``report.json``, all or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{FILE}.part"
    part.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(part, folder / FILE)
    return folder / FILE


def read_report(folder: Path) -> dict[str, Any]:
    """The report of the last run; raises BadInput if there is none."""
    try:
        return json.loads((folder / FILE).read_text())
    except OSError as error:
        raise BadInput(
            str(folder / FILE), error.strerror, "the report of a run", "run `gyre run` first"
        ) from error
    except ValueError as error:
        raise BadInput(
            str(folder / FILE), f"unreadable data ({error})", "a report", "run `gyre run` again"
        ) from error


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report as tables, the verdict last, where the eye rests in a terminal."""
    rtl, compression, accuracy = report["rtl"], report["compression"], report["accuracy"]
    table = Table(title="layers", title_justify="left", header_style="bold")
    for name in ("layer", "engine", "cycles", "bound", "multipliers", "weight bits", "reuse w / a"):
        table.add_column(name, justify="left" if name in ("layer", "engine") else "right")
    for layer in report["layers"]:
        reuse = (
            ""
            if layer["weight_reuse"] is None
            else (f"{layer['weight_reuse']:.2f} / {layer['activation_reuse']:.2f}")
        )
        table.add_row(
            layer["name"],
            layer["engine"] or "-",
            str(layer["cycles"]),
            str(layer["bound_cycles"]),
            str(layer["multipliers"]),
            f"{layer['weight_bits']:,}",
            reuse,
        )
    console.print(table)
    lines = [
        "accuracy     " + "   ".join(f"{key} {100 * accuracy[key]:.2f} %" for key in accuracy),
        f"compression  {compression['ratio_weights']:.2f}x in weights "
        f"({compression['weights']:,} -> {compression['kept']:,}), "
        f"{compression['ratio_bits']:.2f}x in stored bits",
        f"cycles       {rtl['cycles_per_frame']:.2f} a frame (bound "
        f"{rtl['bound_cycles_per_frame']}), latency {rtl['latency_cycles']}"
        + (f", utilisation {rtl['utilisation']:.3f}" if rtl["utilisation"] else "")
        + f" of {report['resources']['multipliers']} multipliers",
        f"simulation   {rtl['cycles_per_second']:,.0f} cycles/s, {rtl['sim_seconds']:.2f} s",
        "also equal   " if rtl["equal"] else "checked      ",
    ]
    checks = {
        "layers": "every layer of {}",
        "stalled": "{} stalled",
        "random": "{} of random codes",
        "seeds": "{} from other initial values",
        "reset": "{} after a reset in mid-frame",
    }
    lines[-1] += ", ".join(checks[k].format(n) for k, n in rtl["checks"].items() if k in checks)
    lines[-1] += " frames"
    if rtl["equal"]:
        head = (
            f"{rtl['frames']:,} test frames of {report['dataset']['name']} in RTL, "
            f"{rtl['mismatches']} mismatches: bit for bit equal to golden"
        )
    else:
        head = f"NOT EQUAL: {rtl['mismatches']} of the codes of {rtl['frames']:,} frames differ"
        lines = [*rtl["differences"], *lines]
    style = "green" if rtl["equal"] else "red"
    console.print(Panel("\n".join([head, "", *lines]), title="VERDICT", border_style=style))
