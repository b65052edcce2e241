"""The report of a run: one JSON file of plain figures, and the same as tables."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gyre.compression import compression
from hdl.accelerator import Accelerator, fill_port
from model.ir.circulant_array import CirculantArraySpec
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.mapping import EngineSpec, Mapping, StageMapping
from model.ir.network import Network, Node
from model.ir.pe_array import PeArraySpec
from sim.verify import Verdict

FILE = "report.json"
SECTIONS = ("recipe", "dataset", "accuracy", "compression", "rtl", "layers", "resources")
CHECKS = {
    "layers": "every layer of {:,} frames",
    "stalled": "{:,} under stalls",
    "random": "{:,} of random codes",
    "seeds": "{:,} from other initial values",
    "reset": "{:,} after a reset in mid-frame",
}
"""The checks beside the run of all frames, in words."""


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
    layers = []
    for stage, node in zip(mapping.stages, network.nodes, strict=True):
        cost = costs[node.name]
        engine = None if stage.engine is None else mapping.engine(stage.engine)
        entry: dict[str, Any] = {
            "name": node.name,
            "engine": engine.kind if engine is not None else None,
            "arithmetic": node.spec.arithmetic.kind if cost.macs else None,
            "cycles": cost.cycles,
            "bound_cycles": cost.bound_cycles,
            "multipliers": cost.multiplier_count,
            "multiplier_bits": cost.multiplier_bits,
            "macros": 0,
            "weight_bits": cost.weight_bits,
            "density": _density(engine, cost),
            "utilisation": _utilisation(engine, cost),
            "dense": _dense(network, mapping, stage, node, cost),
            "weight_reuse": None,
            "activation_reuse": None,
            "lanes": stage.lanes,
        }
        steps = result.counters.get(f"steps_{node.name}")
        if steps:  # words counted in RTL: each step reads one weight and one activation word
            done = cost.kept_macs * result.frames
            entry["weight_reuse"] = done / (steps * cost.weight_words // cost.steps)
            entry["activation_reuse"] = done / (steps * cost.activation_words // cost.steps)
        layers.append(entry)
    multipliers = sum(cost.multiplier_count for cost in costs.values())
    macs = sum(cost.kept_macs for cost in costs.values())
    return {
        "recipe": name,
        "dataset": dataset,
        "seed": seed,
        "source": source,
        "network": network.hash(),
        "accuracy": accuracy,
        "compression": compression(network, weights)
        | {"bits_on_chip": sum(cost.weight_bits for cost in costs.values())},
        "rtl": {
            "frames": verdict.frames,
            "mismatches": verdict.mismatches,
            "equal": verdict.equal,
            "checks": verdict.checks,
            "differences": [f"{check}: {text}" for check, text in verdict.differences],
            "cycles_per_frame": result.cycles_per_frame if result.frames > 1 else None,
            "latency_cycles": result.latency_cycles,
            "bound_cycles_per_frame": mapping.bound_cycles(network),
            "utilisation": macs / (result.cycles_per_frame * multipliers)
            if result.frames > 1
            else None,
            "sim_seconds": result.seconds,
            "cycles_per_second": result.cycles_per_second,
        },
        "layers": layers,
        "fifos": [
            {
                "layer": fifo.node,
                "input": fifo.input,
                "depth": fifo.depth,
                "fill": result.counters[fill_port(fifo)],
            }
            for fifo in mapping.fifos
        ],
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


def _density(engine: EngineSpec | None, cost: StageCost) -> float | None:
    """Share of the weights that are kept; None where a weight stands for several."""
    if not cost.macs or isinstance(engine, CirculantArraySpec):
        return None
    return cost.kept_macs / cost.macs


def _utilisation(engine: EngineSpec | None, cost: StageCost) -> float | None:
    """Useful multiply-accumulates of an engine over those it could do in the stage's cycles."""
    if not cost.macs:
        return None
    if isinstance(engine, CirculantArraySpec):  # a lane computes a block a cycle
        return float(cost.ideal_cycles / cost.cycles)
    products, _, _ = cost.multipliers[0]  # the engine's come first
    return cost.kept_macs / (cost.cycles * products)


def _dense(
    network: Network, mapping: Mapping, stage: StageMapping, node: Node, cost: StageCost
) -> dict[str, int] | None:
    """Cycles and bits of a layer on the same array if none of its tiles were left out."""
    if not cost.macs:
        return None
    engine = mapping.engine(stage.engine)
    if isinstance(engine, PeArraySpec) and engine.tiles is not None:
        tiles = engine.row_folds(node.spec) * engine.col_folds(node.spec)
        whole = replace(engine, tiles=tiles)
        cost = whole.cost(node.spec, mapping.inputs(network, node), stage.lanes)
    return {"cycles": cost.cycles, "weight_bits": cost.weight_bits}


