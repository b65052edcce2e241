import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from model import data
from model.data import japanese_vowels as vowels
from model.ir.errors import BadInput

TRAIN, TEST = vowels.SUMS
HEADER = "#about\n@dimensions 12\n@data\n"


def line(values: np.ndarray, label: int) -> str:
    """A sequence [steps, 12] as the file writes it."""
    series = [",".join(f"{value:.6f}" for value in column) for column in values.T]
    return ":".join([*series, str(label)])


def content(seed: int, each: int) -> str:
    rng = np.random.default_rng(seed)
    lines = [
        line(rng.uniform(-2, 2, (rng.integers(7, 30), 12)), label)
        for label in range(1, 10)
        for _ in range(each)
    ]
    return HEADER + "\n".join(lines) + "\n"


@pytest.fixture
def folder(root: Path) -> Path:
    """Small files of the set's form under $GYRE_DATA: 6 training, 2 test sequences a speaker."""
    folder = root / "japanese-vowels"
    folder.mkdir()
    (folder / TRAIN).write_text(content(0, 6))
    (folder / TEST).write_text(content(1, 2))
    return folder


def sums_of(folder: Path) -> dict[str, str]:
    return {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in vowels.SUMS}


def test_reads_and_splits_every_speaker_equally(folder: Path) -> None:
    dataset = vowels.read(sums_of(folder), 2)
    assert dataset.shape == (29, 12)
    assert dataset.train.labels.tolist() == sorted([*range(9)] * 4)
    assert dataset.validation.labels.tolist() == sorted([*range(9)] * 2)
    assert len(dataset.test) == 18
    lines = (folder / TRAIN).read_text().splitlines()[3:]
    last = np.array([[float(v) for v in s.split(",")] for s in lines[-1].split(":")[:-1]]).T
    assert dataset.validation.lengths[-1] == len(last)
    real = dataset.validation.real()[-1]
    assert np.abs(real[: len(last)] - last).max() <= 2.0**-13
    assert (real[len(last) :] == 0).all()


def test_test_file_is_opened_only_for_the_test_split(folder: Path) -> None:
    sums = sums_of(folder)
    (folder / TEST).write_text("damaged")
    dataset = vowels.read(sums, 2)
    with pytest.raises(BadInput, match=TEST):
        _ = dataset.test


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_damaged_file_is_refused(folder: Path, damage: str) -> None:
    sums, text = sums_of(folder), (folder / TRAIN).read_text()
    flipped = text.replace("1.", "2.", 1)
    broken = {"truncated": text[:-7], "flipped": flipped, "empty": ""}[damage]
    (folder / TRAIN).write_text(broken)
    with pytest.raises(BadInput) as caught:
        vowels.read(sums, 2)
    assert TRAIN in caught.value.thing
    assert f"{len(broken)} bytes" in caught.value.found
    assert sums[TRAIN] in caught.value.expected


def test_missing_file_is_named_with_where_to_get_it(folder: Path) -> None:
    sums = sums_of(folder)
    (folder / TEST).unlink()
    with pytest.raises(BadInput) as caught:
        vowels.read(sums, 2)
    assert TEST in caught.value.found
    assert TRAIN not in caught.value.found
    assert "sktime" in caught.value.remedy
    assert "folder japanese-vowels" in caught.value.remedy


GOOD = line(np.ones((8, 12)), 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (line(np.ones((8, 12)), 10), "class 10.*from 1 to 9"),
        (line(np.ones((8, 12)), 0), "class 0.*from 1 to 9"),
        (line(np.ones((8, 11)), 1), "11 series.*12 series"),
        (GOOD[: len(GOOD) // 2], "series and a class"),
        (GOOD.replace("1.0", "one", 1), "no number"),
        (GOOD.replace("1.000000,", "", 1), "series of 7, 8 steps"),
        (line(np.ones((30, 12)), 1), "series of 30 steps.*at most 29"),
        (GOOD.replace("1.0", "8.0", 1), "out of range.*-8 and 8"),
        (GOOD.replace("1.000000", "nan", 1), "out of range"),
    ],
)
def test_malformed_line_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=f"some-file, line 5: .*{message}"):
        vowels.parse(Path("some-file"), f"{HEADER}{GOOD}\n{text}\n".encode())


@pytest.mark.skipif(
    not (Path(os.environ.get("GYRE_DATA", "/nonexistent")) / vowels.FOLDER).is_dir(),
    reason="GYRE_DATA does not hold japanese-vowels",
)
def test_real_files_have_the_published_class_counts() -> None:
    dataset = data.load("japanese_vowels")
    assert np.bincount(dataset.train.labels).tolist() == [25] * 9
    assert np.bincount(dataset.validation.labels).tolist() == [5] * 9
    assert np.bincount(dataset.test.labels).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = np.concatenate([dataset.train.lengths, dataset.test.lengths])
    assert (lengths.min(), lengths.max()) == (7, 29)
