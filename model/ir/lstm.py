"""The LSTM with peepholes and a projection, in fixed point.

With x(t) and y(t) in one format, the gates are one matrix over [x(t), y(t-1)]::

    x(t) = what enters, rounded to the format of y, if it has another
    a(t) = requantize(W [x(t), y(t-1)] + b)            rows: i, f, g, o
    i, f = sigmoid(a_i + p_i ∘ c(t-1)), sigmoid(a_f + p_f ∘ c(t-1))
    c(t) = f ∘ c(t-1) + i ∘ G(a_g)                      G: tanh or sigmoid
    o    = sigmoid(a_o + p_o ∘ c(t))
    y(t) = P (o ∘ tanh c(t))

c and y begin at 0 with each sequence. Every product of the element-wise part is exact, those of the
matrices are what their arithmetic says, and every code that comes of one is
``clamp((sum + r) >> s)``. The clamp of c is to its format: c saturates, it never wraps. Source: the
"Google LSTM" of C-LSTM, arXiv 1803.06305, after H. Sak et al., 2014.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from model.ir.block_circulant import BlockCirculantStorage
from model.ir.errors import BadInput
from model.ir.layer import LayerSpec
from model.ir.linear import LinearSpec
from model.ir.numerics import FixedPointFormat, Format, IntRange, check_intermediate
from model.ir.piecewise import PiecewiseSpec
from model.ir.requantize import SHIFT_MAX, rounding
from model.ir.spec import check_int

GATES = 4
PEEPHOLES = 3


@dataclass(frozen=True)
class LSTMSpec(LayerSpec, kind="lstm"):
    """One step takes x [features] and gives y [outputs]; the state is c [cells] and y.

    Parameters
    ----------
    features, cells : int
        Codes of a step that enter, and cells of the state.
    x_columns : int
        Columns of the gate matrix that belong to x: ``features``, or more if they are padded to
        whole blocks. The columns from there on belong to y(t-1), padded likewise; what pads is
        multiplied by 0.
    in_format : FixedPointFormat
        Format of the codes that enter.
    gates : LinearSpec
        The gate matrix [4 * cells, x_columns + columns of y] with its bias, to pre-activations.
    project : LinearSpec or None
        The projection [outputs, cells], to the format of x; without it y = o ∘ tanh c.
    peephole_format : FixedPointFormat or None
        Format of the peepholes, if there are any.
    state_format : FixedPointFormat
        Format of c.
    sigmoid, g, tanh : PiecewiseSpec
        Of the gates i, f, o; of the gate g (tanh or sigmoid); of the state. Only tanh is odd.

    Circulant blocks of the gates have one position, and their k divides ``x_columns`` and
    ``cells``, so that no block holds weights of x and y, or of two gates.

    Tensors: those of ``gates`` as ``gates_<name>``, those of ``project`` as ``project_<name>``,
    and ``peephole`` int64 codes [3, cells] of i, f and o.
    """

    features: int
    cells: int
    x_columns: int
    in_format: FixedPointFormat
    gates: LinearSpec
    project: LinearSpec | None
    peephole_format: FixedPointFormat | None
    state_format: FixedPointFormat
    sigmoid: PiecewiseSpec
    g: PiecewiseSpec
    tanh: PiecewiseSpec

    recurrent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_int("features", self.features, 1)
        check_int("cells", self.cells, 1)
        check_int("x_columns", self.x_columns, self.features)
        check_int("columns of y", self.gates.in_features - self.x_columns, self.outputs)
        if self.gates.out_features != GATES * self.cells:
            raise ValueError(
                f"gates must have {GATES * self.cells} rows, not {self.gates.out_features}"
            )
        if self.project is not None and self.project.in_features != self.cells:
            raise ValueError(
                f"project must read {self.cells} cells, not {self.project.in_features}"
            )
        for name, odd in (("sigmoid", False), ("tanh", True)):
            if getattr(self, name).odd is not odd:
                raise ValueError(f"{name} must be mirrored with odd = {odd}, not {not odd}")
        self._check_blocks()
        x, gate, unit = self.gates.in_format, self.gates.out_format, self.unit_format
        state, hidden = self.state_format, unit
        formats = {
            "in_format": (self.in_format, self.in_format),
            "gates.in_format": (x, x),
            "sigmoid.in_format": (self.sigmoid.in_format, gate),
            "g.in_format": (self.g.in_format, gate),
            "g.out_format": (self.g.out_format, unit),
            "tanh.in_format": (self.tanh.in_format, state),
            "tanh.out_format": (self.tanh.out_format, unit),
        }
        if self.project is not None:
            formats["project.in_format"] = (self.project.in_format, hidden)
            formats["project.out_format"] = (self.project.out_format, x)
        if self.peephole_format is not None:
            formats["peephole_format"] = (self.peephole_format, self.peephole_format)
        for name, (found, expected) in formats.items():
            if not isinstance(found, FixedPointFormat) or not found.signed or found != expected:
                raise ValueError(
                    f"{name} must be signed fixed point ({expected.describe()}), "
                    f"not {found.describe()}"
                )
        check_int("x_shift", self.x_shift, -SHIFT_MAX, SHIFT_MAX)
        check_int("hidden_shift", self.hidden_shift, 0, SHIFT_MAX)
        check_int("state_shift", self.state_shift, 0, SHIFT_MAX)
        if self.peephole_format is not None:
            check_int("peephole_shift", self.peephole_shift, 0, SHIFT_MAX)
        for name, span in self.intermediates().items():
            check_intermediate(f"lstm: {name}", span)

    def _check_blocks(self) -> None:
        """Circulant blocks must not reach over from x to y, nor from gate to gate."""
        storage = self.gates.storage
        if not isinstance(storage, BlockCirculantStorage):
            return
        if storage.positions != 1:
            raise ValueError(f"circulant gates must have positions 1, not {storage.positions}")
        for name in ("x_columns", "cells"):
            if getattr(self, name) % storage.k:
                raise ValueError(
                    f"{name} must be a multiple of the blocks' k = {storage.k}, "
                    f"not {getattr(self, name)}"
                )

    @property
    def outputs(self) -> int:
        """Codes of y."""
        return self.cells if self.project is None else self.project.out_features

    @property
    def unit_format(self) -> FixedPointFormat:
        """Format of i, f, g, o, tanh c and o ∘ tanh c, which all lie from -1 to 1."""
        return self.sigmoid.out_format

    @property
    def out_format(self) -> Format:
        return self.gates.in_format

    @property
    def x_shift(self) -> int:
        """Right shift of the codes that enter, to the format of x and y; left if negative."""
        return self.in_format.frac_bits - self.gates.in_format.frac_bits

    @property
    def peephole_shift(self) -> int:
        """Right shift of ``(a << peephole_shift) + p * c``, to the format of a."""
        assert self.peephole_format is not None
        product = self.peephole_format.frac_bits + self.state_format.frac_bits
        return product - self.gates.out_format.frac_bits

    @property
    def state_aligns(self) -> tuple[int, int]:
        """Left shifts of ``f * c`` and ``i * g`` that bring both to one point."""
        difference = self.state_format.frac_bits - self.unit_format.frac_bits
        return max(0, -difference), max(0, difference)

    @property
    def state_shift(self) -> int:
        """Right shift of the aligned sum, to the format of c."""
        return self.unit_format.frac_bits + self.state_aligns[0]

    @property
    def hidden_format(self) -> FixedPointFormat:
        """Format of o ∘ tanh c: the unit format before a projection, else that of y."""
        return self.unit_format if self.project is not None else self.gates.in_format

    @property
    def hidden_shift(self) -> int:
        """Right shift of ``o * tanh c``, to its format."""
        return 2 * self.unit_format.frac_bits - self.hidden_format.frac_bits

    def intermediates(self) -> dict[str, IntRange]:
        """Range of every sum of the element-wise part, its rounding included."""
        state = self.state_format.codes
        keep, new = (IntRange(1 << n, 1 << n) for n in self.state_aligns)
        spans = {
            "x": self.in_format.codes * IntRange(1, 1 << max(0, -self.x_shift))
            + _half(max(0, self.x_shift)),
            "c": self.sigmoid.outputs * state * keep
            + self.sigmoid.outputs * self.g.outputs * new
            + _half(self.state_shift),
            "o * tanh c": self.sigmoid.outputs * self.tanh.outputs + _half(self.hidden_shift),
        }
        if self.peephole_format is not None:
            shift = self.peephole_shift
            gate = self.gates.out_format.codes * IntRange(1 << shift, 1 << shift)
            product = self.peephole_format.codes * state
            spans["a + p * c"] = gate + product + _half(shift)
        return spans

    def steps_without_saturation(self) -> int:
        """Steps in which c cannot saturate, whatever enters: each step adds at most 1."""
        return int(self.state_format.codes.high * 2.0**-self.state_format.frac_bits)

    def check_steps(self, steps: int, thing: str) -> None:
        """Raise BadInput if some input could bring c to the end of its format in so many steps."""
        sure = self.steps_without_saturation()
        if steps > sure:
            format = self.state_format
            most = (format.codes.high // steps).bit_length() - 1
            raise BadInput(
                f"{thing}: state",
                f"{format.describe()}, which some input can bring to its end in {sure + 1} steps",
                f"a format that holds {steps} steps"
                + (f", so of at most {most} fraction bits" if most >= 0 else ""),
                "use more activation_bits, or fewer state_steps (0: the state may saturate)",
            )

    def in_formats(self) -> tuple[Format, ...]:
        return (self.in_format,)

    def out_shape(self, *in_shapes: tuple[int, ...]) -> tuple[int, ...]:
        (shape,) = in_shapes
        if math.prod(shape) != self.features:
            raise ValueError(f"{self.features} input features, not a step of shape {shape}")
        return (self.outputs,)

    def parts(self) -> dict[str, LinearSpec]:
        """The matrices by name."""
        parts = {"gates": self.gates}
        return parts if self.project is None else parts | {"project": self.project}

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = {
            f"{part}_{name}": shape
            for part, spec in self.parts().items()
            for name, shape in spec.tensor_shapes().items()
        }
        if self.peephole_format is not None:
            shapes["peephole"] = (PEEPHOLES, self.cells)
        return shapes

    def check(self, tensors: dict[str, np.ndarray], thing: str) -> None:
        for part, spec in self.parts().items():
            spec.check(part_of(tensors, part), f"{thing}.{part}")
        if self.peephole_format is not None:
            self.peephole_format.check(tensors["peephole"], f"{thing}.peephole")

    def macs(self) -> int:
        """Multiply-accumulates of the matrices per step."""
        return sum(spec.macs() for spec in self.parts().values())

    def weights(self) -> int:
        """Weights of the matrices; peepholes count like biases, one number a cell."""
        return sum(spec.weights() for spec in self.parts().values())

    def stored_bits(self) -> int:
        tables = sum(table.stored_bits() for table in (self.sigmoid, self.g, self.tanh))
        matrices = sum(spec.stored_bits() for spec in self.parts().values())
        return matrices + tables + self._peephole_bits()

    def chip_bits(self) -> int:
        return sum(spec.chip_bits() for spec in self.parts().values()) + self._peephole_bits()

    def _peephole_bits(self) -> int:
        if self.peephole_format is None:
            return 0
        return PEEPHOLES * self.cells * self.peephole_format.bits


def part_of(tensors: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The tensors of one matrix of an LSTM, by their own names."""
    prefix = f"{part}_"
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _half(shift: int) -> IntRange:
    return IntRange(rounding(shift), rounding(shift))
