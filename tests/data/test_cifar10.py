import hashlib
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from model import data
from model.data import cifar10
from model.ir.errors import BadInput

NAMES = list(cifar10.SUMS)
IMAGES, HELD = 10, 6


def batch(seed: int, labels: list[int] | None = None) -> bytes:
    rng = np.random.default_rng(seed)
    records = rng.integers(0, 256, (IMAGES, cifar10.RECORD), dtype=np.uint8)
    records[:, 0] = np.arange(IMAGES) if labels is None else labels
    return records.tobytes()


def pack(content: bytes) -> bytes:
    return lzma.compress(content, preset=0)


@pytest.fixture
def folder(root: Path) -> Path:
    """Small batches of CIFAR-10's form under $GYRE_DATA, compressed."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        (folder / f"{name}.xz").write_bytes(pack(batch(seed)))
    return folder


@pytest.fixture
def sums() -> dict[str, str]:
    return {name: hashlib.sha256(batch(seed)).hexdigest() for seed, name in enumerate(NAMES)}


def test_reads_and_splits(folder: Path, sums: dict[str, str]) -> None:
    dataset = cifar10.read(sums, HELD)
    assert dataset.shape == (32, 32, 3)
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [44, 6, 10]
    raw = np.frombuffer(batch(4), dtype=np.uint8).reshape(IMAGES, cifar10.RECORD)[-1]
    image = dataset.validation.samples[-1]
    for channel in range(3):  # the planes red, green, blue become the last axis
        plane = raw[1 + 1024 * channel : 1 + 1024 * (channel + 1)].reshape(32, 32)
        assert (image[..., channel] == plane).all()
    assert dataset.validation.labels.tolist() == [4, 5, 6, 7, 8, 9]
    assert dataset.train.samples.dtype == np.uint8
    assert dataset.train.real().max() == 1
    assert dataset.train.lengths is None


def test_files_may_be_plain(folder: Path, sums: dict[str, str]) -> None:
    packed = cifar10.read(sums, HELD)
    expected = packed.test
    for name in NAMES:
        path = folder / f"{name}.xz"
        (folder / name).write_bytes(lzma.decompress(path.read_bytes()))
        path.unlink()
    plain = cifar10.read(sums, HELD)
    assert (plain.train.samples == packed.train.samples).all()
    assert (plain.test.samples == expected.samples).all()
    assert plain.hash == packed.hash


def test_both_orders_of_the_test_batch_give_the_same(folder: Path, sums: dict[str, str]) -> None:
    expected = cifar10.read(sums, HELD).test
    records = np.frombuffer(batch(5), dtype=np.uint8).reshape(IMAGES, -1)
    (folder / "test_batch.bin").write_bytes(records[[3, 7, 0, 1, 9, 2, 8, 4, 6, 5]].tobytes())
    found = cifar10.read(sums, HELD).test
    assert (found.samples == expected.samples).all()
    assert (found.labels == expected.labels).all()


def test_interleaving_keeps_the_order_within_a_class() -> None:
    content = batch(0, [1, 1, 0, 2, 0, 0, 1, 2, 1, 0])
    records = np.frombuffer(content, dtype=np.uint8).reshape(IMAGES, -1)
    order = [2, 0, 3, 4, 1, 7, 5, 6, 9, 8]
    assert cifar10.interleaved(content) == records[order].tobytes()
    assert cifar10.interleaved(records[order].tobytes()) == records[order].tobytes()


def test_test_file_is_opened_only_for_the_test_split(folder: Path, sums: dict[str, str]) -> None:
    (folder / "test_batch.bin.xz").write_bytes(b"damaged")
    dataset = cifar10.read(sums, HELD)
    assert len(dataset.train) == 44
    with pytest.raises(BadInput, match=r"test_batch\.bin\.xz"):
        _ = dataset.test


@pytest.mark.parametrize("name", [NAMES[0], NAMES[-1]])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other"])
@pytest.mark.parametrize("form", ["packed", "plain"])
def test_damaged_file_is_refused(
    folder: Path, sums: dict[str, str], name: str, damage: str, form: str
) -> None:
    def broken(content: bytes) -> bytes:
        flipped = content[:99] + bytes([content[99] ^ 4]) + content[100:]
        return {"truncated": content[:-7], "flipped": flipped, "empty": b""}[damage]

    content = batch(NAMES.index(name))
    if form == "plain":
        path, bad = folder / name, batch(99) if damage == "other" else broken(content)
    else:
        path = folder / f"{name}.xz"
        bad = pack(batch(99)) if damage == "other" else broken(pack(content))
    path.write_bytes(bad)
    with pytest.raises(BadInput) as caught:
        _ = cifar10.read(sums, HELD).test
    assert caught.value.thing == str(path)
    assert "bytes" in caught.value.found
    assert "original file" in caught.value.remedy


def test_every_missing_file_is_named_with_where_to_get_it(
    folder: Path, sums: dict[str, str]
) -> None:
    gone = [NAMES[1], NAMES[5]]
    for name in gone:
        (folder / f"{name}.xz").unlink()
    with pytest.raises(BadInput) as caught:
        cifar10.read(sums, HELD)
    assert all(name in caught.value.found for name in gone)
    assert str(folder) in caught.value.found
    assert NAMES[0] not in caught.value.found
    assert ".xz" in caught.value.expected
    assert "cifar-10-binary.tar.gz" in caught.value.remedy
    assert "GYRE_DATA" in caught.value.remedy


def test_no_data_at_all_names_the_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GYRE_DATA")
    with pytest.raises(BadInput, match=r"\$GYRE_DATA/cifar-10-batches-bin"):
        data.load("cifar10")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (batch(0, [0, 1, 2, 3, 10, 5, 6, 7, 8, 9]), "label 10.*labels below 10"),
        (batch(0)[:-1], "30729 bytes.*whole records of 3073"),
    ],
)
def test_malformed_batch_is_refused(
    folder: Path, sums: dict[str, str], content: bytes, message: str
) -> None:
    (folder / NAMES[0]).write_bytes(content)
    sums[NAMES[0]] = hashlib.sha256(content).hexdigest()
    with pytest.raises(BadInput, match=message):
        cifar10.read(sums, HELD)


@pytest.mark.skipif(
    not (Path(os.environ.get("GYRE_DATA", "/nonexistent")) / cifar10.FOLDER).is_dir(),
    reason="GYRE_DATA does not hold cifar-10-batches-bin",
)
def test_real_files_have_the_published_class_counts() -> None:
    dataset = data.load("cifar10")
    assert len(dataset.train) == 45_000
    labels = np.concatenate([dataset.train.labels, dataset.validation.labels])
    assert np.bincount(labels).tolist() == [5000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert dataset.train.labels[:5].tolist() == [6, 9, 9, 4, 1]  # frog, truck, truck, deer, ...
