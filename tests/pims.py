"""Ready-made layers of pim arithmetic, and their slow, independent evaluation."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from model.ir.block_circulant import BlockCirculantStorage
from model.ir.block_sparse import BlockSparseStorage
from model.ir.conv import ConvSpec
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import BipolarFormat, CodebookFormat, IntRange, UniformFormat
from model.ir.pim_arithmetic import PIMArithmetic
from model.ir.requantize import RequantizeSpec
from tests.examples import codes_of, scale_of
from tests.strategies import stored_weights

STATES = (5, 8, 11, 14)
"""Levels of a cell with no zero among them; two slices have the factors 1 and 4."""

LEVELS = tuple(sorted({h * 4 + low for h in STATES for low in STATES}))
RULE = RequantizeSpec(UniformFormat(16, True), 0, "one", 0, 2)

weight_formats = (
    st.builds(UniformFormat, st.integers(1, 9), st.booleans())
    | st.just(BipolarFormat())
    | st.just(CodebookFormat((0, 7, -3)))
)
in_formats = st.builds(UniformFormat, st.integers(1, 9), st.booleans()) | st.just(BipolarFormat())


@st.composite
def pim_networks(draw: st.DrawFn, **fixed: Any) -> Network:
    """One layer of pim arithmetic with random weights; ``fixed`` are fields of the arithmetic."""
    fields: dict[str, Any] = {
        "rows": draw(st.integers(1, 12)),
        "cell_bits": draw(st.integers(1, 4)),
        "form": draw(st.sampled_from(["twos_complement", "pairs"])),
        "adc_bits": draw(st.none() | st.integers(1, 8)),
        "grid_bits": draw(st.integers(0, 3)),
        "off": draw(st.integers(0, 3)),
        "device": draw(st.booleans()),
    }
    fields |= fixed
    weight_format = draw(weight_formats)
    if fields["form"] == "pairs" and draw(st.booleans()):
        fields |= {"states": STATES, "cell_bits": draw(st.integers(2, 4))}
        values = draw(st.sampled_from([STATES, LEVELS]))
        weight_format = CodebookFormat((*values, *(-v for v in values)))
    if fields["adc_bits"] is not None:
        fields["step"] = draw(st.integers(1, 5))
    conv = draw(st.booleans())
    in_format = draw(in_formats)
    if conv:
        sizes = {"rows": 4, "columns": 3, "channels": draw(st.integers(1, 5))}
        sizes |= {"kernel_rows": 2, "kernel_columns": 1, "stride": 1, "groups": 1}
        sizes |= {"padding": 0, "out_channels": draw(st.integers(1, 6))}
        rows, columns, positions = sizes["out_channels"], 2 * sizes["channels"], 2
    else:
        sizes = {"in_features": draw(st.integers(1, 30)), "out_features": draw(st.integers(1, 7))}
        rows, columns, positions = sizes["out_features"], sizes["in_features"], 1
    storage, tensors = draw(stored_weights(rows, columns, positions, weight_format))
    if isinstance(storage, BlockCirculantStorage):
        fields["rows"] = max(fields["rows"], storage.k)
    spec = (ConvSpec if conv else LinearSpec)(
        **sizes,
        in_format=in_format,
        weight_format=weight_format,
        requantize=RULE,
        arithmetic=PIMArithmetic(**fields),
        storage=storage,
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tensors["b"] = np.zeros(rows, dtype=np.int64)
    if spec.arithmetic.device:
        cells = spec.tensor_shapes()["cells"]
        tensors["cells"] = codes_of(IntRange(0, spec.arithmetic.level_top), rng, *cells)
    shape = (4, 3, sizes["channels"]) if conv else (columns,)
    entry = InputSpec("x", shape, in_format, scale_of(in_format)) if _plain(in_format) else None
    if entry is None:  # an input must be plain: the layer takes its bipolar codes as 2-bit values
        spec = type(spec)(**{**_fields(spec), "in_format": UniformFormat(2, True)})
        entry = InputSpec("x", shape, spec.in_format, 1.0)
    return Network("net", entry, (Node("layer", spec, ("x",), 1.0, tensors),))


def pim_free_linear() -> LinearSpec:
    """A dense layer of 30 inputs and 10 outputs under exact arithmetic."""
    rule = RequantizeSpec(UniformFormat(16, True), 2, "one", 0, 8)
    return LinearSpec(30, 10, UniformFormat(4, False), UniformFormat(6, True), rule)


def _plain(format: Any) -> bool:
    return isinstance(format, UniformFormat)


def _fields(spec: Any) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}


def frames_of(network: Network, seed: int, count: int) -> np.ndarray:
    """Random frames that are often at the ends of their format."""
    rng = np.random.default_rng(seed)
    return codes_of(network.input.format.codes, rng, count, *network.input.shape)


def vectors_of(network: Network, frames: np.ndarray) -> np.ndarray:
    """The vectors that the matrix is multiplied by, int64 [vectors, columns], by plain loops."""
    spec = network["layer"].spec
    if isinstance(spec, LinearSpec):
        return frames.reshape(len(frames), -1)
    found = []
    for frame in frames:
        for row in range(spec.out_rows):
            for column in range(spec.out_columns):
                window = frame[row : row + spec.kernel_rows, column : column + spec.kernel_columns]
                found.append(window.ravel())
    return np.array(found)


def slow_accumulators(network: Network, frames: np.ndarray) -> np.ndarray:
    """Accumulators int64 [vectors, rows] by the text of the arithmetic, with plain Python numbers.

    Nothing here comes from the specification's functions: digits, tiles, rotations and clamps are
    written anew.
    """
    node = network["layer"]
    spec, pim, tensors = node.spec, node.spec.arithmetic, node.tensors
    storage = spec.storage
    columns, rows = spec.matrix_columns, spec.matrix_rows
    # the physical matrix: stored[o][line] = index into the flat weights, or None
    steps = 1
    if isinstance(storage, BlockCirculantStorage):
        p, q, k = tensors["weight"].shape
        stored = [[(o * q + b) * k + t for b in range(q) for t in range(k)] for o in range(p)]
        groups, steps = [list(range(b * k, b * k + k)) for b in range(q)], k
    elif isinstance(storage, BlockSparseStorage):
        ends_r, ends_c = np.cumsum(tensors["row_sizes"]), np.cumsum(tensors["column_sizes"])
        stored, number = [[None] * columns for _ in range(rows)], 0
        for i, row_end in enumerate(ends_r):
            for j, column_end in enumerate(ends_c):
                if tensors["mask"][i, j]:
                    for r in range(row_end - tensors["row_sizes"][i], row_end):
                        for c in range(column_end - tensors["column_sizes"][j], column_end):
                            stored[r][c], number = number, number + 1
        groups = []
        for j, end in enumerate(ends_c):
            if tensors["mask"][:, j].any():
                groups.append(list(range(end - tensors["column_sizes"][j], end)))
    else:
        stored = [[o * columns + c for c in range(columns)] for o in range(rows)]
        groups = [list(range(columns))]
    tiles: list[list[int]] = []
    room = 0
    for group in groups:
        for start in range(0, len(group), pim.rows):
            part = group[start : start + pim.rows]
            if len(part) > room:
                tiles.append([])
                room = pim.rows
            tiles[-1] += part
            room -= len(part)
    values = [int(v) for v in spec.weight_format.decode(tensors["weight"]).ravel()]
    if pim.device:
        levels = tensors["cells"].reshape(len(tensors["cells"]), -1).T.tolist()
    else:
        levels = [_cells(pim, spec, v) for v in values]
    factors = _factors(pim, spec)
    bits = spec.in_format.bits
    found = []
    for x in vectors_of(network, frames).tolist():
        acc = [0] * rows
        for step in range(steps):
            for o, line_up in enumerate(stored):
                row = o * steps + step
                if row >= rows:
                    continue
                for tile in tiles:
                    if all(line_up[line] is None for line in tile):
                        continue
                    for n, factor in enumerate(factors):
                        for bit in range(bits):
                            count = 0
                            for line in tile:
                                if line_up[line] is None:
                                    continue
                                own = levels[line_up[line]]
                                if pim.form == "pairs":
                                    level = own[2 * n] - own[2 * n + 1]
                                else:
                                    level = own[n] - pim.off
                                active = _activation(spec, x, line, step) >> bit & 1
                                count += level * active
                            place = 1 << bit
                            if spec.in_format.signed and bit == bits - 1:
                                place = -place
                            acc[row] += factor * place * converted(pim, count)
        found.append(acc)
    return np.array(found)


def _activation(spec: Any, x: list[int], line: int, step: int) -> int:
    if not isinstance(spec.storage, BlockCirculantStorage):
        return x[line]
    k, channels = spec.storage.k, spec.matrix_columns // spec.storage.positions
    blocks = -(-channels // k)
    block, t = divmod(line, k)
    position, own = divmod(block, blocks)
    channel = own * k + (step - t) % k
    return x[position * channels + channel] if channel < channels else 0


def converted(pim: PIMArithmetic, count: int) -> int:
    """What a converter makes of a count."""
    if pim.adc_bits is None:
        return count
    code = (count + pim.step // 2) // pim.step
    if pim.form == "pairs":
        return max(-(2 ** (pim.adc_bits - 1)), min(2 ** (pim.adc_bits - 1) - 1, code))
    return max(0, min(2**pim.adc_bits - 1, code))


def _factors(pim: PIMArithmetic, spec: Any) -> list[int]:
    span = spec.weight_format.values
    if pim.form == "pairs":
        base = 4 if pim.states else 2**pim.cell_bits
        highest = pim.states[-1] if pim.states else 2**pim.cell_bits - 1
        factors = [1]
        while highest * sum(factors) < max(-span.low, span.high):
            factors.append(factors[-1] * base)
        return factors
    low = span.bits - (span.low < 0)
    factors = [2**n for n in range(0, low, pim.cell_bits)]
    if span.low < 0:
        factors.append(-(2 ** (span.bits - min(pim.cell_bits, span.bits))))
    return factors


def _cells(pim: PIMArithmetic, spec: Any, value: int) -> list[int]:
    span, factors = spec.weight_format.values, _factors(pim, spec)
    if pim.form == "pairs":
        digits = [0] * len(factors)
        if pim.states and len(factors) == 1:
            digits = [abs(value)]
        elif pim.states and value:
            top = next(h for h in pim.states if abs(value) - 4 * h in pim.states)
            digits = [abs(value) - 4 * top, top]
        elif not pim.states:
            digits = [abs(value) // f % 2**pim.cell_bits for f in factors]
        found = [d for digit in digits for d in ((digit, 0) if value > 0 else (0, digit))]
    else:
        low = span.bits - (span.low < 0)
        plain = value % 2**low
        count = len(factors) - (span.low < 0)
        found = [plain // 2 ** (n * pim.cell_bits) % 2**pim.cell_bits for n in range(count)]
        if span.low < 0:
            found.append((value < 0) * 2 ** (min(pim.cell_bits, span.bits) - 1))
    return [digit * 2**pim.grid_bits + pim.off for digit in found]
