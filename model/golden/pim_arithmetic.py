"""Golden functions of pim arithmetic: counts of tiles and bits, converted, shifted and added."""

from dataclasses import dataclass

import numpy as np
import torch

from model.golden.matrix import accumulate, prepare
from model.golden.numerics import carry, matmul
from model.ir.matrix import MatrixSpec
from model.ir.numerics import IntRange
from model.ir.pim_arithmetic import PIMArithmetic

SINGLE_EXACT_BITS = 24
CHUNK_NUMBERS = 1 << 18
"""Counts that are computed at once, unless one vector has more: few enough for a cache."""


@dataclass(frozen=True)
class Tile:
    """What a tile of word lines adds to the accumulators.

    Parameters
    ----------
    inputs : int64 [n]
        The inputs on its lines.
    outputs : int64 [m]
        The rows of the matrix that have a kept weight there.
    cells : float [n, slices × m]
        What each cell, or pair of cells, adds to a count.
    """

    inputs: torch.Tensor
    outputs: torch.Tensor
    cells: torch.Tensor


@dataclass(frozen=True)
class Converted:
    """The tiles of a layer whose counts are converted.

    Parameters
    ----------
    whole : float or int64 [rows, columns]
        Of the tiles whose converters neither round nor saturate: there all is linear.
    tiles : list of Tile
        The others.
    """

    whole: torch.Tensor
    tiles: list[Tile]


def _single(span: IntRange) -> torch.dtype:
    """The float type that holds every integer of a range; at most 53 bits are asked for."""
    return torch.float32 if span.bits <= SINGLE_EXACT_BITS else torch.float64


@prepare.register
def _(
    arithmetic: PIMArithmetic, spec: MatrixSpec, tensors: dict[str, np.ndarray]
) -> torch.Tensor | Converted:
    """Where counts are exact, one matrix [rows, columns], since all that follows is linear."""
    slices = arithmetic.slice_matrices(spec, tensors)
    factors = np.array(arithmetic.factors(spec))
    whole = np.tensordot(factors, slices, 1)
    if arithmetic.adc_bits is None:
        return carry(torch.from_numpy(whole), spec.accumulator())
    kind, codes = _single(arithmetic.raised(spec)), arithmetic.codes(spec)
    inputs, kept = arithmetic.line_inputs(spec), arithmetic.kept(spec, tensors)
    found, linear = [], np.zeros_like(whole)
    for lines in arithmetic.tiles(spec, tensors):
        here = inputs[lines]
        here = here[here >= 0]
        outputs = np.flatnonzero(kept[:, lines].any(axis=1))
        part = slices[:, outputs][:, :, here]  # [slices, outputs, inputs]
        high, low = (sign.sum(axis=2) for sign in (part.clip(0), part.clip(None, 0)))
        if arithmetic.step == 1 and (low >= codes.low).all() and (high <= codes.high).all():
            linear[:, here] = whole[:, here]
            continue
        cells = torch.from_numpy(part.reshape(-1, len(here)).T.copy()).to(kind)
        found.append(Tile(torch.from_numpy(here), torch.from_numpy(outputs), cells))
    return Converted(carry(torch.from_numpy(linear), spec.accumulator()), found)


@accumulate.register
def _(
    arithmetic: PIMArithmetic, spec: MatrixSpec, x: torch.Tensor, weights: torch.Tensor | Converted
) -> torch.Tensor:
    if isinstance(weights, torch.Tensor):
        return matmul(x, weights, spec.accumulator())
    acc = matmul(x, weights.whole, spec.accumulator())
    if not weights.tiles:
        return acc
    flat = x.reshape(-1, x.shape[-1]).to(torch.int32)
    widest = max(tile.cells.shape[1] for tile in weights.tiles)
    parts = flat.split(max(1, CHUNK_NUMBERS // max(widest, flat.shape[1])))
    found = torch.cat([_converted(arithmetic, spec, part, weights.tiles) for part in parts])
    return acc + found.reshape(acc.shape)


def _converted(
    arithmetic: PIMArithmetic, spec: MatrixSpec, x: torch.Tensor, tiles: list[Tile]
) -> torch.Tensor:
    """Accumulators int64 [vectors, rows] of values int32 [vectors, columns].

    A float of p bits divides integers below 2^p so that the floor of its quotient is that of the
    true one: they are at least 1/step apart from the next integer, and the rounding is smaller.
    """
    places, codes = arithmetic.places(spec), arithmetic.codes(spec)
    factors = torch.tensor(arithmetic.factors(spec))
    reach = sum(abs(place) for place in places) * max(abs(codes.low), codes.high)
    kind = _single(IntRange(-reach, reach))
    acc = torch.zeros(len(x), spec.matrix_rows, dtype=torch.int64)
    for tile in tiles:
        own = x[:, tile.inputs]
        total = torch.zeros(len(x), tile.cells.shape[1], dtype=kind)
        for bit, place in enumerate(places):
            counts = ((own >> bit) & 1).to(tile.cells.dtype) @ tile.cells
            if arithmetic.step > 1:
                counts.add_(arithmetic.step // 2).div_(arithmetic.step).floor_()
            total.add_(counts.clamp_(codes.low, codes.high), alpha=place)
        shares = total.long().unflatten(1, (len(factors), -1)) * factors[:, None]
        acc[:, tile.outputs] += shares.sum(dim=1)
    return acc
