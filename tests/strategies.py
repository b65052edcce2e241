"""Hypothesis strategies for formats, layers and networks."""

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st

from model.ir.add import AddSpec
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.block_sparse import BlockSparseStorage
from model.ir.conv import ConvSpec
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import (
    BipolarFormat,
    CodebookFormat,
    FixedPointFormat,
    Format,
    IntRange,
    UniformFormat,
)
from model.ir.pool import AveragePoolSpec, MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from model.ir.select import SelectSpec
from model.ir.storage import DenseStorage, Storage
from tests.examples import codes_of, scale_of

bits = st.integers(1, 16)

uniform_formats = st.builds(UniformFormat, bits, st.booleans())
fixed_point_formats = st.builds(FixedPointFormat, bits, st.booleans(), st.integers(-16, 32))
plain_formats = uniform_formats | fixed_point_formats
codebook_formats = st.lists(
    st.integers(-(2**15), 2**15 - 1), min_size=2, max_size=20, unique=True
).map(lambda levels: CodebookFormat(tuple(levels)))
formats = plain_formats | st.just(BipolarFormat()) | codebook_formats

scales = st.floats(2.0**-40, 2.0**40)


def scales_of(format: Format) -> st.SearchStrategy[float]:
    """Scales of a format's codes: any, unless it states its own."""
    return st.just(scale_of(format)) if isinstance(format, FixedPointFormat) else scales


@st.composite
def ranges(draw: st.DrawFn, reach: int = 300) -> IntRange:
    edges = [
        sign * (1 << n) + d for n in range(reach.bit_length()) for d in (-1, 0) for sign in (-1, 1)
    ]
    ends = st.integers(-reach, reach) | st.sampled_from([e for e in edges if abs(e) <= reach])
    low, high = sorted([draw(ends), draw(ends)])
    return IntRange(low, high)


@st.composite
def requantize_specs(draw: st.DrawFn, out_formats: st.SearchStrategy[Format]) -> RequantizeSpec:
    per = draw(st.sampled_from(["one", "layer", "channel"]))
    return RequantizeSpec(
        out_format=draw(out_formats),
        shift=draw(st.integers(0, 24)),
        per=per,
        m_bits=0 if per == "one" else draw(st.integers(1, 16)),
        b_bits=draw(st.integers(1, 40)),
    )


