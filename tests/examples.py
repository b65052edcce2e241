"""Ready-made networks and codes; needs nothing but the specification."""

import numpy as np

from model.ir.add import AddSpec
from model.ir.beats import Beats
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


def scale_of(format: Format) -> float:
    """The scale that a format states, or 1."""
    return 2.0**-format.frac_bits if isinstance(format, FixedPointFormat) else 1.0


def vector(length: int, lanes: int) -> tuple[Beats]:
    """The input of a stage that takes vectors."""
    return (Beats((length,), lanes),)


def codes_of(span: IntRange, rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Codes of a range, int64, in which both of its ends are common."""
    codes = rng.integers(span.low, span.high, shape, endpoint=True)
    ends = rng.choice([span.low, span.high], shape)
    return np.where(rng.random(shape) < 0.3, ends, codes)


def example_network() -> Network:
    """A network with every node kind, every place of ``m`` and every kind of format."""
    rng = np.random.default_rng(7)
    entry = InputSpec("image", (4, 3), UniformFormat(4, False), 0.0625)
    nodes: list[Node] = [
        Node(
            "keep",
            SelectSpec(12, 9, entry.format),
            ("image",),
            0.0625,
            {"indices": np.array([0, 1, 3, 4, 5, 7, 8, 10, 11])},
        )
    ]
    layers = [
        (7, CodebookFormat((0, 1, -1, 2, -2, 4, -4)), UniformFormat(4, False), "channel", 16),
        (6, BipolarFormat(), FixedPointFormat(5, True, 3), "one", 0),
        (5, UniformFormat(3, True), UniformFormat(16, True), "layer", 12),
    ]
    features, format = 9, entry.format
    for n, (out, weight_format, out_format, per, m_bits) in enumerate(layers):
        requantize = RequantizeSpec(out_format, 2 if per == "one" else 8, per, m_bits, 20)
        spec = LinearSpec(features, out, format, weight_format, requantize)
        tensors = {"weight": codes_of(weight_format.codes, rng, out, features)}
        tensors |= {
            name: rng.integers(-200, 200, size)
            for name, size in requantize.tensor_shapes(out).items()
        }
        nodes.append(Node(f"fc{n}", spec, (nodes[-1].name,), 0.125, tensors))
        features, format = out, out_format
    return Network("example", entry, tuple(nodes))


def small_network(features: int, signed: bool, weight_bits: int = 5) -> Network:
    """One layer of ``features`` to 3 codes."""
    rng = np.random.default_rng(features)
    entry, weight = UniformFormat(5, signed), UniformFormat(weight_bits, True)
    rule = RequantizeSpec(UniformFormat(12, True), 0, "one", 0, 8)
    spec = LinearSpec(features, 3, entry, weight, rule)
    tensors = {
        "weight": codes_of(weight.codes, rng, 3, features),
        "b": rng.integers(-50, 50, 3),
    }
    node = Node("fc", spec, ("x",), 1.0, tensors)
    return Network("small", InputSpec("x", (features,), entry, 1.0), (node,))


def wide_network() -> Network:
    """One layer of 16-bit operands, whose accumulators fill more than 32 bits."""
    rng = np.random.default_rng(5)
    wide = UniformFormat(16, True)
    spec = LinearSpec(20, 6, wide, wide, RequantizeSpec(wide, 30, "layer", 12, 40))
    tensors = {
        "weight": codes_of(wide.codes, rng, 6, 20),
        "m": np.array([2**10]),
        "b": rng.integers(-(2**39), 2**39, 6),
    }
    return Network(
        "wide", InputSpec("x", (20,), wide, 1.0), (Node("fc", spec, ("x",), 1.0, tensors),)
    )


def image_network() -> Network:
    """Both kinds of convolution, both poolings, a residual addition and all storages."""
    rng = np.random.default_rng(9)
    u4, s4 = UniformFormat(4, False), UniformFormat(4, True)
    rule = RequantizeSpec(u4, 8, "channel", 8, 16)

    def parameters(channels: int) -> dict[str, np.ndarray]:
        return {"m": rng.integers(-9, 30, channels), "b": rng.integers(-300, 900, channels)}

    def codes(*shape: int) -> np.ndarray:
        return codes_of(s4.codes, rng, *shape)

    circulant = BlockCirculantStorage(4, 6)
    first = ConvSpec(8, 7, 3, 6, 3, 2, 1, 1, 1, u4, s4, rule, storage=circulant)
    depthwise = ConvSpec(8, 8, 6, 6, 3, 3, 1, 1, 6, u4, s4, rule)
    sparse, tensors = BlockSparseStorage.pack(
        codes(5, 4 * 4 * 6), rng.random((3, 12)) < 0.5, np.array([2, 2, 1]), np.full(12, 8)
    )
    wide = RequantizeSpec(UniformFormat(16, True), 0, "one", 0, 8)
    nodes = (
        Node("conv", first, ("x",), 0.5, {"weight": codes(2, 6, 4)} | parameters(6)),
        Node("depth", depthwise, ("conv",), 0.5, {"weight": codes(6, 9)} | parameters(6)),
        Node(
            "sum",
            AddSpec((8, 8, 6), u4, u4, u4, 4, 6),
            ("conv", "depth"),
            0.5,
            {"mx": np.array([13]), "my": np.array([-7])},
        ),
        Node("top", MaxPoolSpec(8, 8, 6, 2, 2, 1, u4), ("sum",), 0.5, {}),
        Node("mean", AveragePoolSpec(7, 7, 6, 3, 3, 1, u4, rule), ("top",), 0.5, parameters(6)),
        Node("few", MaxPoolSpec(5, 5, 6, 2, 2, 1, u4), ("mean",), 0.5, {}),
        Node(
            "fc",
            LinearSpec(96, 5, u4, s4, wide, storage=sparse),
            ("few",),
            0.5,
            tensors | {"b": rng.integers(-99, 99, 5)},
        ),
    )
    return Network("images", InputSpec("x", (8, 7, 3), u4, 1.0), nodes)
