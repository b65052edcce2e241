"""Fake quantization of an LSTM: in float, what the fixed-point hardware computes in codes.

All scales are powers of two, so float products and sums of codes are exact as long as the float
holds them: in float64 the emulation equals the golden model, in float32 it differs by a step of
the last place where a sum has more than 24 bits and lies next to a rounding's border.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from model.compress.constraints import Constraint, Levels
from model.compress.layers import STRUCTURED
from model.compress.quantizers import FormatOptions, WeightQuantizer
from model.ir.errors import BadInput
from model.ir.numerics import MAX_BITS, FixedPointFormat
from model.ir.piecewise import PiecewiseSpec, piecewise

BITS_MIN = 4
STATE_HEADROOM = 1.25
GATE_REACH = 16.0
MATRICES = ("gates_x", "gates_y", "project")


def split_peephole(peephole: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Peepholes [3, cells] as those of i and f, [2 * cells], and of o, [cells]."""
    return None if peephole is None else (peephole[:2].reshape(-1), peephole[2])


def format_of(bits: int, reach: float) -> FixedPointFormat:
    """The signed format with the most fraction bits, less than ``bits``, that holds ±reach."""
    top = (1 << (bits - 1)) - 1
    frac = bits - 1 if reach * 2.0 ** (bits - 1) <= top else math.floor(math.log2(top / reach))
    return FixedPointFormat(bits, True, frac)


def step_of(format: FixedPointFormat) -> float:
    """The real number of one code step."""
    return 2.0**-format.frac_bits


class FixedPointQuantizer(WeightQuantizer):
    """A weight quantizer whose one scale is a power of two and is not learned.

    Parameters
    ----------
    weight, levels, structure, mismatch :
        As of :class:`WeightQuantizer`.
    format : FixedPointFormat
        Of the codes.
    """

    def __init__(
        self,
        weight: Tensor,
        levels: Levels,
        structure: Constraint | None,
        format: FixedPointFormat,
        **more: Any,
    ) -> None:
        super().__init__(weight, levels, structure, **more)
        del self.log_scale
        self.register_buffer("log_scale", weight.new_zeros(1), persistent=False)
        self.format = format

    @property
    def scale(self) -> Tensor:
        """Real number that one code step stands for, float [1]: exactly a power of two."""
        return torch.full_like(self.log_scale, step_of(self.format))


class _Grid(torch.autograd.Function):
    """Nearest code, a half rounding up, times the step; straight through within the range."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, format: FixedPointFormat) -> Tensor:
        span, step = format.codes, step_of(format)
        codes = torch.mul(x, 1 / step).add_(0.5).floor_()
        ctx.save_for_backward((codes >= span.low) & (codes <= span.high))
        return codes.clamp_(span.low, span.high).mul_(step)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.saved_tensors[0], None


class _LookUp(torch.autograd.Function):
    """A table of every input code; the gradient is that of the function that it stands for."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, spec: PiecewiseSpec) -> Tensor:
        scale = 2.0**spec.in_format.frac_bits
        y = table[torch.mul(x, scale).long() - spec.in_format.codes.low]
        ctx.odd = spec.odd
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors
        return grad * (1 - y * y if ctx.odd else y * (1 - y)), None, None


@dataclass(frozen=True)
class LSTMFormats:
    """Formats of an LSTM: of x and y, the gates' sums, c, everything from -1 to 1, the weights of
    the gates and of the projection, and the peepholes."""

    x: FixedPointFormat
    gates: FixedPointFormat
    state: FixedPointFormat
    unit: FixedPointFormat
    weight: FixedPointFormat
    project: FixedPointFormat | None
    peephole: FixedPointFormat | None


class LSTMModule(Protocol):
    """What the quantizer sees of the LSTM."""

    gates_x: nn.Module
    gates_y: nn.Module
    project: nn.Module | None
    peephole: nn.Parameter | None


