"""What a network of pim arithmetic is made for: macros, cells, converters, deviations."""

from typing import Literal

from pydantic import Field, model_validator

from model.ir.faults import Faults
from model.ir.options import Options
from model.ir.pim_arithmetic import ADC_BITS_MAX, GRID_BITS_MAX, STEP_MAX


class PIMOptions(Options):
    """Macros, their cells and their converters.

    Parameters
    ----------
    rows, columns : int
        Of a macro.
    cell_bits : int
        Bits of a cell.
    form : str
        ``"twos_complement"`` or ``"pairs"``. In pairs, a codebook of at most ``2^cell_bits``
        magnitudes, none of them 0, has these as the levels of the states, if with the fraction
        bits they need 12 bits at the most.
    adc_bits : int, optional
        Bits of the converters; exact counting otherwise.
    step : int, optional
        Levels that a code stands for, in all layers; otherwise each layer has its own.
    grid_bits : int, optional
        Fraction bits of a level; 4 if cells deviate or are not quite off, else 0.
    on_off : float, optional
        Ratio of the highest level to that of a cell that holds 0.
    spread : float
        Relative standard deviation of a cell's level.
    stuck_low, stuck_high : float
        Shares of the macros' cells that are stuck at the lowest and at the highest level.
    seed : int
        Of all cells.
    spare : int
        Columns of a macro that are kept for repair.
    repair : bool
        Whether lines and columns are moved around the stuck cells.
    budget : int, optional
        The most macros, of all layers together.
    """

    rows: int = Field(default=128, ge=1, le=1024)
    columns: int = Field(default=128, ge=1, le=1024)
    cell_bits: int = Field(default=1, ge=1, le=4)
    form: Literal["twos_complement", "pairs"] = "twos_complement"
    adc_bits: int | None = Field(default=None, ge=1, le=ADC_BITS_MAX)
    step: int | None = Field(default=None, ge=1, le=STEP_MAX)
    grid_bits: int | None = Field(default=None, ge=0, le=GRID_BITS_MAX)
    on_off: float | None = Field(default=None, gt=1)
    spread: float = Field(default=0.0, ge=0, le=1)
    stuck_low: float = Field(default=0.0, ge=0, le=1)
    stuck_high: float = Field(default=0.0, ge=0, le=1)
    seed: int = Field(default=0, ge=0)
    spare: int = Field(default=0, ge=0)
    repair: bool = False
    budget: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _together(self) -> "PIMOptions":
        if self.stuck_low + self.stuck_high > 1:
            raise ValueError("stuck_low and stuck_high of at most 1 together")
        if self.spare >= self.columns:
            raise ValueError("fewer spare columns than columns")
        if self.step not in (None, 1) and self.adc_bits is None:
            raise ValueError("a step of 1, or none, where adc_bits is not given")
        return self

    @property
    def stuck(self) -> bool:
        """Whether cells are stuck."""
        return self.stuck_low > 0 or self.stuck_high > 0

    def faults(self) -> Faults:
        """The stuck cells of the macros, as they are drawn; those of a node: ``of_node``."""
        return Faults(self.stuck_low, self.stuck_high, self.seed, repair=self.repair)
