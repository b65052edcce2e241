"""The factors that hardware multiplies by, put back into the network that was trained.

A requantization multiplies by ``m / 2^s``, the nearest to a trained network's factor. With 16 bits
that moves no code of 8 bits by more than 2^-6 of a step; but in a deep network the few codes that
lay that close to a rounding's border become many, layer after layer. :func:`realised` moves the
network instead: what it computes in float is then what the integers compute.
"""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from model.compress.quantizers import ActivationQuantizer
from model.export.factors import factors_of
from model.export.values import Affine, Linear, Stream
from model.export.walk import walk_of


@torch.no_grad()
def realised(
    module: nn.Module,
    calibration: Tensor,
    *,
    channels_first: bool = False,
    **bits: Any,
) -> nn.Module:
    """A copy of a quantized network whose factors are those of the hardware.

    Parameters
    ----------
    module : nn.Module
        A network with quantizers.
    calibration : float tensor [frames, ...]
        As of :func:`model.export.export`, of which the other parameters are too.

    The scales of what additions and average poolings read, from the last back to the first, and
    then the gains of batch normalizations take the nearest value whose multiplier is exact. The
    biases of the last layer take the nearest value that hardware adds: where its scores are the
    accumulators, whole steps of these, coarse ones if weights and activations have few bits. Scales
    of inputs, of weights and of what several such layers read with different wishes stay: there the
    factor is as near as its multiplier allows.
    """
    result = copy.deepcopy(module).double()
    walk = walk_of(result, calibration[:1], calibration, channels_first, **bits)
    scales = _Scales()
    for pending, stream in reversed(walk.closed):
        before = tuple(scales.of(source) for source in pending.sources)
        wanted = pending.exact_scales(before, scales.of(stream), walk.multiplier_bits)
        for source, scale in zip(pending.sources, wanted, strict=True):
            scales.ask(source, scale)
    scales.settle()
    for pending, stream in walk.closed:
        if isinstance(pending, Affine) and pending.norm is not None:
            _settle_norm(pending, stream, scales, walk.multiplier_bits)
    _settle_scores(walk.scores, scales, walk.multiplier_bits)
    return result.float()


class _Scales:
    """Scales of streams, and what they are to become."""

    def __init__(self) -> None:
        self.asked: dict[ActivationQuantizer, float] = {}

    def of(self, stream: Stream) -> float:
        return self.asked.get(stream.quantizer, stream.scale)

    def ask(self, stream: Stream, scale: float) -> None:
        """The first to ask decides."""
        quantizer = stream.quantizer
        if isinstance(getattr(quantizer, "log_scale", None), nn.Parameter):
            self.asked.setdefault(quantizer, scale)

    def settle(self) -> None:
        for quantizer, scale in self.asked.items():
            quantizer.log_scale.fill_(torch.tensor(scale, dtype=torch.float64).log())


def _settle_norm(pending: Affine, stream: Stream, scales: _Scales, multiplier_bits: int) -> None:
    """Move a batch normalization's gains to exact multipliers; its constants stay as they are."""
    norm, source = pending.norm, pending.sources[0]
    if norm.module.weight is None or norm.module.bias is None:
        return
    moved = replace(pending, gain=pending.gain * scales.of(source) / source.scale)
    scale = scales.of(stream)
    spec, tensors = moved.closed(stream.format, scale, multiplier_bits)
    exact = torch.from_numpy(factors_of(spec.requantize, tensors)) * scale
    factor = torch.where(moved.gain == 0, 1.0, exact / moved.gain)
    constant = norm.folded()
    norm.module.weight.mul_(factor)
    norm.module.bias.add_(constant - norm.folded())


def _settle_scores(scores: Linear, scales: _Scales, multiplier_bits: int) -> None:
    """Move the biases of the last layer to what hardware adds."""
    if scores.norm is not None or scores.module.bias is None:
        return
    source = scores.sources[0]
    moved = replace(scores, gain=scores.gain * scales.of(source) / source.scale)
    rule, scale, tensors = moved.scored(multiplier_bits)
    scores.module.bias.copy_(torch.from_numpy(tensors["b"]) * (scale / 2.0**rule.shift))
