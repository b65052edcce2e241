"""Handlers of what acts on each number by itself: batch norm, ReLU, quantizers, nothing."""

from dataclasses import replace

from torch import fx, nn

from model.compress.quantizers import ActivationQuantizer
from model.compress.tracing import RELU
from model.export.values import Affine, Conv, Norm, Pending, Raw, Stream, Value
from model.export.walk import Walk, check_finite, handles
from model.ir.errors import BadInput


@handles(nn.BatchNorm1d, nn.BatchNorm2d)
def batch_norm(walk: Walk, name: str, module: nn.Module, node: fx.Node, value: Value) -> Affine:
    """Folded into the layer before it: into its gain, whatever the sign, and its offset."""
    if not isinstance(value, Affine) or value.relu:
        raise BadInput(
            str(node.target),
            "batch normalization that does not directly follow a linear or convolution layer",
            "a layer with weights that nothing else reads, batch normalization, then ReLU",
            "move it",
        )
    if isinstance(value, Conv) != isinstance(module, nn.BatchNorm2d):
        raise BadInput(
            str(node.target),
            f"{type(module).__name__} after the layer {value.name}",
            "BatchNorm1d after linear, BatchNorm2d after convolution",
            "exchange it",
        )
    if module.num_features != len(value.gain):
        raise BadInput(
            str(node.target),
            f"{module.num_features} features",
            f"the {len(value.gain)} of layer {value.name}",
            "correct its size",
        )
    if module.running_mean is None or module.running_var is None:
        raise BadInput(
            str(node.target),
            "batch normalization without running statistics",
            "track_running_stats=True",
            "train with running statistics",
        )
    check_finite(node, module)
    norm = Norm(module, value.offset)
    return replace(value, gain=value.gain * norm.ratio(), offset=norm.folded(), norm=norm)


@handles(*RELU, transparent=True)
def relu(walk: Walk, name: str, module: nn.Module | None, node: fx.Node, value: Value) -> Value:
    """The lower bound of the clamp."""
    if isinstance(value, Pending):
        return value.with_relu()
    if isinstance(value, Stream) and not value.format.signed:
        return value
    raise BadInput(
        str(node.target),
        "a ReLU that does not follow a layer with weights, an addition or an average",
        "linear, then ReLU",
        "remove it, or let nothing else read what it reads",
    )


@handles(nn.Dropout, nn.Dropout2d, nn.Identity, "contiguous", transparent=True)
def nothing(walk: Walk, name: str, module: nn.Module, node: fx.Node, value: Value) -> Value:
    """What does nothing once the network is trained."""
    return value


@handles(ActivationQuantizer)
def quantizer(
    walk: Walk, name: str, module: ActivationQuantizer, node: fx.Node, value: Value
) -> Stream:
    """The format and the scale that training has settled on."""
    stream = walk.quantized(value, module.format, float(module.scale), module)
    return replace(stream, index=value.index) if isinstance(value, Raw) else stream
