"""Random graphs of convolutions, poolings and residual additions, under random mappings."""

from dataclasses import replace

import numpy as np

from hdl.accelerator import Accelerator
from model.ir.add import AddSpec
from model.ir.block_sparse import BlockSparseStorage
from model.ir.conv import ConvSpec
from model.ir.errors import BadInput
from model.ir.layer import LayerSpec
from model.ir.linear import LinearSpec
from model.ir.mapping import Engine, Mapping, StageMapping
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import Format, IntRange
from model.ir.pacing import with_paced_fifos
from model.ir.pe_array import PeArraySpec
from model.ir.planner import Option, equal_lanes, options
from model.ir.pool import AveragePoolSpec, MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from model.ir.schedule import with_fifos
from model.ir.storage import DenseStorage
from sim.block import Block
from tests.examples import codes_of, scale_of
from tests.sim.random_cases import PRODUCTS, random_format, random_weight_format
from tests.strategies import requantize_tensors

SIDE = 7
CHANNELS = 6


class _Graph:
    """A network under construction; ``edge`` is its end so far."""

    def __init__(self, rng: np.random.Generator, name: str) -> None:
        self.rng, self.name = rng, name
        shape = tuple(int(n) for n in (*rng.integers(1, SIDE + 1, 2), rng.integers(1, CHANNELS)))
        format = random_format(rng)
        self.input = InputSpec("x", shape, format, scale_of(format))
        self.nodes: list[Node] = []
        self.edge, self.shape, self.format = "x", shape, format

    def add(self, spec: LayerSpec, tensors: dict, inputs: tuple[str, ...] | None = None) -> str:
        scale = scale_of(spec.out_format)
        if isinstance(spec, MaxPoolSpec) and self.nodes:
            scale = self.nodes[-1].scale
        inputs = (self.edge,) if inputs is None else inputs
        self.nodes.append(Node(f"{self.name}_{len(self.nodes)}", spec, inputs, scale, tensors))
        in_shapes = (spec.shape,) * 2 if isinstance(spec, AddSpec) else (self.shape,)
        self.edge, self.format = self.nodes[-1].name, spec.out_format
        self.shape = spec.out_shape(*in_shapes)
        return self.edge

    def closed(self, spec: LayerSpec) -> LayerSpec:
        """The layer with a requantization whose outputs spread over the codes."""
        rng, rule = self.rng, spec.requantize
        reach = rule.product(spec.accumulator()).bits
        shift = int(np.clip(reach - rule.out_format.bits - rng.integers(0, 5), 0, 47))
        b_bits = int(np.clip(reach - rng.integers(0, 4), 1, 48))
        return replace(spec, requantize=replace(rule, shift=shift, b_bits=b_bits))

    def rule(self) -> RequantizeSpec:
        per = str(self.rng.choice(["one", "layer", "channel"]))
        m_bits = 0 if per == "one" else int(self.rng.integers(1, 13))
        return RequantizeSpec(random_format(self.rng), 0, per, m_bits, 1)

    def weights(self, rows: int, columns: int, format: Format, dense: bool = False):
        """A storage and its tensors."""
        rng, codes = self.rng, codes_of(format.codes, self.rng, rows, columns)
        if dense or rng.random() < 0.5:
            return DenseStorage(), {"weight": codes}
        sizes = []
        for length in (rows, columns):
            size = int(rng.integers(1, length + 1))
            sizes.append(np.array([min(size, length - n) for n in range(0, length, size)]))
        mask = rng.random((len(sizes[0]), len(sizes[1]))) < rng.uniform(0.1, 0.9)
        return BlockSparseStorage.pack(codes, mask, *sizes)

    def conv(self, kernel, stride: int, padding: int, out: int, depthwise: bool = False) -> str:
        rows, columns, channels = self.shape
        groups, weight_format = (channels if depthwise else 1), random_weight_format(self.rng)
        out = channels if depthwise else out
        width = kernel[0] * kernel[1] * (1 if depthwise else channels)
        plain = depthwise and channels > 1
        storage, tensors = self.weights(out, width, weight_format, dense=plain)
        sizes = (rows, columns, channels, out, *kernel, stride, padding, groups)
        spec = ConvSpec(*sizes, self.format, weight_format, self.rule(), storage=storage)
        spec = self.closed(spec)
        return self.add(spec, tensors | requantize_tensors(spec.requantize, out, self.rng))

    def any_conv(self, depthwise: bool = False) -> None:
        rng, (rows, columns, _) = self.rng, self.shape
        kernel = [int(n) for n in rng.integers(1, 5, 2)]
        padding = int(rng.integers(0, min(kernel)))
        if rows + 2 * padding < kernel[0] or columns + 2 * padding < kernel[1]:
            kernel, padding = [min(kernel[0], rows), min(kernel[1], columns)], 0
        most = 3 if kernel == [1, 1] else min(kernel)
        stride = int(rng.integers(1, most + 1))
        self.conv(tuple(kernel), stride, padding, int(rng.integers(1, CHANNELS + 3)), depthwise)

    def pool(self) -> None:
        rng, (rows, columns, channels) = self.rng, self.shape
        kernel = [int(rng.integers(1, min(4, n) + 1)) for n in (rows, columns)]
        if rng.random() < 0.3:
            kernel = [rows, columns]
        most = 3 if kernel == [1, 1] else min(kernel)
        sizes = (rows, columns, channels, *kernel, int(rng.integers(1, most + 1)))
        if rng.random() < 0.5:
            self.add(MaxPoolSpec(*sizes, self.format), {})
            return
        spec = self.closed(AveragePoolSpec(*sizes, self.format, self.rule()))
        self.add(spec, requantize_tensors(spec.requantize, channels, rng))

    def residual(self) -> None:
        """One or two convolutions beside a short cut, or beside another convolution."""
        rng, begin, shape, format = self.rng, self.edge, self.shape, self.format
        channels = shape[2]
        for _ in range(int(rng.integers(1, 3))):
            kernel, padding = ((3, 3), 1) if rng.random() < 0.7 else ((1, 1), 0)
            self.conv(kernel, 1, padding, channels)
        x, x_format = self.edge, self.format
        self.edge, self.shape, self.format = begin, shape, format
        if rng.random() < 0.3:
            self.conv((1, 1), 1, 0, channels)
        y, y_format = self.edge, self.format
        m_bits, out = int(rng.integers(1, 9)), random_format(rng)
        reach = AddSpec(shape, x_format, y_format, out, 0, m_bits).total().bits
        shift = int(np.clip(reach - out.bits - rng.integers(0, 4), 0, 47))
        spec = AddSpec(shape, x_format, y_format, out, shift, m_bits)
        span = IntRange.of_bits(m_bits, True)
        edges = (x, y) if rng.random() < 0.5 else (y, x)
        if edges == (y, x):
            spec = replace(spec, x_format=y_format, y_format=x_format)
        self.add(spec, {name: codes_of(span, rng, 1) for name in ("mx", "my")}, edges)

    def linear(self) -> None:
        rng, length = self.rng, int(np.prod(self.shape))
        out, weight_format = int(rng.integers(1, 9)), random_weight_format(rng)
        storage, tensors = self.weights(out, length, weight_format)
        spec = LinearSpec(length, out, self.format, weight_format, self.rule(), storage=storage)
        spec = self.closed(spec)
        self.add(spec, tensors | requantize_tensors(spec.requantize, out, rng))


