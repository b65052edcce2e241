"""Probe: the golden model and the ranges against plain Python integers."""

import itertools
import sys
from pathlib import Path

import numpy as np
import torch

import model
from model import golden
from model.ir.network import Network
from tests import reference
from tests.examples import codes_of, example_network, image_network, wide_network
from tests.mutations.planting import DETECTED


def mismatch(where: str, expected: object, found: object) -> None:
    """Report the first difference and end."""
    print(f"MISMATCH {where}: expected {expected}, found {found}")
    sys.exit(DETECTED)


def check_codes(network: Network, frames: int) -> None:
    """Every edge of random frames."""
    span = reference.bounds(network.input.format)
    rng = np.random.default_rng(3)
    shape = (frames, *network.input.shape)
    codes = rng.integers(span[0], span[1], shape, endpoint=True)
    edges = golden.trace(network, torch.from_numpy(codes))
    for n, frame in enumerate(codes):
        for edge, expected in reference.run(network, frame).items():
            found = edges[edge][n].flatten().tolist()
            if found != expected:
                mismatch(f"frame {n}, {edge}", expected, found)


def check_ranges(network: Network) -> None:
    """The accumulators' ranges, whose widths the hardware takes over."""
    for node in network.nodes:
        if node.spec.kind != "linear":
            continue
        spec, values = node.spec, []
        for format in (spec.in_format, spec.weight_format):
            codes = range(format.codes.low, format.codes.high + 1)
            values.append([reference.value(format, code) for code in codes])
        ends = itertools.product(*((min(v), max(v)) for v in values))
        products = [0, *(x * w for x, w in ends)]
        expected = tuple(end(products) * spec.in_features for end in (min, max))
        found = (spec.accumulator().low, spec.accumulator().high)
        if found != expected:
            mismatch(f"range of {node.name}.acc", expected, found)


def check_predict() -> None:
    """The class of outputs with many ties."""
    outputs = codes_of(example_network().input.format.codes, np.random.default_rng(4), 50, 10) % 3
    expected = [row.index(max(row)) for row in outputs.tolist()]
    found = golden.predict(torch.from_numpy(outputs)).tolist()
    if found != expected:
        mismatch("predict", expected, found)


def main() -> None:
    if not Path(model.__file__).is_relative_to(Path.cwd()):
        sys.exit(f"the probe runs in {Path.cwd()} but imports {model.__file__}")
    for network in (example_network(), wide_network()):
        check_codes(network, 40)
        check_ranges(network)
    check_codes(image_network(), 4)
    check_predict()
    print("no difference")


if __name__ == "__main__":
    main()
