"""Golden function of the real FFT: every butterfly and every rounding, batched."""

import torch

from model.ir.real_fft import RealFFTSpec
from model.ir.requantize import rounding


def rounded(total: torch.Tensor, shift: int) -> torch.Tensor:
    """``(total + r) >> shift``: a half rounds up."""
    return (total + rounding(shift)) >> shift if shift else total


def transform(spec: RealFFTSpec, words: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """int64 words to int64 words, both with k along ``dim``: points in natural order, spectra
    packed."""
    return torch.stack(spec.transform(list(words.unbind(dim)), rounded), dim)