class LSTMQuantizer(nn.Module):
    """The arithmetic of :class:`model.ir.lstm.LSTMSpec` on real numbers.

    Both gate matrices have one weight format, and x and y have one format, so that the accumulator
    of the matrix over [x, y] is exact. The weight formats are chosen at the start, by least
    squares; the others from the largest magnitudes of the calibration: x and y just hold theirs, c
    has a headroom of 1.25, the gates' sums hold theirs up to 16, beyond which sigmoid and tanh are
    flat. Where a right shift would be negative the format it leads to gets fewer fraction bits.

    Parameters
    ----------
    formats : FormatOptions
        ``weight_bits`` of the matrices, ``activation_bits`` (at least 4) of all else.
    g : str
        ``"tanh"`` or ``"sigmoid"``.

    Raises BadInput for fewer than 4 bits.
    """

    def __init__(self, formats: FormatOptions, g: str) -> None:
        super().__init__()
        if formats.activation_bits < BITS_MIN or formats.weight_bits < 2:
            raise BadInput(
                "formats of an LSTM",
                f"activation_bits {formats.activation_bits}, weight_bits {formats.weight_bits}",
                f"activation_bits of at least {BITS_MIN}, weight_bits of at least 2",
                "allow more bits",
            )
        self.bits, self.options, self.g_name = formats.activation_bits, formats, g
        self.weights: dict[str, FixedPointFormat] = {}
        self.formats: LSTMFormats | None = None
        self.tables: dict[str, PiecewiseSpec] = {}

    def parametrize(
        self,
        module: LSTMModule,
        structures: Mapping[str, Constraint],
        levels: Mapping[str, Levels],
        mismatch: Any = None,
    ) -> None:
        """Quantize the weights of the matrices; the arguments are as of ``LSTM.quantize_self``."""
        layers = {name: getattr(module, name) for name in MATRICES}
        layers = {name: layer for name, layer in layers.items() if layer is not None}
        chosen = {name: levels.get(name, Levels(self.options.weight_bits)) for name in layers}
        for name, one in chosen.items():
            if type(one) is not Levels or one.per != "tensor" or one.bits != chosen["gates_x"].bits:
                raise BadInput(
                    f"levels of {name} of an LSTM",
                    repr(one),
                    "evenly spaced levels with a zero, one scale per tensor, of equal bits",
                    "use the constraint levels with the same bits for all matrices",
                )
        weights = {}
        for name, layer in layers.items():
            weight = layer.weight.detach()
            weights[name] = structures[name].project(weight) if name in structures else weight
        bits = chosen["gates_x"].bits
        gates = torch.cat([weights[name].flatten() for name in ("gates_x", "gates_y")])
        self.weights = {"gates_x": _fitted(gates, bits)}
        self.weights["gates_y"] = self.weights["gates_x"]
        if "project" in weights:
            self.weights["project"] = _fitted(weights["project"], bits)
        more = {} if mismatch is None else {"mismatch": mismatch}
        for name, layer in layers.items():
            quantizer = FixedPointQuantizer(
                layer.weight.detach(),
                chosen[name],
                structures.get(name),
                self.weights[name],
                **more,
            )
            parametrize.register_parametrization(layer, "weight", quantizer)

    def fit(self, module: LSTMModule, reach: Mapping[str, float]) -> None:
        """Choose the formats for largest magnitudes of ``x``, ``gates``, ``state`` and ``y``."""
        if not all(math.isfinite(value) for value in reach.values()):
            raise BadInput(
                "calibration of an LSTM",
                f"magnitudes up to {max(reach.values())}",
                "finite numbers",
                "check the samples, or train again",
            )
        bits = self.bits
        reach = dict(reach)
        if module.peephole is not None:
            reach["peephole"] = float(module.peephole.detach().abs().max())
        _check_reach("calibration of an LSTM", bits, max(reach.values()) * STATE_HEADROOM)
        unit = FixedPointFormat(bits, True, bits - 2)
        x = format_of(bits, max(reach["x"], reach["y"]))
        weight, project = self.weights["gates_x"], self.weights.get("project")
        if project is not None:
            x = _at_most(x, project.frac_bits + unit.frac_bits)
        state = format_of(bits, reach["state"] * STATE_HEADROOM)
        gates = format_of(bits, min(reach["gates"], GATE_REACH))
        gates = _at_most(gates, x.frac_bits + weight.frac_bits)
        peephole = None
        if module.peephole is not None:
            peephole = format_of(bits, reach["peephole"])
            gates = _at_most(gates, peephole.frac_bits + state.frac_bits)
        self.formats = LSTMFormats(x, gates, state, unit, weight, project, peephole)
        self.tables = {
            "sigmoid": piecewise("sigmoid", gates, unit),
            "g": piecewise(self.g_name, gates, unit),
            "tanh": piecewise("tanh", state, unit),
        }
        like = module.gates_x.weight
        for name, spec in self.tables.items():
            real = torch.from_numpy(spec.table() * step_of(unit)).to(like.device)
            self.register_buffer(f"{name}_table", real.to(like.dtype), persistent=False)

    def bias_step(self) -> float:
        """The real number of one step of the gates' accumulators and biases."""
        return step_of(self.formats.x) * step_of(self.formats.weight)

    def constants(
        self, bias: Tensor, peephole: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Bias and peepholes on their grids."""
        step = self.bias_step()
        rounded = torch.floor(bias.detach() / step + 0.5) * step
        if peephole is not None:
            peephole = _Grid.apply(peephole, self.formats.peephole)
        return bias + (rounded - bias.detach()), split_peephole(peephole)

    @staticmethod
    def product(layer: nn.Module) -> Callable[[Tensor], Tensor]:
        """The product with the expanded matrix: a transform would round, which the codes do not."""
        weight = layer.expanded() if isinstance(layer, STRUCTURED) else layer.weight
        return lambda x: x @ weight.T

    def entering(self, x: Tensor) -> Tensor:
        return _Grid.apply(x, self.formats.x)

    def gates(self, a: Tensor) -> Tensor:
        return _Grid.apply(a, self.formats.gates)

    def peeped(self, a: Tensor, c: Tensor, peephole: Tensor) -> Tensor:
        return _Grid.apply(torch.addcmul(a, c, peephole), self.formats.gates)

    def state(self, c: Tensor) -> Tensor:
        return _Grid.apply(c, self.formats.state)

    def hidden(self, h: Tensor) -> Tensor:
        whole = self.formats.project is None
        return _Grid.apply(h, self.formats.x if whole else self.formats.unit)

    def leaving(self, y: Tensor) -> Tensor:
        return _Grid.apply(y, self.formats.x)

    def sigmoid(self, a: Tensor) -> Tensor:
        return _LookUp.apply(a, self.sigmoid_table, self.tables["sigmoid"])

    def g(self, a: Tensor) -> Tensor:
        return _LookUp.apply(a, self.g_table, self.tables["g"])

    def tanh(self, c: Tensor) -> Tensor:
        return _LookUp.apply(c, self.tanh_table, self.tables["tanh"])


def _fitted(weights: Tensor, bits: int) -> FixedPointFormat:
    """The format, of eight down from the one that holds all, of the least squared error."""
    weights = weights.double().flatten()
    if not torch.isfinite(weights).all():
        raise BadInput("weights of an LSTM", "NaN or infinity", "finite weights", "train again")
    reach = float(weights.abs().max())
    _check_reach("weights of an LSTM", bits, reach)
    top = (1 << (bits - 1)) - 1
    whole = bits - 1 if reach == 0 else min(32, math.floor(math.log2(top / reach)))
    tried = [FixedPointFormat(bits, True, frac) for frac in range(whole, min(32, whole + 7) + 1)]

    def error(format: FixedPointFormat) -> float:
        codes = torch.floor(weights / step_of(format) + 0.5).clamp(-top, top)
        return float((codes * step_of(format) - weights).square().sum())

    return min(tried, key=error)


def _check_reach(thing: str, bits: int, reach: float) -> None:
    """Raise BadInput if no format of so many bits has a step that is coarse enough."""
    most = ((1 << (bits - 1)) - 1) * 2.0**MAX_BITS
    if not reach <= most:
        raise BadInput(
            thing,
            f"magnitudes up to {reach:.3g}",
            f"at most {most:.3g} with {bits} bits",
            "scale the samples down, or train again",
        )


def _at_most(format: FixedPointFormat, frac_bits: int) -> FixedPointFormat:
    return FixedPointFormat(format.bits, True, min(format.frac_bits, frac_bits))
