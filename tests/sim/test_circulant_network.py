"""A network on circulant and dense engines, end to end."""

import numpy as np
import pytest
import torch

from hdl.accelerator import Accelerator
from model import golden
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.circulant_array import CirculantArraySpec
from model.ir.conv import ConvSpec
from model.ir.fft_arithmetic import FFTArithmetic
from model.ir.linear import LinearSpec
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pe_array import PeArraySpec
from model.ir.requantize import RequantizeSpec
from sim.run import Simulator, Stall
from tests.examples import codes_of
from tests.strategies import requantize_tensors
from tests.tools import require_tools

pytestmark = pytest.mark.rtl

U4, S4, S8 = UniformFormat(4, False), UniformFormat(4, True), UniformFormat(8, True)
FFT = FFTArithmetic(1, (0, 1), 0, 2, (1, 1))


def network() -> Network:
    """A circulant convolution, a dense layer, a circulant layer."""
    rng, rule = np.random.default_rng(3), RequantizeSpec(S8, 6, "channel", 5, 16)
    layers = [
        ConvSpec(4, 4, 5, 6, 3, 3, 1, 0, 1, U4, S4, rule, FFT, BlockCirculantStorage(4, 9)),
        LinearSpec(24, 10, S8, S4, rule),
        LinearSpec(10, 7, S8, S4, rule, FFT, BlockCirculantStorage(4)),
    ]
    nodes, edge = [], "image"
    for n, spec in enumerate(layers):
        tensors = {"weight": codes_of(S4.codes, rng, *spec.tensor_shapes()["weight"])}
        tensors |= requantize_tensors(rule, spec.matrix_rows, rng)
        nodes.append(Node(f"layer{n}", spec, (edge,), 1.0, tensors))
        edge = f"layer{n}"
    return Network("mixed", InputSpec("image", (4, 4, 5), U4, 1.0), tuple(nodes))


def test_circulant_and_dense_engines_in_one_accelerator() -> None:
    require_tools("g++")
    net = network()
    engines = [
        CirculantArraySpec(4, 2),
        PeArraySpec(5, 4),
        CirculantArraySpec(4, 1, "folded", 4),
    ]
    mapping = Mapping(
        4,
        tuple(Engine(f"engine{n}", spec) for n, spec in enumerate(engines)),
        tuple(StageMapping(f"layer{n}", f"engine{n}", lanes) for n, lanes in enumerate((2, 5, 2))),
    )
    simulator = Simulator(Accelerator(net, mapping, taps=True))
    codes = torch.from_numpy(codes_of(U4.codes, np.random.default_rng(4), 30, 4, 4, 5))
    expected = golden.trace(net, codes)
    cycles = max(cost.cycles for _, cost in mapping.costs(net))
    plain = simulator.run(codes)
    assert plain.cycles_per_frame == cycles
    for result in (plain, simulator.run(codes, stall=Stall(True, True, 5), init_seed=2)):
        assert torch.equal(result.outputs, expected["layer2"])
        for name, tap in result.taps.items():
            assert torch.equal(tap, expected[name][: len(tap)]), name
