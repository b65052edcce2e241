"""From exact circulant layers to layers of fft arithmetic: widths, shifts, requantization."""

from dataclasses import replace

import numpy as np

from model.compress.quantizers import FFTOptions
from model.export.factors import bias_bits
from model.ir.arithmetic import ExactArithmetic
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.errors import BadInput
from model.ir.fft_arithmetic import FFTArithmetic
from model.ir.lstm import LSTMSpec, part_of
from model.ir.matrix import MatrixSpec
from model.ir.network import Network, Node
from model.ir.real_fft import RealFFTSpec, check_size, signed_bits
from model.ir.requantize import rounding

Tensors = dict[str, np.ndarray]

EXPONENTS = range(16, -21, -1)


def with_fft(network: Network, options: FFTOptions | None = None) -> Network:
    """The network with fft arithmetic in every circulant layer, LSTMs included.

    Weights, formats and scales stay. The accumulators change their scale by a power of two, which
    shifts and biases of the requantizations follow.

    Parameters
    ----------
    network : Network
        With circulant layers of exact arithmetic.
    options : FFTOptions, optional
        Words; 16 bits otherwise.

    Where the widths allow it, k = 2 and 4 round nothing: their codes are those of exact arithmetic.
    Raises BadInput for blocks that have no transform, and layers that are smaller than a block.
    """
    options = options or FFTOptions()
    return replace(network, nodes=tuple(_converted(node, options) for node in network.nodes))


def _converted(node: Node, options: FFTOptions) -> Node:
    spec = node.spec
    if isinstance(spec, LSTMSpec):
        parts, tensors = {}, dict(node.tensors)
        for name, part in spec.parts().items():
            parts[name], own = _layer(
                f"{node.name}.{name}", part, part_of(node.tensors, name), options
            )
            tensors |= {f"{name}_{key}": tensor for key, tensor in own.items()}
        return replace(node, spec=replace(spec, **parts), tensors=tensors)
    if isinstance(spec, MatrixSpec):
        spec, tensors = _layer(node.name, spec, dict(node.tensors), options)
        return replace(node, spec=spec, tensors=tensors)
    return node


def _layer(
    name: str, spec: MatrixSpec, tensors: Tensors, options: FFTOptions
) -> tuple[MatrixSpec, Tensors]:
    """A layer's specification and tensors, changed if its weights are circulant."""
    exact = isinstance(spec.arithmetic, ExactArithmetic)
    if not isinstance(spec.storage, BlockCirculantStorage) or not exact:
        return spec, tensors
    try:
        check_size("k of the blocks under fft arithmetic", spec.storage.k)
        arithmetic = arithmetic_of(spec, tensors, options)
        exponent = arithmetic.exponent
        shift = spec.requantize.shift + exponent
        if shift < 0:
            raise ValueError(
                f"words of {options.word_bits} and {options.spectrum_bits} bits, which leave "
                f"accumulators of 2^{-shift} output steps"
            )
        b = _scaled(tensors["b"], exponent)
        bits = bias_bits(b) if exponent else spec.requantize.b_bits
        rule = replace(spec.requantize, shift=shift, b_bits=bits)
        return replace(spec, arithmetic=arithmetic, requantize=rule), tensors | {"b": b}
    except ValueError as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"{name}: fft arithmetic",
            str(error),
            "blocks that a transform fits, and words that hold it",
            "choose another block_circulant, more fft bits, or arithmetic = 'exact'",
        ) from error


def arithmetic_of(spec: MatrixSpec, tensors: Tensors, options: FFTOptions) -> FFTArithmetic:
    """Shifts of a circulant layer, by the worst case of its formats.

    - k = 2 and 4 round nothing where unshifted words and spectra fit their bits.
    - Else the activations are shifted left until their spectra fill ``word_bits``; if they are too
      wide for that, each stage shifts right by as much as its own words ask for.
    - The weights' spectra fill ``spectrum_bits``.
    - The inverse transform halves in each stage: the 1/k.
    - What is shifted out before the inverse leaves accumulators ``guard_bits`` finer than the
      smallest step of the output codes. Where the sums are coarser than that already, the first
      stages of the inverse do not halve.
    """
    k = spec.storage.k
    levels = k.bit_length() - 1
    halves, bits = (1,) * levels, options.twiddle_bits
    plain = FFTArithmetic(0, (0,) * levels, 0, 0, halves, bits)
    fits = plain.word_bits(spec) <= options.word_bits
    if k <= 4 and fits and plain.spectrum_bits(spec) <= options.spectrum_bits:
        return plain
    up, shifts = _words(plain.forward(spec), options.word_bits)
    exponent = _spectrum_exponent(plain, spec, options.spectrum_bits)
    largest = int(np.abs(tensors["m"]).max()) if "m" in tensors else 1
    step = spec.requantize.shift - max(0, largest - 1).bit_length()  # its log2, rounded down
    drop = up - sum(shifts) + exponent + step - options.guard_bits
    whole = min(levels, max(0, -drop))
    halves = (0,) * whole + (1,) * (levels - whole)
    return FFTArithmetic(up, shifts, exponent, max(0, drop), halves, bits)


def _words(plain: RealFFTSpec, bits: int) -> tuple[int, tuple[int, ...]]:
    """Left shift and the stages' right shifts of a forward transform into words of ``bits``."""
    for up in range(max(0, bits - signed_bits(plain.outputs)), -1, -1):
        if signed_bits(replace(plain, up=up).outputs) <= bits:
            return up, plain.shifts
    shifts = list(plain.shifts)
    for level in range(len(shifts)):
        while True:
            stage = replace(plain, shifts=tuple(shifts)).stages()[level]
            if signed_bits(stage.outputs) <= bits:
                break
            shifts[level] += 1
    return 0, tuple(shifts)


def _spectrum_exponent(plain: FFTArithmetic, spec: MatrixSpec, bits: int) -> int:
    """The largest exponent at which the weights' spectra fit ``bits``."""
    for exponent in EXPONENTS:
        if replace(plain, spectrum_exponent=exponent).spectrum_bits(spec) <= bits:
            return exponent
    raise ValueError(f"spectra of {spec.weight_format.describe()} weights do not fit {bits} bits")


def _scaled(b: np.ndarray, exponent: int) -> np.ndarray:
    """Biases times 2^exponent, to the nearest, a half rounding up."""
    if exponent >= 0:
        return b << exponent
    return (b + rounding(-exponent)) >> -exponent
