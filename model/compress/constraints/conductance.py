"""Weights on the conductances that real cells can take."""

import itertools
from collections.abc import Sequence

import torch

from model.compress import devices
from model.compress.constraints.base import check_size, constraint
from model.compress.constraints.levels import LevelSet
from model.ir.errors import BadInput
from model.ir.numerics import MAX_BITS

CELLS = (2, 4)


@constraint("conductance")
class Conductance(LevelSet):
    """A weight is held by pairs of cells, one on a positive and one on a negative crossbar.

    Of a pair only the cell on the side of the weight's sign exists; the other is absent and
    conducts nothing. So there is no zero level, and a pruned weight has no cell at all. With one
    pair (2 cells) the magnitudes are the states themselves; with two (4 cells) they are
    ``factor * high + low`` over all pairs of states, ``factor`` being the number of states, rounded
    up to a power of two, which costs a shift. 16 states thus give weights of 5 or 9 bits. Source:
    the memristor framework, arXiv 1908.11691, for two crossbars, no zero level, and 2 and 4 cells
    for 5 and 9 bits; that the cell of the other sign is absent, and the factor, are our
    interpretation.

    Parameters
    ----------
    device : str, optional
        A device of ``model/compress/devices``; "memristor" if neither it nor ``states`` is given.
    states : sequence of int, optional
        Instead of a device: conductances of a cell, different positive integers on a grid.
    cells : int
        Cells of a weight, 2 or 4.
    bits : int, optional
        Bits of a weight, sign included: so many states are taken as it needs, evenly from the
        lowest to the highest. By default all.
    within : (int, int), optional
        Take states from this closed range only, on the same grid.
    per : str
        ``"tensor"``: one scale; ``"channel"``: one a row.

    Raises BadInput for an option out of range, an unknown device, states that are no table of
    levels, and fewer states than the bits ask for.
    """

    def __init__(
        self,
        device: str | None = None,
        states: Sequence[int] | None = None,
        cells: int = 2,
        bits: int | None = None,
        within: Sequence[int] | None = None,
        per: str = "tensor",
    ) -> None:
        super().__init__(per)
        if type(cells) is not int or cells not in CELLS:
            raise BadInput("cells", repr(cells), "2 or 4", "correct it")
        if device is not None and states is not None:
            raise BadInput("states", "a device as well", "one of the two", "remove one")
        if states is None:
            states = devices.load(device or "memristor").states.values
        self.cells = cells
        self.states = _chosen(_checked(states), cells, bits, within)
        if len(self.states) == 1 and cells > CELLS[0]:
            raise BadInput("states", "a single state", "two at least for 4 cells", "set cells = 2")
        factor = 1 << (len(self.states) - 1).bit_length()
        self.factors = tuple(factor**n for n in reversed(range(cells // 2)))
        held: dict[int, tuple[int, ...]] = {}
        for cell in itertools.product(self.states, repeat=cells // 2):
            held.setdefault(sum(f * g for f, g in zip(self.factors, cell, strict=True)), cell)
        self.magnitudes = tuple(sorted(held))
        self._held = torch.tensor([held[m] for m in self.magnitudes])
        if self.top >= 1 << (MAX_BITS - 1):
            raise BadInput(
                "states",
                f"weights up to {self.top}",
                f"at most {(1 << (MAX_BITS - 1)) - 1}",
                "put the states on a coarser grid",
            )

    def cells_of(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Conductances of the cells that hold values.

        Parameters
        ----------
        values : int64 tensor of any shape
            Levels, or 0 where a weight is absent.

        Returns (positive, negative), int64 [..., cells / 2] on the device's grid, 0 for a cell that
        is absent, so that ``value = sum_i factors[i] * (positive[i] - negative[i])``. Raises
        BadInput for a value that is no level.
        """
        self.codes_of(values[values != 0])
        magnitudes = torch.tensor(self.magnitudes, device=values.device)
        index = torch.searchsorted(magnitudes, values.abs().contiguous())
        held = self._held.to(values.device)[index]
        sign = values.sign()[..., None]
        return held * (sign > 0), held * (sign < 0)

    def __repr__(self) -> str:
        return f"Conductance(states={self.states}, cells={self.cells}, per={self.per!r})"


def _checked(states: Sequence[int]) -> tuple[int, ...]:
    """States in ascending order; raises BadInput unless they are different positive integers."""
    good = isinstance(states, Sequence) and not isinstance(states, str) and len(states) > 0
    good = good and all(type(state) is int and state > 0 for state in states)
    if not good or len(set(states)) != len(states):
        raise BadInput("states", repr(states), "different integers of at least 1", "correct them")
    return tuple(sorted(states))


def _chosen(
    states: tuple[int, ...], cells: int, bits: int | None, within: Sequence[int] | None
) -> tuple[int, ...]:
    """The states that a weight of so many bits uses; raises BadInput if there are too few."""
    if within is not None:
        if not isinstance(within, Sequence) or len(within) != 2:
            raise BadInput("within", repr(within), "a lowest and a highest state", "give both")
        states = tuple(state for state in states if within[0] <= state <= within[1])
    needed = 1
    if bits is not None:
        check_size("bits", bits)
        share, rest = divmod(bits - 1, cells // 2)
        if rest:
            raise BadInput(
                "bits",
                repr(bits),
                f"one bit of sign and a multiple of {cells // 2} for {cells} cells",
                "choose other bits, or other cells",
            )
        needed = 1 << share
    if len(states) < needed:
        raise BadInput(
            "states",
            f"{len(states)} of them" + (f" within {list(within)}" if within is not None else ""),
            f"at least {needed}" + (f", for {bits} bits in {cells} cells" if bits else ""),
            "ask for fewer bits, more cells or a wider range",
        )
    if bits is None or needed == len(states):
        return states
    if needed == 1:
        return states[-1:]
    last = len(states) - 1
    return tuple(states[(2 * n * last + needed - 1) // (2 * (needed - 1))] for n in range(needed))
