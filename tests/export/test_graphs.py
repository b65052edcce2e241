"""Export of convolution and residual nets: golden against an independent float64 evaluation."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn import functional

from model import golden
from model.compress import FormatOptions
from model.compress.quantizers import ActivationQuantizer
from model.export import check_supported, export
from model.ir.add import AddSpec
from model.ir.conv import ConvSpec
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.network import Network, Node
from model.ir.pool import AveragePoolSpec, MaxPoolSpec
from tests.export.images import Chain, Residual, images, quantized

NETS = {"chain": Chain, "residual": Residual, "first": lambda: Chain(flatten_last=False)}


def bound(network: Network, node: Node, edges: dict[str, Tensor]) -> float:
    """How far a code may be from the exact real number over its scale.

    The golden computes (acc * m + b + r) >> s where m and b are G 2^s and B 2^s rounded to the
    nearest, and G = gain / scale, B = offset / scale are exact. So acc * m + b differs from
    (G acc + B) 2^s by at most |acc| / 2 + 1/2, and the shift rounds to the nearest: 1/2 +
    (|acc| + 1) / 2^(s+1). An addition has two such products: 1/2 + (|x| + |y|) / 2^(s+1). Clamping
    to a range does not enlarge distances. Scales and the products of
    codes and scales are float32 numbers in the module: relative errors of some 2^-24, so at most
    2^-20 of the largest sum of absolute products.
    """
    spec = node.spec
    if isinstance(spec, AddSpec):
        reach = sum(int(edges[name].abs().max()) for name in node.inputs)
        m = max(abs(int(node.tensors[name][0])) for name in ("mx", "my"))
        return 0.5 + (reach / 2 + 2.0**-20 * reach * m) / 2**spec.shift
    rule = spec.requantize
    if isinstance(spec, AveragePoolSpec):
        reach = int(edges[node.inputs[0]].max()) * spec.area
    else:
        reach = int(edges[f"{node.name}.acc"].abs().max())
    span = spec.accumulator()
    m = int(np.abs(node.tensors["m"]).max()) if rule.multiplies else 1
    terms = max(-span.low, span.high) * m + int(np.abs(node.tensors["b"]).max())
    return 0.5 + ((reach + 1) / 2 + 2.0**-20 * terms) / 2**rule.shift


class Forced(fx.Interpreter):
    """The module in float64, in which each quantizer passes on the golden's codes.

    Before it does, it compares: every code must be within its bound of the real number.
    """

    def __init__(self, module: fx.GraphModule, network: Network, codes: Tensor) -> None:
        super().__init__(copy.deepcopy(module).double())
        self.network = network
        edges = golden.trace(network, codes)
        self.edges = {name: tensor.double() for name, tensor in edges.items()}
        pooled = {n.inputs[0]: n.name for n in network.nodes if isinstance(n.spec, MaxPoolSpec)}
        coded = [pooled.get(n.name, n.name) for n in network.nodes if n.name not in pooled.values()]
        self.left = [network.input.name, *coded]
        self.compared = 0

    def compare(self, real: Tensor, edge: str) -> Tensor:
        codes = self.edges[edge]
        codes = codes.permute(0, 3, 1, 2) if real.ndim == 4 else codes.flatten(1)
        node = self.network[edge]
        if isinstance(node.spec, MaxPoolSpec):  # the largest lies within the bound of all
            node = self.network[node.inputs[0]]
        span = node.spec.out_format.codes
        target = (real / node.scale).clamp(span.low, span.high)
        error = float((codes - target).abs().max())
        assert error <= bound(self.network, node, self.edges), (edge, error)
        self.compared += 1
        return codes * node.scale

    def call_module(self, target: Any, args: tuple, kwargs: dict) -> Tensor:
        if not isinstance(self.fetch_attr(target), ActivationQuantizer):
            return super().call_module(target, args, kwargs)
        edge = self.left.pop(0)
        if edge != self.network.input.name:
            return self.compare(args[0], edge)
        codes = self.edges[edge]
        last = args[0].shape[1:] == codes.shape[1:]
        return (codes if last else codes.permute(0, 3, 1, 2)) * self.network.input.scale


@settings(max_examples=8, deadline=None, phases=[Phase.generate])
@given(
    st.sampled_from(sorted(NETS)),
    st.integers(0, 99),
    st.integers(3, 8),
    st.integers(2, 8),
    st.sampled_from(["tensor", "channel"]),
    st.sampled_from([8, 16]),
)
def test_every_code_is_within_its_bound_of_a_float64_evaluation(
    name: str, seed: int, bits: int, weight_bits: int, per: str, m_bits: int
) -> None:
    torch.manual_seed(seed)
    formats = FormatOptions(
        input_bits=bits,
        activation_bits=bits,
        weight_bits=weight_bits,
        weights_per=per,
        multiplier_bits=m_bits,
    )
    module = quantized(NETS[name](), seed, formats)
    x = images(seed + 1, 6)
    network = export(module, x[:1], images(seed), multiplier_bits=m_bits, remove=False)
    forced = Forced(module, network, golden.quantize(network.input, x.double().numpy()))
    with torch.no_grad():
        forced.compare(forced.run(x.double()), network.output.name)
    quantizers = sum(isinstance(m, ActivationQuantizer) for m in module.modules())
    assert forced.compared == quantizers  # but for the input's, and with the scores


def classes_of(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Random frames, each a mixture of its class's own frame and another, and their classes."""
    labels = torch.arange(count) % 5
    return 0.6 * images(99, 5)[labels] + 0.4 * images(seed, count), labels


