"""Handlers of the fully connected kinds of layer."""

from dataclasses import replace

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from model.compress.quantizers import ActivationQuantizer, WeightQuantizer, fit_scale
from model.export.walk import Affine, Raw, Stream, Value, Walk, handles, with_relu
from model.ir.errors import BadInput
from model.ir.numerics import IntRange, UniformFormat


@handles(nn.Linear)
def linear(walk: Walk, name: str, module: nn.Linear, node: fx.Node, value: Value) -> Affine:
    """A new layer on the codes of its input; its bias becomes the offset."""
    _check_finite(node, module)
    source = walk.stream(value)
    size = source.codes[0].numel()
    if not source.flat or size != module.in_features:
        raise BadInput(
            str(node.target),
            f"{size} features" if source.flat else f"a frame of shape {walk.shape}",
            f"{module.in_features} features on one axis",
            "flatten before the layer, or correct its size",
        )
    codes, scale, bits = _weights(walk, str(node.target), module)
    offset = torch.zeros(len(codes)) if module.bias is None else module.bias
    gain = (scale * source.scale).expand(len(codes))
    return Affine(name, source, codes, UniformFormat(bits, True), gain, offset.double())


def _weights(walk: Walk, layer: str, module: nn.Linear) -> tuple[Tensor, Tensor, int]:
    """Codes int64 [out, in], scales float64 [1] or [out], and bits of a layer's weights."""
    if parametrize.is_parametrized(module, "weight"):
        chain = module.parametrizations.weight
        if len(chain) != 1 or not isinstance(chain[0], WeightQuantizer):
            raise BadInput(
                layer,
                f"the parametrization {type(chain[0]).__name__}",
                "plain weights or a WeightQuantizer",
                "remove the parametrization before export",
            )
        quantizer = chain[0]
        return quantizer.codes(chain.original), quantizer.scale.double(), quantizer.levels.bits
    weight = module.weight.detach().double()
    top = (1 << (walk.weight_bits - 1)) - 1
    rows = list(weight) if walk.weights_per == "channel" else [weight]
    scale = torch.tensor([fit_scale(row, IntRange(-top, top)) for row in rows]).double()
    codes = torch.floor(weight / scale[:, None] + 0.5).clamp(-top, top).long()
    return codes, scale, walk.weight_bits


@handles(nn.BatchNorm1d)
def batch_norm(walk: Walk, name: str, module: nn.Module, node: fx.Node, value: Value) -> Affine:
    """Folded into the layer before it: into its gain, whatever the sign, and its offset."""
    if not isinstance(value, Affine) or value.relu:
        raise BadInput(
            str(node.target),
            "batch normalization that does not directly follow a linear layer",
            "linear, batch normalization, then ReLU",
            "move it",
        )
    if module.running_mean is None or module.running_var is None:
        raise BadInput(
            str(node.target),
            "batch normalization without running statistics",
            "track_running_stats=True",
            "train with running statistics",
        )
    _check_finite(node, module)
    ratio = (module.running_var.double() + module.eps).rsqrt()
    if module.weight is not None:
        ratio = ratio * module.weight.double()
    offset = (value.offset - module.running_mean.double()) * ratio
    if module.bias is not None:
        offset = offset + module.bias.double()
    return replace(value, gain=value.gain * ratio, offset=offset)


@handles(nn.ReLU, torch.relu, functional.relu, "relu")
def relu(walk: Walk, name: str, module: nn.Module | None, node: fx.Node, value: Value) -> Value:
    """The lower bound of the clamp."""
    if isinstance(value, Affine):
        return with_relu(value)
    if isinstance(value, Stream) and not value.format.signed:
        return value
    raise BadInput(
        str(node.target),
        "a ReLU that does not follow a layer with weights",
        "linear, then ReLU",
        "remove it",
    )


@handles(nn.Flatten, torch.flatten, "flatten")
def flatten(walk: Walk, name: str, module: nn.Module | None, node: fx.Node, value: Value) -> Value:
    """Nothing to do where the order of a frame stays channels-last."""
    if module is not None:
        start, end = module.start_dim, module.end_dim
    else:
        given = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
        start, end = given.get("start_dim", 0), given.get("end_dim", -1)
    if (start, end) != (1, -1):
        raise BadInput(
            str(node.target),
            f"flattening of axes {start} to {end}",
            "of all axes but the first (1 to -1)",
            "use nn.Flatten()",
        )
    if walk.channels_first and walk.shape[-1] > 1 and walk.samples[0, ..., 0].numel() > 1:
        raise BadInput(
            str(node.target),
            f"a frame of {walk.shape[-1]} channels, channels first",
            "one channel, or channels last",
            "permute the frame to channels last before it is flattened, and train so",
        )
    if isinstance(value, Affine):
        return value
    return replace(value, flat=True)


@handles(nn.Dropout, nn.Identity)
def nothing(walk: Walk, name: str, module: nn.Module, node: fx.Node, value: Value) -> Value:
    """Layers that do nothing once the network is trained."""
    return value


@handles(ActivationQuantizer)
def quantizer(
    walk: Walk, name: str, module: ActivationQuantizer, node: fx.Node, value: Value
) -> Stream:
    """The format and the scale that training has settled on."""
    stream = walk.stream(value, module.format, float(module.scale))
    return replace(stream, flat=value.flat) if isinstance(value, Raw) else stream


def _check_finite(node: fx.Node, module: nn.Module) -> None:
    for name, tensor in module.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise BadInput(
                f"{node.target}.{name}", "NaN or infinity", "finite numbers", "train again"
            )
