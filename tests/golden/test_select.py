"""Selection keeps the named codes, in order, and nothing else."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from model import golden
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.select import SelectSpec
from tests.examples import codes_of
from tests.strategies import select_nodes

FORMAT = UniformFormat(16, True)


@given(st.data(), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_keeps_the_indexed_codes_of_the_flattened_frame(
    data: st.DataObject, rows: int, channels: int, seed: int
) -> None:
    node = data.draw(select_nodes("keep", "x", rows * channels, FORMAT))
    network = Network("net", InputSpec("x", (rows, channels), FORMAT, 1.0), (node,))
    frames = codes_of(FORMAT.codes, np.random.default_rng(seed), 4, rows, channels)
    outputs = golden.run(network, torch.from_numpy(frames))
    for frame, output in zip(frames, outputs, strict=True):
        flat = [int(code) for row in frame for code in row]  # channels last
        assert output.tolist() == [flat[int(n)] for n in node.tensors["indices"]]


def test_a_full_selection_changes_nothing_but_the_shape() -> None:
    node = Node("keep", SelectSpec(6, 6, FORMAT), ("x",), 1.0, {"indices": np.arange(6)})
    network = Network("net", InputSpec("x", (2, 3), FORMAT, 1.0), (node,))
    frames = torch.arange(12).reshape(2, 2, 3)
    assert golden.run(network, frames).tolist() == frames.flatten(1).tolist()
