"""Specifications of convolution, pooling and addition: shapes, costs, refusals."""

import json
from typing import Any

import numpy as np
import pytest

from model.ir.add import AddSpec
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.conv import ConvSpec
from model.ir.errors import BadInput
from model.ir.layer import LayerSpec
from model.ir.network import InputSpec, Network, Node
from model.ir.numerics import BipolarFormat, CodebookFormat, UniformFormat
from model.ir.pool import AveragePoolSpec, MaxPoolSpec
from model.ir.requantize import RequantizeSpec

U4, S4 = UniformFormat(4, False), UniformFormat(4, True)
RULE = RequantizeSpec(UniformFormat(8, True), 4, "channel", 8, 20)


def conv(**changes: Any) -> ConvSpec:
    """A 3 × 3 convolution of a 9 × 8 frame, 4 to 8 channels, with changes."""
    fields = {
        **{"rows": 9, "columns": 8, "channels": 4, "out_channels": 8},
        **{"kernel_rows": 3, "kernel_columns": 3, "stride": 1, "padding": 1, "groups": 1},
        **{"in_format": U4, "weight_format": S4, "requantize": RULE},
    }
    return ConvSpec(**fields | changes)


def max_pool(**changes: Any) -> MaxPoolSpec:
    fields = {"rows": 6, "columns": 6, "channels": 3, "kernel_rows": 2, "kernel_columns": 2}
    return MaxPoolSpec(**fields | {"stride": 2, "format": U4} | changes)


def average_pool(**changes: Any) -> AveragePoolSpec:
    fields = {"rows": 6, "columns": 6, "channels": 3, "kernel_rows": 6, "kernel_columns": 6}
    return AveragePoolSpec(**fields | {"stride": 1, "in_format": U4, "requantize": RULE} | changes)


def add(**changes: Any) -> AddSpec:
    fields = {"shape": (2, 3), "x_format": U4, "y_format": S4, "out_format": U4}
    return AddSpec(**fields | {"shift": 4, "m_bits": 8} | changes)


def test_a_convolution_states_its_matrix_and_its_sizes() -> None:
    spec = conv(stride=2)
    assert spec.out_shape((9, 8, 4)) == (5, 4, 8)
    assert (spec.matrix_rows, spec.matrix_columns, spec.vectors) == (8, 36, 20)
    assert spec.macs() == 8 * 36 * 20
    assert spec.tensor_shapes() == {"weight": (8, 36), "b": (8,), "m": (8,)}
    assert (spec.accumulator().low, spec.accumulator().high) == (-8 * 15 * 36, 7 * 15 * 36)
    assert spec.stored_bits() == 8 * 36 * 4 + 8 * (8 + 20)
    assert spec.chip_bits() == 8 * 36 * 4
    depthwise = conv(groups=4)
    assert (depthwise.matrix_rows, depthwise.matrix_columns) == (8, 9)


def test_poolings_and_the_addition_state_their_sizes() -> None:
    assert max_pool().out_shape((6, 6, 3)) == (3, 3, 3)
    assert max_pool(kernel_rows=3, kernel_columns=3).out_shape((6, 6, 3)) == (2, 2, 3)
    assert average_pool().out_shape((6, 6, 3)) == (1, 1, 3)
    assert average_pool().accumulator().high == 15 * 36
    assert average_pool().stored_bits() == 3 * (8 + 20)
    assert add().stored_bits() == 16
    total = add().total()
    assert (total.low, total.high) == (-128 * 15 - 127 * 8 + 8, 127 * 15 + 128 * 8 + 8)


@pytest.mark.parametrize(
    "spec",
    [conv(), conv(storage=BlockCirculantStorage(4, 9)), max_pool(), average_pool(), add()],
    ids=lambda spec: spec.kind,
)
def test_the_json_form_loses_nothing(spec: LayerSpec) -> None:
    assert LayerSpec.from_json(json.loads(json.dumps(spec.to_json())), "here") == spec


