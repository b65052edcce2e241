"""The walk over a module's graph, and the table of handlers that it calls."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from model import golden
from model.compress.quantizers import fit_scale, input_format
from model.compress.tracing import kind, trace
from model.export.factors import common, output_requantize, requantize
from model.export.removal import remove_pruned
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat

INPUT = "input"
CHECK_BITS = 8


@dataclass(frozen=True)
class Raw:
    """The network's input before it has codes. ``flat``: whether it was flattened since."""

    flat: bool


@dataclass(frozen=True)
class Stream:
    """Codes on an edge of the network.

    Parameters
    ----------
    edge : str
        Name of the edge.
    flat : bool
        Whether a frame has one axis.
    format, scale :
        Of the codes.
    codes : int64 tensor [frames, ...]
        What the calibration samples give here.
    """

    edge: str
    flat: bool
    format: UniformFormat
    scale: float
    codes: Tensor = field(repr=False)


@dataclass(frozen=True)
class Affine:
    """A matrix layer whose output has no codes yet: real y = gain * (W x) + offset.

    Parameters
    ----------
    name : str
        Name of the layer.
    source : Stream
        What it reads.
    weight : int64 tensor [out, in]
        Weight codes.
    weight_format : UniformFormat
        Their format.
    gain, offset : float64 tensors [out]
        Real number of one accumulator step, and of the constant, per channel.
    relu : bool
        Whether a ReLU follows.
    """

    name: str
    source: Stream
    weight: Tensor
    weight_format: UniformFormat
    gain: Tensor
    offset: Tensor
    relu: bool = False

    def accumulate(self) -> Tensor:
        """Accumulators of the calibration samples, float64 [frames, out], exact up to 2^53."""
        return self.source.codes.flatten(1).double() @ self.weight.double().T

    def real(self) -> Tensor:
        """Outputs of the calibration samples, float64 [frames, out]."""
        y = self.accumulate() * self.gain + self.offset
        return y.clamp_min(0) if self.relu else y


Value = Raw | Stream | Affine
Handler = Callable[["Walk", str, nn.Module | None, fx.Node, Value], Value]
_HANDLERS: dict[Any, Handler] = {}


def handles(*kinds: Any) -> Callable[[Handler], Handler]:
    """Make a function the handler of module types, functions or method names.

    It is called as ``f(walk, name, module or None, fx node, value of the first argument)`` and
    returns the value that it makes of it, or raises BadInput.
    """

    def register(function: Handler) -> Handler:
        for one in kinds:
            _HANDLERS[one] = function
        return function

    return register