@pytest.mark.parametrize("name", sorted(NETS))
def test_classes_are_those_of_the_quantized_module(name: str) -> None:
    """At least 99.9 % of 1,000 frames, of a net that has learned to tell frames apart."""
    torch.manual_seed(0)
    module = NETS[name]()
    x, labels = classes_of(7, 256)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        functional.cross_entropy(module.train()(x), labels).backward()
        optimizer.step()
    share = float((module.eval()(x).argmax(1) == labels).float().mean())
    assert share > 0.9
    formats = FormatOptions(multiplier_bits=16)
    module = quantized(module, 7, formats)
    network = export(module, x[:1], x, multiplier_bits=16)
    frames, _ = classes_of(8, 1000)
    outputs = golden.run(network, golden.quantize(network.input, frames.double().numpy()))
    with torch.no_grad():
        expected = module(frames).argmax(1)
    assert float((golden.predict(outputs) == expected).double().mean()) >= 0.999


def kinds(network: Network) -> list[str]:
    return [node.spec.kind for node in network.nodes]


def test_graph_of_a_residual_net() -> None:
    torch.manual_seed(0)
    network = export(quantized(Residual(), 0, FormatOptions()), images(0), images(0), remove=False)
    assert sorted(kinds(network)) == sorted(["conv"] * 6 + ["add"] * 2 + ["average_pool", "linear"])
    assert sum("conv1" in node.inputs for node in network.nodes) == 2  # two readers, one edge
    for node in network.nodes:
        if isinstance(node.spec, AddSpec):
            assert not node.spec.out_format.signed  # the ReLU
            assert max(node.tensors["mx"][0], node.tensors["my"][0]) >= 2**6  # as precise as fits


def test_graph_of_a_chain() -> None:
    torch.manual_seed(0)
    network = export(quantized(Chain(), 0, FormatOptions()), images(0), images(0), remove=False)
    assert kinds(network) == ["conv", "max_pool", "conv", "conv", "average_pool", "linear"]
    first, depthwise = network.nodes[0].spec, network.nodes[2].spec
    assert isinstance(first, ConvSpec)
    assert not first.out_format.signed
    assert (first.rows, first.columns, first.channels, first.padding) == (8, 8, 3, 1)
    assert (depthwise.groups, depthwise.padding, depthwise.matrix_columns) == (6, 1, 9)


@pytest.mark.parametrize("name", sorted(NETS))
def test_plain_nets_are_calibrated(name: str) -> None:
    """At 10 bits the golden follows the float net closely; at 2 bits it cannot."""
    torch.manual_seed(1)
    module, x = NETS[name]().eval(), images(1, 40)
    with torch.no_grad():
        expected = module(x).double()

    def error(bits: int) -> float:
        network = export(
            module,
            x[:1],
            x,
            input_bits=bits,
            weight_bits=bits,
            activation_bits=bits,
            multiplier_bits=16,
        )
        outputs = golden.run(network, golden.quantize(network.input, x.double().numpy()))
        real = outputs.double() * network.output.scale
        return float((real - expected).square().mean() / expected.square().mean()) ** 0.5

    assert error(10) < 0.02 < error(2)


def test_orders_of_a_frame_are_followed_through_views() -> None:
    """The same net, flattened in four ways that mean the same columns."""

    class Net(nn.Module):
        def __init__(self, way: int) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.fc, self.way = nn.Conv2d(3, 4, 3), nn.Linear(16, 3), way
            self.pool = nn.MaxPool2d(3)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.pool(self.conv(x.permute(0, 3, 1, 2))))
            return self.fc(
                [
                    lambda: x.flatten(1),
                    lambda: x.view(-1, 16),
                    lambda: x.view(x.size(0), -1),
                    lambda: (
                        x.permute(0, 2, 3, 1)
                        .transpose(1, 3)
                        .movedim(3, 2)
                        .reshape(x.shape[0], 4, 4)
                        .flatten(1)
                    ),
                ][self.way]()
            )

    x = images(3)
    networks = [export(Net(way), x[:1], x) for way in range(4)]
    assert len({network.hash() for network in networks}) == 1


