"""Fake quantization: modules that compute in float what the hardware computes in codes.

A quantizer holds its scale as a learned logarithm, so that a step of the optimizer changes it by a
proportion. The gradient is that of LSQ: straight through the rounding, for the values and for the
scale alike, damped by 1/sqrt(elements * top). Source: S. K. Esser et al., Learned Step Size
Quantization, ICLR 2020.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model.compress.constraints import Binary, Constraint, Levels, LevelSet, mask_of
from model.compress.execution import lengthened
from model.compress.mismatch import MismatchOptions, drawn_weights
from model.ir.errors import BadInput
from model.ir.numerics import IntRange, UniformFormat
from model.ir.pim_options import PIMOptions
from model.options import Options

GRID = 64
FITTED = 1 << 20
Nearest = Callable[[Tensor], Tensor]


class FFTOptions(Options):
    """Words of the circulant layers under fft arithmetic; their shifts follow.

    Parameters
    ----------
    word_bits, spectrum_bits : int
        Most bits of a word of the activations' spectra and of the weights'.
    twiddle_bits : int
        Bits of a twiddle factor.
    guard_bits : int
        How many bits finer than a step of the output codes an accumulator is.
    """

    word_bits: int = Field(default=16, ge=8, le=24)
    spectrum_bits: int = Field(default=16, ge=4, le=18)
    twiddle_bits: int = Field(default=16, ge=6, le=24)
    guard_bits: int = Field(default=4, ge=0, le=12)


class FormatOptions(Options):
    """Bits of every kind of code.

    Parameters
    ----------
    input_bits, activation_bits : int
        Bits of the network's input and of the activations between layers, 1 to 16.
    weight_bits : int
        Bits of a weight, 1 to 16: evenly spaced levels with zero, or -1 and 1 for a single bit. A
        layer whose own constraint names levels has those instead.
    weights_per : str
        ``"tensor"``: one scale for the weights of a layer; ``"channel"``: one a row.
    multiplier_bits : int
        Bits of the requantization's multiplier, 2 to 16.
    arithmetic : str
        ``"exact"``; ``"fft"``: what the circulant layers compute with; or ``"pim"``: all layers
        with a weight matrix on macros.
    fft : FFTOptions
        Words of fft arithmetic.
    pim : PIMOptions
        Macros of pim arithmetic, their cells and their converters.
    state_steps : int
        Steps in which no input may bring the state of an LSTM to the end of its format, or export
        refuses it; 0: it may saturate.
    """

    input_bits: int = Field(default=8, ge=1, le=16)
    weight_bits: int = Field(default=8, ge=1, le=16)
    activation_bits: int = Field(default=8, ge=1, le=16)
    weights_per: Literal["tensor", "channel"] = "tensor"
    multiplier_bits: int = Field(default=8, ge=2, le=16)
    arithmetic: Literal["exact", "fft", "pim"] = "exact"
    fft: FFTOptions = FFTOptions()
    pim: PIMOptions = PIMOptions()
    state_steps: int = Field(default=0, ge=0)

    def levels(self) -> LevelSet:
        """The levels of weights whose layer names none."""
        if self.weight_bits == 1:
            return Binary(self.weights_per)
        return Levels(self.weight_bits, self.weights_per)


class _Quantize(torch.autograd.Function):
    """``scale * nearest(clamp(x / scale))`` with the gradients of LSQ, in few passes over memory.

    d/dx is 1 within the range and 0 outside; d/dscale is (value - x / scale) within it and the
    value outside.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, low: float, high: float, nearest: Nearest
    ) -> Tensor:
        out = nearest((x / scale).clamp_(low, high)) * scale
        ctx.save_for_backward(x, scale, out)
        ctx.span = low, high
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, out = ctx.saved_tensors
        low, high = ctx.span
        inside = (x >= low * scale).logical_and_(x <= high * scale)
        passed = torch.where(inside, grad, 0.0)
        of_scale = None
        if ctx.needs_input_grad[1]:
            if scale.numel() == 1:
                total = torch.dot(grad.reshape(-1), out.reshape(-1))
                total = total - torch.dot(passed.reshape(-1), x.reshape(-1))
                of_scale = (total / scale.reshape(())).reshape(scale.shape)
            else:
                of_scale = (grad * out - passed * x).sum_to_size(scale.shape) / scale
        return passed, of_scale, None, None, None


