"""Export of constrained weights: storages, level sets, and the order of structured columns."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model import golden
from model.compress import FormatOptions
from model.compress.constraints import (
    BlockCirculant,
    CoarseBlocks,
    OddLevels,
    levels_of,
    structure_of,
)
from model.compress.constraints.base import Constraint, as_matrix
from model.compress.constraints.binary import Binary
from model.compress.constraints.levels import Levels
from model.compress.constraints.power_of_two import PowerOfTwo
from model.compress.constraints.ternary import Ternary
from model.compress.layers import CirculantConv2d, CirculantLinear, compact
from model.compress.tracing import insert_quantizers
from model.export import export
from model.export.storage import matrix_of
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.block_sparse import BlockSparseStorage
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.network import Network, Node
from model.ir.numerics import BipolarFormat, CodebookFormat, UniformFormat
from model.ir.requantize import RequantizeSpec
from model.ir.storage import DenseStorage
from tests.export.images import images

FORMATS = FormatOptions(weight_bits=4, activation_bits=5, multiplier_bits=16)


class Net(nn.Module):
    """Convolution and two linear layers; ``last``: flattened channels last."""

    def __init__(self, last: bool = True) -> None:
        super().__init__()
        self.last = last
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.pool = nn.MaxPool2d(4)
        self.fc1, self.fc2 = nn.Linear(24, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.conv(x.permute(0, 3, 1, 2))))
        x = x.permute(0, 2, 3, 1) if self.last else x
        return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))


def constrained(
    constraint: Constraint, layers: tuple[str, ...], structured: bool, last: bool = True
) -> tuple[nn.Module, Network]:
    """The net with some layers under a constraint, quantized, and its export (nothing removed)."""
    torch.manual_seed(0)
    net, x = Net(last).eval(), images(0, 30)
    structures, levels = {}, {}
    for name in layers:
        layer = net.get_submodule(name)
        with torch.no_grad():
            layer.weight.copy_(constraint.project(layer.weight))
        structure = structure_of(constraint)
        if structure is not None:
            structures[name] = structure.freeze(layer.weight.detach())
            if structured:
                setattr(net, name, compact(layer, structures.pop(name)))
        if levels_of(constraint) is not None:
            levels[name] = levels_of(constraint)
    module = insert_quantizers(net, x, FORMATS, structures, levels).eval()
    return module, export(module, x[:1], x, multiplier_bits=16, remove=False)


def weight_of(module: nn.Module, name: str) -> Tensor:
    """The fake-quantized weight of a layer as a matrix, as the module uses it."""
    layer = module.get_submodule(name)
    weight = layer.expanded() if hasattr(layer, "expanded") else layer.weight
    return as_matrix(weight.detach())


def check(module: nn.Module, network: Network, names: tuple[str, ...]) -> None:
    """Codes times scale are the module's weights, and its classes are the golden's."""
    for name in names:
        node = network[name]
        values = torch.from_numpy(node.spec.values(node.tensors).copy()).double()
        layer = module.get_submodule(name)
        scale = layer.parametrizations.weight[0].scale.detach().double()
        block = getattr(layer, "k", getattr(layer, "rows_per_block", 1))
        if len(scale) > 1:
            scale = scale.repeat_interleave(block)[: len(values), None]
        assert torch.allclose(values * scale, weight_of(module, name).double(), atol=1e-6)
    frames = images(3, 200)
    outputs = golden.run(network, golden.quantize(network.input, frames.double().numpy()))
    with torch.no_grad():
        expected = module(frames).double()
    real = outputs.double() * network.output.scale
    # A code that lies near a half may fall the other way: few, and by one step each.
    assert float((real - expected).abs().median()) < 1e-3 * float(expected.abs().max())
    assert float((real.argmax(1) == expected.argmax(1)).double().mean()) >= 0.98


@pytest.mark.parametrize("structured", [False, True])
def test_circulant_weights_are_stored_as_their_first_columns(structured: bool) -> None:
    names = ("conv", "fc1", "fc2")
    constraint = BlockCirculant(4, pad="pad")
    module, network = constrained(constraint, names, structured)
    layer = module.get_submodule("fc1")
    assert isinstance(layer, CirculantLinear if structured else nn.Linear)
    assert [network[name].spec.storage for name in names] == [
        BlockCirculantStorage(4, 9),
        BlockCirculantStorage(4, 1),
        BlockCirculantStorage(4, 1),
    ]
    assert network["conv"].tensors["weight"].shape == (2, 9, 4)
    check(module, network, names)


def test_scales_of_block_rows_become_multipliers_of_channels() -> None:
    torch.manual_seed(0)
    net, x = Net().eval(), images(0, 30)
    net.conv, net.fc1 = CirculantConv2d.of(net.conv, 2), CirculantLinear.of(net.fc1, 4)
    with torch.no_grad():
        net.fc1.weight[1] *= 5
    formats = FORMATS.model_copy(update={"weights_per": "channel"})
    module = insert_quantizers(net, x, formats).eval()
    network = export(module, x[:1], x, multiplier_bits=16)
    assert network["fc1"].spec.requantize.per == "channel"
    m = network["fc1"].tensors["m"].reshape(3, 4)
    assert (m == m[:, :1]).all()
    assert m[1, 0] > 2 * m[0, 0]
    check(module, network, ("conv", "fc1"))


@pytest.mark.parametrize("structured", [False, True])
def test_blocks_are_stored_without_those_that_are_absent(structured: bool) -> None:
    module, network = constrained(CoarseBlocks(4, 4, 0.5), ("fc1",), structured)
    storage = network["fc1"].spec.storage
    assert isinstance(storage, BlockSparseStorage)
    assert (storage.row_groups, storage.column_groups, storage.per_row) == (3, 6, 3)
    assert storage.kept == 3 * 3 * 16
    check(module, network, ("fc1",))


@pytest.mark.parametrize(
    ("levels", "format"),
    [
        (Levels(3), UniformFormat(3, True)),
        (Binary(), BipolarFormat()),
        (Ternary(), UniformFormat(2, True)),
        (PowerOfTwo(4), None),
        (OddLevels(2), None),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("name", ["conv", "fc1"])
def test_levels_are_written_in_their_format(levels: Constraint, format: object, name: str) -> None:
    module, network = constrained(levels, (name,), False)
    spec = network[name].spec
    assert spec.weight_format == (levels.format if format is None else format)
    assert spec.storage == DenseStorage()
    check(module, network, (name,))


@pytest.mark.parametrize("structured", [False, True])
def test_absent_weights_need_no_zero_level(structured: bool) -> None:
    constraint = CoarseBlocks(4, 4, 0.5) & Binary()
    module, network = constrained(constraint, ("fc1",), structured)
    assert network["fc1"].spec.weight_format == BipolarFormat()
    assert network["fc1"].spec.storage.kept == 3 * 3 * 16
    check(module, network, ("fc1",))


def test_structured_layers_refuse_another_order_of_their_columns() -> None:
    for constraint in (CoarseBlocks(4, 4, 0.5), BlockCirculant(4)):
        for structured in (False, True):
            with pytest.raises(BadInput, match="flattened in another order") as caught:
                constrained(constraint, ("fc1",), structured, last=False)
            assert caught.value.thing == "fc1"


def test_unequal_scales_within_a_circulant_block_are_refused() -> None:
    torch.manual_seed(0)
    net, x = Net().eval(), images(0, 30)
    with torch.no_grad():
        net.fc1.weight.mul_(torch.linspace(1, 4, 12)[:, None])
    frozen = {"fc1": BlockCirculant(4).freeze(net.fc1.weight.detach())}
    formats = FORMATS.model_copy(update={"weights_per": "channel"})
    module = insert_quantizers(net, x, formats, frozen).eval()
    quantizer = module.get_submodule("fc1").parametrizations.weight[0]
    with torch.no_grad():
        quantizer.log_scale.add_(torch.linspace(0, 2, 12))
    with pytest.raises(BadInput, match="not block-circulant"):
        export(module, x[:1], x)


def test_plain_structured_layers_are_calibrated() -> None:
    torch.manual_seed(0)
    net, x = Net().eval(), images(0, 30)
    net.fc1 = CirculantLinear.of(net.fc1, 4)
    network = export(net, x[:1], x, weight_bits=10, activation_bits=10, multiplier_bits=16)
    outputs = golden.run(network, golden.quantize(network.input, x.double().numpy()))
    with torch.no_grad():
        expected = net(x).double()
    error = (outputs.double() * network.output.scale - expected).abs().max()
    assert float(error / expected.abs().max()) < 0.05
    assert np.prod(network["fc1"].tensors["weight"].shape) == 12 * 24 // 4


def test_a_circulant_matrix_holds_codes_and_not_values() -> None:
    format, rule = (
        CodebookFormat((0, 3, -2, 7)),
        RequantizeSpec(UniformFormat(8, True), 0, "one", 0, 8),
    )
    storage = BlockCirculantStorage(2)
    spec = LinearSpec(4, 4, UniformFormat(4, True), format, rule, storage=storage)
    weight = np.random.default_rng(0).integers(0, 4, (2, 2, 2))
    node = Node("fc", spec, ("x",), 1.0, {"weight": weight, "b": np.zeros(4, int)})
    matrix = matrix_of(node)
    assert set(matrix.codes.flatten().tolist()) <= {0, 1, 2, 3}
    assert np.array_equal(matrix.values(), spec.values(node.tensors))
    assert np.array_equal(matrix.packed()[1]["weight"], weight)
