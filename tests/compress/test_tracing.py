import operator

import pytest
import torch
from torch import Tensor, fx, nn

from model.compress.constraints import Binary, Constraint, FilterSparsity, LevelSet
from model.compress.quantizers import ActivationQuantizer, FormatOptions, WeightQuantizer
from model.compress.tracing import insert_quantizers, kind, quantize_weight, trace
from model.ir.errors import BadInput

FORMATS = FormatOptions(input_bits=8, weight_bits=4, activation_bits=4)
READERS = (nn.Conv2d, nn.Linear, nn.AvgPool2d, nn.AdaptiveAvgPool2d, operator.add)


class ConvNet(nn.Module):
    """Channels last at the edges, channels first inside, with a residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.AvgPool2d(2)
        self.pool3 = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Linear(4, 5)
        self.fc2 = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.relu1(self.bn1(self.conv1(x.permute(0, 3, 1, 2)))))
        x = self.relu2(self.bn2(self.conv2(x)) + x)
        x = self.pool3(self.pool2(x)).permute(0, 2, 3, 1)
        return self.fc2(self.fc1(torch.flatten(x, 1)))


def sources(graph: fx.GraphModule, node: fx.Node) -> list[list[ActivationQuantizer]]:
    """By argument: the quantizers on the way back to where values are computed."""
    found = []
    for source in node.all_input_nodes:
        chain = []
        while source.op != "placeholder" and kind(graph, source) not in (
            *READERS,
            *(nn.BatchNorm2d, nn.ReLU),
        ):
            if kind(graph, source) is ActivationQuantizer:
                chain.append(graph.get_submodule(source.target))
            (source,) = source.all_input_nodes
        found.append(chain)
    return found


def test_every_reader_has_exactly_one_quantizer_an_edge() -> None:
    torch.manual_seed(0)
    graph = insert_quantizers(ConvNet().eval(), torch.randn(8, 8, 8, 2), FORMATS)
    readers = [node for node in graph.graph.nodes if kind(graph, node) in READERS]
    assert len(readers) == 7
    signed = {}
    for node in readers:
        edges = sources(graph, node)
        assert [len(edge) for edge in edges] == [1] * len(edges), node
        signed[str(node)] = [edge[0].format.signed for edge in edges]
    assert signed == {
        "conv1": [True],
        "conv2": [False],
        "add": [True, False],
        "pool2": [False],
        "pool3": [False],
        "fc1": [False],
        "fc2": [True],
    }
    quantizers = [m for m in graph.modules() if isinstance(m, ActivationQuantizer)]
    assert len(quantizers) == 7
    assert all(quantizer.fitted for quantizer in quantizers)
    shortcut = sources(graph, readers[2])[1][0]
    assert sources(graph, readers[1])[0][0] is shortcut


def test_functional_pools_pass_too() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
            return nn.functional.adaptive_avg_pool2d(self.conv2(x), 1)

    graph = insert_quantizers(Net(), torch.rand(2, 1, 4, 4), FORMATS)
    quantizers = [m for m in graph.modules() if isinstance(m, ActivationQuantizer)]
    assert [q.format.signed for q in quantizers] == [False, False, True]


def test_a_layer_s_own_levels_replace_the_default() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    graph = insert_quantizers(net, torch.rand(5, 3), FORMATS, {}, {"2": Binary()})
    found = [m.levels for m in graph.modules() if isinstance(m, WeightQuantizer)]
    assert [repr(levels) for levels in found] == [repr(FORMATS.levels()), repr(Binary())]


def test_one_bit_weights_are_binary() -> None:
    assert repr(FormatOptions(weight_bits=1).levels()) == repr(Binary())
    assert FormatOptions(weight_bits=16, weights_per="channel").levels().bits == 16


def test_padding_after_a_sequence_does_not_count_for_scales() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    torch.manual_seed(0)
    x = torch.randn(6, 9, 2)
    lengths = torch.tensor([3, 9, 1, 4, 4, 2])
    padding = torch.arange(9)[None, :] >= lengths[:, None]
    scales = []
    for filler in (0.0, 0.5):
        samples = torch.where(padding[..., None], torch.full_like(x, filler), x)
        graph = insert_quantizers(trace(net), samples, FORMATS, lengths=lengths)
        scales.append([m.scale.item() for m in graph.modules() if hasattr(m, "fitted")])
        nn.utils.parametrize.remove_parametrizations(net[0], "weight", False)
        nn.utils.parametrize.remove_parametrizations(net[2], "weight", False)
    assert scales[0] == scales[1]


class Cell(nn.Module):
    """A module of one's own that quantizes itself."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(2, 2)
        self.asked: dict = {}

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:  # cannot be traced
            return x
        return self.gates(x)

    def quantize_self(
        self,
        formats: FormatOptions,
        structures: dict[str, Constraint],
        levels: dict[str, LevelSet],
        mismatch: object,
    ) -> None:
        self.asked = {"structures": structures, "levels": levels}
        quantize_weight(self.gates, formats, structures["gates"], levels["gates"], mismatch)


def test_a_module_may_quantize_itself() -> None:
    net = nn.Sequential(Cell(), nn.Linear(2, 2))
    structure, levels = FilterSparsity(1).freeze(net[0].gates.weight), Binary()
    graph = insert_quantizers(
        net, torch.rand(4, 2), FORMATS, {"0.gates": structure}, {"0.gates": levels}
    )
    assert net[0].asked == {"structures": {"gates": structure}, "levels": {"gates": levels}}
    kinds = [kind(graph, node) for node in graph.graph.nodes if node.op == "call_module"]
    assert kinds == [Cell, nn.Linear]
    assert int(net[0].gates.weight.count_nonzero()) == 2


@pytest.mark.parametrize("bits", [0, 17])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="weight_bits"):
        FormatOptions(weight_bits=bits)


@pytest.mark.parametrize(
    ("layer", "bits", "low", "edge"),
    [
        (nn.BatchNorm1d(4), {"activation_bits": 1}, 0.0, "the output of 1"),
        (nn.ReLU(), {"input_bits": 1}, -1.0, "the network's input"),
    ],
)
def test_signed_edges_of_one_bit_are_refused(
    layer: nn.Module, bits: dict, low: float, edge: str
) -> None:
    """Of the codes -1 and 0 none is positive."""
    net = nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 2))
    samples = torch.linspace(low, 1.0, 15).reshape(5, 3)
    with pytest.raises(BadInput, match="allow at least 2 bits, or put a ReLU") as caught:
        insert_quantizers(net, samples, FormatOptions(**bits))
    assert caught.value.thing == f"quantizer of {edge}"


def test_unsigned_edges_of_one_bit_are_fine() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    graph = insert_quantizers(net, torch.rand(5, 3), FormatOptions(input_bits=1, activation_bits=1))
    quantizers = [m for m in graph.modules() if isinstance(m, ActivationQuantizer)]
    assert [(q.format.bits, q.format.signed) for q in quantizers] == [(1, False)] * 2
