"""Evaluation of a whole network, batched over frames."""

from functools import singledispatch

import numpy as np
import torch

from model.ir.errors import BadInput
from model.ir.layer import LayerSpec
from model.ir.network import InputSpec, Network, Node

BATCH = 4096
"""Frames, or steps of sequences, that ``run`` evaluates at once, at the most."""

BATCH_NUMBERS = 1 << 22
"""Numbers on the longest edge that ``run`` holds at once, unless one frame has more."""


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
    """Raw samples to input codes: ``clamp(floor(x / scale + 1/2))``.

    Samples are real, [frames, *shape], or [sequences, steps, *shape] for a recurrent network.
    """
    samples = np.asarray(samples, dtype=np.float64)
    if not np.isfinite(samples).all():
        raise BadInput(spec.name, "NaN or infinite samples", "finite samples", "clean the data")
    axes = samples.ndim - len(spec.shape)
    if axes not in (1, 2) or samples.shape[axes:] != tuple(spec.shape):
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
    codes : int64 tensor [frames, *input shape], or [sequences, steps, *input shape]
        Input codes, which must fit the input's format. The second form is that of a recurrent
        network: a sequence starts without any state.

    Returns
    -------
    dict of str to int64 tensor
        The input's name and every node's name to [frames, *shape] or [sequences, steps, *shape];
        ``<node>.acc`` to accumulators.
    """
    edges = {network.input.name: _checked(network, codes)}
    for node in network.nodes:
        kept: dict[str, torch.Tensor] = {}
        output = _evaluate(network, node, edges, kept)
        edges |= kept | {node.name: output}
    return edges


def run(network: Network, codes: torch.Tensor) -> torch.Tensor:
    """Output codes of input codes, in batches that bound the memory.

    int64 [frames, *input shape] to [frames, *output shape], or, of a recurrent network,
    [sequences, steps, *input shape] to [sequences, steps, *output shape].
    """
    codes = _checked(network, codes)
    steps = max(1, codes.shape[1]) if network.recurrent else 1
    longest = max(network.length(edge) for edge in (network.input.name, *_names(network)))
    batch = max(1, min(BATCH, BATCH_NUMBERS // longest) // steps)
    return torch.cat([_run(network, part) for part in codes.split(batch)])


def predict(outputs: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
    """Class of each frame: its largest code; ties go to the lowest index.

    Parameters
    ----------
    outputs : int64 tensor [frames, classes], or [sequences, steps, classes] with ``lengths``
    lengths : int64 tensor [sequences], optional
        Steps of each sequence, the last of which says its class.
    """
    if lengths is not None:
        lengths = torch.as_tensor(lengths)
        count, steps = outputs.shape[:2]
        if lengths.shape != (count,) or bool(((lengths < 1) | (lengths > steps)).any()):
            raise BadInput(
                "lengths",
                f"{tuple(lengths.shape)} lengths, {lengths.tolist()[:8]}",
                f"{count} lengths from 1 to {steps}",
                "pass the number of steps of each sequence",
            )
        outputs = outputs[torch.arange(count), lengths - 1]
    return outputs.flatten(1).argmax(dim=1)


def _names(network: Network) -> list[str]:
    return [node.name for node in network.nodes]


def _checked(network: Network, codes: torch.Tensor) -> torch.Tensor:
    """The input codes, once type, shape and range are right."""
    codes = torch.as_tensor(codes)
    if codes.dtype != torch.int64:
        raise TypeError(f"codes must be int64, not {codes.dtype}")
    axes = 2 if network.recurrent else 1
    shape = tuple(network.input.shape)
    if codes.ndim < axes or tuple(codes.shape[axes:]) != shape:
        what = "sequences of steps" if network.recurrent else "frames"
        raise BadInput(
            network.input.name,
            f"frames of shape {tuple(codes.shape[axes:])}",
            f"{what} of shape {shape}",
            "reshape the frames, channels last",
        )
    network.input.format.check(codes.numpy(), network.input.name)
    return codes


def _run(network: Network, codes: torch.Tensor) -> torch.Tensor:
    """Output codes of one batch; an edge is dropped once its last reader is done."""
    last = {edge: node.name for node in network.nodes for edge in node.inputs}
    edges = {network.input.name: codes}
    for node in network.nodes:
        edges[node.name] = _evaluate(network, node, edges, {})
        for edge in set(node.inputs):
            if last[edge] == node.name:
                del edges[edge]
    return edges[network.output.name]


def _evaluate(
    network: Network, node: Node, edges: dict[str, torch.Tensor], keep: dict[str, torch.Tensor]
) -> torch.Tensor:
    """The output of a node; in a recurrent network the others take each step as a frame."""
    inputs = [edges[name] for name in node.inputs]
    if node.spec.recurrent or not network.recurrent:
        return evaluate(node.spec, node, inputs, keep)
    axes = inputs[0].shape[:2]
    kept: dict[str, torch.Tensor] = {}
    output = evaluate(node.spec, node, [x.flatten(0, 1) for x in inputs], kept)
    keep.update({name: tensor.unflatten(0, axes) for name, tensor in kept.items()})
    return output.unflatten(0, axes)
