"""Blocks on the bench: many components with streams ``i`` and ``o`` in one simulator.

Each block gets frames and gives frames, under every stall pattern at once with all the others. The
bench (``tb/tb_block.py``) holds the rules of the handshake; what the frames contain and when they
come is for the caller to compare.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from amaranth.hdl import Shape
from amaranth.lib import wiring

from hdl.lib.hexfile import hex_text, read_hex
from hdl.target import VerilogTarget
from sim.beats import marks, pack, unpack
from sim.bench import SimulationError, run_bench
from sim.build import build
from sim.harness import port_names, without_initial
from sim.run import new_run_folder, write_files

TOP = "gyre_blocks"
PATIENCE = 2000
"""Cycles without a single beat after which a block counts as hung."""

SETTLE = 100
"""Cycles after the last expected beat in which a surplus one would show."""


@dataclass(frozen=True)
class Pattern:
    """Which side pauses at random, the seed of the pauses, and when to reset once more."""

    source: bool = False
    sink: bool = False
    seed: int = 1
    reset_after: int | None = None


STALLS = [
    Pattern(source, sink, seed)
    for source, sink in ((False, False), (True, False), (False, True), (True, True))
    for seed in ((1, 2, 3) if source or sink else (1,))
]
RESETS = [Pattern(True, True, 4, reset_after) for reset_after in (9, 40)]
FULL_SPEED = STALLS[0]


@dataclass(frozen=True)
class Block:
    """A component under test.

    Parameters
    ----------
    name : str
        Unique among the blocks of a bench.
    component : wiring.Component
        Has beat streams ``i`` and ``o``, and perhaps ``step``.
    codes : int64 array [frames, length]
        What enters.
    out_length : int
        Codes per frame that leave.
    files : mapping
        Contents of its .hex files, by names that no other block uses.
    """

    name: str
    component: wiring.Component
    codes: np.ndarray
    out_length: int
    files: Mapping[str, str] = field(default_factory=dict)

    def port(self, side: str) -> tuple[int, int, bool]:
        """Lanes of a stream, and bits and sign of its codes."""
        layout = getattr(self.component, side).payload.shape().members["codes"]
        shape = Shape.cast(layout.elem_shape)
        return layout.length, shape.width, shape.signed

    def beats(self, side: str) -> int:
        """Beats per frame of a stream."""
        length = self.codes.shape[1] if side == "i" else self.out_length
        return -(-length // self.port(side)[0])


@dataclass(frozen=True)
class Trace:
    """What a block did in one run.

    Parameters
    ----------
    codes : int64 array [frames, out_length]
        What left.
    i_cycles, o_cycles : int64 arrays [frames, beats]
        Cycle of every beat.
    steps : int
        Cycles in which ``step`` was high.
    """

    codes: np.ndarray
    i_cycles: np.ndarray
    o_cycles: np.ndarray
    steps: int

    @property
    def latency(self) -> int:
        """Cycles from the first frame's first input beat to its last output beat, both counted."""
        return int(self.o_cycles[0, -1] - self.i_cycles[0, 0]) + 1

    @property
    def gaps(self) -> list[int]:
        """Cycles between the ends of successive output frames."""
        return np.diff(self.o_cycles[:, -1]).tolist()


