"""The report of a run: one JSON file of plain figures, and the same as tables."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gyre.compression import compression
from hdl.accelerator import Accelerator, count_ports, fill_port
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.circulant_array import CirculantArraySpec
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.layer import LayerSpec
from model.ir.lstm import LSTMSpec
from model.ir.lstm_array import LSTMArraySpec
from model.ir.mapping import EngineSpec, Mapping, StageMapping
from model.ir.matrix import MatrixSpec
from model.ir.network import Network, Node
from model.ir.pe_array import PeArraySpec
from model.ir.pim_array import PimArraySpec, pim_of
from sim.energy import engineering
from sim.run import Result
from sim.technology import LEVELS
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
    energy: dict[str, Any] | None = None,
    area: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """All figures of a run, as plain data. The keys are part of the command line's contract."""
    network, mapping = accelerator.network, accelerator.mapping
    costs = {node.name: cost for node, cost in mapping.costs(network)}
    result, bound = verdict.result, mapping.bound_cycles(network)
    fewest = max(bound, *(cost.steps for cost in costs.values()))  # cycles with these engines
    layers = []
    for stage, node in zip(mapping.stages, network.nodes, strict=True):
        cost = costs[node.name]
        engine = None if stage.engine is None else mapping.engine(stage.engine)
        entry: dict[str, Any] = {
            "name": node.name,
            "engine": engine.kind if engine is not None else None,
            "arithmetic": _matrix(node.spec).arithmetic.kind if cost.macs else None,
            "cycles": cost.cycles,
            "bound_cycles": cost.bound_cycles,
            "multipliers": cost.multiplier_count,
            "multiplier_bits": cost.multiplier_bits,
            "macros": cost.macros,
            "weight_bits": cost.weight_bits,
            "density": _density(node, cost),
            "utilisation": _utilisation(engine, cost),
            "busy": None,
            "busy_bound": None,
            "dense": _dense(network, mapping, stage, node, cost),
            "weight_reuse": None,
            "activation_reuse": None,
            "lanes": stage.lanes,
        }
        steps = result.counters.get(f"steps_{node.name}")
        if steps:  # words counted in RTL: each step reads one weight and one activation word
            entry["busy"] = steps / result.counters[f"span_{node.name}"]
            entry["busy_bound"] = cost.steps / fewest
            done = cost.kept_macs * result.frames
            entry["weight_reuse"] = done / (steps * cost.weight_words // cost.steps)
            entry["activation_reuse"] = done / (steps * cost.activation_words // cost.steps)
        layers.append(entry)
    multipliers = sum(cost.multiplier_count for cost in costs.values())
    macros = sum(cost.macros for cost in costs.values())
    macs = sum(cost.kept_macs for cost in costs.values())
    report = {
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
            "bound_cycles_per_frame": bound,
            "utilisation": macs / (result.cycles_per_frame * multipliers)
            if result.frames > 1 and not macros
            else None,
            "recurrent": _recurrent(accelerator, result),
            "sim_seconds": result.seconds,
            "cpu_seconds": result.cpu_seconds,
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
            "macros": macros,
        },
        "seconds": seconds,
    }
    if counts := {port: result.counters[port] for port, _, _ in count_ports(mapping)}:
        report["programming"] = counts
    if energy is not None:
        report["energy"] = energy
    if area is not None:
        report["resources"]["area"] = area
    return report


def _matrix(layer: LayerSpec) -> MatrixSpec:
    """The matrix of a layer; of an LSTM that of its gates."""
    return layer.gates if isinstance(layer, LSTMSpec) else layer


def _recurrent(accelerator: Accelerator, result: Result) -> dict[str, int] | None:
    """What there is to say of sequences; None for a network that is not recurrent.

    ``steps`` of ``sequences`` are compared, ``idle`` further frames fill slots without a sequence.
    ``slots`` sequences are interleaved; ``cycles_alone`` is what a step takes, by formula, where it
    is one.
    """
    if result.order is None:
        return None
    network, mapping = accelerator.network, accelerator.mapping
    engines = tuple(
        replace(engine, spec=replace(engine.spec, sequences=1))
        if isinstance(engine.spec, LSTMArraySpec)
        else engine
        for engine in mapping.engines
    )
    alone = replace(mapping, engines=engines).costs(network)
    busy = result.order[:, 0] >= 0
    return {
        "steps": int(busy.sum()),
        "sequences": len(np.unique(result.order[busy, 0])),
        "idle": int((~busy).sum()),
        "slots": accelerator.slots,
        "cycles_alone": max(cost.cycles for _, cost in alone),
    }


def _density(node: Node, cost: StageCost) -> float | None:
    """Share of the weights that are kept; None where a weight stands for several."""
    if not cost.macs or isinstance(_matrix(node.spec).storage, BlockCirculantStorage):
        return None
    return cost.kept_macs / cost.macs


def _utilisation(engine: EngineSpec | None, cost: StageCost) -> float | None:
    """Useful multiply-accumulates of an engine over those it could do in the stage's cycles."""
    if not cost.macs:
        return None
    if isinstance(engine, CirculantArraySpec | LSTMArraySpec | PimArraySpec):
        # a lane computes a block a cycle, a macro makes an evaluation
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
    if isinstance(engine, PimArraySpec):  # the cells of a whole matrix, evaluated at once as well
        layer = node.spec
        pim, weights = pim_of(layer), layer.matrix_rows * layer.matrix_columns
        bits = weights * pim.columns_per_weight(layer) * pim.cell_bits * engine.copies
        return {"cycles": cost.cycles, "weight_bits": bits}
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
    if "energy" in report:
        console.print(_energy(report["energy"]), soft_wrap=False)
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
    columns = "layer", "engine", "cycles", "bound", "mult.", "used", "busy", "weight bits"
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
            _busy(layer),
            f"{layer['weight_bits']:,}",
            "" if reuse[0] is None else f"{reuse[0]:.2f} / {reuse[1]:.2f}",
        )
    return table


