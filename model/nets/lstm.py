"""The LSTM with peepholes and a projection, and the network of it and one linear layer."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model.compress.constraints import Constraint, Levels
from model.compress.fixed_point import LSTMQuantizer, split_peephole
from model.compress.layers import product
from model.compress.quantizers import FormatOptions
from model.ir.errors import BadInput
from model.ir.lstm import GATES, PEEPHOLES
from model.nets.registry import network
from model.options import Options


class LSTM(nn.Module):
    """x [sequences, steps, inputs] to y [sequences, steps, outputs]; the state begins at 0.

    ::

        i, f = sigmoid(W_i [x(t), y(t-1)] + b_i + p_i ∘ c(t-1)), the same with f
        c(t) = f ∘ c(t-1) + i ∘ G(W_g [x(t), y(t-1)] + b_g)
        o    = sigmoid(W_o [x(t), y(t-1)] + b_o + p_o ∘ c(t))
        y(t) = P (o ∘ tanh c(t))

    The layers ``gates_x`` [4 * cells, inputs] with bias, ``gates_y`` [4 * cells, outputs] and
    ``project`` [outputs, cells] are plain linear layers, in the gate order i, f, g, o; a structured
    layer may take their place. Peepholes are ``peephole`` [3, cells] of i, f and o. Without
    peepholes and projection it is ``nn.LSTM``, with the two biases added; with a projection alone
    it is ``nn.LSTM(proj_size=...)``. Source: H. Sak et al., Long Short-Term Memory Based Recurrent
    Neural Network Architectures for Large Scale Acoustic Modeling, 2014; g = sigmoid as in the
    code of C-LSTM's authors.

    Parameters
    ----------
    inputs, cells : int
        Numbers of a step, and cells.
    projection : int, optional
        Outputs, if they are projected; the cells otherwise.
    peephole : bool
        Whether the gates see the state.
    g : str
        ``"tanh"`` or ``"sigmoid"``.
    bidirectional : bool
        Whether a second LSTM, ``reverse``, runs over each sequence backwards from its last step;
        its outputs follow those of the first on the last axis, and outputs behind a sequence's end
        are 0, as of PyTorch's packed sequences.
    """

    def __init__(
        self,
        inputs: int,
        cells: int,
        projection: int | None = None,
        peephole: bool = False,
        g: str = "tanh",
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        if g not in ("tanh", "sigmoid"):
            raise BadInput("g", repr(g), "'tanh' or 'sigmoid'", "correct it")
        self.inputs, self.cells, self.g = inputs, cells, g
        self.outputs = cells if projection is None else projection
        self.gates_x = nn.Linear(inputs, GATES * cells)
        self.gates_y = nn.Linear(self.outputs, GATES * cells, bias=False)
        self.project = None if projection is None else nn.Linear(cells, projection, bias=False)
        self.peephole = nn.Parameter(torch.empty(PEEPHOLES, cells)) if peephole else None
        self.quantizer: LSTMQuantizer | None = None
        self.reverse = LSTM(inputs, cells, projection, peephole, g) if bidirectional else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As ``nn.LSTM`` does, uniform within 1/sqrt(cells), but the forget gate's bias is 1.

        Source of the latter: R. Jozefowicz et al., An Empirical Exploration of Recurrent Network
        Architectures, ICML 2015.
        """
        bound = 1 / math.sqrt(self.cells)
        for name, parameter in self.named_parameters():
            if not name.startswith("reverse."):
                nn.init.uniform_(parameter, -bound, bound)
        with torch.no_grad():
            self.gates_x.bias[self.cells : 2 * self.cells].fill_(1)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """y of x; ``lengths`` int64 [sequences] matter to ``reverse`` only.

        Without them all-zero steps at the end of a sequence are its padding, and so are, in a next
        layer, the zeros that come out of them.

        Raises BadInput for an x of other axes or another number of inputs, and if it has no steps.
        """
        if x.ndim != 3 or x.shape[2] != self.inputs or x.shape[1] == 0:
            raise BadInput(
                "input of an LSTM",
                f"shape {tuple(x.shape)}",
                f"[sequences, steps, {self.inputs}] with at least 1 step",
                "correct the samples or the layer's size",
            )
        if self.quantizer is not None and self.quantizer.formats is None:
            self.quantizer.fit(self, self.reach(x))
        y = self._steps(x, self.arithmetic)
        if self.reverse is None:
            return y
        inside = _inside(x, lengths)
        order = _backwards(inside)
        back = self.reverse(x.gather(1, order.expand(-1, -1, x.shape[2])))
        both = torch.cat([y, back.gather(1, order.expand(-1, -1, back.shape[2]))], 2)
        return both.where(inside[..., None], 0.0)

    @property
    def arithmetic(self) -> "LSTMQuantizer | Real":
        """What rounds, or does not."""
        return Real(self.g) if self.quantizer is None else self.quantizer

    def _steps(
        self,
        x: Tensor,
        arithmetic: "LSTMQuantizer | Real",
        watch: Callable[[str, Tensor], Any] | None = None,
    ) -> Tensor:
        """All steps; ``watch`` gets the gates' sums, c and y of each."""
        gates_x, gates_y = arithmetic.product(self.gates_x), arithmetic.product(self.gates_y)
        project = None if self.project is None else arithmetic.product(self.project)
        bias, peephole = arithmetic.constants(self.gates_x.bias, self.peephole)
        count = len(x)
        x = arithmetic.entering(x).transpose(0, 1)  # steps first: each step is one piece of memory
        sums = gates_x(x.flatten(0, 1)).unflatten(0, x.shape[:2]) + bias
        c = x.new_zeros(count, self.cells)
        y = x.new_zeros(count, self.outputs)
        both = 2 * self.cells
        outputs = []
        for a in sums.unbind(0):
            a = arithmetic.gates(a + gates_y(y))
            if peephole is None:
                inner = arithmetic.sigmoid(a[:, :both])
            else:
                see = torch.cat([c, c], 1)
                inner = arithmetic.sigmoid(arithmetic.peeped(a[:, :both], see, peephole[0]))
            g, last = arithmetic.g(a[:, both : both + self.cells]), a[:, both + self.cells :]
            i, f = inner.split(self.cells, 1)
            c = arithmetic.state(torch.addcmul(f * c, i, g))
            if peephole is not None:
                last = arithmetic.peeped(last, c, peephole[1])
            y = arithmetic.hidden(arithmetic.sigmoid(last) * arithmetic.tanh(c))
            if project is not None:
                y = arithmetic.leaving(project(y))
            outputs.append(y)
            if watch is not None:
                watch("gates", a)
                watch("state", c)
                watch("y", y)
        return torch.stack(outputs, 1)

    @torch.no_grad()
    def reach(self, x: Tensor) -> dict[str, float]:
        """Largest magnitudes, without rounding, of ``x``, ``gates`` (without peepholes), ``state``
        and ``y``.

        All-zero steps at the end of a sequence are its padding and do not count: the state may grow
        without end in there.
        """
        seen = _present(x)
        seen = seen | ~seen.any()
        found: dict[str, list[Tensor]] = {"x": [x.abs().max()], "gates": [], "state": [], "y": []}

        def watch(name: str, values: Tensor) -> None:
            largest = values.abs().amax(1)
            found[name].append((largest * seen[:, len(found[name])]).max())

        self._steps(x, Real(self.g), watch)
        return {name: float(torch.stack(largest).max()) for name, largest in found.items()}

    def quantize_self(
        self,
        formats: FormatOptions,
        structures: Mapping[str, Constraint] | None = None,
        levels: Mapping[str, Levels] | None = None,
        mismatch: Any = None,
    ) -> None:
        """Compute from now on what the hardware computes; see :class:`LSTMQuantizer`.

        Parameters
        ----------
        formats : FormatOptions
            Bits: ``weight_bits`` of the matrices, ``activation_bits`` of all else.
        structures : mapping of str to Constraint
            ``"gates_x"``, ``"gates_y"`` or ``"project"`` to the frozen constraint it keeps.
        levels : mapping of str to Levels
            The same names to evenly spaced levels other than those of ``formats``.
        mismatch :
            Passed on to the weights' quantizers.

        The formats' fraction bits come from the first samples that enter afterwards; these should
        be those of the calibration. Raises BadInput for a bidirectional LSTM.
        """
        if self.reverse is not None:
            raise BadInput(
                "LSTM",
                "a bidirectional LSTM, which has no fixed-point form",
                "one direction",
                "set bidirectional to false, or train without quantization",
            )
        self.quantizer = LSTMQuantizer(formats, self.g)
        self.quantizer.parametrize(self, structures or {}, levels or {}, mismatch)

    def extra_repr(self) -> str:
        return f"{self.inputs}, {self.cells}, g={self.g}, peephole={self.peephole is not None}"


