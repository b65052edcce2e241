"""``python -m sim.macro_bench``: evaluations a second of macros on their own.

A shift register drives the word lines anew in every cycle and the results are folded into a sum;
the simulator's main program makes the clock. Figures are of the processor's time that the
simulator takes, and of the clock on the wall; ratios are of the former to the goal. Where no macro
is evaluated they are cycles, which show what an idle macro costs.
"""

import json
import shutil
from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.pim.macro import Macro, contents
from hdl.target import place
from model.ir.macro import MacroSpec
from sim.bench import run_bench
from sim.build import build
from sim.harness import port_names, with_clock
from sim.run import new_run_folder

TOP = "gyre_macros"
CELLS = "cells.hex"
CASES = {  # macros, those evaluated in each cycle, goal in evaluations a second
    "128 × 128, 1 bit": (MacroSpec(128, 128), 1, 1, 2_000_000),
    "128 × 128, 4 bit": (MacroSpec(128, 128, 4), 1, 1, 400_000),
    "8 of 128 × 128, 1 bit": (MacroSpec(128, 128), 8, 8, None),
    "8 of 128 × 128, 1 bit, 7 idle": (MacroSpec(128, 128), 8, 1, None),
    "128 × 128, 1 bit, idle": (MacroSpec(128, 128), 1, 0, None),
    "8 of 128 × 128, 1 bit, 8 idle": (MacroSpec(128, 128), 8, 0, None),
}
EVALUATIONS = 1_000_000


class MacroBench(wiring.Component):
    """``macros`` macros of the same contents, of which ``active`` are evaluated in every cycle.

    Members
    -------
    words : In(32)
        Cycles to run.
    done : Out(1)
    cycle, sum : Out(32)
        Cycles since the reset, and a sum over results, so that none is left out.
    """

    def __init__(self, spec: MacroSpec, macros: int, active: int) -> None:
        self.spec, self.macros, self.active = spec, macros, active
        super().__init__({"words": In(32), "done": Out(1), "cycle": Out(32), "sum": Out(32)})

    def elaborate(self, platform):
        m = Module()
        spec = self.spec
        state = Signal(32, init=0x12345)
        x = Signal(spec.rows)
        bit = state[31] ^ state[21] ^ state[1] ^ state[0]
        m.d.sync += [state.eq(Cat(bit, state)), x.eq(Cat(state ^ x[-32:], x))]
        total = Const(0, 32)
        for n in range(self.macros):
            macro = place(m, platform, f"macro_{n}", "macro", Macro, spec, CELLS)
            m.d.comb += [
                macro.en.eq(1),
                macro.start.eq(n < self.active),
                macro.x.eq(x),
                macro.seed.eq(1),
            ]
            o = macro.o.as_value()
            total ^= o[:32] ^ o[-32:]
        with m.If(~self.done):
            m.d.sync += [
                self.cycle.eq(self.cycle + 1),
                self.sum.eq(self.sum + total),
                self.done.eq(self.cycle == self.words),
            ]
        return m


@dataclass(frozen=True)
class Speed:
    """Evaluations a second (cycles if there are none), by the processor's clock and the wall's."""

    cpu: float
    wall: float


def measure(spec: MacroSpec, macros: int, active: int, cycles: int) -> Speed:
    """Build and run a bench of macros."""
    verilog = with_clock(MacroBench(spec, macros, active), "macros", TOP)
    folder, _ = build(verilog, TOP, port_names(verilog, TOP))
    run = new_run_folder()
    rng = np.random.default_rng(1)
    levels = rng.integers(0, 1 << spec.level_bits, (spec.rows, spec.columns))
    (run / CELLS).write_text(contents(spec, levels))
    job = {
        "controls": {"words": cycles},
        "counters": ["cycle", "sum"],
        "max_cycles": 2 * cycles,
        "reset_after": None,
        "stop": None,
        "result": "result.json",
    }
    (run / "job.json").write_text(json.dumps(job))
    run_bench(folder, TOP, "tb.tb_frames", run, env={"GYRE_JOB": "job.json"})
    found = json.loads((run / "result.json").read_text())
    shutil.rmtree(run)
    done = max(active, 1) * found["counters"]["cycle"]
    return Speed(done / found["cpu_seconds"], done / found["seconds"])


def main() -> None:
    """Measure every case and print a line each."""
    for name, (spec, macros, active, goal) in CASES.items():
        speed = measure(spec, macros, active, EVALUATIONS // max(active, 1))
        what = "evaluations" if active else "cycles"
        aim = "" if goal is None else f", {speed.cpu / goal:.2f} of the goal {goal:,}"
        print(
            f"{name:30} {speed.cpu:12,.0f} {what} a second of the processor, "
            f"{speed.wall:,.0f} of the wall{aim}",
            flush=True,
        )


if __name__ == "__main__":
    main()
