"""Evaluation of a whole network, batched over frames."""

from functools import singledispatch

import numpy as np
import torch

from model.ir.errors import BadInput
from model.ir.layer import LayerSpec
from model.ir.network import InputSpec, Network, Node

BATCH = 4096


@singledispatch
def evaluate(
    spec: LayerSpec, node: Node, inputs: list[torch.Tensor], keep: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Evaluate one node: int64 codes [frames, *shape] in, int64 codes [frames, *shape] out.

    Intermediates worth comparing are put into ``keep`` under ``<node>.<what>``.
    """
    raise BadInput(
        node.name, f"a layer of kind {spec.kind!r}", "a kind with a golden function", "update Gyre"
    )


def quantize(spec: InputSpec, samples: np.ndarray) -> torch.Tensor:
    """Raw samples (real, [frames, *shape]) to input codes: ``clamp(floor(x / scale + 1/2))``."""
    samples = np.asarray(samples, dtype=np.float64)
    if not np.isfinite(samples).all():
        raise BadInput(spec.name, "NaN or infinite samples", "finite samples", "clean the data")
    if samples.shape[1:] != tuple(spec.shape):
        raise BadInput(
            spec.name,
            f"samples of shape {samples.shape[1:]}",
            f"frames of shape {tuple(spec.shape)}",
            "reshape the samples, channels last",
        )
    span = spec.format.codes
    codes = np.clip(np.floor(samples / spec.scale + 0.5), span.low, span.high)
    return torch.from_numpy(codes.astype(np.int64))


def trace(network: Network, codes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every edge, and every intermediate, of a batch of frames.

    Parameters
    ----------
    network : Network
        What to evaluate.
    codes : int64 tensor [frames, *input shape]
        Input codes, which must fit the input's format.

    Returns
    -------
    dict of str to int64 tensor
        The input's name and every node's name to [frames, *shape]; ``<node>.acc`` to accumulators.
    """
    codes = torch.as_tensor(codes)
    if codes.dtype != torch.int64:
        raise TypeError(f"codes must be int64, not {codes.dtype}")
    if tuple(codes.shape[1:]) != tuple(network.input.shape):
        raise BadInput(
            network.input.name,
            f"frames of shape {tuple(codes.shape[1:])}",
            f"frames of shape {tuple(network.input.shape)}",
            "reshape the frames, channels last",
        )
    network.input.format.check(codes.numpy(), network.input.name)
    edges = {network.input.name: codes}
    for node in network.nodes:
        inputs = [edges[name] for name in node.inputs]
        edges[node.name] = evaluate(node.spec, node, inputs, edges)
    return edges


def run(network: Network, codes: torch.Tensor) -> torch.Tensor:
    """Output codes, int64 [frames, *output shape], of int64 input codes [frames, *input shape]."""
    codes = torch.as_tensor(codes)
    parts = [trace(network, part)[network.output.name] for part in codes.split(BATCH)]
    return torch.cat(parts)


def predict(outputs: torch.Tensor) -> torch.Tensor:
    """Class of each frame: the largest code of [frames, classes]; ties go to the lowest index."""
    return outputs.flatten(1).argmax(dim=1)
