"""The walk over a module's graph, and the table of handlers that it calls."""

import operator
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from model import golden
from model.compress.quantizers import ActivationQuantizer, FFTOptions, input_format
from model.compress.tracing import RELU, kind, trace
from model.export.factors import fitted_scale, spread
from model.export.fft import with_fft
from model.export.pim import with_pim
from model.export.removal import remove_pruned, settle
from model.export.values import (
    Linear,
    Pending,
    Raw,
    Stream,
    Value,
    batches,
    channels_first,
    channels_last,
)
from model.ir.errors import BadInput
from model.ir.layer import LayerSpec
from model.ir.lstm import LSTMSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import UniformFormat
from model.ir.pim_options import PIMOptions

INPUT = "input"
CHECK_BITS = 8
IMAGE_FRAMES = 128
"""Calibration samples that a network with convolutions or poolings is evaluated on."""

Handler = Callable[["Walk", str, nn.Module | None, fx.Node, Value], Value]
_HANDLERS: dict[Any, Handler] = {}
_TRANSPARENT: set[Any] = set(RELU)
_IMAGE: set[Any] = set()
_SEQUENCE: set[Any] = set()
_TWO: set[Any] = set()

_INSTEAD = {
    nn.Softmax: "remove it: the largest score stays the largest",
    nn.LogSoftmax: "remove it: the largest score stays the largest",
    nn.Conv1d: "use nn.Conv2d with a kernel of one row",
    nn.Conv3d: "use nn.Conv2d",
    nn.ConvTranspose2d: "use nn.Conv2d: no layer makes a frame larger",
    nn.Upsample: "use nn.Conv2d: no layer makes a frame larger",
    nn.AdaptiveMaxPool2d: "use nn.MaxPool2d",
    nn.LayerNorm: "use batch normalization",
    nn.GroupNorm: "use batch normalization",
    nn.InstanceNorm2d: "use batch normalization",
    **dict.fromkeys(
        (nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.ReLU6, nn.Hardtanh),
        "use nn.ReLU",
    ),
    **dict.fromkeys(
        (torch.cat, torch.mul, operator.mul, "mul"),
        "use an addition, the only way to join two branches",
    ),
    **dict.fromkeys(
        (torch.softmax, functional.softmax, functional.log_softmax, "softmax", "log_softmax"),
        "remove it: the largest score stays the largest",
    ),
}


def handles(
    *kinds: Any,
    transparent: bool = False,
    image: bool = False,
    sequence: bool = False,
    two: bool = False,
) -> Callable[[Handler], Handler]:
    """Make a function the handler of module types, functions or method names.

    It is called as ``f(walk, name, module or None, fx node, value of the first argument)`` and
    returns the value that it makes of it, or raises BadInput.

    Parameters
    ----------
    transparent : bool
        Whether a quantizer behind it may as well stand before it.
    image : bool
        Whether it works on images, which are costly to evaluate.
    sequence : bool
        Whether it works on sequences: then samples are [sequences, steps, features], and every
        value is a step.
    two : bool
        Whether it takes two inputs.
    """
    flags = ((transparent, _TRANSPARENT), (image, _IMAGE), (sequence, _SEQUENCE), (two, _TWO))

    def register(function: Handler) -> Handler:
        for one in kinds:
            _HANDLERS[one] = function
        for flag, table in flags:
            if flag:
                table.update(kinds)
        return function

    return register


