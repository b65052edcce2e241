"""What a value of the torch graph is on its way to codes: raw, codes on an edge, or pending.

Every value knows its order: ``index`` has the shape of the torch tensor without the frames' axis
and holds, for each of its elements, the element's place in the flattened frame of the edge, which
is channels last. So permuting and flattening in torch move indices and never codes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.compress.quantizers import ActivationQuantizer
from model.export.factors import (
    OUTPUT_FORMAT,
    add_factors,
    common,
    factors_of,
    output_requantize,
    requantize,
)
from model.export.storage import Matrix
from model.ir.add import AddSpec
from model.ir.conv import ConvSpec
from model.ir.layer import LayerSpec
from model.ir.linear import LinearSpec
from model.ir.numerics import Format, UniformFormat
from model.ir.pool import AveragePoolSpec
from model.ir.requantize import RequantizeSpec
from model.ir.storage import Storage

ELEMENTS_AT_ONCE = 1 << 20

Tensors = dict[str, np.ndarray]


def channels_last(shape: tuple[int, ...]) -> np.ndarray:
    """The index of a torch tensor in the order of its edge."""
    return np.arange(int(np.prod(shape))).reshape(shape)


def channels_first(shape: tuple[int, ...]) -> np.ndarray:
    """The index of a torch tensor [channels, ...] of an edge [..., channels]."""
    return np.moveaxis(channels_last(shape), -1, 0)


def batches(codes: list[Tensor]) -> Iterator[list[Tensor]]:
    """Codes [frames, ...] of several edges in batches of about a million elements."""
    size = max(1, ELEMENTS_AT_ONCE // codes[0][0].numel())
    return map(list, zip(*(one.split(size) for one in codes), strict=True))


@dataclass(frozen=True)
class Raw:
    """The network's input before it has codes."""

    index: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Stream:
    """Codes on an edge of the network.

    Parameters
    ----------
    edge : str
        Name of the edge.
    index : int array
        Order of the torch tensor.
    format, scale :
        Of the codes.
    codes : int64 tensor [frames, *shape]
        What the calibration samples give here, channels last.
    quantizer : ActivationQuantizer, optional
        The module that format and scale are of, if training has settled on them.
    """

    edge: str
    index: np.ndarray = field(repr=False)
    format: Format
    scale: float
    codes: Tensor = field(repr=False)
    quantizer: ActivationQuantizer | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame on the edge, channels last."""
        return tuple(self.codes.shape[1:])


@dataclass(frozen=True)
class Pending(ABC):
    """A layer whose output has no codes yet, since their format and scale are still to come.

    Parameters
    ----------
    name : str
        Name of the layer.
    sources : tuple of Stream
        What it reads.
    index : int array
        Order of the torch tensor of its output.
    relu : bool
        Whether a ReLU follows.
    """

    name: str
    sources: tuple[Stream, ...]
    index: np.ndarray = field(repr=False)
    relu: bool = field(default=False, kw_only=True)

    @property
    def unsigned(self) -> bool:
        """Whether no output can be negative."""
        return self.relu

    def with_relu(self) -> Self:
        """The same layer followed by ReLU."""
        return replace(self, relu=True)

    def real(self) -> Tensor:
        """Outputs of the calibration samples, float64 [frames, *shape]."""
        parts = batches([x.codes for x in self.sources])
        y = torch.cat([self._real([x.double() for x in part]) for part in parts])
        return y.clamp_min_(0) if self.relu else y

    @abstractmethod
    def _real(self, codes: list[Tensor]) -> Tensor:
        """Outputs float64 [frames, *shape], before ReLU, of float64 codes on the edges read."""

    @abstractmethod
    def closed(
        self, format: UniformFormat, scale: float, multiplier_bits: int
    ) -> tuple[LayerSpec, Tensors]:
        """Specification and tensors of the layer with output codes of a format and scale."""

    def exact_scales(
        self, scales: tuple[float, ...], scale: float, multiplier_bits: int
    ) -> tuple[float, ...]:
        """Scales of the sources, next to ``scales``, at which the layer's multipliers are exact for
        outputs of ``scale``; by default ``scales``: the layer has other means."""
        return scales


@dataclass(frozen=True)
class Norm:
    """A batch normalization and the ``offset``, float64 [out], of the layer before it."""

    module: nn.Module
    offset: Tensor

    def ratio(self) -> Tensor:
        """Factor of each channel, float64 [out]."""
        ratio = (self.module.running_var.double() + self.module.eps).rsqrt()
        return ratio if self.module.weight is None else ratio * self.module.weight.double()

    def folded(self) -> Tensor:
        """The constant behind it, float64 [out]."""
        offset = (self.offset - self.module.running_mean.double()) * self.ratio()
        return offset if self.module.bias is None else offset + self.module.bias.double()


@dataclass(frozen=True)
class Affine(Pending):
    """A matrix layer: real y = gain * (W x) + offset.

    Parameters
    ----------
    matrix : Matrix
        Weight codes, columns in the order of the edge it reads.
    gain, offset : float64 tensors [out]
        Real number of one accumulator step, and of the constant, per channel.
    norm : Norm, optional
        The batch normalization that was folded into both.
    """

    matrix: Matrix
    gain: Tensor
    offset: Tensor
    norm: "Norm | None" = field(default=None, kw_only=True)

    def _real(self, codes: list[Tensor]) -> Tensor:
        return self._accumulate(codes[0]) * self.gain + self.offset

    @abstractmethod
    def _accumulate(self, x: Tensor) -> Tensor:
        """Accumulators float64 [frames, *shape], exact up to 2^53."""

    @abstractmethod
    def spec(self, requantize: RequantizeSpec, storage: Storage) -> LinearSpec | ConvSpec:
        """The specification with a requantization and a storage."""

    def common_gain(self) -> Tensor:
        """The gain, [1] if all channels share it."""
        return common(self.gain, torch.from_numpy(self.matrix.values()))

    def closed(
        self, format: UniformFormat, scale: float, multiplier_bits: int
    ) -> tuple[LayerSpec, Tensors]:
        rule, tensors = requantize(
            self.name, self.common_gain(), self.offset, format, scale, multiplier_bits
        )
        return self.with_requantize(rule, tensors)

    def with_requantize(
        self, requantize: RequantizeSpec, tensors: Tensors
    ) -> tuple[LinearSpec | ConvSpec, Tensors]:
        """Specification and tensors of the layer with those of a requantization."""
        storage, weight = self.matrix.packed()
        return self.spec(requantize, storage), {**weight, **tensors}


@dataclass(frozen=True)
class Linear(Affine):
    """A fully connected layer; ``module`` is its torch layer."""

    module: nn.Module | None = field(default=None, kw_only=True, repr=False)

    def scored(self, multiplier_bits: int) -> tuple[RequantizeSpec, float, Tensors]:
        """Requantization, scale and tensors if this is the last layer."""
        worst = self.sources[0].format.values * self.matrix.format.values
        return output_requantize(
            self.name,
            self.common_gain(),
            self.offset,
            worst.sum_of(self.matrix.codes.shape[1]),
            self.real(),
            multiplier_bits,
        )

    def _accumulate(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ torch.from_numpy(self.matrix.values()).double().T

    def spec(self, requantize: RequantizeSpec, storage: Storage) -> LinearSpec:
        rows, columns = self.matrix.codes.shape
        return LinearSpec(
            columns,
            rows,
            self.sources[0].format,
            self.matrix.format,
            requantize,
            storage=storage,
        )


@dataclass(frozen=True)
class Conv(Affine):
    """A convolution with one stride and one padding for both axes.

    Parameters
    ----------
    kernel : tuple of int
        Rows and columns of the kernel.
    stride, padding, groups : int
        As of torch; groups is 1, or the channels (depthwise).
    """

    kernel: tuple[int, int]
    stride: int
    padding: int
    groups: int

    def _accumulate(self, x: Tensor) -> Tensor:
        values = torch.from_numpy(self.matrix.values()).double()
        weight = values.unflatten(1, (*self.kernel, -1)).permute(0, 3, 1, 2)
        y = functional.conv2d(
            x.permute(0, 3, 1, 2),
            weight,
            stride=self.stride,
            padding=self.padding,
            groups=self.groups,
        )
        return y.permute(0, 2, 3, 1)

    def spec(self, requantize: RequantizeSpec, storage: Storage) -> ConvSpec:
        rows, columns, channels = self.sources[0].shape
        return ConvSpec(
            rows=rows,
            columns=columns,
            channels=channels,
            out_channels=len(self.matrix.codes),
            kernel_rows=self.kernel[0],
            kernel_columns=self.kernel[1],
            stride=self.stride,
            padding=self.padding,
            groups=self.groups,
            in_format=self.sources[0].format,
            weight_format=self.matrix.format,
            requantize=requantize,
            storage=storage,
        )


@dataclass(frozen=True)
class Average(Pending):
    """Average pooling over windows of ``kernel`` (rows, columns) at steps of ``stride``."""

    kernel: tuple[int, int]
    stride: int

    @property
    def unsigned(self) -> bool:
        return self.relu or _unsigned(self.sources)

    def _real(self, codes: list[Tensor]) -> Tensor:
        x = codes[0].permute(0, 3, 1, 2) * self.sources[0].scale
        return functional.avg_pool2d(x, self.kernel, self.stride).permute(0, 2, 3, 1)

    def closed(
        self, format: UniformFormat, scale: float, multiplier_bits: int
    ) -> tuple[LayerSpec, Tensors]:
        rows, columns, channels = self.sources[0].shape
        rule, tensors = self._rule(self.sources[0].scale, format, scale, multiplier_bits)
        spec = AveragePoolSpec(
            rows=rows,
            columns=columns,
            channels=channels,
            kernel_rows=self.kernel[0],
            kernel_columns=self.kernel[1],
            stride=self.stride,
            in_format=self.sources[0].format,
            requantize=rule,
        )
        return spec, tensors

    def exact_scales(
        self, scales: tuple[float, ...], scale: float, multiplier_bits: int
    ) -> tuple[float, ...]:
        rule, tensors = self._rule(scales[0], OUTPUT_FORMAT, scale, multiplier_bits)
        size = self.kernel[0] * self.kernel[1]
        return (factors_of(rule, tensors)[0] * scale * size,)

    def _rule(
        self, source: float, format: UniformFormat, scale: float, multiplier_bits: int
    ) -> tuple[RequantizeSpec, Tensors]:
        gain = torch.tensor([source / (self.kernel[0] * self.kernel[1])], dtype=torch.float64)
        offset = torch.zeros(self.sources[0].shape[2]).double()
        return requantize(self.name, gain, offset, format, scale, multiplier_bits)


@dataclass(frozen=True)
class Sum(Pending):
    """A residual add of two edges of one shape."""

    @property
    def unsigned(self) -> bool:
        return self.relu or _unsigned(self.sources)

    def _real(self, codes: list[Tensor]) -> Tensor:
        x, y = codes
        return x * self.sources[0].scale + y * self.sources[1].scale

    def closed(
        self, format: UniformFormat, scale: float, multiplier_bits: int
    ) -> tuple[LayerSpec, Tensors]:
        x, y = self.sources
        shift, (mx, my) = self._factors((x.scale, y.scale), scale, multiplier_bits)
        spec = AddSpec(x.shape, x.format, y.format, format, shift, multiplier_bits)
        return spec, {"mx": np.array([mx]), "my": np.array([my])}

    def exact_scales(
        self, scales: tuple[float, ...], scale: float, multiplier_bits: int
    ) -> tuple[float, ...]:
        shift, factors = self._factors(scales, scale, multiplier_bits)
        return tuple(float(m) * scale / 2**shift for m in factors)

    def _factors(
        self, scales: tuple[float, ...], scale: float, multiplier_bits: int
    ) -> tuple[int, np.ndarray]:
        factors = torch.tensor(scales, dtype=torch.float64) / scale
        return add_factors(self.name, factors, multiplier_bits)


def _unsigned(sources: tuple[Stream, ...]) -> bool:
    return all(source.format.values.low >= 0 for source in sources)


Value = Raw | Stream | Pending
