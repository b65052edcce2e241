"""Layers whose weight consists of circulant blocks; the expanded matrix is never formed.

A block is given by its first column w, ``C[i, j] = w[(i - j) mod k]``, so ``C x`` is the circular
convolution of w and x: in the Fourier domain, a product per bin. Each input block is transformed
once, all products of a bin are one matrix product over the blocks, and each output block is
transformed back once. Source: the block-circulant engine of C-LSTM, arXiv 1803.06305.

Spectra of real numbers are kept **packed**, k real numbers a block: the real bins (0, and k/2 for
an even k), then the real and then the imaginary parts of the complex bins. Blocks of at most
``MATRIX_TRANSFORM`` are transformed by one product with the orthonormal matrix of that transform,
which is faster there than ``torch.fft`` on small batches of a CPU; larger ones by ``torch.fft``.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.compress.constraints.circulant import defining_vectors, expand_vectors
from model.compress.execution import full_precision
from model.ir.errors import BadInput

MATRIX_TRANSFORM = 64


def real_bins(k: int) -> int:
    """Bins of a k-point transform of real numbers whose value is real."""
    return 1 if k % 2 else min(k, 2)


@lru_cache(maxsize=32)
def _basis(k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Orthonormal [k, k]: rows are packed bins, columns are samples."""
    sample = torch.arange(k, dtype=torch.float64)
    angles = [2 * math.pi * bin * sample / k for bin in range(1, (k - 1) // 2 + 1)]
    rows = [torch.full((k,), 1 / math.sqrt(k), dtype=torch.float64)]
    if real_bins(k) == 2:
        rows.append(torch.cos(math.pi * sample) / math.sqrt(k))
    rows += [torch.cos(angle) * math.sqrt(2 / k) for angle in angles]
    rows += [-torch.sin(angle) * math.sqrt(2 / k) for angle in angles]
    return torch.stack(rows).to(device, dtype)


def _weights_of_bins(k: int, like: Tensor) -> Tensor:
    """Factors [k] by which packed orthonormal bins become those of the plain transform."""
    factors = torch.full((k,), math.sqrt(k / 2), dtype=like.dtype, device=like.device)
    factors[: real_bins(k)] = math.sqrt(k)
    return factors


def analyse(blocks: Tensor) -> Tensor:
    """Packed orthonormal spectra [k, n] of blocks [n, k]."""
    k = blocks.shape[1]
    if k <= MATRIX_TRANSFORM:
        return _basis(k, blocks.dtype, blocks.device) @ blocks.T
    bins = torch.fft.rfft(blocks).T
    real = real_bins(k)
    inner = bins[1 : (k - 1) // 2 + 1]
    ends = bins.real[:1] if real == 1 else bins.real[[0, k // 2]]
    return torch.cat([ends, inner.real, inner.imag]) / _weights_of_bins(k, blocks)[:, None]


def synthesise(spectra: Tensor) -> Tensor:
    """Blocks [n, k] of packed orthonormal spectra [k, n]: the inverse of :func:`analyse`."""
    k = len(spectra)
    if k <= MATRIX_TRANSFORM:
        return spectra.T @ _basis(k, spectra.dtype, spectra.device)
    scaled = spectra * _weights_of_bins(k, spectra)[:, None]
    real, half = real_bins(k), (k - 1) // 2
    zero = torch.zeros_like(scaled[:1])
    inner = torch.complex(scaled[real : real + half], scaled[real + half :])
    ends = [torch.complex(part, zero) for part in scaled[:real].split(1)]
    return torch.fft.irfft(torch.cat([ends[0], inner, *ends[1:]]).T, n=k)


def spectra_of_weights(weight: Tensor) -> Tensor:
    """Packed spectra [k, ...] of defining vectors [..., k], as factors of orthonormal spectra."""
    k = weight.shape[-1]
    packed = analyse(weight.reshape(-1, k)) * _weights_of_bins(k, weight)[:, None]
    return packed.reshape(k, *weight.shape[:-1])


def complex_as_real(real: Tensor, imaginary: Tensor, out: int, into: int) -> Tensor:
    """Complex matrices as real ones of doubled axes ``out`` and ``into``: (re, im) to (re, im)."""
    top = torch.cat([real, -imaginary], into)
    return torch.cat([top, torch.cat([imaginary, real], into)], out)


def blocks_of(size: int, k: int) -> int:
    """Blocks of k that hold ``size`` numbers."""
    return -(-size // k)


def _check(k: int) -> None:
    if type(k) is not int or k < 1:
        raise BadInput("k of a circulant layer", repr(k), "an integer of at least 1", "correct it")


class CirculantLinear(nn.Module):
    """Linear layer of circulant blocks; features are padded to whole blocks inside.

    Parameters
    ----------
    in_features, out_features : int
        As of ``nn.Linear``.
    k : int
        Size of a block.
    bias : bool
        Whether there is a bias [out_features].

    ``weight`` is [p, q, k]: the first column of each block, p = ceil(out_features / k),
    q = ceil(in_features / k).
    """

    def __init__(self, in_features: int, out_features: int, k: int, bias: bool = True) -> None:
        super().__init__()
        _check(k)
        self.in_features, self.out_features, self.k = in_features, out_features, k
        shape = blocks_of(out_features, k), blocks_of(in_features, k), k
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As ``nn.Linear`` does: uniform within 1/sqrt(in_features)."""
        _reset(self, self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Samples [..., in_features] to [..., out_features]."""
        lead = x.shape[:-1]
        with full_precision(x) as x:
            y = self.product()(x.reshape(-1, self.in_features))
        return (y if self.bias is None else y + self.bias).reshape(*lead, self.out_features)

    def product(self) -> Callable[[Tensor], Tensor]:
        """Samples [n, in_features] to [n, out_features] without the bias.

        The weight's spectra are computed once, here: for a loop that applies the layer many times.
        """
        k, weight = self.k, self.weight
        p, q = weight.shape[:2]
        real, half = real_bins(k), (k - 1) // 2
        factors = spectra_of_weights(weight)
        reals = factors[:real].transpose(1, 2)
        pairs = None
        if half:
            both = factors[real : real + half], factors[real + half :]
            pairs = complex_as_real(*both, 1, 2).transpose(1, 2)

        def apply(x: Tensor) -> Tensor:
            frames = len(x)
            if q * k > self.in_features:
                x = functional.pad(x, (0, q * k - self.in_features))
            inputs = analyse(x.reshape(-1, k)).reshape(k, frames, q)
            parts = [torch.bmm(inputs[:real], reals)]
            if pairs is not None:
                both = torch.cat([inputs[real : real + half], inputs[real + half :]], 2)
                products = torch.bmm(both, pairs)
                parts += [products[..., :p], products[..., p:]]
            y = synthesise(torch.cat(parts).reshape(k, frames * p)).reshape(frames, p * k)
            return y[:, : self.out_features]

        return apply

    def expanded(self) -> Tensor:
        """The weight as a matrix [out_features, in_features]."""
        return expand_vectors(
            self.weight, self.weight.new_empty(self.out_features, self.in_features)
        )

    @classmethod
    def of(cls, layer: nn.Linear, k: int) -> "CirculantLinear":
        """The layer whose blocks are nearest to those of a plain one."""
        new = cls(layer.in_features, layer.out_features, k, layer.bias is not None)
        return _filled(new, layer)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, k={self.k}, bias={self.bias is not None}"


class CirculantConv2d(nn.Module):
    """Convolution whose weights are circulant blocks over the channels of each kernel position.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding :
        As of ``nn.Conv2d`` (zero padding, no groups, no dilation).
    k : int
        Size of a block; channels are padded to whole blocks inside.
    bias : bool
        Whether there is a bias [out_channels].

    ``weight`` is [p, kernel rows * kernel columns * ceil(in_channels / k), k]; its second axis is
    (kernel row, kernel column, channel block).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        k: int,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        _check(k)
        self.in_channels, self.out_channels, self.k = in_channels, out_channels, k
        self.kernel_size = _pair(kernel_size)
        self.stride, self.padding = _pair(stride), _pair(padding)
        self.groups, self.dilation = 1, (1, 1)
        positions = self.kernel_size[0] * self.kernel_size[1]
        shape = blocks_of(out_channels, k), positions * blocks_of(in_channels, k), k
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As ``nn.Conv2d`` does: uniform within 1/sqrt(inputs of one output)."""
        _reset(self, self.in_channels * self.kernel_size[0] * self.kernel_size[1])

    def forward(self, x: Tensor) -> Tensor:
        """Frames [frames, in_channels, rows, columns], as ``nn.Conv2d``."""
        with full_precision(x) as x:
            return self._convolved(x)

    def _convolved(self, x: Tensor) -> Tensor:
        k, p, q = self.k, len(self.weight), blocks_of(self.in_channels, self.k)
        if q * k > self.in_channels:
            x = functional.pad(x, (0, 0, 0, 0, 0, q * k - self.in_channels))
        frames, _, rows, columns = x.shape
        real, half = real_bins(k), (k - 1) // 2
        if k <= MATRIX_TRANSFORM:
            basis = _basis(k, x.dtype, x.device)
            spectra = torch.matmul(basis, x.reshape(frames * q, k, rows * columns))
        else:
            blocks = x.reshape(frames * q, k, rows * columns).transpose(1, 2).reshape(-1, k)
            spectra = analyse(blocks).reshape(k, frames * q, -1).transpose(0, 1)
        spectra = spectra.reshape(frames, q, k, rows, columns).transpose(1, 2)
        # [k, p, kernel rows, kernel columns, q] -> [k, p, q, kernel rows, kernel columns]
        factors = spectra_of_weights(self.weight).reshape(k, p, *self.kernel_size, q)
        factors = factors.permute(0, 1, 4, 2, 3)
        ends = self._grouped(spectra[:, :real], factors[:real])
        parts = [ends]
        if half:
            both = torch.cat([spectra[:, real : real + half], spectra[:, real + half :]], 2)
            kernels = complex_as_real(factors[real : real + half], factors[real + half :], 1, 2)
            products = self._grouped(both, kernels)
            parts += [products[:, :, :p], products[:, :, p:]]
        y = torch.cat(parts, 1)  # [frames, k, p, rows, columns]
        size = y.shape[-2:]
        if k <= MATRIX_TRANSFORM:
            y = torch.matmul(basis.T, y.reshape(frames, k, -1))
            y = y.reshape(frames, k, p, *size).transpose(1, 2)
        else:
            y = synthesise(y.transpose(0, 1).reshape(k, -1)).reshape(frames, p, *size, k)
            y = y.permute(0, 1, 4, 2, 3)
        y = y.reshape(frames, p * k, *size)[:, : self.out_channels]
        return y if self.bias is None else y + self.bias[:, None, None]

    def _grouped(self, x: Tensor, kernels: Tensor) -> Tensor:
        """Bins [frames, bins, q, ...] by kernels [bins, p, q, ...]: [frames, bins, p, ...]."""
        y = functional.conv2d(
            x.flatten(1, 2),
            kernels.flatten(0, 1),
            stride=self.stride,
            padding=self.padding,
            groups=len(kernels),
        )
        return y.unflatten(1, (len(kernels), -1))

    def expanded(self) -> Tensor:
        """The weight as of ``nn.Conv2d``, [out_channels, in_channels, rows, columns]."""
        shape = self.out_channels, self.in_channels, *self.kernel_size
        return expand_vectors(self.weight, self.weight.new_empty(shape))

    @classmethod
    def of(cls, layer: nn.Conv2d, k: int) -> "CirculantConv2d":
        """The layer whose blocks are nearest to those of a plain one.

        Raises BadInput for groups, dilation and other than numeric zero padding.
        """
        if layer.groups != 1 or layer.dilation != (1, 1) or isinstance(layer.padding, str):
            raise BadInput(
                "convolution with circulant blocks",
                f"groups {layer.groups}, dilation {layer.dilation}, padding {layer.padding!r}",
                "1 group, no dilation and padding in numbers",
                "leave this layer unconstrained",
            )
        new = cls(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            k,
            layer.stride,
            layer.padding,
            layer.bias is not None,
        )
        return _filled(new, layer)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, k={self.k}, "
            f"stride={self.stride}, padding={self.padding}, bias={self.bias is not None}"
        )


def _filled(new: nn.Module, layer: nn.Module) -> nn.Module:
    """``new`` with the weight nearest to a plain layer's, and the rest of its state."""
    new = new.to(layer.weight.device, layer.weight.dtype).train(layer.training)
    with torch.no_grad():
        new.weight.copy_(defining_vectors(layer.weight, new.k))
        if layer.bias is not None:
            new.bias.copy_(layer.bias)
    return new


def _reset(layer: nn.Module, inputs: int) -> None:
    bound = 1 / math.sqrt(inputs)
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.uniform_(layer.bias, -bound, bound)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
