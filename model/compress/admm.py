"""ADMM: training that is drawn towards a constraint, then held to it.

The loss f is trained with two pairs of auxiliary variables for each layer, one for the structure
and one for the levels,

    L = f(W) + rho/2 |W - Z + U|^2 + rho/2 |W - Y + V|^2 ,

where every few epochs ``Z = project_structure(W + U)``, ``U += W - Z`` and likewise for Y and V,
and rho grows. Then W is projected, its structure is frozen, and it is retrained with all weights
and activations quantized (masked mapping and retraining). Y is a point on the levels alone, except
where it must be one that also has the structure: for levels without a zero, which would push
removed weights away from 0, and for circulant blocks, whose numbers are on the levels.

Convergence is proven for convex problems only, so the iteration is watched. The primal residual of
a pair is |W - Z| before Z's update, relative to the norm that W had at the start (W's own norm
would grow along and hide it). If it is not finite, or stays above ``DIVERGED`` times its smallest
value so far (and above ``SMALL``) for ``PATIENCE`` updates in a row, the training ends and names
the update and the layer.

Sources: S. Boyd et al., Distributed Optimization and Statistical Learning via ADMM, 2011; for
networks, the SOT-MRAM engine of arXiv 1912.05416.
"""

import copy
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from model.compress.constraints import (
    Compose,
    Constraint,
    circulant_of,
    levels_of,
    structure_of,
)
from model.compress.quantizers import FormatOptions
from model.compress.realise import QuantizedTraining, retrain, structures_of
from model.compress.solver import check_layers, solver
from model.compress.training import TrainOptions, device, fit
from model.data import Dataset
from model.ir.errors import BadInput
from model.options import Options

DIVERGED = 3.0
SMALL = 0.02
PATIENCE = 3


class ADMMOptions(Options):
    """Options of :func:`admm`.

    Parameters
    ----------
    train : TrainOptions
        The training under the penalty.
    retrain : QuantizedTraining
        The training with frozen structure and quantized numbers.
    rho, growth : float
        The penalty's weight at the start, and its factor at each update of Z, U, Y and V.
    interval : int
        Epochs between updates.
    """

    train: TrainOptions = TrainOptions(epochs=12)
    retrain: QuantizedTraining = QuantizedTraining(epochs=12)
    rho: float = Field(default=1e-3, gt=0)
    growth: float = Field(default=1.3, ge=1)
    interval: int = Field(default=3, ge=1)