class Walk:
    """One export under way: the nodes so far, the calibration samples, the options."""

    def __init__(
        self,
        graph: fx.GraphModule,
        samples: Tensor,
        channels_first: bool,
        *,
        input_bits: int,
        weight_bits: int,
        activation_bits: int,
        weights_per: str,
        multiplier_bits: int,
    ) -> None:
        self.graph = graph
        self.reach = torch.stack([samples.min(), samples.max()])
        if any(kind(graph, node) in _IMAGE for node in graph.graph.nodes):
            samples = spread(samples, IMAGE_FRAMES)
        self.steps: int | None = None
        if any(kind(graph, node) in _SEQUENCE for node in graph.graph.nodes):
            self.steps = samples.shape[1]
            samples = samples.flatten(0, 1)
        self.samples = samples.movedim(1, -1) if channels_first else samples
        self.channels_first = channels_first and samples.ndim > 2
        self.input_bits = input_bits
        self.weight_bits = weight_bits
        self.activation_bits = activation_bits
        self.weights_per = weights_per
        self.multiplier_bits = multiplier_bits
        self.input: InputSpec | None = None
        self.nodes: list[Node] = []
        self.values: dict[fx.Node, Value | None] = {}
        self.closed: list[tuple[Pending, Stream]] = []
        self.scores: Linear | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an input frame, channels last."""
        return tuple(self.samples.shape[1:])

    def raw(self) -> Raw:
        """The input as the module gets it."""
        return Raw((channels_first if self.channels_first else channels_last)(self.shape))

    def stream(self, value: Value, at: fx.Node) -> Stream:
        """Give the value of a graph's node codes.

        Format and scale are those of the quantizer that reads the value, if there is one, also
        behind what changes no code or commutes with quantization; else they are calibrated.
        """
        if isinstance(value, Stream):
            return value
        quantizer, relu = self._following(at)
        if relu and isinstance(value, Pending):
            value = value.with_relu()
        if quantizer is None:
            return self.quantized(value)
        return self.quantized(value, quantizer.format, float(quantizer.scale), quantizer)

    def quantized(
        self,
        value: Value,
        format: UniformFormat | None = None,
        scale: float | None = None,
        quantizer: ActivationQuantizer | None = None,
    ) -> Stream:
        """Give a value codes: in the given format and scale, those of ``quantizer`` if it is named,
        or in calibrated ones."""
        if isinstance(value, Raw):
            return self._enter(value, format, scale)
        if isinstance(value, Pending):
            stream = replace(self._close(value, format, scale), quantizer=quantizer)
            self.closed.append((value, stream))
            return stream
        if format is not None and (format, scale) != (value.format, value.scale):
            raise BadInput(
                value.edge,
                f"a second quantizer ({format.describe()})",
                f"one ({value.format.describe()})",
                "remove one of them",
            )
        return value

    def append(
        self,
        name: str,
        spec: LayerSpec,
        sources: tuple[Stream, ...],
        index: np.ndarray,
        scale: float,
        tensors: dict[str, np.ndarray],
    ) -> Stream:
        """A new node, and the codes that the calibration samples give on its edge."""
        node = Node(name, spec, tuple(source.edge for source in sources), scale, tensors)
        self.nodes.append(node)
        inputs = [source.codes for source in sources]
        if spec.recurrent:
            inputs = [codes.unflatten(0, (-1, self.steps)) for codes in inputs]
        codes = torch.cat([golden.evaluate(spec, node, part, {}) for part in batches(inputs)])
        codes = codes.flatten(0, 1) if spec.recurrent else codes
        return Stream(name, index, spec.out_format, scale, codes)

    def finish(self, value: Value) -> None:
        """Make a value the network's output."""
        if not isinstance(value, Linear) or value.relu:
            raise BadInput(
                "output of the network",
                "something after the last layer with weights (a ReLU, a pooling or a quantizer)",
                "the scores of a linear layer",
                "remove what follows the last layer, and let that be a linear one",
            )
        rule, scale, tensors = value.scored(self.multiplier_bits)
        spec, tensors = value.with_requantize(rule, tensors)
        self.append(value.name, spec, value.sources, value.index, scale, tensors)
        self.scores = value

    def _enter(self, value: Raw, format: UniformFormat | None, scale: float | None) -> Stream:
        if format is None or scale is None:
            format, scale = input_format(self.reach, self.input_bits)
        spec = InputSpec(INPUT, self.shape, format, scale)
        if self.input is not None and self.input != spec:
            raise BadInput(
                INPUT, "two different quantizers", "one", "quantize the input in one place"
            )
        self.input = spec
        codes = golden.quantize(spec, self.samples.numpy())
        return Stream(INPUT, value.index, format, scale, codes)

    def _close(self, value: Pending, format: UniformFormat | None, scale: float | None) -> Stream:
        if format is None or scale is None:
            format = UniformFormat(self.activation_bits, not value.unsigned)
            scale = fitted_scale(value.real(), format.codes)
        if value.relu and format.signed:
            raise BadInput(
                value.name,
                "a signed quantizer after ReLU",
                "an unsigned one",
                "give the quantizer signed=False",
            )
        spec, tensors = value.closed(format, scale, self.multiplier_bits)
        return self.append(value.name, spec, value.sources, value.index, scale, tensors)

    def _following(self, node: fx.Node) -> tuple[ActivationQuantizer | None, bool]:
        """The quantizer that decides on the codes of a value, and whether a ReLU comes first."""
        relu = False
        while True:
            users = readers(self.graph, node)
            for user in users:
                if kind(self.graph, user) is ActivationQuantizer:
                    return self.graph.get_submodule(user.target), relu
            if len(users) != 1 or kind(self.graph, users[0]) not in _TRANSPARENT:
                return None, relu
            (node,) = users
            relu = relu or kind(self.graph, node) in RELU


