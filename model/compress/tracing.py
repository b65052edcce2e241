"""The graph of a plain module, by torch.fx, with quantizers kept whole."""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from model.compress.constraints import Constraint, Levels
from model.compress.quantizers import (
    ActivationQuantizer,
    FormatOptions,
    WeightQuantizer,
    input_format,
)
from model.ir.errors import BadInput

MATRIX = (nn.Linear,)
PASSING = (nn.Flatten, nn.Dropout, nn.Identity, torch.flatten, "flatten")
RELU = (nn.ReLU, torch.relu, functional.relu, "relu")


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, ActivationQuantizer) or super().is_leaf_module(
            m, module_qualified_name
        )


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
    structures: dict[str, Constraint] | None = None,
) -> fx.GraphModule:
    """Quantizers on the input, on what every matrix layer reads, and on its weights.

    Parameters
    ----------
    module : nn.Module
        A plain network; its layers are shared with the result, and their weights parametrized.
    samples : float tensor [frames, ...]
        Real samples that give the input its range and the activations their first scales.
    formats : FormatOptions
        Bits.
    structures : dict of str to Constraint
        Layer name to the frozen constraint that its weight keeps.

    The input's scale is fixed; all other scales are learned from where the samples put them.
    """
    graph = trace(module)
    structures = structures or {}
    levels = Levels(formats.weight_bits, formats.weights_per)
    for node in list(graph.graph.nodes):
        if node.op != "call_module" or kind(graph, node) not in MATRIX:
            continue
        source = _source(graph, node.all_input_nodes[0])
        if source.op == "placeholder":
            format, scale = input_format(samples, formats.input_bits)
            quantizer = ActivationQuantizer(format.bits, format.signed, scale)
        elif kind(graph, source) is ActivationQuantizer:
            quantizer = None
        else:
            signed = kind(graph, source) not in RELU
            quantizer = ActivationQuantizer(formats.activation_bits, signed)
        if quantizer is not None:
            _insert_after(graph, source, quantizer)
        layer = graph.get_submodule(node.target)
        structure = structures.get(node.target)
        parametrize.register_parametrization(
            layer, "weight", WeightQuantizer(layer.weight.detach(), levels, structure)
        )
    graph.recompile()
    training = graph.training
    graph.eval()
    with torch.no_grad():
        graph(samples)
    return graph.train(training)


def _source(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The node whose values reach this one unchanged."""
    while kind(graph, node) in PASSING:
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