def _round(x: Tensor) -> Tensor:
    """floor(x + 1/2), in place."""
    return x.add_(0.5).floor_()


def fake_quantize(x: Tensor, scale: Tensor, span: IntRange) -> Tensor:
    """``scale * clamp(floor(x / scale + 1/2))`` of any shape; ``scale`` broadcasts."""
    return _Quantize.apply(lengthened(x), scale, span.low, span.high, _round)


def fit_scale(x: Tensor, span: IntRange) -> float:
    """The scale, of a grid of 64 up to the full range, whose codes have the least squared error.

    Parameters
    ----------
    x : float tensor of any shape
        Samples of what is to be quantized.
    span : IntRange
        Range of the codes.

    Of more than ``FITTED`` samples the range of all counts, and the error of every n-th.
    """
    x = x.detach().flatten()
    full = _full_scale(float(x.min()), float(x.max()), span)
    # an odd step, so that it does not keep to some columns of a frame
    x = x[:: -(-len(x) // FITTED) | 1].double()
    if full <= 0:
        return 1.0
    best, least = full, math.inf
    for step in range(GRID, 0, -1):
        scale = full * step / GRID
        codes = torch.floor(x / scale + 0.5).clamp(span.low, span.high)
        error = float((codes * scale - x).square().sum())
        if error < least:
            best, least = scale, error
    return best


class ActivationQuantizer(nn.Module):
    """Fake quantization of activations on one scale.

    The scale is fitted to the first batch that passes, and learned from there on.

    Parameters
    ----------
    bits : int
        Bits of a code, 1 to 16 (2 to 16 if signed).
    signed : bool
        Whether codes are two's complement.
    scale : float, optional
        A fixed scale, which is then neither fitted nor learned (inputs).

    edge : str, optional
        What is quantized, for the error.

    ``valid``, a bool tensor [sequences, steps], may be set for the first batch: the scale is then
    fitted to these steps of it alone. Raises BadInput for signed codes of a single bit, which are
    -1 and 0: no positive value has one.
    """

    def __init__(
        self, bits: int, signed: bool, scale: float | None = None, edge: str = "an activation"
    ) -> None:
        super().__init__()
        if signed and bits < 2:
            raise BadInput(
                f"quantizer of {edge}",
                "a single bit for values of both signs",
                "at least 2 bits, or values that are never negative",
                "allow at least 2 bits, or put a ReLU before it",
            )
        self.format = UniformFormat(bits, signed)
        self.valid: Tensor | None = None
        log = torch.tensor(math.log(scale) if scale is not None else 0.0)
        self.fitted = scale is not None
        if scale is None:
            self.log_scale = nn.Parameter(log)
        else:
            self.register_buffer("log_scale", log)

    @property
    def scale(self) -> Tensor:
        """Real number that one code step stands for, float [1]."""
        return self.log_scale.exp().reshape(1)

    def forward(self, x: Tensor) -> Tensor:
        if not self.fitted:
            with torch.no_grad():
                seen = x if self.valid is None else x[self.valid.to(x.device)]
                self.log_scale.fill_(math.log(fit_scale(seen, self.format.codes)))
            self.fitted = True
        damp = 1 / math.sqrt(x[0].numel() * max(1, self.format.codes.high))
        return fake_quantize(x, _damped(self.scale, damp), self.format.codes)

    def extra_repr(self) -> str:
        return self.format.describe()


class WeightQuantizer(nn.Module):
    """Parametrization of a weight: the frozen structure, then levels with learned scales.

    Parameters
    ----------
    weight : float tensor [out, ...]
        The weight at the start, to which the scales are fitted.
    levels : LevelSet
        The levels, with one scale per tensor or per row.
    structure : Constraint, optional
        A frozen constraint (linear projection) that the weight keeps. What its mask excludes is
        absent: exactly 0 in ``forward``, whether or not the levels hold a zero, without any cell.
    mismatch : MismatchOptions, optional
        Drawn anew in each pass of training; evaluation is without, unless ``disturbed`` asks. The
        deviations are in steps of the scale, so its gradient knows them; the weight's is straight
        through.

    ``mask`` is the structure's mask (bool, of the weight's shape) or None.
    """

    mask: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        levels: LevelSet,
        structure: Constraint | None = None,
        mismatch: MismatchOptions | None = None,
    ) -> None:
        super().__init__()
        self.levels = levels
        self.structure = structure
        self.mismatch = mismatch if mismatch is not None and mismatch.any else None
        self.disturbed: MismatchOptions | None = None
        mask = None if structure is None else mask_of(structure, weight)
        whole = mask is None or bool(mask.all())
        self.register_buffer("mask", None if whole else mask.clone(), persistent=False)
        present = weight.numel() if self.mask is None else max(1, int(self.mask.sum()))
        with torch.no_grad():
            scale = levels.fit(self._structured(weight)).float()
        self.damp = 1 / math.sqrt(present / len(scale) * levels.top)
        self.log_scale = nn.Parameter(scale.log())

    @property
    def scale(self) -> Tensor:
        """Real numbers that one step of the values stands for, float [1] or [rows]."""
        return self.log_scale.exp()

    def _structured(self, weight: Tensor) -> Tensor:
        return weight if self.structure is None else self.structure.project(weight)

    def _spread(self, scale: Tensor, weight: Tensor) -> Tensor:
        """Scales that broadcast with a weight."""
        return scale.reshape(-1, *[1] * (weight.ndim - 1))

    def forward(self, weight: Tensor) -> Tensor:
        scale = self._spread(_damped(self.scale, self.damp), weight)
        top = self.levels.top
        held = _Quantize.apply(self._structured(weight), scale, -top, top, self.levels.nearest)
        if self.mask is not None:
            held = held * self.mask
        mismatch = self.mismatch if self.training else self.disturbed
        if mismatch is None:
            return held
        values = self.values(weight).to(weight.dtype)
        drawn = drawn_weights(values, self.levels, self.mask, mismatch)
        return held + (drawn - values) * scale

    @torch.no_grad()
    def values(self, weight: Tensor) -> Tensor:
        """The exact integer values, int64, of the underlying weight as ``forward`` uses them.

        Absent weights are 0.
        """
        top = self.levels.top
        ratio = self._structured(weight) / self._spread(self.scale, weight)
        values = self.levels.nearest(ratio.clamp(-top, top)).round().long()
        return values if self.mask is None else values * self.mask

    def codes(self, weight: Tensor) -> Tensor:
        """The codes of :meth:`values` in the levels' format, int64.

        An absent weight has the code of the smallest level: what does not store it needs none.
        """
        values = self.values(weight)
        if self.mask is not None:
            least = self.levels.magnitudes[0]
            values = torch.where(self.mask, values, torch.full_like(values, least))
        return self.levels.codes_of(values)


def _damped(scale: Tensor, factor: float) -> Tensor:
    """The same scale with its gradient multiplied by ``factor``."""
    return scale.detach() + (scale - scale.detach()) * factor


def input_format(samples: Tensor, bits: int) -> tuple[UniformFormat, float]:
    """Format and scale of the input: unsigned if no sample is negative, over the whole range.

    ``samples`` are real, of any shape. Raises BadInput if they are not finite or all zero.
    """
    low, high = float(samples.min()), float(samples.max())
    if not (math.isfinite(low) and math.isfinite(high)) or low == high == 0:
        raise BadInput(
            "calibration samples", f"values from {low} to {high}", "finite values", "check the data"
        )
    format = UniformFormat(bits, low < 0)
    return format, _full_scale(low, high, format.codes)


def _full_scale(low: float, high: float, span: IntRange) -> float:
    """The smallest scale on which the codes of ``span`` reach from ``low`` to ``high``."""
    up = high / span.high if span.high else 0.0
    return max(up, low / span.low if span.low else 0.0)