def test_global_averages_agree() -> None:
    class Net(nn.Module):
        def __init__(self, way: int) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.fc, self.way = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), way
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.conv(x.permute(0, 3, 1, 2)))
            y = [
                lambda: self.pool(x).flatten(1),
                lambda: functional.adaptive_avg_pool2d(x, (1, 1)).flatten(1),
                lambda: functional.avg_pool2d(x, 6).flatten(1),
                lambda: x.mean((2, 3)),
                lambda: torch.mean(x, dim=(-2, -1), keepdim=True).flatten(1),
                lambda: x.permute(0, 2, 3, 1).mean((1, 2)),
            ]
            return self.fc(y[self.way]())

    x = images(3)
    found = []
    for way in range(6):
        network = export(Net(way), x[:1], x)
        codes = golden.quantize(network.input, x.double().numpy())
        found.append((golden.run(network, codes), kinds(network)))
    assert all(torch.equal(outputs, found[0][0]) for outputs, _ in found)
    assert all(k == ["conv", "average_pool", "linear"] for _, k in found)


def test_max_pool_of_a_negative_gain_equals_the_pool_of_real_numbers() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1, 2)
    ).eval()
    with torch.no_grad():
        net[0].weight.fill_(1)
        net[0].bias.zero_()
        net[1].weight.fill_(-1)
        net[4].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        net[4].bias.zero_()
    x = torch.tensor([[[[0.25, 0.5], [0.75, 1.0]]], [[[0.5, 0.5], [0.5, 1.0]]]])
    network = export(net, x, x, channels_first=True, multiplier_bits=16)
    outputs = golden.run(network, golden.quantize(network.input, x.movedim(1, -1).numpy()))
    with torch.no_grad():
        real = net(x).double()
    assert torch.allclose(outputs.double() * network.output.scale, real, atol=0.02)


def chain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


class Function(nn.Module):
    """A convolution, then a function, then a linear layer of 4 features."""

    def __init__(self, apply: Any, features: int = 4) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3)
        self.fc, self.apply_ = nn.Linear(features, 2), apply

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.apply_(self, x))


