"""Ready-made LSTM nodes of any shape and storage, and their evaluation in plain integers."""

from fractions import Fraction
from math import floor

import numpy as np
from hypothesis import strategies as st

from model.ir.block_circulant import BlockCirculantStorage
from model.ir.linear import LinearSpec
from model.ir.lstm import LSTMSpec, part_of
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import FixedPointFormat, IntRange
from model.ir.piecewise import PiecewiseSpec, piecewise
from model.ir.requantize import RequantizeSpec
from model.ir.storage import DenseStorage, Storage
from tests.examples import codes_of

B_BITS = 30


def fixed(bits: int, frac_bits: int) -> FixedPointFormat:
    return FixedPointFormat(bits, True, frac_bits)


def lstm_spec(
    features: int,
    cells: int,
    projection: int = 0,
    peephole: bool = False,
    g: str = "tanh",
    k: int = 1,
    bits: int = 16,
    weight_bits: int = 8,
    in_frac: int | None = None,
    segments: int = 22,
) -> LSTMSpec:
    """A specification; with k above 1 both matrices are block-circulant."""
    x, gate, state, unit = (fixed(bits, bits - n) for n in (4, 5, 3, 2))
    weight = fixed(weight_bits, weight_bits - 2)
    storage: Storage = BlockCirculantStorage(k) if k > 1 else DenseStorage()
    outputs = projection or cells
    x_columns, y_columns = (-(-size // k) * k for size in (features, outputs))

    def linear(columns: int, rows: int, entry: FixedPointFormat, out: FixedPointFormat):
        shift = entry.frac_bits + weight.frac_bits - out.frac_bits
        rule = RequantizeSpec(out, shift, "one", 0, B_BITS)
        return LinearSpec(columns, rows, entry, weight, rule, storage=storage)

    return LSTMSpec(
        features=features,
        cells=cells,
        x_columns=x_columns,
        in_format=x if in_frac is None else fixed(bits, in_frac),
        gates=linear(x_columns + y_columns, 4 * cells, x, gate),
        project=linear(cells, projection, unit, x) if projection else None,
        peephole_format=fixed(bits, bits - 2) if peephole else None,
        state_format=state,
        sigmoid=piecewise("sigmoid", gate, unit, segments),
        g=piecewise(g, gate, unit, segments),
        tanh=piecewise("tanh", state, unit, segments),
    )


def lstm_network(spec: LSTMSpec, seed: int, share: float = 1.0) -> Network:
    """One LSTM with random codes, of ``share`` of their range, and an output layer on it."""
    rng = np.random.default_rng(seed)

    def codes(span: IntRange, shape: tuple[int, ...]) -> np.ndarray:
        return codes_of(IntRange(int(span.low * share), int(span.high * share)), rng, *shape)

    spans = {"peephole": spec.peephole_format.codes if spec.peephole_format else None}
    for part, own in spec.parts().items():
        spans[f"{part}_weight"] = own.weight_format.codes
        spans[f"{part}_b"] = IntRange.of_bits(min(B_BITS, own.accumulator().bits - 3), True)
    tensors = {name: codes(spans[name], shape) for name, shape in spec.tensor_shapes().items()}
    wide = FixedPointFormat(16, True, 0)
    head = LinearSpec(
        spec.outputs, 3, spec.out_format, wide, RequantizeSpec(wide, 12, "one", 0, 20)
    )
    last = {"weight": codes(wide.codes, (3, spec.outputs)), "b": codes(wide.codes, (3,))}
    entry = InputSpec("x", (spec.features,), spec.in_format, 2.0**-spec.in_format.frac_bits)
    scale = 2.0**-spec.gates.in_format.frac_bits
    nodes = (
        Node("lstm", spec, ("x",), scale, tensors),
        Node("fc", head, ("lstm",), 1.0, last),
    )
    return Network("net", entry, nodes)


@st.composite
def lstm_networks(draw: st.DrawFn) -> Network:
    """Small LSTMs of every shape, with full-range codes."""
    bits = draw(st.sampled_from([6, 8, 16]))
    in_frac = draw(st.none() | st.integers(bits - 8, bits))
    k = draw(st.sampled_from([1, 2, 4]))
    spec = lstm_spec(
        draw(st.integers(1, 7)),
        draw(st.integers(1, max(2, 6 // k))) * k,
        draw(st.integers(0, 5)),
        draw(st.booleans()),
        draw(st.sampled_from(["tanh", "sigmoid"])),
        k,
        bits,
        draw(st.integers(2, 8) if bits < 16 else st.integers(4, 16)),
        in_frac,
        draw(st.integers(1, 30)),
    )
    return lstm_network(spec, draw(st.integers(0, 2**32 - 1)))


def rounded(exact: Fraction, format: FixedPointFormat) -> int:
    """The nearest code of a number of code steps, a half rounding up, saturating."""
    span = 1 << (format.bits - 1)
    return min(max(floor(exact + Fraction(1, 2)), -span), span - 1)


def reals(spec: LSTMSpec, codes: list[int], format: FixedPointFormat) -> list[Fraction]:
    return [Fraction(code) / Fraction(2) ** format.frac_bits for code in codes]


def looked_up(spec: PiecewiseSpec, x: Fraction) -> Fraction:
    """A piecewise function of a real number that is a code: by its definition."""
    code = int(x * Fraction(2) ** spec.in_format.frac_bits)
    size, one = abs(code), 1 << spec.out_format.frac_bits
    y = spec.top
    for end, slope, intercept in zip(spec.ends, spec.slopes, spec.intercepts, strict=True):
        if size < end:
            exact = Fraction(slope * size + intercept, 1 << spec.shift)
            y = min(floor(exact + Fraction(1, 2)), spec.top)
            break
    if code < 0:
        y = -y if spec.odd else one - y
    return Fraction(y, one)


def run_lstm(node: Node, steps: np.ndarray) -> list[list[int]]:
    """Output codes of one sequence of codes [steps, features], in exact fractions of real numbers.

    Written from the equations, with one rounding to a format after each of them.
    """
    spec = node.spec
    x_format, gate, unit = spec.gates.in_format, spec.gates.out_format, spec.unit_format

    def to(format: FixedPointFormat, real: Fraction) -> Fraction:
        unit_step = Fraction(2) ** format.frac_bits
        return Fraction(rounded(real * unit_step, format)) / unit_step

    def product(part: str, own: LinearSpec, vector: list[Fraction]) -> list[Fraction]:
        tensors = part_of(node.tensors, part)
        step = Fraction(2) ** (own.weight_format.frac_bits + own.in_format.frac_bits)
        scale = Fraction(2) ** own.weight_format.frac_bits
        rows = own.values(tensors)
        return [
            sum(
                (int(w) / scale * v for w, v in zip(row, vector, strict=True)),
                Fraction(int(b)) / step,
            )
            for row, b in zip(rows, tensors["b"], strict=True)
        ]

    peephole = None
    if spec.peephole_format is not None:
        scale = Fraction(2) ** spec.peephole_format.frac_bits
        peephole = [[int(p) / scale for p in row] for row in node.tensors["peephole"]]
    n = spec.cells
    c, y = [Fraction(0)] * n, [Fraction(0)] * spec.outputs
    outputs = []
    for frame in steps:
        x = reals(spec, [int(code) for code in frame], spec.in_format)
        x = [to(x_format, value) for value in x]
        x += [Fraction(0)] * (spec.x_columns - spec.features)
        pad = [Fraction(0)] * (spec.gates.in_features - spec.x_columns - spec.outputs)
        a = [to(gate, value) for value in product("gates", spec.gates, x + y + pad)]
        i, f, g, o = (a[m * n : (m + 1) * n] for m in range(4))
        if peephole is not None:
            i = [to(gate, v + p * s) for v, p, s in zip(i, peephole[0], c, strict=True)]
            f = [to(gate, v + p * s) for v, p, s in zip(f, peephole[1], c, strict=True)]
        i, f = ([looked_up(spec.sigmoid, v) for v in values] for values in (i, f))
        g = [looked_up(spec.g, v) for v in g]
        c = [
            to(spec.state_format, f[m] * c[m] + i[m] * g[m])  # one rounding for the sum of both
            for m in range(n)
        ]
        if peephole is not None:
            o = [to(gate, v + p * s) for v, p, s in zip(o, peephole[2], c, strict=True)]
        o = [looked_up(spec.sigmoid, v) for v in o]
        form = unit if spec.project is not None else x_format
        y = [to(form, o[m] * looked_up(spec.tanh, c[m])) for m in range(n)]
        if spec.project is not None:
            y = [to(x_format, value) for value in product("project", spec.project, y)]
        outputs.append([int(value * Fraction(2) ** x_format.frac_bits) for value in y])
    return outputs
