"""The convolution: a matrix-vector product at each position, then requantization."""

from dataclasses import dataclass

from model.ir.arithmetic import Arithmetic, ExactArithmetic
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.matrix import MatrixSpec
from model.ir.numerics import Format
from model.ir.requantize import RequantizeSpec
from model.ir.spec import check_int
from model.ir.storage import DenseStorage, Storage
from model.ir.window import Windowed


@dataclass(frozen=True)
class ConvSpec(Windowed, MatrixSpec, kind="conv"):
    """``y[r, c] = requantize(W x[window of (r, c)])``, a cross-correlation as in PyTorch.

    Parameters
    ----------
    rows, columns, channels : int
        The frame that enters.
    out_channels : int
        Rows of the weight matrix.
    kernel_rows, kernel_columns, stride, padding : int
        The windows; padding is code 0 on all four sides.
    groups : int
        1, or ``channels``: then output channel ``o`` reads input channel ``o // (out_channels /
        channels)`` alone (depthwise).
    in_format, weight_format, requantize, arithmetic, storage :
        As in a fully connected layer. The matrix is [out_channels, kernel_rows × kernel_columns ×
        (channels / groups)], its columns in the order (kernel row, kernel column, channel), channel
        fastest. Circulant blocks stay within one kernel position.
    """

    rows: int
    columns: int
    channels: int
    out_channels: int
    kernel_rows: int
    kernel_columns: int
    stride: int
    padding: int
    groups: int
    in_format: Format
    weight_format: Format
    requantize: RequantizeSpec
    arithmetic: Arithmetic = ExactArithmetic()
    storage: Storage = DenseStorage()

    def __post_init__(self) -> None:
        self.check_window(self.in_format)
        check_int("out_channels", self.out_channels, 1)
        if self.groups not in (1, self.channels):
            raise ValueError(
                f"groups must be 1 or the {self.channels} channels (depthwise), not {self.groups}"
            )
        if self.out_channels % self.groups:
            raise ValueError(
                f"out_channels must be a multiple of the {self.groups} groups, "
                f"not {self.out_channels}"
            )
        self.storage.check_size(self.matrix_rows, self.matrix_columns)
        if isinstance(self.storage, BlockCirculantStorage) and self.storage.positions != self.area:
            raise ValueError(
                f"storage.positions must be the {self.area} of the kernel, "
                f"not {self.storage.positions}"
            )
        self.arithmetic.check_layer(self)

    @property
    def matrix_rows(self) -> int:
        return self.out_channels

    @property
    def matrix_columns(self) -> int:
        return self.area * (self.channels // self.groups)

    @property
    def vectors(self) -> int:
        return self.positions

    def out_shape(self, *in_shapes: tuple[int, ...]) -> tuple[int, ...]:
        self.check_frame(*in_shapes)
        return (self.out_rows, self.out_columns, self.out_channels)
