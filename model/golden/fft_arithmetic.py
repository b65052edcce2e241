"""Golden functions of fft arithmetic: forward transforms, exact spectral sums, inverse ones."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from model.golden.matrix import accumulate, prepare
from model.golden.numerics import carry
from model.golden.real_fft import rounded, transform
from model.ir.fft_arithmetic import FFTArithmetic
from model.ir.matrix import MatrixSpec
from model.ir.numerics import IntRange
from model.ir.real_fft import RealFFTSpec, union


@dataclass(frozen=True)
class Spectra:
    """Weight spectra as factors of matrix products, one a bin, and the transforms.

    Parameters
    ----------
    forward, inverse : RealFFTSpec
        Of the activations and of the shifted sums.
    sums : IntRange
        Of the products' sums.
    real : [2, q, p]
        Of the bins 0 and k/2.
    complex : [k/2 - 1, 2q, 2p]
        Of the others: real and imaginary parts of q blocks to those of p.
    """

    forward: RealFFTSpec
    inverse: RealFFTSpec
    sums: IntRange
    real: torch.Tensor
    complex: torch.Tensor


@prepare.register
def _(arithmetic: FFTArithmetic, spec: MatrixSpec, tensors: dict[str, np.ndarray]) -> Spectra:
    found = torch.from_numpy(arithmetic.spectra(spec, tensors["weight"])).permute(2, 1, 0)
    re, im = found[2::2], found[3::2]
    both = torch.cat([torch.cat([re, im], 2), torch.cat([-im, re], 2)], 1)
    span = union(arithmetic.sums(spec))
    parts = [carry(part, span).contiguous() for part in (found[:2], both)]
    return Spectra(arithmetic.forward(spec), arithmetic.inverse(spec), span, *parts)


@accumulate.register
def _(
    arithmetic: FFTArithmetic, spec: MatrixSpec, x: torch.Tensor, weights: Spectra
) -> torch.Tensor:
    shape = x.shape[:-1]
    words = transform(weights.forward, _blocks(spec, x.reshape(-1, x.shape[-1])), 0)
    words = carry(words, weights.sums)  # [k, vectors, q]
    ends = words[:2] @ weights.real
    p = ends.shape[-1]
    inner = torch.cat([words[2::2], words[3::2]], 2) @ weights.complex
    inner = inner.unflatten(2, (2, p)).permute(0, 2, 1, 3).flatten(0, 1)  # re, im of each bin
    sums = rounded(torch.cat([ends, inner]).long(), arithmetic.acc_shift)
    points = transform(weights.inverse, sums, 0)  # [k, vectors, p]
    acc = points.permute(1, 2, 0).flatten(1)[:, : spec.matrix_rows]
    return acc.reshape(*shape, spec.matrix_rows)


def _blocks(spec: MatrixSpec, x: torch.Tensor) -> torch.Tensor:
    """Vectors [vectors, columns] as int64 [k, vectors, q], each position padded with 0."""
    k = spec.storage.k
    x = x.long().unflatten(1, (spec.storage.positions, -1))
    x = functional.pad(x, (0, -x.shape[2] % k))
    return x.reshape(len(x), -1, k).permute(2, 0, 1).contiguous()