def random_graph(rng: np.random.Generator, name: str) -> Network:
    """One to four blocks on an image, and perhaps a fully connected layer."""
    graph = _Graph(rng, name)
    for _ in range(int(rng.integers(1, 5))):
        which = rng.random()
        if which < 0.4:
            graph.any_conv()
        elif which < 0.55:
            graph.any_conv(depthwise=True)
        elif which < 0.75:
            graph.pool()
        else:
            graph.residual()
    if rng.random() < 0.5:
        graph.linear()
    return Network(name, graph.input, tuple(graph.nodes))


def random_pair(rng: np.random.Generator, name: str) -> tuple[Network, Mapping]:
    """A network with a mapping.

    Weights without a zero in rows that keep none fit no array; streams to be added may have no
    number of lanes in common. Then there is another network.
    """
    while True:
        network = random_graph(rng, name)
        mapping = random_mapping(rng, network)
        if mapping is not None:
            return network, mapping


def random_mapping(rng: np.random.Generator, network: Network) -> Mapping | None:
    """A valid mapping: options of the planner or any other arrays, any lanes, and FIFOs."""
    joined = {n.name for n in network.nodes if isinstance(n.spec, AddSpec)}
    joined |= {edge for n in network.nodes if isinstance(n.spec, AddSpec) for edge in n.inputs}
    found = {node.name: list(options(node.spec, node, PRODUCTS)) for node in network.nodes}
    if not all(found.values()):
        return None
    chosen, entry = {}, None
    for names in equal_lanes(network):
        if names[0] not in joined:
            (name,) = names
            chosen[name] = _option(rng, network[name], found[name])
            continue
        both = set.intersection(*({option.lanes for option in found[name]} for name in names))
        if not both:
            return None
        if network.input.name in joined and any(
            network.input.name in network[name].inputs
            for name in names
            if isinstance(network[name].spec, AddSpec)
        ):
            both &= set(range(1, network.input.shape[2] + 1))
            entry = int(rng.choice(sorted(both)))
        lanes = entry if entry is not None and entry in both else int(rng.choice(sorted(both)))
        for name in names:
            fits = [option for option in found[name] if option.lanes == lanes]
            chosen[name] = fits[int(rng.integers(len(fits)))]
    engines, stages = [], []
    for node in network.nodes:
        option = chosen[node.name]
        if option.engine is not None:
            engines.append(Engine(f"e_{node.name}", option.engine))
        engine = None if option.engine is None else f"e_{node.name}"
        stages.append(StageMapping(node.name, engine, option.lanes))
    lanes = entry or int(rng.integers(1, network.input.shape[2] + 1))
    mapping = Mapping(lanes, tuple(engines), tuple(stages))
    return (with_fifos if rng.random() < 0.5 else with_paced_fifos)(mapping, network)