@pytest.mark.parametrize("shortcut", [{"kernel_rows": 1, "kernel_columns": 1, "padding": 0}])
def test_a_1_by_1_kernel_may_subsample(shortcut: dict[str, int]) -> None:
    assert conv(**shortcut, stride=2).out_shape((9, 8, 4)) == (5, 4, 8)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (conv, {"kernel_rows": 12}, "kernel_rows must be at most the padded 11, not 12"),
        (conv, {"kernel_columns": 11}, "kernel_columns must be at most the padded 10, not 11"),
        (max_pool, {"kernel_rows": 7}, "kernel_rows must be at most the padded 6, not 7"),
        (conv, {"padding": 3}, "padding must be under kernel_rows = 3"),
        (conv, {"padding": -1}, "padding must be at least 0"),
        (conv, {"stride": 4}, "stride must be at most kernel_rows = 3, not 4, which skips input"),
        (max_pool, {"stride": 3}, "stride must be at most kernel_rows = 2, not 3, which skips"),
        (average_pool, {"kernel_columns": 2, "stride": 3}, "kernel_columns = 2, not 3, which"),
        (conv, {"stride": 0}, "stride must be at least 1"),
        (conv, {"rows": 0}, "rows must be at least 1"),
        (conv, {"groups": 2}, r"groups must be 1 or the 4 channels \(depthwise\), not 2"),
        (conv, {"groups": 4, "out_channels": 6}, "out_channels must be a multiple of the 4 groups"),
        (conv, {"in_format": BipolarFormat()}, "padding needs a format with a zero, not 1-bit bip"),
        (conv, {"in_format": CodebookFormat((1, 0))}, "padding needs a format with a zero"),
        (
            conv,
            {"storage": BlockCirculantStorage(4, 3)},
            "storage.positions must be the 9 of the kernel, not 3",
        ),
        (
            max_pool,
            {"format": CodebookFormat((0, 3, 2, 1))},
            "format must be uniform or fixed-point",
        ),
        (add, {"out_format": BipolarFormat()}, "out_format must be uniform or fixed-point"),
        (add, {"shift": 48}, "shift must be from 0 to 47"),
        (add, {"m_bits": 0}, "m_bits must be from 1 to 16"),
        (add, {"shape": ()}, r"shape must have at least one axis, not \(\)"),
        (add, {"shape": (2, 0)}, "size must be at least 1"),
    ],
)
def test_senseless_sizes_are_refused(make: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_a_format_without_zero_is_fine_where_nothing_is_padded() -> None:
    assert conv(in_format=BipolarFormat(), padding=0).out_shape((9, 8, 4)) == (7, 6, 8)


@pytest.mark.parametrize(
    ("spec", "shape"),
    [(conv(), (9, 8, 3)), (conv(), (8, 9, 4)), (max_pool(), (108,)), (average_pool(), (6, 6, 1))],
)
def test_another_frame_is_refused(spec: LayerSpec, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^a frame of shape .*, not \("):
        spec.out_shape(shape)


ENTRY = InputSpec("x", (2, 3), U4, 1.0)
M = {"mx": np.array([3]), "my": np.array([-128])}


def test_a_sum_of_unequal_shapes_is_refused_by_name() -> None:
    pool = MaxPoolSpec(2, 3, 1, 2, 1, 1, U4)
    nodes = (
        Node("pool", pool, ("x",), 1.0, {}),
        Node("sum", add(shape=(2, 3, 1), y_format=U4), ("x", "pool"), 1.0, M),
    )
    entry = InputSpec("x", (2, 3, 1), U4, 1.0)
    with pytest.raises(BadInput, match=r"^sum: .*two frames of shape \(2, 3, 1\), not \(1, 3, 1\)"):
        Network("net", entry, nodes)


def test_a_sum_of_another_format_is_refused_by_name() -> None:
    node = Node("sum", add(), ("x", "x"), 1.0, M)
    with pytest.raises(BadInput, match=r"^sum: format of input 'x': found unsigned 4-bit; expec"):
        Network("net", ENTRY, (node,))


def test_a_multiplier_beyond_its_bits_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"^sum\.my: found values from 128 to 128; .*more bits"):
        Node("sum", add(), ("x", "x"), 1.0, M | {"my": np.array([128])})