@pytest.mark.parametrize(
    ("module", "thing", "found"),
    [
        (chain(nn.Conv2d(3, 4, 3, dilation=2)), "0", "dilation"),
        (chain(nn.Conv2d(3, 6, 3, stride=(1, 2))), "0", "stride (1, 2)"),
        (chain(nn.Conv2d(3, 6, 3, padding=(1, 0))), "0", "padding (1, 0)"),
        (chain(nn.Conv2d(3, 6, 2, padding="same")), "0", "not symmetric"),
        (chain(nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect")), "0", "reflect"),
        (chain(nn.Conv2d(3, 6, 2, stride=3)), "0", "stride 3"),
        (chain(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=2)), "1", "2 groups"),
        (chain(nn.Conv2d(4, 6, 3)), "0", "3 channels"),
        (chain(nn.Conv2d(3, 6, 9)), "0", "kernel (9, 9)"),
        (chain(nn.Conv2d(3, 6, 11, padding=1)), "0", "kernel (11, 11) on a frame (8, 8) with"),
        (chain(nn.MaxPool2d(9)), "0", "kernel (9, 9)"),
        (chain(nn.MaxPool2d(2, stride=3)), "0", "stride 3"),
        (chain(nn.AvgPool2d(2, stride=4)), "0", "stride 4"),
        (chain(nn.MaxPool2d(3, padding=1)), "0", "padding 1"),
        (chain(nn.MaxPool2d(2, ceil_mode=True)), "0", "ceil_mode"),
        (chain(nn.AvgPool2d(2, divisor_override=3)), "0", "divisor_override"),
        (chain(nn.AdaptiveAvgPool2d(2)), "0", "adaptive pooling to 2"),
        (chain(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(5)), "1", "5 features"),
        (chain(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), "2", "does not directly follow"),
        (chain(nn.Conv2d(3, 4, 8), nn.Flatten()), "output", "after the last layer"),
        (chain(nn.Flatten(), nn.Linear(192, 2), nn.Softmax(1)), "2", "Softmax"),
        (Function(lambda m, x: (m.conv(x) + 1).mean((2, 3))), "add", "a constant"),
        (Function(lambda m, x: torch.add(m.conv(x), x, alpha=2).flatten(1)), "add", "factor"),
        (Function(lambda m, x: (m.conv(x) + m.other(x)).mean((2, 3))), "add", "(4, 8, 8)"),
        (Function(lambda m, x: m.conv(x).mean((1, 3))), "mean", "the axes (1, 3)"),
        (Function(lambda m, x: m.conv(x).view(2, -1)), "view", "a reshape"),
        (Function(lambda m, x: m.conv(x).permute(1, 0, 2, 3)), "permute", "the axes"),
        (Function(lambda m, x: m.conv(x)[:, 0].flatten(1), 64), "getitem", "getitem"),
        (Function(lambda m, x: torch.cat([m.conv(x), x], 1).flatten(1)), "cat", "cat"),
    ],
)
def test_what_is_not_supported_is_named(module: nn.Module, thing: str, found: str) -> None:
    x = images(0, 2).permute(0, 3, 1, 2)
    with pytest.raises(BadInput) as caught:
        check_supported(module, x, channels_first=True)
    assert thing in caught.value.thing + caught.value.found
    assert found in caught.value.found
    assert caught.value.remedy


class Many(nn.Module):
    """Five branches, each with one thing that is not supported."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = chain(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, stride=3))
        self.body = nn.ModuleDict({"long": chain(nn.ReLU(), nn.Conv2d(4, 4, 13, padding=2))})
        self.other, self.tail = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, padding=2, dilation=2)
        self.norm, self.fc = nn.GroupNorm(2, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem[1](self.stem[0](x))
        ends = [self.stem[2](y), self.body["long"][1](y), self.tail(x), self.norm(y)]
        ends.append(y + self.other(x))
        return self.fc(torch.stack([end.mean((2, 3)) for end in ends]).sum(0))


def test_all_problems_are_listed_at_once_with_their_paths_and_what_to_do() -> None:
    with pytest.raises(BadInput) as caught:
        check_supported(Many(), images(0, 2).permute(0, 3, 1, 2), channels_first=True)
    text = caught.value.found
    for path, problem, remedy in [
        ("body.long.1", "kernel (13, 13) on a frame (8, 8) with padding 2", "a smaller kernel"),
        ("stem.2", "stride 3", "a stride of at most the kernel"),
        ("tail", "dilation (2, 2)", "use a kernel without gaps"),
        ("add", "(4, 8, 8)", ""),
        ("norm", "GroupNorm", "use batch normalization"),
    ]:
        begin = text.index(f"{path}: ")
        end = min(n for n in (text.find("); ", begin), len(text)) if n > 0)
        assert problem in text[begin:end]
        assert remedy in text[begin:end]


def test_softmax_is_said_to_be_needless() -> None:
    with pytest.raises(BadInput, match="the largest score stays the largest"):
        check_supported(chain(nn.Flatten(), nn.Linear(192, 2), nn.LogSoftmax(1)), images(0, 2))


def test_image_nets_are_evaluated_on_few_frames() -> None:
    torch.manual_seed(0)
    module = quantized(Chain(), 0, FormatOptions())
    many = images(0, 300)
    few = many[torch.arange(128) * 300 // 128]
    assert export(module, many[:1], many).hash() == export(module, few[:1], few).hash()


def test_linear_specs_only_at_the_end() -> None:
    torch.manual_seed(0)
    network = export(Chain().eval(), images(0, 1), images(0))
    assert isinstance(network.output.spec, LinearSpec)
    assert math.prod(network.shape(network.output.name)) == 5


class Twice(nn.Module):
    """The output of one layer added to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.fc1(x))
        return self.fc2(y + y)


def test_a_layer_is_added_to_itself() -> None:
    torch.manual_seed(0)
    module, x = Twice().eval(), torch.randn(200, 4)
    network = export(module, x, x)
    (add,) = (node for node in network.nodes if isinstance(node.spec, AddSpec))
    assert add.inputs == ("fc1", "fc1")
    assert not add.spec.out_format.signed
    outputs = golden.run(network, golden.quantize(network.input, x.numpy()))
    real = outputs.double() * network.output.scale
    expected = module(x).detach()
    assert float((real - expected).abs().max()) < 0.03 * float(expected.abs().max())


@pytest.mark.parametrize("relu", [False, True])
def test_averages_of_unsigned_codes_are_unsigned(relu: bool) -> None:
    torch.manual_seed(0)
    parts = [nn.Conv2d(2, 3, 1), *([nn.ReLU()] if relu else []), nn.AvgPool2d(2), nn.Flatten()]
    module, x = nn.Sequential(*parts, nn.Linear(12, 3)).eval(), torch.randn(20, 2, 4, 4)
    network = export(module, x, x, channels_first=True)
    (pool,) = (node for node in network.nodes if isinstance(node.spec, AveragePoolSpec))
    assert pool.spec.out_format.signed is not relu
