"""One-step compression: one projection, quantization, and a short fine-tuning in the new form.

In place of ADMM's alternating iterations each layer is projected once onto its structure. For
circulant blocks that is the mean over each wrapped diagonal, which equals keeping the diagonal of
F M F^-1 with the Fourier matrix F. What follows trains the compressed parameters themselves: a
block's defining vector, a kept block's weights. Source: OSC of SAC, doi 10.1145/3632957, as read
from its abstract.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from model.compress.constraints import Constraint
from model.compress.quantizers import FormatOptions
from model.compress.realise import QuantizedTraining, retrain
from model.compress.solver import solver
from model.data import Dataset
from model.options import Options


class OneStepOptions(Options):
    """Options of :func:`one_step`.

    Parameters
    ----------
    finetune : QuantizedTraining
        The training after the projection.
    """

    finetune: QuantizedTraining = QuantizedTraining(epochs=5)


@solver("one_step", OneStepOptions)
def one_step(
    module: nn.Module,
    data: Dataset,
    layers: Mapping[str, Constraint],
    formats: FormatOptions,
    options: OneStepOptions,
    *,
    seed: int = 0,
    folder: Path | None = None,
) -> nn.Module:
    """Compress a trained network by one projection; parameters and result as of :func:`admm`.

    ``module`` stays as it is, and is the teacher if distillation is asked for.
    """
    return retrain(
        copy.deepcopy(module),
        data,
        layers,
        formats,
        options.finetune,
        teacher=module,
        seed=seed,
        folder=folder,
        facts=(dict(sorted((k, repr(v)) for k, v in layers.items())), formats),
        title="finetune",
    )
