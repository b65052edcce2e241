"""The graph of a plain module, by torch.fx, with quantizers kept whole.

The rule of quantization: each edge that a layer with weights, an average pool or an addition reads
carries the codes of exactly one quantizer. What only moves values or chooses among them
(:data:`PASSING`) has none of its own, and a module that quantizes itself needs none around it.
"""

import operator
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from model.compress.constraints import Constraint, LevelSet
from model.compress.layers import STRUCTURED
from model.compress.mismatch import MismatchOptions
from model.compress.quantizers import (
    ActivationQuantizer,
    FormatOptions,
    WeightQuantizer,
    input_format,
)
from model.ir.errors import BadInput

MATRIX = (nn.Linear, nn.Conv2d, *STRUCTURED)
MAXIMUM = (nn.MaxPool2d, functional.max_pool2d, torch.max_pool2d)
PASSING = (
    *(nn.Flatten, nn.Dropout, nn.Dropout2d, nn.Identity, torch.flatten, "flatten"),
    *MAXIMUM,
    *(torch.permute, torch.movedim, torch.transpose, "permute", "movedim", "transpose"),
    "contiguous",
)
RELU = (nn.ReLU, torch.relu, functional.relu, "relu")
AVERAGE = (
    *(nn.AvgPool2d, nn.AdaptiveAvgPool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d),
    *(torch.mean, "mean"),
)
ADD = (operator.add, operator.iadd, torch.add, "add", "add_")


@runtime_checkable
class SelfQuantizing(Protocol):
    """A module that is one node of the graph and quantizes its inside itself (recurrent ones).

    It rounds what it reads itself, so no quantizer stands before it, and none behind it: its output
    carries codes of its own.
    """

    def quantize_self(
        self,
        formats: FormatOptions,
        structures: Mapping[str, Constraint],
        levels: Mapping[str, LevelSet],
        mismatch: MismatchOptions | None,
    ) -> None:
        """Parametrize the weights and insert quantizers inside.

        ``structures`` and ``levels`` are by the layer's name within the module. The calibration
        samples pass afterwards, in evaluation mode.
        """
        ...


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = isinstance(m, (ActivationQuantizer, SelfQuantizing, *STRUCTURED))
        return whole or super().is_leaf_module(m, module_qualified_name)


def trace(module: nn.Module) -> fx.GraphModule:
    """The module as a graph whose submodules are shared with it.

    Raises BadInput if the forward function cannot be traced (its flow depends on data, say).
    """
    try:
        graph = _Tracer().trace(module)
    except Exception as error:  # the forward function is the user's: anything can come out of it
        raise BadInput(
            type(module).__name__,
            f"a forward function that cannot be traced ({error})",
            "layers applied in a fixed order",
            "take branches and loops over data out of forward",
        ) from error
    return fx.GraphModule(module, graph, type(module).__name__)


def kind(graph: fx.GraphModule, node: fx.Node) -> Any:
    """What a node applies: a module's type, a function, a method's name; None if nothing."""
    if not node.op.startswith("call_"):
        return None
    if node.op == "call_module":
        module = graph.get_submodule(node.target)
        return parametrize.type_before_parametrizations(module)
    return node.target


