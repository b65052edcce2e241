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
    ends : float [n, 2]
        The most and the least that a line adds to any count, 0 included.
    """

    inputs: torch.Tensor
    outputs: torch.Tensor
    cells: torch.Tensor
    ends: torch.Tensor


@dataclass(frozen=True)
class Converted:
    """The tiles of a layer whose counts are converted.

    Parameters
    ----------
    whole : float or int64 [rows, columns]
        With a step of 1 a converter rounds nothing: what it does not saturate is linear.
    tiles : list of Tile
        Those whose converters may saturate, and with another step all.
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
        if arithmetic.step == 1:
            linear[:, here] = whole[:, here]
            if (low >= codes.low).all() and (high <= codes.high).all():
                continue
        cells = torch.from_numpy(part.reshape(-1, len(here)).T.copy()).to(kind)
        ends = torch.stack([cells.amax(dim=1).clamp_min(0), cells.amin(dim=1).clamp_max(0)], dim=1)
        found.append(Tile(torch.from_numpy(here), torch.from_numpy(outputs), cells, ends))
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
    """What converters add to ``whole``, int64 [vectors, rows], of values int32 [vectors, columns].

    With a step of 1 that is what saturation takes away, else all of the codes. Vectors of which no
    count can saturate, or with another step reach the first code, add nothing and are left out:
    most bits of most vectors are 0.

    A float of p bits divides integers below 2^p so that the floor of its quotient is that of the
    true one: they are at least 1/step apart from the next integer, and the rounding is smaller.
    """
    places, codes, step = arithmetic.places(spec), arithmetic.codes(spec), arithmetic.step
    factors, half = torch.tensor(arithmetic.factors(spec)), arithmetic.step // 2
    raised = arithmetic.raised(spec)
    most = max(abs(codes.low), codes.high) + (max(abs(raised.low), raised.high) if step == 1 else 0)
    reach = sum(abs(place) for place in places) * most
    kind = _single(IntRange(-reach, reach))
    acc = torch.zeros(len(x), spec.matrix_rows, dtype=torch.int64)
    for tile in tiles:
        own = x[:, tile.inputs]
        total = torch.zeros(len(x), tile.cells.shape[1], dtype=kind)
        for bit, place in enumerate(places):
            lines = ((own >> bit) & 1).to(tile.cells.dtype)
            high, low = (lines @ tile.ends).unbind(dim=1)
            if step == 1:
                counted = (high > codes.high) | (low < codes.low)
            else:
                counted = (high >= step - half) | (low < -half)
            chosen = counted.nonzero().squeeze(1)
            if not len(chosen):
                continue
            every = len(chosen) == len(x)
            counts = (lines if every else lines[chosen]) @ tile.cells
            if step == 1:
                counts = counts.clamp(codes.low, codes.high).sub_(counts)
            else:
                counts.add_(half).div_(step).floor_().clamp_(codes.low, codes.high)
            if every:
                total.add_(counts, alpha=place)
            else:
                total.index_add_(0, chosen, counts.to(kind), alpha=place)
        shares = total.long().unflatten(1, (len(factors), -1)) * factors[:, None]
        acc[:, tile.outputs] += shares.sum(dim=1)
    return acc
