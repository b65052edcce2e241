"""Windows: the patches of an image that convolution and pooling look at."""

import numpy as np

from model.ir.beats import Beats
from model.ir.numerics import Format
from model.ir.spec import check_int


class Windowed:
    """What layers share whose kernel slides over a frame [rows, columns, channels].

    A subclass is a frozen dataclass with the fields below. The window of output position (r, c)
    begins at row ``r × stride - padding`` and column ``c × stride - padding``. Output positions are
    those whose window lies in the padded frame; a rest at the right and the bottom edge that is
    too small for another window is dropped, as in PyTorch.
    """

    rows: int
    columns: int
    channels: int
    kernel_rows: int
    kernel_columns: int
    stride: int
    padding: int

    @property
    def out_rows(self) -> int:
        """Output positions along the rows."""
        return (self.rows + 2 * self.padding - self.kernel_rows) // self.stride + 1

    @property
    def out_columns(self) -> int:
        """Output positions along the columns."""
        return (self.columns + 2 * self.padding - self.kernel_columns) // self.stride + 1

    @property
    def positions(self) -> int:
        """Output positions per frame."""
        return self.out_rows * self.out_columns

    @property
    def area(self) -> int:
        """Elements of a channel that a window covers."""
        return self.kernel_rows * self.kernel_columns

    def check_window(self, in_format: Format) -> None:
        """Raise unless the sizes make sense together.

        A stride beyond the kernel would leave out input between two windows. It is refused, except
        for the 1 × 1 kernel, with which a residual branch of a convolution net is subsampled.
        """
        names = ("rows", "columns", "channels", "kernel_rows", "kernel_columns", "stride")
        for name in names:
            check_int(name, getattr(self, name), 1)
        check_int("padding", self.padding, 0)
        for axis in ("rows", "columns"):
            size, kernel = getattr(self, axis), getattr(self, f"kernel_{axis}")
            padded = size + 2 * self.padding
            if kernel > padded:
                raise ValueError(f"kernel_{axis} must be at most the padded {padded}, not {kernel}")
            if self.padding >= kernel:
                raise ValueError(f"padding must be under kernel_{axis} = {kernel}, or see no input")
            if self.stride > kernel and self.area > 1 and padded - kernel >= self.stride:
                raise ValueError(
                    f"stride must be at most kernel_{axis} = {kernel}, not {self.stride}, "
                    "which skips input"
                )
        if self.padding and not in_format.has_zero:
            raise ValueError(f"padding needs a format with a zero, not {in_format.describe()}")

    def needs(
        self, ins: tuple[Beats, ...], lanes: int, together: int = 1
    ) -> tuple[np.ndarray, ...]:
        """A beat of an output position needs its window's last pixel, or that of a later position
        which is computed together with it."""
        (source,) = ins
        output = Beats(self.out_shape(source.shape), lanes)
        position = output.ends() // output.channels
        position = np.minimum(position // together * together + together, self.positions) - 1
        row, column = (
            np.minimum(start * self.stride + kernel - self.padding, size) - 1
            for start, kernel, size in zip(
                np.divmod(position, self.out_columns),
                (self.kernel_rows, self.kernel_columns),
                (self.rows, self.columns),
                strict=True,
            )
        )
        # At the padded lower edge a window can end in a row that the one before has seen whole.
        pixel = np.maximum.accumulate(row * self.columns + column)
        return (source.beat_of(pixel * self.channels + self.channels - 1),)

    def check_frame(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless a frame has the shape that this layer states."""
        if shape != (self.rows, self.columns, self.channels):
            raise ValueError(
                f"a frame of shape {(self.rows, self.columns, self.channels)}, not {shape}"
            )