def readers(graph: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """The nodes that use a value itself, and not its shape."""
    return [user for user in node.users if not is_size(graph, user)]


def is_size(graph: fx.GraphModule, node: Any) -> bool:
    """Whether a node asks for a shape: ``x.size(0)``, ``x.shape[0]``."""
    if not isinstance(node, fx.Node):
        return False
    applied = kind(graph, node)
    if applied is operator.getitem:
        return is_size(graph, node.args[0])
    return applied == "size" or (applied is getattr and node.args[1] == "shape")


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
    arithmetic: Literal["exact", "fft", "pim"] = "exact",
    fft: FFTOptions | None = None,
    pim: PIMOptions | None = None,
    state_steps: int = 0,
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
        The network: layers of the kinds that have a handler, each applied once.
    example : float tensor [frames, ...]
        Gives the shape of a frame.
    calibration : float tensor [frames, ...]
        Real samples that calibrate; from the training split, never from the test split. The input's
        range is that of all of them. A network of convolutions or poolings is evaluated on 128,
        evenly spaced among them.
    name : str, optional
        Name of the network; the module's class otherwise.
    input_bits, weight_bits, activation_bits : int
        Bits of what has no quantizer (weights 2 to 16, the others 1 to 16).
    weights_per : str
        ``"tensor"`` or ``"channel"``: scales of weights that have no quantizer.
    multiplier_bits : int
        Bits of the requantization's multiplier, 2 to 16.
    arithmetic : str
        ``"fft"`` makes every circulant layer one of fft arithmetic, as ``with_fft`` does, and
        ``"pim"`` every layer with a weight matrix one of pim arithmetic, as ``with_pim`` does,
        whose converters the calibration's samples calibrate too.
    fft : FFTOptions, optional
        Words of fft arithmetic; the defaults otherwise.
    pim : PIMOptions, optional
        Macros of pim arithmetic; the defaults otherwise.
    state_steps : int
        Steps in which no input may bring the state of an LSTM to the end of its format; 0: any.
    channels_first : bool
        Whether samples are [frames, channels, ...] and not channels last.
    remove : bool
        Whether pruned rows and columns are removed; the output codes are the same.

    Returns a Network whose output is 16-bit signed codes on one scale. Raises BadInput for layers
    and shapes that are not supported (all of them at once), weights that are not finite, and
    numbers that fit no format.
    """
    walk = walk_of(
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
    for node in network.nodes:
        if isinstance(node.spec, LSTMSpec):
            node.spec.check_steps(state_steps, node.name)
    network = remove_pruned(network) if remove else settle(network)
    if arithmetic == "fft":
        return with_fft(network, fft)
    if arithmetic == "pim":
        return with_pim(network, pim, golden.quantize(network.input, calibration))
    return network


def check_supported(module: nn.Module, example: Tensor, *, channels_first: bool = False) -> None:
    """Raise one BadInput that lists every layer and shape which ``export`` would refuse.

    ``example`` is float [frames, ...], not all zero. To be called before any training.
    """
    walk_of(
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
def walk_of(
    module: nn.Module, example: Tensor, calibration: Tensor, channels_first: bool, **bits: Any
) -> Walk:
    """The walk over a network that is done; arguments as of :func:`export`."""
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
    walk = Walk(graph, calibration.cpu().float(), channels_first, **bits)
    problems: list[BadInput] = []
    left = {node: len(node.users) for node in graph.graph.nodes}
    for node in graph.graph.nodes:
        try:
            walk.values[node] = _visit(walk, node)
        except BadInput as error:
            problems.append(error)
            walk.values[node] = None
        for source in node.all_input_nodes:
            left[source] -= 1
            if left[source] == 0:  # its codes may be large
                del walk.values[source]
    if len(problems) > 1:
        raise BadInput(
            f"network {type(module).__name__}",
            "; ".join(f"{p.thing}: {p.found} ({_instead(p)})" for p in problems),
            f"only supported layers ({_supported()})",
            "replace the layers named",
        )
    if problems:
        raise problems[0]
    return walk


def _visit(walk: Walk, node: fx.Node) -> Value | None:
    graph, values = walk.graph, walk.values
    if node.op == "placeholder":
        if any(other.op == "placeholder" for other in _before(graph, node)):
            raise BadInput(
                f"input {node.target}", "a second input", "one input", "pass one tensor to forward"
            )
        return walk.raw()
    applied = kind(graph, node)
    if is_size(graph, node):
        return None
    if applied is not None and applied not in _HANDLERS:
        raise BadInput(
            str(node.target) if node.op == "call_module" else node.name,
            f"{_title(applied)}, which is not supported",
            _one_of_supported(),
            _INSTEAD.get(applied, "replace it"),
        )
    sources = [arg for arg in node.all_input_nodes if not is_size(graph, arg)]
    if any(values[source] is None for source in sources):
        return None
    if not sources or (len(sources) > 1 and applied not in _TWO):
        raise BadInput(
            node.name,
            f"{len(sources)} inputs",
            "one input (two for an addition)",
            "build the network of single-input layers and additions",
        )
    if node.op == "output":
        walk.finish(values[sources[0]])
        return None
    module = graph.get_submodule(node.target) if node.op == "call_module" else None
    calls = sum(other.target == node.target for other in graph.graph.nodes)
    if module is not None and calls > 1 and any(True for _ in module.parameters()):
        raise BadInput(str(node.target), "a layer that is applied twice", "once", "use two layers")
    if len(node.users) == 0:
        raise BadInput(node.name, "an output that nothing reads", "one output", "remove the layer")
    for source in sources:
        if isinstance(values[source], Pending) and len(readers(graph, source)) > 1:
            values[source] = walk.stream(values[source], source)
    name = sanitise(str(node.target)) if node.op == "call_module" else sanitise(node.name)
    return _HANDLERS[applied](walk, name, module, node, values[sources[0]])


def _before(graph: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    nodes = list(graph.graph.nodes)
    return nodes[: nodes.index(node)]


def sanitise(name: str) -> str:
    """A module's name as a node's name: [a-z][a-z0-9_]*."""
    plain = re.sub(r"[^a-z0-9_]", "_", name.lower())
    return plain if re.match(r"[a-z]", plain) else f"layer_{plain.lstrip('_')}"


def check_finite(node: fx.Node, module: nn.Module) -> None:
    """Raise BadInput if a parameter or buffer of a layer is not finite."""
    for name, tensor in module.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise BadInput(
                f"{node.target}.{name}", "NaN or infinity", "finite numbers", "train again"
            )


def _instead(problem: BadInput) -> str:
    """What was expected, unless that is the list of all layers, and what to do."""
    if problem.expected == _one_of_supported():
        return problem.remedy
    return f"expected {problem.expected}; {problem.remedy}"


def _title(applied: Any) -> str:
    return getattr(applied, "__name__", str(applied))


def _supported() -> str:
    return ", ".join(sorted({_title(one) for one in _HANDLERS if isinstance(one, type)}))


def _one_of_supported() -> str:
    return f"one of {_supported()}"
