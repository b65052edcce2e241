"""Random networks under random mappings, and a bench that runs many of them at once."""

from dataclasses import replace

import numpy as np
import torch

from hdl.accelerator import Accelerator
from model import golden
from model.ir.cost import StageCost
from model.ir.linear import LinearSpec
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import (
    BipolarFormat,
    CodebookFormat,
    FixedPointFormat,
    Format,
    UniformFormat,
)
from model.ir.pe_array import PeArraySpec
from model.ir.requantize import RequantizeSpec
from model.ir.select import SelectSpec
from sim.block import Block
from tests.examples import codes_of, scale_of
from tests.strategies import requantize_tensors

SIZES = 40
PRODUCTS = 60
"""Most multipliers of an array: what keeps the simulator's build short."""


def random_format(rng: np.random.Generator) -> Format:
    """A uniform or fixed-point format, often a narrow one."""
    bits = int(rng.choice([1, 2, 3, 4, 5, 8, 11, 16]))
    if rng.random() < 0.2:
        return FixedPointFormat(bits, bool(rng.integers(2)), int(rng.integers(8)))
    return UniformFormat(bits, bool(rng.integers(2)))


def random_weight_format(rng: np.random.Generator) -> Format:
    """Any format: bipolar and codebooks too."""
    which = rng.random()
    if which < 0.2:
        return BipolarFormat()
    if which < 0.45:
        reach = int(rng.choice([3, 9, 200]))
        levels = rng.choice(np.arange(-reach, reach + 1), int(rng.integers(2, 7)), replace=False)
        return CodebookFormat(tuple(int(level) for level in levels))
    return random_format(rng)


def size(rng: np.random.Generator) -> int:
    """1 to SIZES, small ones as common as large ones."""
    return int(np.exp(rng.uniform(0, np.log(SIZES + 0.99))))


def random_network(rng: np.random.Generator, name: str) -> Network:
    """One to four layers, of which the first may be a selection."""
    length, format = size(rng), random_format(rng)
    entry = InputSpec("x", (length,), format, scale_of(format))
    nodes: list[Node] = []
    edge = entry.name
    for n in range(int(rng.integers(1, 5))):
        # The names of the .hex files come from those of the nodes, and must differ in a bench.
        if rng.random() < (0.5 if n == 0 else 0.1):
            indices = np.flatnonzero(rng.random(length) < rng.random())
            indices = indices if len(indices) else rng.integers(0, length, 1)
            spec = SelectSpec(length, len(indices), format)
            node = Node(f"{name}_keep{n}", spec, (edge,), scale_of(format), {"indices": indices})
        else:
            node = _linear(rng, f"{name}_fc{n}", edge, length, format)
        nodes.append(node)
        edge, length, format = node.name, node.spec.out_features, node.spec.out_format
    return Network(name, entry, tuple(nodes))


def _linear(rng, name: str, edge: str, length: int, format: Format) -> Node:
    per = str(rng.choice(["one", "layer", "channel"]))
    out, weight_format, outputs = random_format(rng), random_weight_format(rng), size(rng)
    m_bits = 0 if per == "one" else int(rng.integers(1, 17))
    spec = LinearSpec(
        length, outputs, format, weight_format, RequantizeSpec(out, 0, per, m_bits, 1)
    )
    # Shift and bias of the size at which outputs spread over the codes and sometimes saturate.
    reach = spec.requantize.product(spec.accumulator()).bits
    shift = int(np.clip(reach - out.bits - rng.integers(0, 5), 0, 47))
    b_bits = int(np.clip(reach - rng.integers(0, 4), 1, 48))
    spec = replace(spec, requantize=replace(spec.requantize, shift=shift, b_bits=b_bits))
    weight = codes_of(weight_format.codes, rng, outputs, length)
    tensors = {"weight": weight} | requantize_tensors(spec.requantize, outputs, rng)
    return Node(name, spec, (edge,), scale_of(out), tensors)


def random_mapping(rng: np.random.Generator, network: Network) -> Mapping:
    """A valid mapping: any rows, columns, lanes and input lanes."""
    engines, stages = [], []
    for node in network.nodes:
        if isinstance(node.spec, SelectSpec):
            stages.append(StageMapping(node.name, None, int(rng.integers(1, 7))))
            continue
        spec = _random_array(rng, node.spec)
        lanes = [n for n in range(1, spec.rows + 1) if spec.rows % n == 0]
        engines.append(Engine(f"pe_{node.name}", spec))
        stages.append(StageMapping(node.name, f"pe_{node.name}", int(rng.choice(lanes))))
    return Mapping(int(rng.integers(1, 7)), tuple(engines), tuple(stages)).check(network)


def _random_array(rng: np.random.Generator, layer: LinearSpec) -> PeArraySpec:
    while True:
        rows = int(rng.integers(1, min(layer.out_features + 2, 17)))
        cols = int(rng.integers(1, min(layer.in_features + 2, 33)))
        spec = PeArraySpec(rows, cols)
        if rows * cols <= PRODUCTS and spec.fits(layer):
            return spec


def block_of(network: Network, mapping: Mapping, frames: int, seed: int) -> Block:
    """An accelerator with taps on every node, and full-range codes to run."""
    accelerator = Accelerator(network, mapping, taps=True)
    rng = np.random.default_rng(seed)
    codes = codes_of(network.input.format.codes, rng, frames, network.length(network.input.name))
    taps = {node.name: network.length(node.name) for node in network.nodes}
    return Block(
        network.name,
        accelerator,
        codes,
        network.length(network.output.name),
        accelerator.files(),
        taps,
    )


def expected_of(network: Network, codes: np.ndarray) -> dict[str, np.ndarray]:
    """Golden codes of every edge."""
    edges = golden.trace(network, torch.from_numpy(codes))
    return {name: edge.numpy() for name, edge in edges.items()}


def costs_of(network: Network, mapping: Mapping) -> list[StageCost]:
    """Costs of the stages in network order."""
    return [cost for _, cost in mapping.costs(network)]
