"""Storages: what they expand to, what they cost, and what is refused in a tampered file."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from model.ir.block_circulant import BlockCirculantStorage
from model.ir.block_sparse import BlockSparseStorage
from model.ir.checksums import write_sums
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.network import FILES, InputSpec, Network, Node
from model.ir.numerics import BipolarFormat, Format, UniformFormat
from model.ir.requantize import RequantizeSpec
from model.ir.storage import DenseStorage, Storage
from tests import reference
from tests.strategies import formats, stored_weights

S4 = UniformFormat(4, True)
RULE = RequantizeSpec(UniformFormat(8, True), 0, "one", 0, 8)


def layer(rows: int, columns: int, format: Format, storage: Storage) -> LinearSpec:
    return LinearSpec(columns, rows, S4, format, RULE, storage=storage)


@given(st.data(), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), formats)
def test_expands_to_the_matrix_looked_up_element_by_element(
    data: st.DataObject, rows: int, positions: int, channels: int, format: Format
) -> None:
    columns = positions * channels
    storage, tensors = data.draw(stored_weights(rows, columns, positions, format))
    spec = layer(rows, columns, format, storage)
    storage.check(tensors, rows, columns, format, "fc")
    values = spec.values(tensors)
    assert values.dtype == np.int64
    assert values.tolist() == reference.matrix(spec, tensors)
    assert spec.weights() == tensors["weight"].size
    assert Storage.from_json(json.loads(json.dumps(storage.to_json())), "here") == storage


def test_a_circulant_block_s_first_column_is_its_vector() -> None:
    spec = layer(3, 3, S4, BlockCirculantStorage(3))
    found = spec.values({"weight": np.array([[[1, 2, 3]]])})
    assert found.tolist() == [[1, 3, 2], [2, 1, 3], [3, 2, 1]]


def test_each_position_s_channels_are_padded_by_themselves() -> None:
    storage = BlockCirculantStorage(4, 9)
    assert storage.tensor_shapes(6, 9 * 3) == {"weight": (2, 9, 4)}
    assert BlockCirculantStorage(4).tensor_shapes(6, 9 * 3) == {"weight": (2, 7, 4)}


def test_bits_count_codes_indices_and_free_sizes() -> None:
    assert DenseStorage().stored_bits(6, 5, S4) == 6 * 5 * 4
    circulant = BlockCirculantStorage(4)
    assert circulant.stored_bits(6, 5, S4) == 2 * 2 * 4 * 4
    assert circulant.chip_bits(6, 5, S4) == 2 * 2 * 4 * 4
    free = BlockSparseStorage(4, 8, 32)
    # a free size is at most 16 - 3 rows, or 32 - 7 columns
    assert free.stored_bits(16, 32, S4) == 32 * 4 + 32 + 4 * 4 + 8 * 5
    # 4 rows of 2 numbers of 3 bits are fewer than a mask of 32
    numbered = BlockSparseStorage(4, 8, 128, per_row=2, row_size=4, column_size=4)
    assert numbered.stored_bits(16, 32, S4) == 128 * 4 + 4 * 2 * 3
    assert numbered.chip_bits(16, 32, S4) == numbered.stored_bits(16, 32, S4)
    masked = BlockSparseStorage(4, 8, 384, per_row=6, row_size=4, column_size=4)
    assert masked.stored_bits(16, 32, S4) == 384 * 4 + 32


def test_a_layer_s_bits_are_those_of_weights_and_requantization() -> None:
    spec = layer(6, 5, S4, BlockCirculantStorage(4))
    assert spec.stored_bits() == 2 * 2 * 4 * 4 + 6 * 8
    assert spec.chip_bits() == 2 * 2 * 4 * 4
    tensors = {"weight": np.zeros((2, 2, 4), int), "b": np.zeros(6, int)}
    entry = InputSpec("x", (5,), S4, 1.0)
    network = Network("net", entry, (Node("fc", spec, ("x",), 1.0, tensors),))
    assert network.chip_bits() == 64
    assert network.weights() == 16


@pytest.mark.parametrize(
    ("sizes", "size"),
    [([4, 4, 4], 4), ([4, 4, 1], 4), ([5], 5), ([4, 4, 5], None), ([4, 3, 4], None)],
)
def test_pack_finds_regular_sizes(sizes: list[int], size: int | None) -> None:
    rows = sum(sizes)
    storage, tensors = BlockSparseStorage.pack(
        np.arange(rows)[:, None], np.ones((len(sizes), 1)), np.array(sizes), np.array([1])
    )
    assert (storage.row_size, storage.column_size, storage.per_row) == (size, 1, 1)
    storage.check_size(rows, 1)
    assert tensors["weight"].tolist() == list(range(rows))


def test_a_matrix_of_no_kept_block_is_zero() -> None:
    storage, tensors = BlockSparseStorage.pack(
        np.ones((4, 4)), np.zeros((2, 2)), np.array([2, 2]), np.array([2, 2])
    )
    assert (storage.kept, storage.per_row) == (0, None)
    assert not layer(4, 4, BipolarFormat(), storage).values(tensors).any()


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        (BlockCirculantStorage(2, 4), r"columns must be a multiple of the 4 positions, not 6"),
        (BlockSparseStorage(5, 2, 4), r"row_groups must be at most the 4 rows"),
        (BlockSparseStorage(2, 7, 4), r"column_groups must be at most the 6 columns"),
        (BlockSparseStorage(2, 2, 4, row_size=1), r"row_size must cut 4 rows into 2 .*, not 1"),
        (BlockSparseStorage(2, 2, 4, column_size=6), r"column_size must cut 6 columns .*, not 6"),
        (BlockSparseStorage(2, 2, 25), r"kept must be at most 24, not 25"),
    ],
)
def test_a_storage_that_does_not_fit_the_matrix_is_refused(storage: Storage, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer(4, 6, S4, storage)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlockCirculantStorage(0), "k must be at least 1"),
        (lambda: BlockCirculantStorage(2, 0), "positions must be at least 1"),
        (lambda: BlockSparseStorage(0, 1, 1), "row_groups must be at least 1"),
        (lambda: BlockSparseStorage(1, 2, 1, per_row=3), "per_row must be from 1 to 2"),
        (lambda: BlockSparseStorage(1, 2, 1, column_size=0), "column_size must be at least 1"),
        (lambda: BlockSparseStorage(1, 2, -1), "kept must be at least 0"),
    ],
)
def test_a_storage_of_senseless_sizes_is_refused(make: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# --- tampered files ---------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved network of one block-sparse layer, 4 × 6, with one block in each of 2 rows."""
    storage, tensors = BlockSparseStorage.pack(
        np.ones((4, 6), int), np.eye(2, 3), np.array([2, 2]), np.array([2, 2, 2])
    )
    tensors |= {"b": np.zeros(4, int)}
    node = Node("fc", layer(4, 6, S4, storage), ("x",), 1.0, tensors)
    Network("net", InputSpec("x", (6,), S4, 1.0), (node,)).save(tmp_path / "net")
    assert Network.load(tmp_path / "net")["fc"].spec.storage.per_row == 1
    return tmp_path / "net"