def insert_quantizers(
    module: nn.Module,
    samples: Tensor,
    formats: FormatOptions,
    structures: Mapping[str, Constraint] | None = None,
    levels: Mapping[str, LevelSet] | None = None,
    *,
    lengths: Tensor | None = None,
    mismatch: MismatchOptions | None = None,
) -> fx.GraphModule:
    """Quantizers on the input, on every edge of the rule above, and on the weights.

    Parameters
    ----------
    module : nn.Module
        A plain network; its layers are shared with the result, and their weights parametrized.
    samples : float tensor [frames, ...]
        Real samples that give the input its range and the activations their first scales.
    formats : FormatOptions
        Bits.
    structures : mapping of str to Constraint
        Layer name to the frozen constraint that its weight keeps.
    levels : mapping of str to LevelSet
        Layer name to its levels, where they are not those of ``formats``.
    lengths : int64 tensor [frames], optional
        Steps of each sequence; what follows them is padding, and does not count for scales.
    mismatch : MismatchOptions, optional
        What the weights meet in training.

    The input's scale is fixed; all other scales are learned from where the samples put them.
    """
    graph = trace(module)
    structures, levels = structures or {}, levels or {}
    for node in list(graph.graph.nodes):
        applied = kind(graph, node)
        reader = graph.get_submodule(node.target) if node.op == "call_module" else None
        own = isinstance(reader, SelfQuantizing)
        adds = applied in ADD and len(node.all_input_nodes) == 2
        if not (own or adds or applied in MATRIX or applied in AVERAGE):
            continue
        for source in () if own else node.all_input_nodes:
            _quantize(graph, _source(graph, source), samples, formats)
        if own:
            prefix = f"{node.target}."
            reader.quantize_self(
                formats, _inside(structures, prefix), _inside(levels, prefix), mismatch
            )
        elif applied in MATRIX:
            name = str(node.target)
            quantize_weight(reader, formats, structures.get(name), levels.get(name), mismatch)
    graph.recompile()
    _calibrate(graph, samples, lengths)
    return graph


def quantize_weight(
    layer: nn.Module,
    formats: FormatOptions,
    structure: Constraint | None,
    levels: LevelSet | None,
    mismatch: MismatchOptions | None,
) -> None:
    """Parametrize the weight of a matrix layer by its quantizer."""
    weight = layer.weight.detach()
    quantizer = WeightQuantizer(weight, levels or formats.levels(), structure, mismatch)
    parametrize.register_parametrization(layer, "weight", quantizer)


def _quantize(
    graph: fx.GraphModule, source: fx.Node, samples: Tensor, formats: FormatOptions
) -> None:
    """A quantizer after ``source``, unless it carries codes already."""
    if source.op == "placeholder":
        format, scale = input_format(samples, formats.input_bits)
        quantizer = ActivationQuantizer(format.bits, format.signed, scale, "the network's input")
    elif kind(graph, source) is ActivationQuantizer or _module_at(graph, source, SelfQuantizing):
        return
    else:
        source = _pooled(graph, source)
        edge = f"the output of {source.target}"
        signed = _signed(graph, source)
        quantizer = ActivationQuantizer(formats.activation_bits, signed, edge=edge)
    _insert_after(graph, source, quantizer)


def _pooled(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The max pooling that alone reads a node, else the node.

    The largest of the codes is the code of the largest value, and there are fewer to make.
    """
    while len(node.users) == 1 and kind(graph, next(iter(node.users))) in MAXIMUM:
        node = next(iter(node.users))
    return node


def _signed(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node's values may be negative, as far as the graph tells."""
    node = _source(graph, node)
    applied = kind(graph, node)
    if applied in RELU:
        return False
    if applied is ActivationQuantizer:
        return graph.get_submodule(node.target).format.signed
    if applied in AVERAGE or applied in ADD:
        return any(_signed(graph, source) for source in node.all_input_nodes)
    return True


def _module_at(graph: fx.GraphModule, node: fx.Node, form: type) -> bool:
    return node.op == "call_module" and isinstance(graph.get_submodule(node.target), form)


def _inside(named: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries below a module's name, by their names within it."""
    return {k.removeprefix(prefix): v for k, v in named.items() if k.startswith(prefix)}


@torch.no_grad()
def _calibrate(graph: fx.GraphModule, samples: Tensor, lengths: Tensor | None) -> None:
    """One pass in evaluation mode, which fits the scales."""
    quantizers = [m for m in graph.modules() if isinstance(m, ActivationQuantizer)]
    if lengths is not None:
        valid = torch.arange(samples.shape[1])[None, :] < lengths[:, None]
        for quantizer in quantizers:
            quantizer.valid = valid
    training = graph.training
    graph.eval()
    graph(samples)
    graph.train(training)
    for quantizer in quantizers:
        quantizer.valid = None


def _source(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The node whose values reach this one unchanged."""
    while kind(graph, node) in PASSING and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return node


def _insert_after(graph: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    name = f"{str(node.target).replace('.', '_')}_quantizer"
    while hasattr(graph, name):
        name += "_"
    graph.add_module(name, module)
    with graph.graph.inserting_after(node):
        new = graph.graph.call_module(name, (node,))
    node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