def _busy(layer: dict[str, Any]) -> str:
    """Counted share of cycles with a step, in parts of what the network's bound allows."""
    if layer.get("busy") is None:
        return ""
    return f"{100 * layer['busy'] / layer['busy_bound']:.0f} %"


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


def _energy(energy: dict[str, Any]) -> Table:
    """The shares of a frame's energy."""
    columns = "part", "count", "low", "typical", "high", "share"
    title = f"{energy['title']} ({', '.join(energy['technologies'])})"
    table = _table(title, *columns, texts=1)
    for part in energy["parts"]:
        levels = (engineering(part["total"][level], energy["unit"]) for level in LEVELS)
        table.add_row(
            part["part"], f"{part['count']:,}", *levels, f"{100 * part['share']['typical']:.1f} %"
        )
    table.add_section()
    for name, total in (("all", energy["total"]), ("written once", energy["programming"]["total"])):
        levels = (engineering(total[level], energy["unit"]) for level in LEVELS)
        table.add_row(name, "", *levels, "")
    return table


def head(report: dict[str, Any]) -> str:
    """The verdict in a line."""
    rtl = report["rtl"]
    frames = f"{rtl['frames']:,} test frames of {report['dataset']['name']}"
    if found := rtl.get("recurrent"):
        frames = f"{found['steps']:,} steps of {found['sequences']:,} test sequences of "
        frames += report["dataset"]["name"]
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
    samples, kind = rtl["frames"], "frames"
    if found := rtl.get("recurrent"):
        samples, kind = found["sequences"], "sequences"
    if samples < report["dataset"]["test"]:
        shares += f" (golden and rtl on {samples:,} of {report['dataset']['test']:,} {kind})"
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
    if found := rtl.get("recurrent"):
        yield (
            "sequences",
            f"{found['slots']} interleaved, {found['idle']:,} idle frames; one at a time "
            f"{found['cycles_alone']:,} cycles a step by formula",
        )
    if macros := report["resources"].get("macros"):
        yield "macros", f"{macros:,}"
    busy = "" if rtl["utilisation"] is None else f", utilisation {rtl['utilisation']:.3f}"
    yield "multipliers", f"{report['resources']['multipliers']:,}{busy}"
    if fifos := report.get("fifos"):
        filled = (f"{f['layer']} {f['fill']:,} of {f['depth']:,}" for f in fifos)
        yield "FIFO fill", f"{', '.join(filled)} beats"
    if counts := report.get("programming"):
        pulses, failures = (
            sum(n for name, n in counts.items() if name.startswith(f"{what}_"))
            for what in ("pulses", "failures")
        )
        yield "programming", f"{pulses:,} pulses, {failures:,} rows that failed"
    yield "simulation", f"{rtl['cycles_per_second']:,.0f} cycles/s, {rtl['sim_seconds']:.2f} s"
    done = [CHECKS[name].format(n) for name, n in rtl["checks"].items() if name in CHECKS]
    yield ("also equal" if rtl["equal"] else "checked"), "; ".join(done)
