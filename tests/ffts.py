"""Ready-made layers of fft arithmetic."""

from typing import Any

import numpy as np

from model.ir.block_circulant import BlockCirculantStorage
from model.ir.conv import ConvSpec
from model.ir.fft_arithmetic import FFTArithmetic
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import IntRange, UniformFormat
from model.ir.requantize import RequantizeSpec
from tests.examples import codes_of, scale_of

U8, S8 = UniformFormat(8, False), UniformFormat(8, True)
RULE = RequantizeSpec(UniformFormat(8, False), 14, "channel", 8, 24)


def fft_of(k: int = 8, **changes: Any) -> FFTArithmetic:
    """Arithmetic of k points, for activations and weights of 8 bits."""
    levels = k.bit_length() - 1
    fields: dict[str, Any] = {"up": 4, "shifts": (0,) * levels, "spectrum_exponent": 5}
    fields |= {"acc_shift": 9, "inverse_shifts": (1,) * levels}
    return FFTArithmetic(**fields | changes)


def fft_linear(k: int = 8, **changes: Any) -> LinearSpec:
    """A layer of 5 blocks by 3, the last ones cut off."""
    fields: dict[str, Any] = {"in_features": 5 * k - 1, "out_features": 3 * k - 1}
    fields |= {"in_format": U8, "weight_format": S8, "requantize": RULE}
    fields |= {"arithmetic": fft_of(k), "storage": BlockCirculantStorage(k)}
    return LinearSpec(**fields | changes)


def fft_conv(k: int = 4, **changes: Any) -> ConvSpec:
    """A 3 x 2 convolution of a 5 x 4 frame, k + 1 to 2k - 1 channels."""
    fields: dict[str, Any] = {
        **{"rows": 5, "columns": 4, "channels": k + 1, "out_channels": 2 * k - 1},
        **{"kernel_rows": 3, "kernel_columns": 2, "stride": 1, "padding": 1, "groups": 1},
        **{"in_format": U8, "weight_format": S8, "requantize": RULE},
        **{"arithmetic": fft_of(k), "storage": BlockCirculantStorage(k, 6)},
    }
    return ConvSpec(**fields | changes)


def network_of(spec: LinearSpec | ConvSpec, seed: int) -> Network:
    """The layer alone, with weights that are often at the ends of their format."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in spec.tensor_shapes().items():
        span = spec.weight_format.codes if name == "weight" else IntRange(1, 100)
        tensors[name] = codes_of(span, rng, *shape)
    if isinstance(spec, ConvSpec):
        shape: tuple[int, ...] = (spec.rows, spec.columns, spec.channels)
    else:
        shape = (spec.in_features,)
    entry = InputSpec("x", shape, spec.in_format, scale_of(spec.in_format))
    return Network("net", entry, (Node("layer", spec, ("x",), 1.0, tensors),))


def frames_of(network: Network, seed: int, count: int) -> np.ndarray:
    """Random frames that are often at the ends of their format."""
    rng = np.random.default_rng(seed)
    return codes_of(network.input.format.codes, rng, count, *network.input.shape)
