"""Windows of frames: the patches that convolution and pooling look at."""

import torch
from torch.nn import functional

from model.ir.window import Windowed


def windows(spec: Windowed, x: torch.Tensor) -> torch.Tensor:
    """The windows of each output position of frames [frames, rows, columns, channels].

    A view [frames, out rows, out columns, kernel rows, kernel columns, channels] where nothing is
    padded; padding is 0.
    """
    if spec.padding:
        x = functional.pad(x, (0, 0, *[spec.padding] * 4))
    cut = x.unfold(1, spec.kernel_rows, spec.stride).unfold(2, spec.kernel_columns, spec.stride)
    return cut.permute(0, 1, 2, 4, 5, 3)