def write_report(folder: Path, report: dict[str, Any]) -> Path:
    """Write ``report.json``, all or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{FILE}.part"
    try:
        part.write_text(json.dumps(report, indent=1) + "\n")
        os.replace(part, folder / FILE)
    finally:
        part.unlink(missing_ok=True)
    return folder / FILE


def read_report(folder: Path) -> dict[str, Any]:
    """The report of the last run; raises BadInput if there is none."""
    path = folder / FILE
    try:
        report = json.loads(path.read_text())
    except OSError as error:
        raise BadInput(
            str(path), error.strerror, "the report of a run", "run `gyre run` first"
        ) from error
    except ValueError as error:
        raise BadInput(
            str(path), f"unreadable data ({error})", "a report", "run `gyre run` again"
        ) from error
    missing = [key for key in SECTIONS if not isinstance(report, dict) or key not in report]
    if missing:
        raise BadInput(
            str(path), f"no {missing[0]!r}", "a report of this version", "run `gyre run` again"
        )
    return report


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report as tables, the verdict last, where the eye rests in a terminal."""
    console.print(_layers(report), soft_wrap=False)
    if any((layer["density"] or 1) < 1 for layer in report["layers"]):
        console.print(_pruned(report), soft_wrap=False)
    style = "green" if report["rtl"]["equal"] else "red"
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", overflow="fold")
    grid.add_column(overflow="fold")
    for name, text in facts(report):
        grid.add_row(Text(name), Text(text))
    body = Group(Text(head(report), style=f"bold {style}"), "", grid)
    console.print(Panel(body, title="VERDICT", border_style=style), soft_wrap=False)


def _table(title: str, *columns: str, texts: int) -> Table:
    """A table without rows, of which the first columns hold texts and the others numbers."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for n, name in enumerate(columns):
        table.add_column(name, justify="left" if n < texts else "right", overflow="fold")
    return table


def _layers(report: dict[str, Any]) -> Table:
    columns = "layer", "engine", "cycles", "bound", "mult.", "used", "weight bits"
    table = _table("layers", *columns, "reuse w / a", texts=2)
    for layer in report["layers"]:
        reuse, used = (layer["weight_reuse"], layer["activation_reuse"]), layer["utilisation"]
        table.add_row(
            layer["name"],
            layer["engine"] or "-",
            f"{layer['cycles']:,}",
            f"{layer['bound_cycles']:,}",
            f"{layer['multipliers']:,}",
            "" if used is None else f"{100 * used:.0f} %",
            f"{layer['weight_bits']:,}",
            "" if reuse[0] is None else f"{reuse[0]:.2f} / {reuse[1]:.2f}",
        )
    return table


def _pruned(report: dict[str, Any]) -> Table:
    """What leaving out blocks saves on the same arrays."""
    columns = "layer", "density", "cycles", "dense", "weight bits", "dense"
    table = _table(
        "pruned, beside the same layers on the same arrays with every block", *columns, texts=1
    )
    for layer in report["layers"]:
        if layer["density"] is not None:
            table.add_row(
                layer["name"],
                f"{100 * layer['density']:.1f} %",
                f"{layer['cycles']:,}",
                f"{layer['dense']['cycles']:,}",
                f"{layer['weight_bits']:,}",
                f"{layer['dense']['weight_bits']:,}",
            )
    return table


def head(report: dict[str, Any]) -> str:
    """The verdict in a line."""
    rtl = report["rtl"]
    frames = f"{rtl['frames']:,} test frames of {report['dataset']['name']}"
    if rtl["equal"]:
        return f"EQUAL, bit for bit: {frames} in RTL, {rtl['mismatches']} mismatches"
    if rtl["mismatches"]:
        return f"NOT EQUAL: {rtl['mismatches']:,} codes differ in {frames}"
    return f"NOT EQUAL: {frames} agree, but another check failed"


def facts(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What stands below the verdict: a name and a text each."""
    rtl, compression, accuracy = report["rtl"], report["compression"], report["accuracy"]
    for difference in rtl["differences"]:
        check, _, text = difference.partition(": ")
        yield check, text
    shares = ", ".join(f"{key} {100 * share:.2f} %" for key, share in accuracy.items())
    if rtl["frames"] < report["dataset"]["test"]:
        shares += f" (golden and rtl on {rtl['frames']:,} of {report['dataset']['test']:,} frames)"
    yield "accuracy", shares
    yield (
        "compression",
        f"{compression['ratio_bits']:.2f}x in stored bits, {compression['ratio_weights']:.2f}x in "
        f"weights ({compression['weights']:,} to {compression['kept']:,})",
    )
    latency = f"latency {rtl['latency_cycles']:,}"
    if rtl["cycles_per_frame"] is None:
        yield "cycles", latency
    else:
        bound = f"bound {rtl['bound_cycles_per_frame']:,}"
        yield "cycles", f"{rtl['cycles_per_frame']:,.2f} a frame ({bound}), {latency}"
    busy = "" if rtl["utilisation"] is None else f", utilisation {rtl['utilisation']:.3f}"
    yield "multipliers", f"{report['resources']['multipliers']:,}{busy}"
    if fifos := report.get("fifos"):
        filled = (f"{f['layer']} {f['fill']:,} of {f['depth']:,}" for f in fifos)
        yield "FIFO fill", f"{', '.join(filled)} beats"
    yield "simulation", f"{rtl['cycles_per_second']:,.0f} cycles/s, {rtl['sim_seconds']:.2f} s"
    done = [CHECKS[name].format(n) for name, n in rtl["checks"].items() if name in CHECKS]
    yield ("also equal" if rtl["equal"] else "checked"), "; ".join(done)