def run_blocks(
    blocks: Sequence[Block], patterns: Sequence[Pattern] = (*STALLS, *RESETS)
) -> dict[tuple[str, Pattern], Trace]:
    """Build one simulator with all the blocks and run it under every pattern.

    Raises
    ------
    SimulationError
        If a block breaks a rule of the handshake, hangs, gives a surplus beat or wrong marks.
    """
    verilog = _verilog(blocks)
    folder, _ = build(verilog, TOP, port_names(verilog, TOP))
    run = new_run_folder()
    job = {
        "patterns": [asdict(pattern) for pattern in patterns],
        "blocks": [
            {
                "name": block.name,
                "beats": _words(block),
                "bits": len(block.component.i.payload.as_value()),
                "expected": len(block.codes) * block.beats("o"),
            }
            for block in blocks
        ],
        "patience": PATIENCE,
        "settle": SETTLE,
        "result": "result.json",
    }
    (run / "job.json").write_text(json.dumps(job))
    for block in blocks:
        write_files(run, block.files)
    run_bench(folder, TOP, "tb.tb_block", run, env={"GYRE_JOB": "job.json"})
    found = json.loads((run / "result.json").read_text())
    traces = {
        (block.name, pattern): _trace(block, pattern, part)
        for pattern, parts in zip(patterns, found, strict=True)
        for block, part in zip(blocks, parts, strict=True)
    }
    shutil.rmtree(run)
    return traces


def check_values(traces: Mapping[tuple[str, Pattern], Trace], block: Block, expected) -> None:
    """Raise SimulationError, with the first difference, unless a block always gave ``expected``."""
    for (name, pattern), trace in traces.items():
        wrong = np.argwhere(trace.codes != np.asarray(expected))
        if name == block.name and len(wrong):
            frame, element = wrong[0]
            raise SimulationError(
                f"{name} under {pattern}: frame {frame}, element {element}: expected "
                f"{expected[frame][element]}, found {trace.codes[frame, element]}"
            )


def _words(block: Block) -> list[int]:
    """Payloads of all input beats, as integers."""
    lanes, bits, _ = block.port("i")
    matrix = pack(block.codes, lanes, bits)
    matrix = np.concatenate([matrix, marks(len(block.codes), block.beats("i"))], axis=1)
    return [int(line, 16) for line in hex_text(matrix).split()]


def _trace(block: Block, pattern: Pattern, part: dict) -> Trace:
    frames = len(block.codes)
    lanes, bits, signed = block.port("o")
    width = lanes * bits + 2
    matrix = read_hex("\n".join(f"{word:0{-(-width // 4)}x}" for word in part["words"]), width)
    thing = f"{block.name} under {pattern}"
    return Trace(
        codes=unpack(matrix, frames, block.out_length, lanes, bits, signed, thing),
        i_cycles=np.array(part["i_cycles"]).reshape(frames, -1),
        o_cycles=np.array(part["o_cycles"]).reshape(frames, -1),
        steps=part["steps"],
    )


_TOP_TEXT = """\
`timescale 1ns / 1ns
module {top} (input wire rst, input wire [{high}:0] i_valid, output wire [{high}:0] i_ready,
    output wire [{high}:0] o_valid, input wire [{high}:0] o_ready, output wire [{high}:0] step,
    {payloads});
  reg clk = 0;
  always #5 clk = ~clk;
{instances}
endmodule
"""


def _verilog(blocks: Sequence[Block]) -> str:
    target = VerilogTarget()
    payloads, instances = [], []
    for n, block in enumerate(blocks):
        module = f"block_{n}"
        target.convert(block.component, module)
        for side, flow in (("i", "input"), ("o", "output")):
            width = len(getattr(block.component, side).payload.as_value())
            payloads.append(f"{flow} wire [{width - 1}:0] {side}_payload_{n}")
        ports = [f".{side}__payload({side}_payload_{n})" for side in "io"]
        ports += [f".{s}__{wire}({s}_{wire}[{n}])" for s in "io" for wire in ("valid", "ready")]
        ports += [f".{port}({port})" for port in ("clk", "rst") if target.has_port(module, port)]
        if "step" in block.component.signature.members:
            ports.append(f".step(step[{n}])")
        else:
            instances.append(f"  assign step[{n}] = 1'b0;")
        instances.append(f"  {module} {module} ({', '.join(ports)});  // {block.name}")
    top = _TOP_TEXT.format(
        top=TOP,
        high=len(blocks) - 1,
        payloads=",\n    ".join(payloads),
        instances="\n".join(instances),
    )
    return top + without_initial(target.text())
