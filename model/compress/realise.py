"""The last step of every solver: weights are projected and their structure becomes fixed.

:func:`realise` turns a plain network into one whose constrained layers hold their structure (in the
compressed form where a layer of that form exists); :func:`retrain` then quantizes and trains it.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from model.compress.constraints import Constraint, levels_of, structure_of
from model.compress.layers import compact
from model.compress.mismatch import MismatchOptions
from model.compress.quantizers import FormatOptions
from model.compress.solver import check_layers
from model.compress.tracing import insert_quantizers
from model.compress.training import TrainOptions, fit, lengths_of, real_samples
from model.data import Dataset, Split

CALIBRATION_FRAMES = 2048
CALIBRATION_NUMBERS = 1 << 21


class QuantizedTraining(TrainOptions):
    """Options of a training of quantized weights.

    Parameters
    ----------
    mismatch : MismatchOptions
        What the weights' cells meet in each pass of training, drawn anew each time. Nothing by
        default.
    """

    mismatch: MismatchOptions = MismatchOptions()


class Held(nn.Module):
    """Parametrization that holds a weight to a constraint in every pass.

    Its gradient is that of the identity; so for a linear space the steps of plain gradient descent
    are those within the space, and for another set they are straight through.
    """

    def __init__(self, constraint: Constraint) -> None:
        super().__init__()
        self.constraint = constraint

    def forward(self, weight: Tensor) -> Tensor:
        with torch.no_grad():
            nearest = self.constraint.project(weight)
        return weight + (nearest - weight).detach()


def structures_of(layers: Mapping[str, Constraint]) -> dict[str, Constraint]:
    """The structures among the constraints of some layers."""
    found = {name: structure_of(constraint) for name, constraint in layers.items()}
    return {name: structure for name, structure in found.items() if structure is not None}


@torch.no_grad()
def realise(
    module: nn.Module, structures: Mapping[str, Constraint], *, keep_norm: bool = False
) -> dict[str, Constraint]:
    """Project weights in place and give their layers the compressed form where there is one.

    Parameters
    ----------
    module : nn.Module
        A plain network; changed in place.
    structures : mapping of str to Constraint
        Layer name to structure.
    keep_norm : bool
        Whether a projected weight is scaled to its norm before: for fresh weights, whose variance a
        projection would lessen.

    Returns the frozen constraints that the layers which stayed plain must be held to.
    """
    rest = {}
    for name, structure in structures.items():
        layer = module.get_submodule(name)
        weight = layer.weight
        frozen = structure.freeze(weight.detach())
        nearest = frozen.project(weight.detach())
        if keep_norm and bool(nearest.any()):
            nearest = nearest * (weight.norm() / nearest.norm())
        weight.copy_(nearest)
        compressed = compact(layer, frozen)
        if compressed is layer:
            rest[name] = frozen
        else:
            module.set_submodule(name, compressed)
    return rest


def hold(module: nn.Module, constraints: Mapping[str, Constraint]) -> None:
    """Hold the weights of some layers to constraints in every pass."""
    for name, constraint in constraints.items():
        parametrize.register_parametrization(module.get_submodule(name), "weight", Held(constraint))


def release(module: nn.Module, names: Mapping[str, object]) -> None:
    """End :func:`hold`: the weights stay where they were held."""
    for name in names:
        parametrize.remove_parametrizations(module.get_submodule(name), "weight")


def calibration(data: Dataset) -> Split:
    """Training samples that scales are fitted to: evenly spaced, since some sets are in order."""
    frames = min(CALIBRATION_FRAMES, CALIBRATION_NUMBERS // math.prod(data.shape), len(data.train))
    return data.train.part(np.linspace(0, len(data.train) - 1, max(1, frames)).astype(np.int64))


def retrain(
    module: nn.Module,
    data: Dataset,
    layers: Mapping[str, Constraint],
    formats: FormatOptions,
    options: QuantizedTraining,
    *,
    teacher: nn.Module | None,
    seed: int,
    folder: Path | None,
    facts: object = None,
    title: str = "retrain",
    frozen: Mapping[str, Constraint] | None = None,
) -> nn.Module:
    """Project the weights of ``module`` in place, freeze their structure, quantize, train.

    The last step of every solver; arguments as of a solver.

    Parameters
    ----------
    teacher : nn.Module or None
        The network to follow, if distillation is asked for.
    facts : object
        Whatever else decides the result.
    title : str
        What the progress line says, and the name of the folder of checkpoints.
    frozen : mapping of str to Constraint, optional
        What an earlier :func:`realise` of this module returned, which is then not repeated.
    """
    module.cpu()
    if frozen is None:
        check_layers(module, layers)
        frozen = realise(module, structures_of(layers))
    own = {name: levels_of(constraint) for name, constraint in layers.items()}
    samples = calibration(data)
    quantized = insert_quantizers(
        module,
        real_samples(samples),
        formats,
        frozen,
        {name: levels for name, levels in own.items() if levels is not None},
        lengths=lengths_of(samples),
        mismatch=options.mismatch,
    )
    return fit(
        quantized,
        data,
        options,
        seed=seed,
        title=title,
        folder=None if folder is None else folder / title,
        teacher=teacher,
        facts=facts,
    )
