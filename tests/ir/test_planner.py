import dataclasses
import re
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.ir.add import AddSpec
from model.ir.beats import Beats
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.circulant_array import BODIES, CirculantArraySpec
from model.ir.complex_product import FORMS
from model.ir.conv import ConvSpec
from model.ir.errors import BadInput
from model.ir.fft_arithmetic import FFTArithmetic
from model.ir.layer import LayerSpec
from model.ir.linear import LinearSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import BipolarFormat, CodebookFormat, UniformFormat
from model.ir.pe_array import PeArraySpec
from model.ir.planner import Budget, check_budget, options, plan
from model.ir.pool import MaxPoolSpec
from model.ir.requantize import RequantizeSpec
from model.ir.select import SelectSpec
from tests.examples import image_network, vector
from tests.strategies import networks

ACTIVATION = UniformFormat(4, False)
WEIGHTS = (UniformFormat(4, True), BipolarFormat(), CodebookFormat((-1, 1, 3)))
ENOUGH = 10**9


def chain(*sizes: int, per: str = "layer", weight: object = WEIGHTS[0], keep: int = 0) -> Network:
    """A network of fully connected layers; with ``keep`` an input selection comes first."""
    entry = InputSpec("image", (sizes[0],), ACTIVATION, 1.0)
    requantize = RequantizeSpec(ACTIVATION, 4, per, 0 if per == "one" else 6, 12)
    nodes: list[Node] = []
    if keep:
        indices = np.arange(keep)
        spec = SelectSpec(sizes[0], keep, ACTIVATION)
        nodes.append(Node("select", spec, ("image",), 1.0, {"indices": indices}))
        sizes = (keep, *sizes[1:])
    for n, (features, out) in enumerate(pairwise(sizes)):
        linear = LinearSpec(features, out, ACTIVATION, weight, requantize)
        tensors = {name: np.zeros(s, np.int64) for name, s in linear.tensor_shapes().items()}
        source = nodes[-1].name if nodes else "image"
        nodes.append(Node(f"fc{n}", linear, (source,), 1.0, tensors))
    return Network("chain", entry, tuple(nodes))


@st.composite
def chains(draw: st.DrawFn) -> Network:
    sizes = draw(st.lists(st.integers(1, 7), min_size=2, max_size=4))
    per = draw(st.sampled_from(["one", "layer", "channel"]))
    return chain(*sizes, per=per, weight=draw(st.sampled_from(WEIGHTS)))


