"""Hypothesis strategies for formats, layers and networks."""

import numpy as np
from hypothesis import strategies as st

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
from model.ir.requantize import RequantizeSpec
from model.ir.select import SelectSpec
from tests.examples import codes_of

bits = st.integers(1, 16)

uniform_formats = st.builds(UniformFormat, bits, st.booleans())
fixed_point_formats = st.builds(FixedPointFormat, bits, st.booleans(), st.integers(-16, 32))
plain_formats = uniform_formats | fixed_point_formats
codebook_formats = st.lists(
    st.integers(-(2**15), 2**15 - 1), min_size=2, max_size=20, unique=True
).map(lambda levels: CodebookFormat(tuple(levels)))
formats = plain_formats | st.just(BipolarFormat()) | codebook_formats

scales = st.floats(2.0**-40, 2.0**40)


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
    draw: st.DrawFn, name: str, source: str, in_features: int, in_format: Format
) -> Node:
    spec = LinearSpec(
        in_features=in_features,
        out_features=draw(st.integers(1, 6)),
        in_format=in_format,
        weight_format=draw(formats),
        requantize=draw(requantize_specs(plain_formats)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = codes_of(spec.weight_format.codes, rng, spec.out_features, in_features)
    tensors = {"weight": weight} | requantize_tensors(spec.requantize, spec.out_features, rng)
    return Node(name, spec, (source,), draw(scales), tensors)


@st.composite
def select_nodes(draw: st.DrawFn, name: str, source: str, in_features: int, format: Format) -> Node:
    kept = draw(st.sets(st.integers(0, in_features - 1), min_size=1))
    spec = SelectSpec(in_features, len(kept), format)
    return Node(name, spec, (source,), draw(scales), {"indices": np.array(sorted(kept))})


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Chains of one to four layers on an input of one to three axes."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    entry = InputSpec("image", shape, draw(plain_formats), draw(scales))
    nodes: list[Node] = []
    edge, length, format = entry.name, int(np.prod(shape)), entry.format
    for n in range(draw(st.integers(1, 4))):
        make = draw(st.sampled_from([linear_nodes, select_nodes]))
        node = draw(make(f"layer{n}", edge, length, format))
        nodes.append(node)
        edge, length, format = node.name, node.spec.out_features, node.spec.out_format
    return Network("random_network", entry, tuple(nodes))
