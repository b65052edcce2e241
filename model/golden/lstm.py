"""Golden function of the LSTM: a loop over the steps, vectorized over the sequences."""

import torch

from model.golden.graph import evaluate
from model.golden.matrix import accumulate, prepare
from model.golden.piecewise import look_up
from model.golden.requantize import requantize, shifted
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.lstm import GATES, LSTMSpec, part_of
from model.ir.network import Node
from model.ir.requantize import rounding


class _Matrix:
    """One of the two matrices, ready for the steps."""

    def __init__(self, spec: LinearSpec, node: Node, part: str) -> None:
        tensors = part_of(node.tensors, part)
        self.spec = spec
        self.weights = prepare(spec.arithmetic, spec, tensors)
        self.tensors = {k: torch.from_numpy(tensors[k].copy()) for k in ("b", "m") if k in tensors}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Codes int64 [sequences, columns] to codes int64 [sequences, rows]."""
        acc = accumulate(self.spec.arithmetic, self.spec, x, self.weights)
        return requantize(self.spec.requantize, acc, self.tensors)


@evaluate.register
def _(
    spec: LSTMSpec, node: Node, inputs: list[torch.Tensor], keep: dict[str, torch.Tensor]
) -> torch.Tensor:
    """int64 [sequences, steps, *shape] to int64 [sequences, steps, outputs].

    Keeps ``<node>.gates`` (pre-activations without peepholes), ``<node>.state`` (c) and
    ``<node>.hidden`` (o * tanh c), each [sequences, steps, ...]. Steps behind the end of a shorter
    sequence do not change those before them, so any padding will do.
    """
    right = max(0, spec.x_shift)
    x = (inputs[0].flatten(2) << max(0, -spec.x_shift)) + rounding(right)
    x = shifted(x, right, spec.gates.in_format)
    count, steps = x.shape[:2]
    if steps == 0:
        raise BadInput(node.name, "a sequence of 0 steps", "at least 1 step", "drop the sequence")
    gates = _Matrix(spec.gates, node, "gates")
    project = None if spec.project is None else _Matrix(spec.project, node, "project")
    peephole = None
    if spec.peephole_format is not None:
        peephole = torch.from_numpy(node.tensors["peephole"].copy())
    c = torch.zeros(count, spec.cells, dtype=torch.int64)
    columns = torch.zeros(count, spec.gates.in_features, dtype=torch.int64)
    kept: dict[str, list[torch.Tensor]] = {"gates": [], "state": [], "hidden": [], "y": []}
    for step in range(steps):
        columns[:, : spec.features] = x[:, step]
        a = gates(columns)
        i, f, g, o = a.chunk(GATES, 1)
        i = look_up(spec.sigmoid, _peeped(spec, i, c, peephole, 0))
        f = look_up(spec.sigmoid, _peeped(spec, f, c, peephole, 1))
        keep_shift, new_shift = spec.state_aligns
        total = ((f * c) << keep_shift) + ((i * look_up(spec.g, g)) << new_shift)
        c = shifted(total + rounding(spec.state_shift), spec.state_shift, spec.state_format)
        o = look_up(spec.sigmoid, _peeped(spec, o, c, peephole, 2))
        total = o * look_up(spec.tanh, c) + rounding(spec.hidden_shift)
        hidden = shifted(total, spec.hidden_shift, spec.hidden_format)
        y = hidden if project is None else project(hidden)
        columns[:, spec.x_columns : spec.x_columns + spec.outputs] = y
        for name, codes in (("gates", a), ("state", c), ("hidden", hidden), ("y", y)):
            kept[name].append(codes)
    output = torch.stack(kept.pop("y"), 1)
    keep.update({f"{node.name}.{name}": torch.stack(codes, 1) for name, codes in kept.items()})
    return output


def _peeped(
    spec: LSTMSpec, a: torch.Tensor, c: torch.Tensor, peephole: torch.Tensor | None, gate: int
) -> torch.Tensor:
    """A pre-activation with its peephole: ``clamp(((a << s) + p * c + r) >> s)``."""
    if peephole is None:
        return a
    shift = spec.peephole_shift
    total = (a << shift) + peephole[gate] * c + rounding(shift)
    return shifted(total, shift, spec.gates.out_format)