@st.composite
def conv_networks(draw: st.DrawFn) -> Network:
    """A convolution, perhaps a residual branch, a pooling, and a fully connected layer."""
    per = draw(st.sampled_from(["one", "layer"]))
    rule = RequantizeSpec(ACTIVATION, 4, per, 0 if per == "one" else 6, 12)
    size, channels, out = draw(st.integers(2, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    kernel, stride = draw(st.sampled_from([(1, 1), (2, 1), (2, 2), (3, 1)]))
    padding = int(kernel == 3)
    entry = InputSpec("image", (size, size, channels), ACTIVATION, 1.0)
    layers: list[tuple[LayerSpec, tuple[str, ...]]] = []

    def conv(rows: int, channels: int, kernel: int, stride: int, padding: int) -> ConvSpec:
        sizes = (rows, rows, channels, out, kernel, kernel, stride, padding, 1)
        return ConvSpec(*sizes, ACTIVATION, WEIGHTS[0], rule)

    first = conv(size, channels, kernel, stride, padding)
    layers.append((first, ("image",)))
    rows = first.out_rows
    if draw(st.booleans()):
        layers.append((conv(rows, out, 1, 1, 0), ("n0",)))
        add = AddSpec((rows, rows, out), ACTIVATION, ACTIVATION, ACTIVATION, 3, 4)
        layers.append((add, ("n0", "n1")))
    last = f"n{len(layers) - 1}"
    pool = draw(st.sampled_from([0, 2, rows])) if rows > 1 else 0
    if pool:
        layers.append((MaxPoolSpec(rows, rows, out, pool, pool, pool, ACTIVATION), (last,)))
        last, rows = f"n{len(layers) - 1}", rows // pool
    layers.append((LinearSpec(rows * rows * out, 2, ACTIVATION, WEIGHTS[0], rule), (last,)))
    nodes = []
    for n, (layer, inputs) in enumerate(layers):
        tensors = {name: np.zeros(s, np.int64) for name, s in layer.tensor_shapes().items()}
        nodes.append(Node(f"n{n}", layer, inputs, 1.0, tensors))
    return Network("images", entry, tuple(nodes))


def every_option(node: Node) -> list[tuple[int, tuple[int, int, int]]]:
    """Lanes and (cycles, memory bits, multipliers) of all choices for a node.

    Rows, columns and lanes are any; pixels are powers of two or all of a frame. A stage with an
    input that suits it is at least as fast as with any other.
    """
    layer, found = node.spec, []
    if isinstance(layer, AddSpec | MaxPoolSpec):
        shape = layer.shape if isinstance(layer, AddSpec) else (layer.rows, layer.columns)
        shape = shape if isinstance(layer, AddSpec) else (*shape, layer.channels)
        for lanes in range(1, shape[-1] + 1):
            cost = layer.stage_cost((Beats(shape, lanes),) * layer.arity, lanes)
            found.append((lanes, cost))
    elif isinstance(layer.arithmetic, FFTArithmetic):
        k, shape = layer.arithmetic.k, (layer.matrix_columns,)
        if isinstance(layer, ConvSpec):
            shape = layer.rows, layer.columns, layer.channels
        kinds = product(range(1, layer.arithmetic.grid(layer)[0] + 1), BODIES, FORMS)
        for engine in (CirculantArraySpec(k, *kind) for kind in kinds):
            for lanes in engine.out_lanes(layer):
                if engine.drains(layer, lanes):
                    found.append((lanes, engine.cost(layer, (Beats(shape, k),), lanes)))
    else:
        linear = isinstance(layer, LinearSpec)
        banks = 1 if linear else layer.kernel_rows
        for width in range(1, (layer.in_features if linear else layer.channels) + 1):
            source = vector(layer.in_features, width) if linear else None
            source = source or (Beats((layer.rows, layer.columns, layer.channels), width),)
            vectors = layer.vectors
            for pixels in {*(1 << n for n in range(vectors.bit_length())), vectors}:
                for rows in range(1, layer.matrix_rows + 1):
                    for lanes in (n for n in range(1, rows + 1) if rows % n == 0):
                        spec = PeArraySpec(rows, banks * width, pixels)
                        found.append((lanes, spec.cost(layer, source, lanes)))
    return [(n, (c.cycles, c.memory_bits, c.multiplier_count)) for n, c in found]


def joined(whole: np.ndarray, own: np.ndarray) -> np.ndarray:
    """All sums of choices: the slowest stage, all memory bits and multipliers."""
    own = np.unique(own, axis=0)
    slowest = np.maximum(whole[:, None, 0], own[None, :, 0])
    sums = whole[:, None, 1:] + own[None, :, 1:]
    return np.unique(np.dstack([slowest[..., None], sums]).reshape(-1, 3), axis=0)


def every_mapping(network: Network) -> np.ndarray:
    """(cycles, memory bits, multipliers) of all choices for all nodes, without FIFOs: [choices, 3].

    An addition and the nodes that it joins have the same lanes.
    """
    whole, found = np.zeros((1, 3), np.int64), {n.name: every_option(n) for n in network.nodes}
    adds = [node for node in network.nodes if isinstance(node.spec, AddSpec)]
    tied = {name for node in adds for name in (*node.inputs, node.name)}
    for name, choices in found.items():
        if name not in tied:
            whole = joined(whole, np.array([figures for _, figures in choices]))
    if not tied:
        return whole
    parts = []
    for lanes in {lanes for lanes, _ in found[adds[0].name]}:
        part = whole
        for name in tied:
            own = [figures for n, figures in found[name] if n == lanes]
            part = joined(part, np.array(own, np.int64).reshape(-1, 3))
        parts.append(part)
    return np.concatenate(parts)


def within(choices: np.ndarray, budget: Budget) -> np.ndarray:
    memory = ENOUGH if budget.memory_bits is None else budget.memory_bits
    return choices[(choices[:, 2] <= budget.multipliers) & (choices[:, 1] <= memory)]


def figures(network: Network, budget: Budget) -> tuple[int, int, int]:
    """(cycles, memory bits, multipliers) of the planned mapping, by its own true costs.

    The FIFOs, which hang on the whole, are left out.
    """
    mapping = dataclasses.replace(plan(network, budget), fifos=())
    costs = [cost for _, cost in mapping.costs(network)]
    return (
        max(cost.cycles for cost in costs),
        sum(cost.memory_bits for cost in costs),
        sum(cost.multiplier_count for cost in costs),
    )


@settings(max_examples=60)
@given(chains(), st.integers(0, 10**6), st.integers(0, 10**6), st.booleans())
def test_plan_is_the_best_of_all_mappings(
    network: Network, multipliers: int, memory: int, limited: bool
) -> None:
    """Budgets lie between just too small and more than enough."""
    choices = every_mapping(network)
    low, high = choices[:, 2].min(), choices[:, 2].max()
    least, most = choices[:, 1].min(), choices[:, 1].max()
    budget = Budget(
        int(low - 1 + multipliers % (min(high - low, 40) + 2)),
        int(least - 1 + memory % (most - least + 2)) if limited else None,
    )
    allowed = within(choices, budget)
    if not len(allowed):
        with pytest.raises(BadInput, match="mapping: budget"):
            plan(network, budget)
        return
    best = min(map(tuple, allowed.tolist()))
    assert figures(network, budget) == best


@settings(max_examples=40)
@given(conv_networks(), st.integers(0, 10**6))
def test_plan_of_a_convolutional_network_is_the_best_of_all_mappings(
    network: Network, multipliers: int
) -> None:
    choices = every_mapping(network)
    low, high = choices[:, 2].min(), choices[:, 2].max()
    budget = Budget(int(low + multipliers % (min(high - low, 60) + 1)))
    assert figures(network, budget) == min(map(tuple, within(choices, budget).tolist()))


def test_more_rows_than_the_folds_need_are_used_where_they_drain_evenly() -> None:
    """Two folds of 13 rows need 7, which drain singly or all at once; 8 drain in pairs."""
    network = chain(5, 13)
    found = plan(network, Budget(10))
    engine = found.engines[0].spec
    assert (engine.rows, engine.cols, found.stages[0].lanes) == (8, 1, 2)
    assert figures(network, Budget(10))[0] == 10


def circulant_network(k: int, fc: tuple[int, int], conv: tuple[int, int], per: str) -> Network:
    """A circulant convolution (1 × 2 kernel) of so many channels, a dense and a circulant layer.

    ``conv``: channels in and out; ``fc``: features in and out.
    """
    rule = RequantizeSpec(ACTIVATION, 4, per, 0 if per == "one" else 6, 20)
    levels = k.bit_length() - 1
    fft = FFTArithmetic(0, (1,) * levels, 0, 1, (1,) * levels)
    weight = WEIGHTS[0]
    storage = BlockCirculantStorage(k, 2), BlockCirculantStorage(k)
    layers = [
        ConvSpec(2, 3, *conv, 1, 2, 1, 0, 1, ACTIVATION, weight, rule, fft, storage[0]),
        LinearSpec(4 * conv[1], fc[0], ACTIVATION, weight, rule),
        LinearSpec(*fc, ACTIVATION, weight, rule, fft, storage[1]),
    ]
    nodes, edge = [], "image"
    for n, layer in enumerate(layers):
        tensors = {name: np.zeros(s, np.int64) for name, s in layer.tensor_shapes().items()}
        nodes.append(Node(f"n{n}", layer, (edge,), 1.0, tensors))
        edge = f"n{n}"
    entry = InputSpec("image", (2, 3, conv[0]), ACTIVATION, 1.0)
    return Network("circulant", entry, tuple(nodes))


@st.composite
def circulant_networks(draw: st.DrawFn) -> Network:
    k = draw(st.sampled_from([2, 4, 8]))
    sizes, few = st.integers(k, 3 * k), st.integers(k, 2 * k)
    fc, conv = draw(st.tuples(sizes, sizes)), draw(st.tuples(few, few))
    return circulant_network(k, fc, conv, draw(st.sampled_from(["one", "layer"])))


@settings(max_examples=12, deadline=None)
@given(circulant_networks(), st.integers(0, 10**6), st.integers(0, 10**6), st.booleans())
def test_plan_of_a_circulant_network_is_the_best_of_all_mappings(
    network: Network, multipliers: int, memory: int, limited: bool
) -> None:
    choices = every_mapping(network)
    low, high = choices[:, 2].min(), choices[:, 2].max()
    least, most = choices[:, 1].min(), choices[:, 1].max()
    budget = Budget(
        int(low + multipliers % (min(high - low, 120) + 1)),
        int(least + memory % (most - least + 1)) if limited else None,
    )
    allowed = within(choices, budget)
    if len(allowed):
        assert figures(network, budget) == min(map(tuple, allowed.tolist()))
    else:
        with pytest.raises(BadInput, match="mapping: budget"):
            plan(network, budget)


def test_lanes_that_drain_in_parts_may_be_fewer_multipliers_than_the_fewest_lanes() -> None:
    """Seven block rows leave one by one or all at once; eight lanes leave in pairs."""
    network = circulant_network(8, (32, 104), (8, 8), "layer")
    node = network["n2"]
    found = {(o.engine.lanes, o.lanes) for o in options(node.spec, node)}
    assert (7, 56) in found  # p = 13 in two groups
    assert (8, 16) in found
    assert (7, 8) not in found  # 7 beats do not leave in the q = 4 cycles of a group


def test_circulant_layers_get_circulant_arrays_and_dense_ones_pe_arrays() -> None:
    network = circulant_network(4, (13, 22), (5, 9), "layer")
    mapping = plan(network, Budget(60))
    kinds = [mapping.engine(stage.engine).kind for stage in mapping.stages]
    assert kinds == ["circulant_array", "pe_array", "circulant_array"]


@given(chains(), st.integers(1, 60), st.integers(0, 30))
def test_a_larger_budget_is_never_slower(network: Network, multipliers: int, more: int) -> None:
    try:
        first = figures(network, Budget(multipliers))
    except BadInput:
        return
    assert figures(network, Budget(multipliers + more)) <= first
    assert figures(network, Budget(multipliers, first[1])) == first


@settings(max_examples=60)
@given(chains(), st.integers(0, 10**6), st.integers(0, 10**6), st.booleans())
def test_refusal_states_the_least_that_would_do(
    network: Network, multipliers: int, memory: int, limited: bool
) -> None:
    choices = every_mapping(network)
    least, most = int(choices[:, 1].min()), int(choices[:, 1].max())
    budget = Budget(
        multipliers % (int(choices[:, 2].min()) + 3),
        least - 1 + memory % (most - least + 2) if limited else None,
    )
    if len(within(choices, budget)):
        return
    with pytest.raises(BadInput) as caught:
        plan(network, budget)
    error = caught.value
    assert error.thing == "mapping: budget"
    assert f"{budget.multipliers} multipliers" in error.found
    assert (f"{budget.memory_bits} memory bits" in error.found) == limited
    if together := re.fullmatch(
        r"at least (\d+) multipliers and, with so few, (\d+) memory bits", error.expected
    ):
        wanted = Budget(*map(int, together.groups()))
        assert error.remedy == "raise mapping.multipliers and mapping.memory_bits"
        assert wanted.multipliers == choices[:, 2].min()
        assert len(within(choices, wanted))
        assert not len(within(choices, dataclasses.replace(wanted, multipliers=budget.multipliers)))
        return
    for part in error.expected.split(", or "):
        number, what = re.fullmatch(r"at least (\d+) (multipliers|memory bits)", part).groups()
        key = what.replace(" ", "_")
        assert f"mapping.{key}" in error.remedy
        assert len(within(choices, dataclasses.replace(budget, **{key: int(number)})))
        assert not len(within(choices, dataclasses.replace(budget, **{key: int(number) - 1})))


def test_refusal_reads_as_a_sentence() -> None:
    with pytest.raises(BadInput) as caught:
        plan(chain(4, 4, per="layer"), Budget(1))
    assert str(caught.value) == (
        "mapping: budget: found 1 multipliers; expected at least 2 multipliers; "
        "raise mapping.multipliers."
    )


def test_columns_divide_a_layer_of_which_neither_format_has_a_zero() -> None:
    requantize = RequantizeSpec(UniformFormat(16, True), 0, "one", 0, 12)
    spec = LinearSpec(12, 5, BipolarFormat(), BipolarFormat(), requantize)
    tensors = {"weight": np.zeros((5, 12), np.int64), "b": np.zeros(5, np.int64)}
    node = Node("fc", spec, ("x",), 1.0, tensors)
    assert {option.engine.cols for option in options(spec, node)} == {1, 2, 3, 4, 6, 12}
    padded = dataclasses.replace(spec, weight_format=UniformFormat(2, True))
    node = Node("fc", padded, ("x",), 1.0, tensors)
    assert {option.engine.cols for option in options(padded, node)} == {1, 2, 3, 4, 6, 12}
    longer = dataclasses.replace(padded, in_features=11)
    node = Node("fc", longer, ("x",), 1.0, tensors | {"weight": np.zeros((5, 11), np.int64)})
    assert 4 in {option.engine.cols for option in options(longer, node)}


def test_a_layer_without_hardware_is_refused_by_name() -> None:
    network = image_network()
    node = network["conv"]
    with pytest.raises(BadInput) as caught:
        list(options(node.spec, node))
    for word in (
        "conv: found block-circulant weights of exact arithmetic",
        "dense or block-sparse",
        'arithmetic = "fft"',
        "golden model",
    ):
        assert word in str(caught.value)
    with pytest.raises(BadInput, match=r"^conv: found"):
        plan(network, Budget(10_000))


def test_layers_without_hardware_are_named_all_at_once() -> None:
    network = image_network()
    storage = BlockCirculantStorage(2, 1)
    fc = network["fc"]
    spec = dataclasses.replace(fc.spec, storage=storage)
    (shape,) = storage.tensor_shapes(spec.matrix_rows, spec.matrix_columns).values()
    tensors = {name: fc.tensors[name] for name in spec.requantize.tensor_shapes(1)}
    other = Node("fc", spec, fc.inputs, fc.scale, tensors | {"weight": np.zeros(shape, np.int64)})
    nodes = tuple(other if node is fc else node for node in network.nodes)
    with pytest.raises(BadInput) as caught:
        plan(dataclasses.replace(network, nodes=nodes), Budget(10_000))
    assert caught.value.thing == "network images"
    assert caught.value.found == (
        "conv: block-circulant weights of exact arithmetic; "
        "fc: block-circulant weights of exact arithmetic"
    )


@settings(max_examples=60)
@given(networks(), st.integers(0, 200))
def test_any_network_gets_a_mapping_within_its_budget(network: Network, multipliers: int) -> None:
    """Selections anywhere included: none of them is slower than the slowest engine."""
    least = sum(
        1 + node.spec.requantize.multiplies for node in network.nodes if node.spec.weights()
    )
    multipliers += least
    mapping = plan(network, Budget(multipliers))
    costs = list(mapping.costs(network))
    assert sum(cost.multiplier_count for _, cost in costs) <= multipliers
    engines = [cost.cycles for _, cost in costs if cost.macs]
    slowest = max(engines, default=network.length(network.input.name))
    assert max(cost.cycles for _, cost in costs) == slowest


@pytest.mark.parametrize("multipliers", [8, 13, 29, 100])
def test_memory_budget_holds_with_an_input_selection(multipliers: int) -> None:
    """The mask of the selection is padded to the width of the input stream, which must count."""
    network = chain(45, 12, 5, keep=20)
    _, bits, used = figures(network, Budget(multipliers))
    assert figures(network, Budget(multipliers, bits))[1:] == (bits, used)
    least = min(
        sum(cost.memory_bits for _, cost in plan(network, Budget(m)).costs(network))
        for m in range(4, 30)
    )
    with pytest.raises(BadInput, match=f"and {least - 2000} memory bits"):
        plan(network, Budget(multipliers, least - 2000))


def test_mnist_like_network_keeps_256_multipliers_busy() -> None:
    network = chain(784, 40, 40, 40, 10, keep=288)
    mapping = plan(network, Budget(256))
    costs = [cost for _, cost in mapping.costs(network)]
    cycles = max(cost.cycles for cost in costs)
    multipliers = sum(cost.multiplier_count for cost in costs)
    macs = 288 * 40 + 40 * 40 + 40 * 40 + 40 * 10
    assert multipliers <= 256
    assert macs / (cycles * multipliers) >= 0.85
    assert cycles <= 1.05 * mapping.bound_cycles(network)


def test_check_budget_names_what_is_too_much() -> None:
    network = chain(6, 6)
    mapping = plan(network, Budget(20))
    _, bits, multipliers = figures(network, Budget(20))
    assert check_budget(mapping, network, Budget(multipliers, bits)) is mapping
    with pytest.raises(BadInput) as caught:
        check_budget(mapping, network, Budget(multipliers - 1))
    assert caught.value.thing == "mapping: multipliers"
    assert caught.value.found == str(multipliers)
    assert caught.value.expected == f"at most {multipliers - 1}"
    assert "mapping.multipliers" in caught.value.remedy
    with pytest.raises(BadInput) as caught:
        check_budget(mapping, network, Budget(multipliers, bits - 1))
    assert caught.value.thing == "mapping: memory bits"
    assert caught.value.found == str(bits)
    assert "mapping.memory_bits" in caught.value.remedy


def test_plan_is_the_same_every_time() -> None:
    network = chain(20, 15, 9, 4)
    assert plan(network, Budget(50)) == plan(network, Budget(50))