def _option(rng: np.random.Generator, node: Node, found: list[Option]) -> Option:
    """One of the planner's options, or an array of any size that fits."""
    layer = node.spec
    if isinstance(layer, LinearSpec) or (isinstance(layer, ConvSpec) and layer.groups == 1):
        for _ in range(10):
            option = _any_array(rng, node)
            if option is not None:
                return option
    return found[int(rng.integers(len(found)))]


def _any_array(rng: np.random.Generator, node: Node) -> Option | None:
    layer = node.spec
    sparse = isinstance(layer.storage, BlockSparseStorage) and rng.random() < 0.7
    rows = int(rng.integers(1, min(layer.matrix_rows, 9) + 1))
    width = layer.channels if isinstance(layer, ConvSpec) else min(layer.in_features, 20)
    cols = int(rng.integers(1, width + 1))
    if isinstance(layer, ConvSpec) and not sparse:
        cols *= layer.kernel_rows
    pixels = int(rng.integers(1, min(layer.vectors, 5) + 1)) if rng.random() < 0.5 else 1
    engine = PeArraySpec(rows, cols, pixels, 1 if sparse else None)
    if rows * cols * pixels > PRODUCTS:
        return None
    if sparse:
        engine = replace(engine, tiles=engine.kept_tiles(node))
    lanes = int(rng.choice([n for n in range(1, rows + 1) if rows % n == 0]))
    try:
        engine.check(node, lanes)
    except BadInput:
        return None
    return Option(engine, lanes)


def block_of(network: Network, mapping: Mapping, frames: int, seed: int) -> Block:
    """An accelerator with taps on every node, and full-range codes to run."""
    accelerator = Accelerator(network, mapping, taps=True)
    rng = np.random.default_rng(seed)
    codes = codes_of(network.input.format.codes, rng, frames, network.length(network.input.name))
    return Block(
        network.name,
        accelerator,
        codes,
        network.length(network.output.name),
        accelerator.files(),
        {node.name: network.shape(node.name) for node in network.nodes},
        network.input.shape,
        network.shape(network.output.name),
    )