@pytest.mark.parametrize(
    ("name", "values", "parts"),
    [
        ("mask", [[2, 0, 0], [0, 1, 0]], ["fc.mask", "values from 0 to 2"]),
        ("mask", [[-1, 0, 0], [0, 1, 0]], ["fc.mask", "values from -1 to 1"]),
        (
            "mask",
            [[1, 1, 0], [0, 0, 0]],
            ["fc.mask", "with 0 to 2 blocks", "1 blocks in every block row"],
        ),
        ("row_sizes", [2, 3], ["fc.row_sizes", "a sum of 5", "a sum of 4"]),
        ("row_sizes", [1, 3], ["fc.row_sizes", "found [1, 3]", "2 for all but the last"]),
        ("row_sizes", [4, 0], ["fc.row_sizes", "values from 0 to 4", "from 1 to 4"]),
        ("column_sizes", [2, 2, 3], ["fc.column_sizes", "a sum of 7", "a sum of 6"]),
        ("column_sizes", [2, 2, -2], ["fc.column_sizes", "from -2 to 2"]),
        ("weight", [1] * 7 + [8], ["fc.weight", "codes from 1 to 8"]),
        ("weight", [1] * 7, ["fc.weight", "of shape (7,)", "of shape (8,)"]),
    ],
)
def test_a_tampered_tensor_is_refused_by_name(
    folder: Path, name: str, values: list, parts: list[str]
) -> None:
    tensors = safetensors.numpy.load_file(folder / FILES[1])
    tensors[f"fc.{name}"] = np.array(values)
    safetensors.numpy.save_file(tensors, folder / FILES[1])
    write_sums(folder, FILES)
    with pytest.raises(BadInput) as caught:
        Network.load(folder)
    for part in [*parts, "export the network again" if name != "weight" else ""]:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        (lambda d: d.update(kept=7), ["fc.weight", "shape (8,)"]),
        (lambda d: d.update(kept=25), ["fc", "kept must be at most 24"]),
        (lambda d: d.update(per_row=2), ["fc.mask", "with 1 to 1 blocks", "2 blocks in every"]),
        (lambda d: d.update(per_row="1"), ["fc.storage.per_row", "'1'"]),
        (lambda d: d.update(kind="ragged"), ["fc.storage.kind", "block_circulant, block_sparse"]),
        (lambda d: d.pop("row_size"), ["fc.storage", "missing keys ['row_size']"]),
    ],
)
def test_a_tampered_specification_is_refused_by_name(
    folder: Path, edit: Callable, parts: list[str]
) -> None:
    data = json.loads((folder / FILES[0]).read_text())
    edit(data["nodes"][0]["spec"]["storage"])
    (folder / FILES[0]).write_text(json.dumps(data))
    write_sums(folder, FILES)
    with pytest.raises(BadInput) as caught:
        Network.load(folder)
    for part in parts:
        assert part in str(caught.value)


def test_a_mask_of_another_area_than_the_weights_is_refused() -> None:
    storage = BlockSparseStorage(1, 2, 4)
    tensors = {"row_sizes": np.array([2]), "column_sizes": np.array([2, 3])}
    tensors |= {"mask": np.array([[0, 1]]), "weight": np.zeros(4, int)}
    with pytest.raises(BadInput, match=r"^fc\.mask: found blocks of 6 weights; expected blocks of"):
        storage.check(tensors, 2, 5, S4, "fc")


def test_accumulators_have_as_many_terms_as_a_row_can_keep() -> None:
    """Two blocks of 4 of 30 columns; with free counts or free sizes, all of them."""
    even = BlockSparseStorage(4, 8, 128, per_row=2, row_size=4, column_size=4)
    assert layer(16, 30, S4, even).accumulator() == (S4.values * S4.values).sum_of(8)
    assert even.terms(7) == 7
    for storage in (replace(even, per_row=None), replace(even, column_size=None), DenseStorage()):
        assert storage.terms(30) == 30


@given(st.data(), st.integers(1, 9), st.integers(1, 16), formats)
def test_no_row_has_more_terms_than_stated(
    data: st.DataObject, rows: int, columns: int, format: Format
) -> None:
    storage, tensors = data.draw(stored_weights(rows, columns, 1, format))
    values = storage.expand(tensors, rows, columns, format)
    assert (values != 0).sum(axis=1).max() <= storage.terms(columns) <= columns