class Walk:
    """One export under way: the nodes so far, the calibration samples, the options."""

    def __init__(
        self,
        samples: Tensor,
        channels_first: bool,
        *,
        input_bits: int,
        weight_bits: int,
        activation_bits: int,
        weights_per: str,
        multiplier_bits: int,
    ) -> None:
        self.samples = samples.movedim(1, -1) if channels_first else samples
        self.channels_first = channels_first and samples.ndim > 2
        self.input_bits = input_bits
        self.weight_bits = weight_bits
        self.activation_bits = activation_bits
        self.weights_per = weights_per
        self.multiplier_bits = multiplier_bits
        self.input: InputSpec | None = None
        self.nodes: list[Node] = []

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an input frame, channels last."""
        return tuple(self.samples.shape[1:])

    def stream(
        self, value: Value, format: UniformFormat | None = None, scale: float | None = None
    ) -> Stream:
        """Give a value codes: in the given format and scale, or in calibrated ones."""
        if isinstance(value, Raw):
            return self._enter(value, format, scale)
        if isinstance(value, Affine):
            return self._close(value, format, scale)
        if format is not None and (format, scale) != (value.format, value.scale):
            raise BadInput(
                value.edge,
                f"a second quantizer ({format.describe()})",
                f"one ({value.format.describe()})",
                "remove one of them",
            )
        return value

    def _enter(self, value: Raw, format: UniformFormat | None, scale: float | None) -> Stream:
        if format is None or scale is None:
            format, scale = input_format(self.samples, self.input_bits)
        spec = InputSpec(INPUT, self.shape, format, scale)
        if self.input is not None and self.input != spec:
            raise BadInput(
                INPUT, "two different quantizers", "one", "quantize the input in one place"
            )
        self.input = spec
        codes = golden.quantize(spec, self.samples.numpy())
        return Stream(INPUT, value.flat, format, scale, codes)

    def _close(self, value: Affine, format: UniformFormat | None, scale: float | None) -> Stream:
        if format is None or scale is None:
            format = UniformFormat(self.activation_bits, not value.relu)
            scale = fit_scale(value.real(), format.codes)
        if value.relu and format.signed:
            raise BadInput(
                value.name,
                "a signed quantizer after ReLU",
                "an unsigned one",
                "give the quantizer signed=False",
            )
        spec, tensors = requantize(
            value.name,
            common(value.gain, value.weight),
            value.offset,
            format,
            scale,
            self.multiplier_bits,
        )
        return self._append(value, spec, scale, tensors)

    def _append(
        self, value: Affine, requantize: Any, scale: float, tensors: dict[str, np.ndarray]
    ) -> Stream:
        out, inputs = value.weight.shape
        spec = LinearSpec(inputs, out, value.source.format, value.weight_format, requantize)
        tensors = {"weight": value.weight.numpy(), **tensors}
        node = Node(value.name, spec, (value.source.edge,), scale, tensors)
        self.nodes.append(node)
        codes = golden.evaluate(spec, node, [value.source.codes], {})
        return Stream(node.name, True, requantize.out_format, scale, codes)

    def finish(self, value: Value) -> None:
        """Make a value the network's output."""
        if not isinstance(value, Affine) or value.relu:
            raise BadInput(
                "output of the network",
                "something after the last layer with weights (a ReLU or a quantizer)",
                "the scores of a linear layer",
                "remove what follows the last layer",
            )
        gain = common(value.gain, value.weight)
        worst = value.source.format.values * value.weight_format.values
        spec, scale, tensors = output_requantize(
            value.name,
            gain,
            value.offset,
            worst.sum_of(value.weight.shape[1]),
            value.real(),
            self.multiplier_bits,
        )
        self._append(value, spec, scale, tensors)


def export(
    module: nn.Module,
    example: Tensor,
    calibration: Tensor,
    *,
    name: str | None = None,
    input_bits: int = 8,
    weight_bits: int = 8,
    activation_bits: int = 8,
    weights_per: str = "tensor",
    multiplier_bits: int = 8,
    channels_first: bool = False,
    remove: bool = True,
) -> Network:
    """The integer network of a plain torch network.

    Quantizers that the module holds (after training with :mod:`model.compress`) are taken exactly
    as they are; what has none is calibrated by least squares, layer after layer, on the integers of
    the layers before it.

    Parameters
    ----------
    module : nn.Module
        The network: layers of the kinds that have a handler, each applied once, in one chain.
    example : float tensor [frames, ...]
        Gives the shape of a frame.
    calibration : float tensor [frames, ...]
        Real samples that calibrate; from the training split, never from the test split.
    name : str, optional
        Name of the network; the module's class otherwise.
    input_bits, weight_bits, activation_bits : int
        Bits of what has no quantizer (weights 2 to 16, the others 1 to 16).
    weights_per : str
        ``"tensor"`` or ``"channel"``: scales of weights that have no quantizer.
    multiplier_bits : int
        Bits of the requantization's multiplier, 2 to 16.
    channels_first : bool
        Whether samples are [frames, channels, ...] and not channels last.
    remove : bool
        Whether pruned rows and columns are removed; the output codes are the same.

    Returns a Network whose output is 16-bit signed codes on one scale. Raises BadInput for layers
    and shapes that are not supported (all of them at once), weights that are not finite, and
    numbers that fit no format.
    """
    walk = _walk(
        module,
        example,
        calibration,
        channels_first,
        input_bits=input_bits,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        weights_per=weights_per,
        multiplier_bits=multiplier_bits,
    )
    title = name if name is not None else sanitise(type(module).__name__)
    network = Network(title, walk.input, tuple(walk.nodes))
    return remove_pruned(network) if remove else network


