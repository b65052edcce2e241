"""Probe: a small accelerator in RTL against the golden model and the cost formulas."""

import sys
from pathlib import Path

import numpy as np
import torch

import hdl
from hdl.engine import engine_files, make_engine
from model import golden
from model.ir.linear import LinearSpec
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import BipolarFormat, CodebookFormat, UniformFormat
from model.ir.pe_array import PeArraySpec
from model.ir.requantize import RequantizeSpec
from model.ir.select import SelectSpec
from sim.bench import SimulationError
from sim.block import Block, Pattern, run_blocks
from tests.examples import codes_of
from tests.mutations.planting import DETECTED
from tests.sim.random_cases import block_of, costs_of, expected_of
from tests.strategies import requantize_tensors

FRAMES = 24
SMOOTH = Pattern()
PATTERNS = [SMOOTH, Pattern(True, True, 2), Pattern(False, True, 3), Pattern(True, True, 4, 60)]


def network() -> Network:
    """A selection and three layers: every place of ``m``, folds that do not divide, no zero."""
    rng = np.random.default_rng(2)
    entry = InputSpec("x", (11,), UniformFormat(3, False), 1.0)
    kept = np.array([0, 1, 3, 4, 5, 7, 8, 9, 10])
    nodes = [Node("keep", SelectSpec(11, 9, entry.format), ("x",), 1.0, {"indices": kept})]
    format, features = entry.format, 9
    for n, (outputs, weight_format, requantize) in enumerate(
        [
            (
                7,
                UniformFormat(3, True),
                RequantizeSpec(UniformFormat(3, False), 4, "channel", 4, 7),
            ),
            (5, BipolarFormat(), RequantizeSpec(UniformFormat(3, True), 1, "one", 0, 4)),
            (
                3,
                CodebookFormat((1, -2, 3)),
                RequantizeSpec(UniformFormat(6, True), 2, "layer", 5, 6),
            ),
        ]
    ):
        spec = LinearSpec(features, outputs, format, weight_format, requantize)
        weight = codes_of(weight_format.codes, rng, outputs, features)
        tensors = {"weight": weight} | requantize_tensors(requantize, outputs, rng)
        if requantize.per == "layer":
            tensors["m"] = np.array([-3])
        nodes.append(Node(f"fc{n}", spec, (nodes[-1].name,), 1.0, tensors))
        format, features = requantize.out_format, outputs
    return Network("probe", entry, tuple(nodes))


def mapping() -> Mapping:
    """Drains that limit and that do not; columns of the width of their stream and of another."""
    arrays = [PeArraySpec(4, 4), PeArraySpec(4, 3), PeArraySpec(2, 2)]
    lanes = [1, 2, 2]
    stages = [StageMapping(f"fc{n}", f"pe{n}", lanes[n]) for n in range(3)]
    engines = tuple(Engine(f"pe{n}", spec) for n, spec in enumerate(arrays))
    return Mapping(3, engines, (StageMapping("keep", None, 2), *stages))


def mismatch(words: object) -> None:
    """Report what is wrong and end."""
    print(f"MISMATCH {words}")
    sys.exit(DETECTED)


def main() -> None:
    if not Path(hdl.__file__).is_relative_to(Path.cwd()):
        sys.exit(f"the probe runs in {Path.cwd()} but imports {hdl.__file__}")
    block = block_of(network(), mapping(), FRAMES, 1)
    expected = expected_of(network(), block.codes)
    # The last array once more by itself, for nothing behind it softens a stall.
    node = Node("alone", network()["fc2"].spec, ("x",), 1.0, network()["fc2"].tensors)
    spec = PeArraySpec(2, 5)
    codes = codes_of(node.spec.in_format.codes, np.random.default_rng(3), FRAMES, 5)
    files = engine_files(spec, node)
    alone = Block("alone", make_engine(spec, node, 1), codes, node.spec.out_features, files)
    keep: dict[str, torch.Tensor] = {}
    golden.evaluate(node.spec, node, [torch.from_numpy(codes)], keep)
    try:
        traces = run_blocks([block, alone], PATTERNS)
    except SimulationError as error:
        if "did not run" in str(error):
            raise
        mismatch(error)
    for pattern in PATTERNS:
        trace = traces[block.name, pattern]
        for name, codes in (trace.taps | {"fc2": trace.codes}).items():
            wrong = np.argwhere(codes != expected[name])
            if len(wrong):
                mismatch(f"{name} of frame {wrong[0][0]} under {pattern}")
        if (traces[alone.name, pattern].codes != keep["alone.acc"].numpy()).any():
            mismatch(f"sums of the array alone under {pattern}")
    costs = costs_of(network(), mapping())
    cycles = max(cost.cycles for cost in costs)
    gaps = traces[block.name, SMOOTH].gaps[FRAMES // 2 :]
    if gaps != [cycles] * len(gaps):
        mismatch(f"cycles per frame: {gaps}, not {cycles}")
    print("no difference")


if __name__ == "__main__":
    main()