class Pull:
    """The auxiliary variables: pairs (target, dual) of several weights, and the penalty.

    Parameters
    ----------
    pairs : list of (name, weight, constraint)
        Each weight is drawn towards its constraint; a weight may stand in several pairs.
    options : ADMMOptions
        rho, its growth and the interval.
    """

    def __init__(self, pairs: list[tuple[str, Tensor, Constraint]], options: ADMMOptions) -> None:
        self.options = options
        self.pairs = pairs
        self.targets = [constraint.project(w.detach()).clone() for _, w, constraint in pairs]
        self.duals = [torch.zeros_like(w, requires_grad=False) for _, w, _ in pairs]
        self.rho = torch.tensor(options.rho, dtype=torch.float64)
        self.norms = [float(w.detach().double().norm()) or 1.0 for _, w, _ in pairs]
        self.best = torch.full((len(pairs),), torch.inf, dtype=torch.float64)
        self.bad = torch.zeros(len(pairs), dtype=torch.int64)

    def penalty(self) -> Tensor:
        rho = float(self.rho)
        parts = [
            (w - target + dual).square().sum()
            for (_, w, _), target, dual in zip(self.pairs, self.targets, self.duals, strict=True)
        ]
        return 0.5 * rho * torch.stack(parts).sum()

    @torch.no_grad()
    def after_epoch(self, done: int) -> None:
        """Update every pair; raises BadInput if one of them diverges."""
        if done % self.options.interval:
            return
        self._watch(done)
        for (_, w, constraint), target, dual in zip(
            self.pairs, self.targets, self.duals, strict=True
        ):
            target.copy_(constraint.project(w + dual))
            dual.add_(w - target)
        self.rho.mul_(self.options.growth)

    def _watch(self, done: int) -> None:
        """Note the residuals; raise BadInput for the first pair that diverges."""
        for n, ((name, w, _), target) in enumerate(zip(self.pairs, self.targets, strict=True)):
            residual = float((w - target).double().norm()) / self.norms[n]
            best = float(self.best[n])
            self.bad[n] = self.bad[n] + 1 if residual > max(DIVERGED * best, SMALL) else 0
            if math.isfinite(residual) and int(self.bad[n]) < PATIENCE:
                self.best[n] = min(best, residual)
                continue
            layer, part = name.rsplit(".", 1)
            raise BadInput(
                f"admm, update {done // self.options.interval} (epoch {done}), layer {layer}",
                f"a residual of {residual:.3g} to its {part}, which was {best:.3g} at best",
                "a residual that falls",
                "lower the learning rate, rho or growth",
            )

    @torch.no_grad()
    def distance(self) -> float:
        """Relative distance of the weights from their constraints, 0 when all hold."""
        gaps = [(w - c.project(w)).square().sum() for _, w, c in self.pairs]
        norms = [w.square().sum() for _, w, _ in self.pairs]
        return float((torch.stack(gaps).sum() / torch.stack(norms).sum()).sqrt())

    def state(self) -> dict[str, Tensor]:
        named = {"rho": self.rho, "best": self.best, "bad": self.bad}
        for (name, _, _), target, dual in zip(self.pairs, self.targets, self.duals, strict=True):
            named |= {f"{name}.target": target, f"{name}.dual": dual}
        return named


@solver("admm", ADMMOptions)
def admm(
    module: nn.Module,
    data: Dataset,
    layers: Mapping[str, Constraint],
    formats: FormatOptions,
    options: ADMMOptions,
    *,
    seed: int = 0,
    folder: Path | None = None,
) -> nn.Module:
    """Compress a trained network: structure by layer, low-bit weights and activations everywhere.

    Parameters
    ----------
    module : nn.Module
        A trained plain network; it stays as it is, and is the teacher if distillation is asked for.
    data : Dataset
        Training samples train, validation samples are shown.
    layers : mapping of str to Constraint
        Layer name to the structure of its weight, its levels, or both.
    formats : FormatOptions
        Bits of input, weights and activations.
    options : ADMMOptions
        Both trainings and the penalty.
    seed : int
        Of everything random.
    folder : Path, optional
        Where checkpoints are kept, for resumption.

    Returns a network with fake quantizers, which :func:`model.export.export` turns into integers.
    Raises BadInput for an unknown layer, weights that cannot be constrained, or a bad checkpoint.
    """
    facts = (dict(sorted((k, repr(v)) for k, v in layers.items())), formats, options)
    pulled = copy.deepcopy(module).to(device())
    weights = check_layers(pulled, layers)
    structures = structures_of(layers)
    pull = Pull(
        [(f"{name}.structure", weights[name], rule) for name, rule in structures.items()]
        + [
            (f"{name}.levels", weight, _levels(weight, layers.get(name), formats))
            for name, weight in weights.items()
        ],
        options,
    )
    fit(
        pulled,
        data,
        options.train,
        seed=seed,
        title="admm",
        folder=None if folder is None else folder / "admm",
        teacher=module,
        regularizer=pull,
        facts=facts,
    )
    return retrain(
        pulled,
        data,
        layers,
        formats,
        options.retrain,
        teacher=module,
        seed=seed + 1,
        folder=folder,
        facts=facts,
    )


def _levels(weight: Tensor, rule: Constraint | None, formats: FormatOptions) -> Constraint:
    """What the level pair of a layer is drawn to."""
    levels = (levels_of(rule) if rule is not None else None) or formats.levels()
    structure = structure_of(rule) if rule is not None else None
    if structure is None:
        return levels
    circulant = circulant_of(structure.freeze(weight.detach())) is not None
    return Compose(structure, levels) if circulant or not levels.has_zero else levels
