"""Probe: two small accelerators in RTL against the golden model and the cost formulas."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from amaranth.hdl import unsigned

import hdl
from hdl.lib.repack import Repack
from model.ir.beats import Beats
from model.ir.block_sparse import BlockSparseStorage
from model.ir.linear import LinearSpec
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import BipolarFormat, CodebookFormat, UniformFormat
from model.ir.pe_array import PeArraySpec
from model.ir.repack import repack_cost
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
    """Drains that limit and that do not; columns of the width of their stream and of another.

    The layer in the middle is the slowest, so that what stands before it stalls all the time.
    """
    arrays = [PeArraySpec(4, 4), PeArraySpec(2, 2), PeArraySpec(2, 2)]
    lanes = [1, 2, 2]
    stages = [StageMapping(f"fc{n}", f"pe{n}", lanes[n]) for n in range(3)]
    engines = tuple(Engine(f"pe{n}", spec) for n, spec in enumerate(arrays))
    return Mapping(3, engines, (StageMapping("keep", None, 2), *stages))


def sparse() -> tuple[Network, Mapping]:
    """A block-sparse layer of three words and five tiles, which the index memory counts in turn."""
    rng, entry, weights = np.random.default_rng(4), UniformFormat(3, False), UniformFormat(3, True)
    mask = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0]])
    storage, tensors = BlockSparseStorage.pack(
        codes_of(weights.codes, rng, 6, 6), mask, [2] * 3, [2] * 3
    )
    rule = RequantizeSpec(UniformFormat(6, True), 2, "layer", 4, 7)
    spec = LinearSpec(6, 6, entry, weights, rule, storage=storage)
    node = Node("fc", spec, ("x",), 1.0, tensors | requantize_tensors(rule, 6, rng))
    array = PeArraySpec(2, 2)
    array = replace(array, tiles=array.kept_tiles(node))
    stages = (StageMapping("fc", "pe", 2),)
    network = Network("sparse", InputSpec("x", (6,), entry, 1.0), (node,))
    return network, Mapping(2, (Engine("pe", array),), stages)


def repacker() -> Block:
    """A repacker whose buffer must take a beat that it fills up while another waits in it."""
    component = Repack(unsigned(3), Beats((6,), 2), Beats((6,), 5))
    codes = np.random.default_rng(3).integers(0, 8, (FRAMES, 6))
    return Block("repacker", component, codes, 6)


def mismatch(words: object) -> None:
    """Report what is wrong and end."""
    print(f"MISMATCH {words}")
    sys.exit(DETECTED)


def main() -> None:
    if not Path(hdl.__file__).is_relative_to(Path.cwd()):
        sys.exit(f"the probe runs in {Path.cwd()} but imports {hdl.__file__}")
    pairs, spread = [(network(), mapping()), sparse()], repacker()
    blocks = [block_of(*pair, FRAMES, 1) for pair in pairs]
    try:
        traces = run_blocks([*blocks, spread], PATTERNS)
    except SimulationError as error:
        if "did not run" in str(error):
            raise
        mismatch(error)
    for (net, _), block in zip(pairs, blocks, strict=True):
        expected = expected_of(net, block.codes)
        for pattern in PATTERNS:
            trace = traces[block.name, pattern]
            for name, codes in (trace.taps | {net.output.name: trace.codes}).items():
                wrong = np.argwhere(codes != expected[name])
                if len(wrong):
                    mismatch(f"{name} of frame {wrong[0][0]} under {pattern}")
    for pattern in PATTERNS:
        if (traces[spread.name, pattern].codes != spread.codes).any():
            mismatch(f"codes of the repacker under {pattern}")
    cycles = {
        block.name: max(cost.cycles for cost in costs_of(*pair))
        for pair, block in zip(pairs, blocks, strict=True)
    }
    cycles[spread.name] = repack_cost(Beats((6,), 2), Beats((6,), 5), masked=False).cycles
    for name, stated in cycles.items():
        gaps = traces[name, SMOOTH].gaps[FRAMES // 2 :]
        if gaps != [stated] * len(gaps):
            mismatch(f"cycles per frame of {name}: {gaps}, not {stated}")
    print("no difference")


if __name__ == "__main__":
    main()
