"""Constrained training: the constraint holds in every forward pass, from the first step.

Two trainings follow each other: one in float, then one with quantized weights and activations. The
structure holds in both.

- A structure that does not depend on the weights (circulant blocks, a static random mask) is fixed
  before the first step, and the layer trains in its compressed form. Sources: the static mask of
  arXiv 1804.07370, the circulant training of C-LSTM, arXiv 1803.06305.
- A structure chosen by magnitude is, from fresh weights, chosen anew in each pass of the float
  training, with straight-through gradients, since the magnitudes of fresh weights say nothing; it
  is fixed after it. From a trained network it is fixed at the start.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from model.compress.constraints import Constraint
from model.compress.quantizers import FormatOptions
from model.compress.realise import (
    QuantizedTraining,
    hold,
    realise,
    release,
    retrain,
    structures_of,
)
from model.compress.solver import check_layers, solver
from model.compress.training import TrainOptions, fit
from model.data import Dataset
from model.ir.errors import BadInput
from model.options import Options


class ConstrainedOptions(Options):
    """Options of :func:`constrained`.

    Parameters
    ----------
    start : str
        ``"fresh"``: initialised anew from the seed; ``"trained"``: from the trained float network.
    train : TrainOptions
        The training in float, under the structure.
    retrain : QuantizedTraining
        The training under the structure with quantized numbers.
    """

    start: Literal["fresh", "trained"] = "fresh"
    train: TrainOptions = TrainOptions(epochs=12)
    retrain: QuantizedTraining = QuantizedTraining(epochs=12)


@solver("constrained", ConstrainedOptions)
def constrained(
    module: nn.Module,
    data: Dataset,
    layers: Mapping[str, Constraint],
    formats: FormatOptions,
    options: ConstrainedOptions,
    *,
    seed: int = 0,
    folder: Path | None = None,
) -> nn.Module:
    """Train a network under constraints; parameters and result as of :func:`admm`.

    ``module`` stays as it is, and is the teacher if distillation is asked for. Raises BadInput
    also for a network that cannot be initialised anew.
    """
    facts = (dict(sorted((k, repr(v)) for k, v in layers.items())), formats, options)
    work = copy.deepcopy(module).cpu()
    weights = check_layers(work, layers)
    moving = structures_of(layers)
    fresh = options.start == "fresh"
    if fresh:
        initialise(work, seed)
    fixed = {n: s for n, s in moving.items() if not fresh or is_static(s, weights[n].detach())}
    moving = {n: s for n, s in moving.items() if n not in fixed}
    frozen = realise(work, fixed, keep_norm=fresh)
    hold(work, frozen | moving)
    fit(
        work,
        data,
        options.train,
        seed=seed,
        title="train",
        folder=None if folder is None else folder / "train",
        teacher=module,
        facts=facts,
    )
    release(work.cpu(), frozen | moving)
    frozen |= realise(work, moving)
    return retrain(
        work,
        data,
        layers,
        formats,
        options.retrain,
        teacher=module,
        seed=seed + 1,
        folder=folder,
        facts=facts,
        frozen=frozen,
    )


def initialise(module: nn.Module, seed: int) -> None:
    """Initialise all parameters of a module anew, in place, from a seed.

    Raises BadInput for a part with parameters of its own and no ``reset_parameters``.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, part in module.named_modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
            elif any(True for _ in part.parameters(recurse=False)):
                raise BadInput(
                    f"module {name or type(module).__name__}",
                    f"{type(part).__name__}, which has no reset_parameters",
                    "parts that can be initialised anew",
                    'give it that method, or set start = "trained"',
                )


def is_static(structure: Constraint, weight: Tensor) -> bool:
    """Whether a structure is the same whatever the weights are.

    Tried on weights of a shape whose magnitudes are ordered in opposite ways: a choice by magnitude
    that removes anything differs between them.
    """
    count = torch.arange(1.0, weight.numel() + 1).reshape(weight.shape) / weight.numel()
    probes = [count, count.flip(tuple(range(weight.ndim)))]
    probes += [probe.pow(8) for probe in probes]
    found = [structure.freeze(probe).project(count) for probe in probes]
    return all(torch.equal(found[0], other) for other in found[1:])
