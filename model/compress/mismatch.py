"""Device mismatch on weights: cells whose conductance is spread, and cells that are stuck.

A weight is held by cells whose states are the magnitudes of its level set: by one cell of its own
magnitude, or by the cells that a conductance level set names. It can be held by cells of few bits
instead, as pim arithmetic does it: bit slices of two's complement, or digits in pairs. Each cell's
conductance is drawn anew with a relative spread, or the cell is stuck at its lowest or highest
state. Absent weights have no cells.

Source of training with cells drawn anew in each pass: the memristor framework, arXiv 1908.11691,
and variation-aware training in general.
"""

from functools import cache
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from model.compress.constraints import Conductance, LevelSet
from model.ir.linear import LinearSpec
from model.ir.numerics import UniformFormat
from model.ir.pim_arithmetic import CELL_BITS_MAX, PIMArithmetic
from model.ir.requantize import RequantizeSpec
from model.options import Options


class MismatchOptions(Options):
    """What differs between the cells of a device and their nominal states.

    Parameters
    ----------
    spread : float
        Standard deviation of a cell's conductance, relative to its nominal one. A normal draw is
        clipped at 0; a lognormal one has the nominal mean.
    distribution : str
        ``"normal"`` or ``"lognormal"``.
    stuck_low, stuck_high : float
        Shares of the cells that are stuck at their lowest and at their highest state.
    cells : str
        ``"levels"``: the states are the magnitudes of the level set. ``"twos_complement"`` and
        ``"pairs"``: cells of ``cell_bits`` bits hold the slices of a weight's integer value, in
        the form of that name of pim arithmetic; a cell of state 0 does not conduct.
    cell_bits : int
        Bits of such a cell.
    seed : int
        Of the samples that :func:`model.compress.training.accuracy_under` evaluates.
    """

    spread: float = Field(default=0.0, ge=0)
    distribution: Literal["normal", "lognormal"] = "normal"
    stuck_low: float = Field(default=0.0, ge=0, le=1)
    stuck_high: float = Field(default=0.0, ge=0, le=1)
    cells: Literal["levels", "twos_complement", "pairs"] = "levels"
    cell_bits: int = Field(default=1, ge=1, le=CELL_BITS_MAX)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _together(self) -> "MismatchOptions":
        if self.stuck_low + self.stuck_high > 1:
            raise ValueError("stuck_low and stuck_high of at most 1 together")
        if self.cells == "levels" and self.cell_bits != 1:
            raise ValueError("cell_bits only for cells in twos_complement or pairs")
        return self

    @property
    def any(self) -> bool:
        """Whether anything differs at all."""
        return self.spread > 0 or self.stuck_low > 0 or self.stuck_high > 0


def drawn_cells(nominal: Tensor, low: float, high: float, options: MismatchOptions) -> Tensor:
    """Conductances of cells with the given nominal ones, drawn from torch's generator.

    Parameters
    ----------
    nominal : float tensor of any shape
        Nominal conductance of each cell, in any unit.
    low, high : float
        The lowest and highest state, where cells get stuck.
    options : MismatchOptions
        Spread and shares.
    """
    cells = nominal
    if options.spread > 0:
        normal = torch.randn_like(nominal)
        if options.distribution == "normal":
            cells = cells * (1 + options.spread * normal).clamp_min(0)
        else:
            variance = torch.log1p(torch.tensor(options.spread**2, dtype=nominal.dtype))
            cells = cells * torch.exp(variance.sqrt().to(nominal.device) * normal - variance / 2)
    if options.stuck_low > 0 or options.stuck_high > 0:
        lot = torch.rand_like(nominal)
        cells = torch.where(lot < options.stuck_low, torch.full_like(cells, low), cells)
        stuck_high = (lot >= options.stuck_low) & (lot < options.stuck_low + options.stuck_high)
        cells = torch.where(stuck_high, torch.full_like(cells, high), cells)
    return cells


@torch.no_grad()
def drawn_weights(
    values: Tensor, levels: LevelSet, mask: Tensor | None, options: MismatchOptions
) -> Tensor:
    """What the cells of a device hold in place of weights.

    Parameters
    ----------
    values : float tensor of any shape
        Values of the level set, 0 where absent.
    levels : LevelSet
        Names the states of a cell.
    mask : bool tensor, optional
        False where a weight is absent; such weights stay 0.
    options : MismatchOptions
        Spread and shares.

    Returns real values in the same unit.
    """
    if mask is not None:  # what is absent takes no time
        drawn = torch.zeros_like(values)
        drawn[mask] = drawn_weights(values[mask], levels, None, options)
        return drawn
    if options.cells != "levels":
        return _drawn_slices(values, levels.format.values.bits, options)
    if isinstance(levels, Conductance):
        positive, negative = levels.cells_of(values.round().long())
        cells = (positive + negative).to(values.dtype)  # of a pair only one is there
        states = float(levels.states[0]), float(levels.states[-1])
        factors = torch.tensor(levels.factors, dtype=values.dtype, device=values.device)
        held = drawn_cells(cells, *states, options) * (cells > 0)
        return values.sign() * (held * factors).sum(-1)
    states = float(levels.magnitudes[0]), float(levels.top)
    sign = torch.where(values < 0, -1.0, 1.0).to(values.dtype)
    return sign * drawn_cells(values.abs(), *states, options)


def _drawn_slices(values: Tensor, bits: int, options: MismatchOptions) -> Tensor:
    """Weights of integer values of so many bits, their slices in drawn cells."""
    states, factors = _slices(options.cells, options.cell_bits, bits)
    index = values.round().long() + (1 << bits - 1)
    cells = torch.from_numpy(states).to(values)[:, index]
    held = drawn_cells(cells, 0.0, float((1 << options.cell_bits) - 1), options)
    return torch.tensordot(torch.tensor(factors).to(values), held, 1)


@cache
def _slices(form: str, cell_bits: int, bits: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """States int64 [cells, 2^bits] of the cells of every value of so many bits, from the lowest
    on, and the cells' factors, as pim arithmetic has them."""
    pim, format = PIMArithmetic(1, cell_bits, form), UniformFormat(bits, True)
    rule = RequantizeSpec(UniformFormat(16, True), 0, "one", 0, 1)
    layer = LinearSpec(1, 1, UniformFormat(1, False), format, rule)
    values = np.arange(format.values.low, format.values.high + 1)
    signs = (1, -1)[: pim.sides]
    factors = tuple(factor * sign for factor in pim.factors(layer) for sign in signs)
    return pim.states_of(layer, values, "weights"), factors
