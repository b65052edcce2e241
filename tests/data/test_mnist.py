import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from model import data
from model.data import mnist
from model.ir.errors import BadInput

TRAIN, TEST, HELD = 30, 12, 10


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)


def sums_of(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in mnist.SUMS}


@pytest.fixture
def folder(root: Path) -> Path:
    """Small files of MNIST's form under $GYRE_DATA."""
    rng = np.random.default_rng(0)
    folder = root / "mnist"
    folder.mkdir()
    for name, count in zip(mnist.SUMS, (TRAIN, TRAIN, TEST, TEST), strict=True):
        shape = (count, 4, 3) if "images" in name else (count,)
        high = 256 if "images" in name else 10
        (folder / name).write_bytes(idx(rng.integers(0, high, shape)))
    return folder


def test_reads_and_splits(folder: Path) -> None:
    dataset = mnist.read(sums_of(folder), HELD)
    assert dataset.shape == (4, 3, 1)
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [20, 10, 12]
    raw = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    assert dataset.train.samples.tobytes() + dataset.validation.samples.tobytes() == raw
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    assert dataset.test.labels.astype(np.uint8).tobytes() == labels
    assert dataset.train.real().max() <= 1


def test_test_files_are_opened_only_for_the_test_split(folder: Path) -> None:
    dataset = mnist.read(sums_of(folder), HELD)
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes() + b"x")
    assert len(dataset.train) == 20
    with pytest.raises(BadInput, match="t10k-images"):
        _ = dataset.test


@pytest.mark.parametrize("name", [n for n in mnist.SUMS if n.startswith("train")])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_damaged_file_is_refused(folder: Path, name: str, damage: str) -> None:
    sums = sums_of(folder)
    content = (folder / name).read_bytes()
    flipped = content[:20] + bytes([content[20] ^ 4]) + content[21:]
    broken = {"truncated": content[:-7], "flipped": flipped, "empty": b""}[damage]
    (folder / name).write_bytes(broken)
    with pytest.raises(BadInput) as caught:
        mnist.read(sums, HELD)
    assert name in caught.value.thing
    assert f"{len(broken)} bytes" in caught.value.found
    assert sums[name] in caught.value.expected
    assert "put the original file" in caught.value.remedy


def test_every_missing_file_is_named(folder: Path) -> None:
    sums = sums_of(folder)
    gone = ["train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"]
    for name in gone:
        (folder / name).unlink()
    with pytest.raises(BadInput) as caught:
        mnist.read(sums, HELD)
    assert all(name in caught.value.found for name in gone)
    assert str(folder) in caught.value.found
    assert "train-images" not in caught.value.found
    assert "GYRE_DATA" in caught.value.remedy


def test_no_data_at_all_names_the_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GYRE_DATA")
    with pytest.raises(BadInput, match=r"\$GYRE_DATA/mnist"):
        data.load("mnist")


def test_file_in_the_cache_is_used(folder: Path, tmp_path: Path) -> None:
    sums = sums_of(folder)
    cache = tmp_path / "cache" / "gyre"
    cache.mkdir(parents=True)
    folder.rename(cache / "mnist")
    assert len(mnist.read(sums, HELD).test) == TEST


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"plain", "no gzip data"),
        (idx(np.zeros((2, 2), dtype=np.uint8))[:-9], "no gzip data"),
        (idx(np.zeros((2, 2), dtype=np.uint8)), "an idx header of 3 axes"),
        (gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 2, 2) + bytes(7), mtime=0), "7 bytes"),
        (gzip.compress(b"\0\0", mtime=0), "an idx header"),
    ],
)
def test_malformed_idx_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        mnist.read_idx(Path("some-file"), content, axes=3)


def test_label_out_of_range_is_refused(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(idx(np.full(TRAIN, 10)))
    with pytest.raises(BadInput, match="label 10"):
        mnist.read(sums_of(folder), HELD)


@pytest.mark.skipif(
    not (Path(os.environ.get("GYRE_DATA", "/nonexistent")) / "mnist").is_dir(),
    reason="GYRE_DATA does not hold mnist",
)
def test_real_files_have_the_published_class_counts() -> None:
    dataset = data.load("mnist")
    labels = np.concatenate([dataset.train.labels, dataset.validation.labels])
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(labels).tolist() == counts
    assert len(dataset.train) == 55_000
    assert np.bincount(dataset.test.labels).tolist() == [
        *(980, 1135, 1032, 1010, 982),
        *(892, 958, 1028, 974, 1009),
    ]
