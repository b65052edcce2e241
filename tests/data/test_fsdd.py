import hashlib
import io
import os
import wave
from pathlib import Path

import numpy as np
import pytest

from model import data
from model.data import fsdd
from model.data.fsdd import FSDDOptions
from model.ir.errors import BadInput


def wav(samples: np.ndarray, rate: int = 8000, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(samples.dtype.itemsize)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def noise(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, count).astype("<i2")


def write_list(folder: Path) -> str:
    """Writes SHA256SUMS of the recordings and returns its own checksum."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  recordings/{path.name}\n"
        for path in sorted((folder / "recordings").iterdir())
    ]
    (folder / fsdd.LIST).write_text("".join(lines))
    return hashlib.sha256((folder / fsdd.LIST).read_bytes()).hexdigest()


@pytest.fixture
def folder(root: Path) -> Path:
    """Two digits, one speaker, fifty recordings each, under $GYRE_DATA."""
    folder = root / "fsdd"
    (folder / "recordings").mkdir(parents=True)
    for digit in (2, 7):
        for index in range(50):
            content = wav(noise(100 * digit + index, 300 + 13 * index))
            (folder / "recordings" / f"{digit}_ann_{index}.wav").write_bytes(content)
    return folder


@pytest.fixture
def list_sum(folder: Path) -> str:
    return write_list(folder)


def rows(split: data.Split) -> set[bytes]:
    return {sample.tobytes() for sample in split.samples}


@pytest.mark.parametrize(
    ("fold", "test", "held"), [(0, 0, 45), (3, 15, 45), (8, 40, 45), (9, 45, 40)]
)
def test_fold_decides_the_splits(
    folder: Path, list_sum: str, fold: int, test: int, held: int
) -> None:
    dataset = fsdd.read(FSDDOptions(fold=fold), list_sum)
    assert dataset.shape == (fsdd.STEPS, 40)

    def expected(start: int) -> set[bytes]:
        found = set()
        for digit in (2, 7):
            for index in range(start, start + 5):
                codes = fsdd.features(noise(100 * digit + index, 300 + 13 * index))
                padded = np.zeros((fsdd.STEPS, 40), dtype=np.int16)
                padded[: len(codes)] = codes
                found.add(padded.tobytes())
        return found

    assert rows(dataset.test) == expected(test)
    assert rows(dataset.validation) == expected(held)
    assert len(dataset.train) == 80
    assert not rows(dataset.train) & (rows(dataset.test) | rows(dataset.validation))
    assert sorted(dataset.train.labels.tolist()) == [2] * 40 + [7] * 40


def test_every_recording_is_tested_by_one_fold(folder: Path, list_sum: str) -> None:
    tested = [rows(fsdd.read(FSDDOptions(fold=fold), list_sum).test) for fold in range(10)]
    assert sum(map(len, tested)) == len(set.union(*tested)) == 100


def test_hash_depends_on_fold_and_front_end(
    folder: Path, list_sum: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fsdd.read(FSDDOptions(), list_sum).hash
    assert fsdd.read(FSDDOptions(fold=0), list_sum).hash == first
    assert fsdd.read(FSDDOptions(fold=1), list_sum).hash != first
    monkeypatch.setattr(fsdd, "FLOOR", -11)
    assert fsdd.read(FSDDOptions(), list_sum).hash != first


def test_every_filter_lets_its_own_band_through() -> None:
    filters = fsdd.mel_filters()
    assert filters.shape == (129, 40)
    assert (filters.max(0) > 0).all()
    assert (np.diff(filters.argmax(0)) > 0).all()  # the bands are in order
    bins = np.arange(129) * 8000 / 256
    assert (filters[(bins < 50) | (bins > 4000)] == 0).all()


def test_a_full_scale_tone_reaches_the_top_and_silence_the_bottom_of_the_range() -> None:
    tone = 32767 * np.sin(2 * np.pi * 1000 * np.arange(512) / 8000)
    codes = fsdd.features(tone.astype(np.int16))
    assert codes.dtype == np.int16
    assert 2.9 <= codes.max() / 4096 <= 3.1
    assert (fsdd.features(np.zeros(512, dtype=np.int16)) == -3 * 4096).all()


def test_features_equal_a_plain_evaluation() -> None:
    recording = noise(5, 600)
    codes = fsdd.features(recording)
    assert codes.shape == (3, 40)  # windows at 0, 128, 256; the rest is no whole window
    n = np.arange(256)
    window = recording[128:384] / 32768 * np.sin(np.pi * n / 256) ** 2
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(129), n) / 256)
    power = np.abs(fourier @ window) ** 2
    mel = 1127.0104805 * np.log1p(np.array([50, 4000]) / 700)  # 2595 / ln(10)
    corners = 700 * np.expm1(np.linspace(*mel, 42) / 1127.0104805)
    for band in range(40):
        heights = [0, 1, 0]
        weights = np.interp(np.arange(129) * 31.25, corners[band : band + 3], heights)
        real = np.log2(power @ weights + 2.0**-12) / 4
        assert abs(codes[1, band] / 4096 - real) <= 2.0**-13 + 1e-9


def test_a_step_depends_on_its_own_window_only() -> None:
    recording = noise(6, 1024)
    codes = fsdd.features(recording)
    changed = recording.copy()
    changed[640:] //= 3
    assert (fsdd.features(changed)[:4] == codes[:4]).all()
    assert (fsdd.features(recording[:640]) == codes[:4]).all()


def test_test_recordings_are_opened_only_for_the_test_split(folder: Path, list_sum: str) -> None:
    (folder / "recordings/7_ann_3.wav").write_bytes(b"damaged")
    dataset = fsdd.read(FSDDOptions(), list_sum)
    with pytest.raises(BadInput, match=r"7_ann_3\.wav"):
        _ = dataset.test


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
@pytest.mark.parametrize("name", [fsdd.LIST, "recordings/2_ann_20.wav"])
def test_damaged_file_is_refused(folder: Path, list_sum: str, name: str, damage: str) -> None:
    content = (folder / name).read_bytes()
    flipped = content[:60] + bytes([content[60] ^ 4]) + content[61:]
    broken = {"truncated": content[:-7], "flipped": flipped, "empty": b""}[damage]
    (folder / name).write_bytes(broken)
    with pytest.raises(BadInput) as caught:
        fsdd.read(FSDDOptions(), list_sum)
    assert caught.value.thing == str(folder / name)
    assert f"{len(broken)} bytes" in caught.value.found
    assert "original file" in caught.value.remedy


def test_missing_recordings_are_named(folder: Path, list_sum: str) -> None:
    for index in range(5):
        (folder / f"recordings/2_ann_{index}.wav").unlink()
    with pytest.raises(BadInput) as caught:
        fsdd.read(FSDDOptions(), list_sum)
    assert "2_ann_0.wav" in caught.value.found
    assert "and 2 more" in caught.value.found
    assert str(folder) in caught.value.found


def test_missing_list_says_how_to_make_it(folder: Path, list_sum: str) -> None:
    (folder / fsdd.LIST).unlink()
    with pytest.raises(BadInput, match=r"no SHA256SUMS in .*sha256sum recordings/\*\.wav"):
        fsdd.read(FSDDOptions(), list_sum)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"plain", "no WAV data"),
        (b"", "no WAV data"),
        (wav(noise(0, 400))[:-10], r"790 bytes.*800 bytes"),
        (wav(noise(0, 400), rate=16000), "16000 Hz"),
        (wav(noise(0, 400), channels=2), "2 channels"),
        (wav(noise(0, 400).astype(np.uint8)), "8 bits"),
        (wav(noise(0, 255)), "0 windows"),
        (wav(noise(0, 256 + 141 * 128)), "142 windows.*1 to 141"),
    ],
)
def test_recording_of_another_form_is_refused(folder: Path, content: bytes, message: str) -> None:
    (folder / "recordings/2_ann_20.wav").write_bytes(content)
    with pytest.raises(BadInput, match=rf"2_ann_20\.wav.*{message}"):
        fsdd.read(FSDDOptions(), write_list(folder))


@pytest.mark.parametrize("name", ["11_ann_3.wav", "2_ann_50.wav", "2_ann.wav"])
def test_recording_of_no_known_label_or_index_is_refused(folder: Path, name: str) -> None:
    (folder / "recordings" / name).write_bytes(wav(noise(0, 400)))
    with pytest.raises(BadInput, match=f"SHA256SUMS, line .*{name}"):
        fsdd.read(FSDDOptions(), write_list(folder))


@pytest.mark.skipif(
    not (Path(os.environ.get("GYRE_DATA", "/nonexistent")) / "fsdd").is_dir(),
    reason="GYRE_DATA does not hold fsdd",
)
def test_real_recordings_are_all_there() -> None:
    dataset = data.load("fsdd")
    assert np.bincount(dataset.train.labels).tolist() == [240] * 10
    assert np.bincount(dataset.validation.labels).tolist() == [30] * 10
    assert np.bincount(dataset.test.labels).tolist() == [30] * 10
    lengths = np.concatenate([dataset.train.lengths, dataset.validation.lengths])
    assert (lengths.min(), lengths.max()) == (7, 141)
    # every kept network was trained on these codes: they must be the same on every machine
    assert dataset.hash == "f89bfb5fcafbfdc9a0fa4346a882c81a7f7e9bf2d041b7d6392ab977837fdd64"
