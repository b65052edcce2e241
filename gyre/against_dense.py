"""Circulant layers on circulant arrays beside the same layers written out on dense PE arrays.

``python -m gyre.against_dense [NAME ...]``: for each network of the zoo the mapping of its recipe,
and, of the network with dense weights, the mapping with most multipliers that has no more
multiplier bits (products of operand widths, summed). Both run the same test frames in RTL.
"""

import argparse
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from rich.console import Console
from rich.table import Table

from gyre import zoo
from gyre.flow import ZOO
from gyre.training import golden_accuracy
from hdl.accelerator import Accelerator
from model import data, golden
from model.data import Split
from model.ir.arithmetic import ExactArithmetic
from model.ir.errors import BadInput
from model.ir.fft_arithmetic import FFTArithmetic
from model.ir.mapping import Mapping
from model.ir.matrix import MatrixSpec
from model.ir.network import Network, Node
from model.ir.pe_array import weight_codes
from model.ir.planner import Budget, plan
from model.ir.storage import DenseStorage
from sim.run import Simulator

NAMES = ("osc_mnist_mlp", "osc_mnist_mlp_x40")


@dataclass(frozen=True)
class Figures:
    """What a network under a mapping takes, and gives.

    Parameters
    ----------
    multiplier_bits, multipliers, weight_bits, memory_bits : int
    cycles : float
        Cycles a frame: simulated, or by formula if no frames were run.
    frames, mismatches : int
        Frames in RTL, and their output codes that differ from golden.
    accuracy : float
        Of golden on the whole test split.
    """

    multiplier_bits: int
    multipliers: int
    weight_bits: int
    memory_bits: int
    cycles: float
    frames: int
    mismatches: int
    accuracy: float


def written_out(network: Network) -> Network:
    """The network with dense weights of exact arithmetic in the place of circulant ones of fft."""
    return replace(network, nodes=tuple(_dense(node) for node in network.nodes))


def _dense(node: Node) -> Node:
    spec = node.spec
    if not isinstance(spec, MatrixSpec) or not isinstance(spec.arithmetic, FFTArithmetic):
        return node
    up, rule = spec.arithmetic.exponent, spec.requantize
    bias = [int(Fraction(int(b)) / Fraction(2) ** up) for b in node.tensors["b"]]
    rule = replace(rule, shift=rule.shift - up, b_bits=rule.b_bits + max(0, -up))
    dense = replace(spec, arithmetic=ExactArithmetic(), storage=DenseStorage(), requantize=rule)
    weight = weight_codes(node).reshape(dense.tensor_shapes()["weight"])
    tensors = {**node.tensors, "weight": weight, "b": np.array(bias, dtype=np.int64)}
    return replace(node, spec=dense, tensors=tensors)


def multiplier_bits(network: Network, mapping: Mapping) -> int:
    """Multiplier bits of a mapping."""
    return sum(cost.multiplier_bits for _, cost in mapping.costs(network))


def plan_within_bits(network: Network, bits: int) -> Mapping:
    """The mapping of the largest budget, found by halving, whose multipliers have at most so many
    bits.

    Raises BadInput if no mapping has so few.
    """
    found, low, high = None, 0, bits // 8  # multipliers have 8 bits and more, for the most part
    while high - low > 1:
        middle = (low + high) // 2
        try:
            mapping = plan(network, Budget(middle))
        except BadInput:  # too few for any mapping
            low = middle
            continue
        if multiplier_bits(network, mapping) <= bits:
            low, found = middle, mapping
        else:
            high = middle
    if found is None:
        raise BadInput(
            f"multiplier bits of {network.name}", bits, "those of some mapping", "allow more"
        )
    return found


def measure(network: Network, mapping: Mapping, split: Split, frames: int) -> Figures:
    """Accuracy of golden, and so many frames in RTL."""
    costs = [cost for _, cost in mapping.costs(network)]
    cycles, wrong = float(max(cost.cycles for cost in costs)), 0
    if frames:
        codes = golden.quantize(network.input, split.real()[:frames])
        result = Simulator(Accelerator(network, mapping)).run(codes)
        cycles = result.cycles_per_frame
        wrong = int((result.outputs != golden.run(network, codes)).sum())
    return Figures(
        multiplier_bits(network, mapping),
        sum(cost.multiplier_count for cost in costs),
        sum(cost.weight_bits for cost in costs),
        sum(cost.memory_bits for cost in costs),
        cycles,
        frames,
        wrong,
        golden_accuracy(network, split),
    )


def rows(name: str, frames: int) -> list[tuple[str, Figures]]:
    """A network of the zoo on circulant arrays and, written out, on dense ones."""
    network, origin = zoo.read_entry(ZOO / name)
    recipe = zoo.recipe_of(origin)
    split = data.load(recipe.data.name, recipe.data.options).test
    mapping = plan(network, Budget(recipe.mapping.multipliers, recipe.mapping.memory_bits))
    dense = written_out(network)
    other = plan_within_bits(dense, multiplier_bits(network, mapping))
    return [
        (f"{name}, circulant", measure(network, mapping, split, frames)),
        (f"{name}, dense", measure(dense, other, split, frames)),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES, help="networks of the zoo")
    parser.add_argument("--frames", type=int, default=200, help="test frames in RTL; 0: none")
    arguments = parser.parse_args()
    table = Table(header_style="bold")
    for title in ("network", "multiplier bits", "multipliers", "cycles", "weight bits"):
        table.add_column(title, justify="left" if title == "network" else "right")
    for title in ("memory bits", "accuracy %", "frames", "mismatches"):
        table.add_column(title, justify="right")
    for name in arguments.names:
        for title, found in rows(name, arguments.frames):
            table.add_row(
                title,
                f"{found.multiplier_bits:,}",
                str(found.multipliers),
                f"{found.cycles:,.2f}",
                f"{found.weight_bits:,}",
                f"{found.memory_bits:,}",
                f"{100 * found.accuracy:.2f}",
                str(found.frames),
                str(found.mismatches),
            )
    Console(highlight=False, width=160).print(table)


if __name__ == "__main__":
    main()