class Real:
    """The arithmetic of real numbers: nothing is rounded."""

    sigmoid, tanh = staticmethod(torch.sigmoid), staticmethod(torch.tanh)
    product = staticmethod(product)

    def __init__(self, g: str) -> None:
        self.g = torch.tanh if g == "tanh" else torch.sigmoid

    def constants(
        self, bias: Tensor, peephole: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        return bias, split_peephole(peephole)

    def peeped(self, a: Tensor, c: Tensor, peephole: Tensor) -> Tensor:
        return torch.addcmul(a, c, peephole)

    def _same(self, x: Tensor) -> Tensor:
        return x

    entering = gates = state = hidden = leaving = _same


def _present(x: Tensor) -> Tensor:
    """Whether a step of x [sequences, steps, inputs] or one after it is not all zero."""
    return (x != 0).any(2).flip(1).long().cummax(1).values.flip(1).bool()


def _inside(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Which steps belong to the sequences of x, bool [sequences, steps]; the first ones do."""
    steps = torch.arange(x.shape[1], device=x.device)[None, :]
    if lengths is None:
        return _present(x) | (steps == 0)
    ends = lengths.to(x.device)[:, None]
    if len(ends) != len(x) or bool(((ends < 1) | (ends > x.shape[1])).any()):
        raise BadInput(
            "lengths",
            f"{len(ends)} lengths, {lengths.tolist()[:8]}",
            f"{len(x)} lengths from 1 to {x.shape[1]}",
            "pass the number of steps of each sequence",
        )
    return steps < ends


def _backwards(inside: Tensor) -> Tensor:
    """Index [sequences, steps, 1] that turns each sequence around and leaves its padding behind."""
    steps = torch.arange(inside.shape[1], device=inside.device)[None, :]
    ends = inside.sum(1, keepdim=True)
    return torch.where(inside, ends - 1 - steps, steps)[..., None]


class LSTMOptions(Options):
    """Options of :class:`LSTMNetwork`.

    Parameters
    ----------
    cells : int
        Cells of each layer.
    projection : int
        Outputs of each layer in one direction; 0: the cells, without a projection.
    peephole : bool
        Whether the gates see the state.
    g : str
        ``"tanh"`` or ``"sigmoid"``: the function of the gate g.
    bidirectional : bool
        Whether each layer also runs backwards.
    layers : int
        LSTM layers.
    dropout : float
        Share of each layer's outputs dropped in training.
    """

    cells: int = Field(default=256, ge=1)
    projection: int = Field(default=128, ge=0)
    peephole: bool = True
    g: Literal["tanh", "sigmoid"] = "tanh"
    bidirectional: bool = False
    layers: int = Field(default=1, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


@network("lstm", LSTMOptions)
class LSTMNetwork(nn.Module):
    """Scores [sequences, steps, classes] of samples [sequences, steps, features].

    Layers ``lstm`` (``lstm2``, ...) and ``fc``. Padding behind a sequence's end does not change the
    scores up to it; if the network is bidirectional it must be of zeros, by which the end is found.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, options: LSTMOptions) -> None:
        super().__init__()
        if len(shape) != 2:
            raise BadInput(
                "network lstm",
                f"samples of shape {tuple(shape)}",
                "(steps, features)",
                "choose a data set of sequences",
            )
        size = shape[-1]
        for n in range(1, options.layers + 1):
            lstm = LSTM(
                size,
                options.cells,
                options.projection or None,
                options.peephole,
                options.g,
                options.bidirectional,
            )
            suffix = "" if n == 1 else str(n)
            self.add_module(f"lstm{suffix}", lstm)
            if options.dropout:
                self.add_module(f"drop{suffix}", nn.Dropout(options.dropout))
            size = lstm.outputs * (1 + options.bidirectional)
        self.fc = nn.Linear(size, classes)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x