def requantize_tensors(
    spec: RequantizeSpec, channels: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Random ``b`` and ``m`` that fit the specification."""
    bits_of = {"b": spec.b_bits, "m": spec.m_bits}
    return {
        name: codes_of(IntRange.of_bits(bits_of[name], True), rng, *shape)
        for name, shape in spec.tensor_shapes(channels).items()
    }


@st.composite
def linear_nodes(
    draw: st.DrawFn,
    name: str,
    source: str,
    in_features: int,
    in_format: Format,
    any_storage: bool = False,
) -> Node:
    """A fully connected layer, dense unless ``any_storage``."""
    out_features, weight_format = draw(st.integers(1, 6)), draw(formats)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    storage: Storage = DenseStorage()
    tensors = {"weight": codes_of(weight_format.codes, rng, out_features, in_features)}
    if any_storage:
        storage, tensors = draw(stored_weights(out_features, in_features, 1, weight_format))
    spec = LinearSpec(
        in_features=in_features,
        out_features=out_features,
        in_format=in_format,
        weight_format=weight_format,
        requantize=draw(requantize_specs(plain_formats)),
        storage=storage,
    )
    tensors = tensors | requantize_tensors(spec.requantize, spec.out_features, rng)
    return Node(name, spec, (source,), draw(scales_of(spec.out_format)), tensors)


@st.composite
def select_nodes(draw: st.DrawFn, name: str, source: str, in_features: int, format: Format) -> Node:
    kept = draw(st.sets(st.integers(0, in_features - 1), min_size=1))
    spec = SelectSpec(in_features, len(kept), format)
    return Node(name, spec, (source,), draw(scales_of(format)), {"indices": np.array(sorted(kept))})


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Chains of one to four layers on an input of one to three axes."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    format = draw(plain_formats)
    entry = InputSpec("image", shape, format, draw(scales_of(format)))
    nodes: list[Node] = []
    edge, length, format = entry.name, int(np.prod(shape)), entry.format
    for n in range(draw(st.integers(1, 4))):
        make = draw(st.sampled_from([linear_nodes, select_nodes]))
        node = draw(make(f"layer{n}", edge, length, format))
        nodes.append(node)
        edge, length, format = node.name, node.spec.out_features, node.spec.out_format
    return Network("random_network", entry, tuple(nodes))


@st.composite
def group_sizes(draw: st.DrawFn, length: int) -> list[int]:
    """Sizes of groups that cut an axis: equal ones with a rest, or any."""
    if draw(st.booleans()):
        size = draw(st.integers(1, length))
        return [min(size, length - start) for start in range(0, length, size)]
    cuts = draw(st.sets(st.integers(1, length - 1), max_size=4)) if length > 1 else set()
    ends = [0, *sorted(cuts), length]
    return [end - start for start, end in pairwise(ends)]


@st.composite
def stored_weights(
    draw: st.DrawFn, rows: int, columns: int, positions: int, format: Format
) -> tuple[Storage, dict[str, np.ndarray]]:
    """A storage of any kind for a weight matrix, with random tensors."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["dense", "block_circulant", "block_sparse"]))
    if kind == "block_sparse":
        sizes = draw(group_sizes(rows)), draw(group_sizes(columns))
        mask = rng.random((len(sizes[0]), len(sizes[1]))) < draw(st.floats(0, 1))
        if draw(st.booleans()):  # as many blocks in every block row
            mask = np.sort(mask, axis=1)[:1].repeat(len(mask), axis=0)
            mask = rng.permuted(mask, axis=1)
        codes = codes_of(format.codes, rng, rows, columns)
        return BlockSparseStorage.pack(codes, mask, *map(np.array, sizes))
    storage = DenseStorage()
    if kind == "block_circulant":
        storage = BlockCirculantStorage(draw(st.integers(1, 5)), positions)
    (shape,) = storage.tensor_shapes(rows, columns).values()
    return storage, {"weight": codes_of(format.codes, rng, *shape)}


@st.composite
def window_sizes(draw: st.DrawFn, padded: bool) -> dict[str, int]:
    """Frame and window of a layer that slides a kernel."""
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    padding = draw(st.integers(0, min(*kernel, 3) - 1)) if padded else 0
    stride = draw(st.integers(1, 3 if kernel == (1, 1) else min(kernel)))
    size = [draw(st.integers(max(1, k - 2 * padding), 6)) for k in kernel]
    return {
        **{"rows": size[0], "columns": size[1], "channels": draw(st.integers(1, 4))},
        **{"kernel_rows": kernel[0], "kernel_columns": kernel[1]},
        **{"stride": stride, "padding": padding},
    }


@st.composite
def conv_nodes(
    draw: st.DrawFn, name: str, source: str, sizes: dict[str, int], in_format: Format
) -> Node:
    channels, weight_format = sizes["channels"], draw(formats)
    groups = draw(st.sampled_from([1, channels]))
    rows = draw(st.integers(1, 5)) if groups == 1 else groups * draw(st.integers(1, 2))
    area = sizes["kernel_rows"] * sizes["kernel_columns"]
    storage, tensors = draw(stored_weights(rows, area * channels // groups, area, weight_format))
    rule = draw(requantize_specs(plain_formats))
    spec = ConvSpec(
        **sizes,
        out_channels=rows,
        groups=groups,
        in_format=in_format,
        weight_format=weight_format,
        requantize=rule,
        storage=storage,
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return Node(
        name,
        spec,
        (source,),
        draw(scales_of(spec.out_format)),
        tensors | requantize_tensors(rule, rows, rng),
    )


@st.composite
def pool_nodes(
    draw: st.DrawFn, name: str, source: str, sizes: dict[str, int], format: Format
) -> Node:
    """Poolings; ``sizes`` has no padding."""
    sizes = {key: size for key, size in sizes.items() if key != "padding"}
    if draw(st.booleans()):
        return Node(
            name, MaxPoolSpec(**sizes, format=format), (source,), draw(scales_of(format)), {}
        )
    rule = draw(requantize_specs(plain_formats))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spec = AveragePoolSpec(**sizes, in_format=format, requantize=rule)
    tensors = requantize_tensors(rule, sizes["channels"], rng)
    return Node(name, spec, (source,), draw(scales_of(spec.out_format)), tensors)


@st.composite
def add_nodes(
    draw: st.DrawFn, name: str, sources: tuple[str, str], shape: Any, x: Format, y: Format
) -> Node:
    spec = AddSpec(
        tuple(shape), x, y, draw(plain_formats), draw(st.integers(0, 24)), draw(st.integers(1, 16))
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    span = IntRange.of_bits(spec.m_bits, True)
    tensors = {name: codes_of(span, rng, 1) for name in ("mx", "my")}
    return Node(name, spec, sources, draw(scales_of(spec.out_format)), tensors)


@st.composite
def image_networks(draw: st.DrawFn) -> Network:
    """A convolution or a pooling, a residual addition, then a fully connected layer."""
    sizes = draw(window_sizes(padded=draw(st.booleans())))
    shape = (sizes["rows"], sizes["columns"], sizes["channels"])
    format = draw(plain_formats)
    entry = InputSpec("image", shape, format, draw(scales_of(format)))
    make = conv_nodes if sizes["padding"] else draw(st.sampled_from([conv_nodes, pool_nodes]))
    first = draw(make("first", "image", sizes, entry.format))
    rows, columns, channels = first.spec.out_shape(shape)
    sizes = {
        **{"rows": rows, "columns": columns, "channels": channels, "stride": 1},
        **dict.fromkeys(("kernel_rows", "kernel_columns"), 3),
        "padding": 1,
    }
    branch = draw(conv_nodes("branch", "first", sizes, first.spec.out_format))
    inputs = ["first", "first"]
    if branch.spec.out_channels == channels:
        inputs[1] = "branch"
    formats = [{"first": first, "branch": branch}[edge].spec.out_format for edge in inputs]
    add = draw(add_nodes("add", tuple(inputs), (rows, columns, channels), *formats))
    nodes = [first, *([branch] if "branch" in inputs else []), add]
    length = rows * columns * channels
    fc = draw(linear_nodes("fc", "add", length, add.spec.out_format, any_storage=True))
    return Network("image_network", entry, (*nodes, fc))