def check_supported(module: nn.Module, example: Tensor, *, channels_first: bool = False) -> None:
    """Raise one BadInput that lists every layer and shape which ``export`` would refuse.

    ``example`` is float [frames, ...], not all zero. To be called before any training.
    """
    _walk(
        module,
        example,
        example,
        channels_first,
        input_bits=CHECK_BITS,
        weight_bits=CHECK_BITS,
        activation_bits=CHECK_BITS,
        weights_per="tensor",
        multiplier_bits=CHECK_BITS,
    )


@torch.no_grad()
def _walk(
    module: nn.Module, example: Tensor, calibration: Tensor, channels_first: bool, **bits: Any
) -> Walk:
    if calibration.shape[1:] != example.shape[1:]:
        raise BadInput(
            "calibration samples",
            f"frames of shape {tuple(calibration.shape[1:])}",
            f"frames of shape {tuple(example.shape[1:])}, as the example",
            "pass samples of one shape",
        )
    if not torch.isfinite(calibration).all():
        raise BadInput("calibration samples", "NaN or infinity", "finite samples", "clean the data")
    training = module.training
    graph = trace(module.cpu().eval())
    module.train(training)
    walk = Walk(calibration.cpu().float(), channels_first, **bits)
    problems: list[BadInput] = []
    values: dict[fx.Node, Value | None] = {}
    for node in graph.graph.nodes:
        try:
            values[node] = _visit(walk, graph, node, values)
        except BadInput as error:
            problems.append(error)
            values[node] = None
    if len(problems) > 1:
        raise BadInput(
            f"network {type(module).__name__}",
            "; ".join(f"{p.thing}: {p.found} (expected {p.expected})" for p in problems),
            f"only supported layers ({_supported()})",
            "replace the layers named",
        )
    if problems:
        raise problems[0]
    return walk


def _visit(
    walk: Walk, graph: fx.GraphModule, node: fx.Node, values: dict[fx.Node, Value | None]
) -> Value | None:
    if node.op == "placeholder":
        if any(value is not None for value in values.values()):
            raise BadInput(
                f"input {node.target}", "a second input", "one input", "pass one tensor to forward"
            )
        return Raw(flat=len(walk.shape) == 1)
    applied = kind(graph, node)
    if applied is not None and applied not in _HANDLERS:
        raise BadInput(
            str(node.target) if node.op == "call_module" else node.name,
            f"{_title(applied)}, which is not supported",
            f"one of {_supported()}",
            "replace it",
        )
    inputs = [values[arg] for arg in node.all_input_nodes]
    if any(value is None for value in inputs):
        return None
    if len(inputs) != 1:
        raise BadInput(
            node.name, f"{len(inputs)} inputs", "one input", "build the network as one chain"
        )
    (value,) = inputs
    if node.op == "output":
        walk.finish(value)
        return None
    module = graph.get_submodule(node.target) if node.op == "call_module" else None
    calls = sum(other.target == node.target for other in graph.graph.nodes)
    if module is not None and calls > 1 and any(True for _ in module.parameters()):
        raise BadInput(str(node.target), "a layer that is applied twice", "once", "use two layers")
    if len(node.users) == 0:
        raise BadInput(node.name, "an output that nothing reads", "one chain", "remove the layer")
    if isinstance(value, Affine) and len(node.all_input_nodes[0].users) > 1:
        raise BadInput(
            node.all_input_nodes[0].name,
            "an output that several layers read",
            "one reader",
            "build the network as one chain",
        )
    return _HANDLERS[applied](walk, sanitise(str(node.target)), module, node, value)


def sanitise(name: str) -> str:
    """A module's name as a node's name: [a-z][a-z0-9_]*."""
    plain = re.sub(r"[^a-z0-9_]", "_", name.lower())
    return plain if re.match(r"[a-z]", plain) else f"layer_{plain.lstrip('_')}"


def with_relu(value: Affine) -> Affine:
    """The same layer followed by ReLU."""
    return replace(value, relu=True)


def _title(applied: Any) -> str:
    return getattr(applied, "__name__", str(applied))


def _supported() -> str:
    return ", ".join(sorted({_title(one) for one in _HANDLERS if isinstance(one, type)}))
