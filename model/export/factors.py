"""Real factors to requantization: multipliers, biases and shifts."""

import math

import numpy as np
import torch
from torch import Tensor

from model.compress.quantizers import fit_scale
from model.ir.errors import BadInput
from model.ir.numerics import IntRange, UniformFormat
from model.ir.requantize import BIAS_BITS_MAX, SHIFT_MAX, RequantizeSpec

OUTPUT_FORMAT = UniformFormat(16, True)
HEADROOM = 2.0
BIAS_BITS_STEP = 4
FIT_VALUES = 1 << 16
"""Values that a scale is fitted to, besides the smallest and the largest."""


def fitted_scale(values: Tensor, span: IntRange) -> float:
    """The scale of least squared error of values of any shape, by evenly spaced ones of them.

    The smallest and the largest are among those.
    """
    values = values.flatten()
    if len(values) > FIT_VALUES:
        ends = torch.stack([values.min(), values.max()])
        values = torch.cat([spread(values, FIT_VALUES), ends])
    return fit_scale(values, span)


def spread(samples: Tensor, count: int) -> Tensor:
    """At most ``count`` samples, evenly spaced along the first axis."""
    if len(samples) <= count:
        return samples
    return samples[torch.arange(count) * len(samples) // count]


def common(gain: Tensor, weight: Tensor) -> Tensor:
    """Gains [out] reduced to [1] if all channels share one; all-zero rows, whose gain is idle, get
    that of the others' or 0."""
    idle = (weight == 0).all(1)
    used = gain[~idle]
    if not len(used):
        return gain.new_zeros(1)
    if bool((used == used[0]).all()):
        return used[:1]
    return torch.where(idle, torch.zeros_like(gain), gain)


def requantize(
    name: str,
    gain: Tensor,
    offset: Tensor,
    format: UniformFormat,
    scale: float,
    multiplier_bits: int,
) -> tuple[RequantizeSpec, dict[str, np.ndarray]]:
    """Requantization of y = gain * acc + offset to codes of ``format`` on ``scale``.

    Parameters
    ----------
    name : str
        The layer, for messages.
    gain : float64 tensor [1] or [channels]
        Real number of one accumulator step.
    offset : float64 tensor [channels]
        Real constant.
    format, scale :
        Of the output codes.
    multiplier_bits : int
        Bits of m.

    The shift is the largest at which every m and every b fits, so each is as precise as can be; a
    factor that is a power of two, at most 1, needs no multiplier. Raises BadInput if no shift fits.
    """
    factor = (gain / scale).numpy()
    step = (offset / scale).numpy()
    exponent = _power_of_two(factor)
    if exponent is not None and _fits(step, exponent, BIAS_BITS_MAX):
        return _with_bias(format, exponent, "one", 0, step, {})
    for shift in range(SHIFT_MAX, -1, -1):
        if _fits(factor, shift, multiplier_bits) and _fits(step, shift, BIAS_BITS_MAX):
            per = "layer" if len(factor) == 1 else "channel"
            m = {"m": _rounded(factor, shift)}
            return _with_bias(format, shift, per, multiplier_bits, step, m)
    raise BadInput(
        name,
        f"factors up to {np.abs(factor).max():.3g} and offsets up to {np.abs(step).max():.3g}"
        " output steps",
        f"factors below {2 ** (multiplier_bits - 1)}",
        "allow more multiplier bits, or calibrate with samples of the real range",
    )


def factors_of(spec: RequantizeSpec, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """The factors float64 [1] or [channels] that a requantization multiplies by, exactly."""
    return tensors.get("m", np.ones(1)) / 2.0**spec.shift


def output_requantize(
    name: str,
    gain: Tensor,
    offset: Tensor,
    acc: IntRange,
    outputs: Tensor,
    multiplier_bits: int,
) -> tuple[RequantizeSpec, float, dict[str, np.ndarray]]:
    """Requantization, scale and tensors of the last layer: signed 16-bit codes on one scale.

    With one positive gain the accumulator plus bias is the code where it always fits (``acc`` is
    its range), or is shifted so that the ``outputs`` of the calibration [frames, channels] keep a
    headroom of 2. Otherwise m per channel brings the channels to one scale, with that headroom and
    no finer than m can express.
    """
    largest = max(float(outputs.abs().max()), float(offset.abs().max()), 1e-30) * HEADROOM
    span = OUTPUT_FORMAT.codes
    if len(gain) == 1 and float(gain) > 0:
        scale = float(gain)
        bias = _rounded((offset / scale).numpy(), 0)
        total = acc + IntRange(int(bias.min()), int(bias.max()))
        if total.low < span.low or total.high > span.high:
            scale *= 2.0 ** max(0, math.ceil(math.log2(largest / (scale * span.high))))
    else:
        m_max = 2 ** (multiplier_bits - 1) - 1
        scale = max(largest / span.high, float(gain.abs().max()) / m_max)
    spec, tensors = requantize(name, gain, offset, OUTPUT_FORMAT, scale, multiplier_bits)
    return spec, scale, tensors


def add_factors(name: str, factors: Tensor, multiplier_bits: int) -> tuple[int, np.ndarray]:
    """Shift, and mx and my as int64 [2], of z = factors[0] * x + factors[1] * y in output steps.

    The shift is the largest at which both fit ``multiplier_bits``. Raises BadInput if none does.
    """
    values = factors.numpy()
    for shift in range(SHIFT_MAX, -1, -1):
        if _fits(values, shift, multiplier_bits):
            return shift, _rounded(values, shift)
    raise BadInput(
        name,
        f"inputs whose step is up to {values.max():.3g} output steps",
        f"at most {2 ** (multiplier_bits - 1) - 1}",
        "allow more multiplier bits, or calibrate with samples of the real range",
    )


def bias_bits(bias: np.ndarray) -> int:
    """Bits for signed biases, rounded up to a multiple of 4."""
    need = IntRange(min(-1, int(bias.min())), max(0, int(bias.max()))).bits
    return min(BIAS_BITS_MAX, -(-need // BIAS_BITS_STEP) * BIAS_BITS_STEP)


def _with_bias(
    format: UniformFormat,
    shift: int,
    per: str,
    m_bits: int,
    step: np.ndarray,
    tensors: dict[str, np.ndarray],
) -> tuple[RequantizeSpec, dict[str, np.ndarray]]:
    b = _rounded(step, shift)
    spec = RequantizeSpec(format, shift, per, m_bits, bias_bits(b))
    return spec, {**tensors, "b": b}


def _rounded(values: np.ndarray, shift: int) -> np.ndarray:
    return np.floor(values * 2.0**shift + 0.5).astype(np.int64)


def _fits(values: np.ndarray, shift: int, bits: int) -> bool:
    return bool(np.abs(np.floor(values * 2.0**shift + 0.5)).max() <= 2 ** (bits - 1) - 1)


def _power_of_two(factor: np.ndarray) -> int | None:
    """The shift k of a single factor 2^-k, 0 <= k <= 47, else None."""
    mantissa, exponent = math.frexp(float(factor[0]))
    shift = 1 - exponent
    return shift if len(factor) == 1 and mantissa == 0.5 and 0 <= shift <= SHIFT_MAX else None
