"""Free Spoken Digit Dataset: 3,000 recordings of the spoken digits 0 to 9 by 6 speakers.

Source: Z. Jackson and contributors, github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0;
WAV, 8 kHz, 16 bit, one channel; ``recordings/{digit}_{speaker}_{index}.wav``, index 0 to 49.

Front end: log-mel energies. Windows of 256 samples (32 ms, Hann) every 128 samples (16 ms), whole
windows only; the power of a 256-point FFT; 40 triangular filters whose corners are equally far
apart on the mel scale from 50 to 4000 Hz; then::

    x = log2(energy + 2^FLOOR) / DIVISOR

All constants are fixed beforehand. Full scale is amplitude 1, so a full-scale tone gives an energy
of 2^12; the floor is chosen as far below 1 as that is above it, which needs no offset, and the
divisor brings the whole range to -3..3. No statistic of any recording enters, nor the recording's
own loudness, so each step depends on its own 256 samples only.

The features are kept as int16 multiples of 2^-FRAC_BITS, far coarser than what float64 leaves open,
so that the codes do not hang on the last bits of an FFT library.
"""

import hashlib
import io
import re
import wave
from pathlib import Path

import numpy as np
from pydantic import Field

from model.data.dataset import Dataset, Split, reader
from model.data.files import locate, read_verified
from model.ir.errors import BadInput
from model.options import Options

LIST = "SHA256SUMS"
LIST_SUM = "04e1baae96c6a26e39c623f2b01d0182ddae627ba0ac02a3cdc17ba2af99fd9b"
SOURCE = (
    "clone github.com/Jakobovski/free-spoken-digit-dataset at commit 26eb9aaf; beside recordings/ "
    f"run: LC_ALL=C sha256sum recordings/*.wav > {LIST}"
)
CLASSES = 10
INDICES = 50
FOLD = 5  # indices that a fold tests, and as many for validation
RATE = 8000
WINDOW, HOP = 256, 128
BANDS = 40
LOW, HIGH = 50.0, 4000.0
FLOOR = -12
DIVISOR = 4
FRAC_BITS = 12
STEPS = 141  # of the longest recording
_AGAIN = "put the original file in its place"
_NAME = re.compile(r"recordings/([0-9])_([a-z]+)_([0-9]{1,2})\.wav")


class FSDDOptions(Options):
    """Options of the data set.

    Parameters
    ----------
    fold : int
        Fold f tests the recordings with index 5f to 5f + 4; fold 0 is the official split.
    """

    fold: int = Field(default=0, ge=0, lt=INDICES // FOLD)


@reader("fsdd", FSDDOptions)
def fsdd(options: FSDDOptions) -> Dataset:
    """2,400 training, 300 validation and 300 test sequences of log-mel energies.

    Validation has index 45 to 49; in fold 9, which tests these, 40 to 44. Samples are int16
    [141, 40], one unit is 2^-12; lengths are 7 to 141. Test recordings are opened only for
    ``.test``.
    """
    return read(options, LIST_SUM)


def read(options: FSDDOptions, list_sum: str) -> Dataset:
    """The data set of the recordings in the list of checksums whose own checksum is given."""
    path = locate("fsdd", {LIST: list_sum}, (), source=SOURCE)[LIST]
    entries = _entries(path, read_verified(path, list_sum))
    test = FOLD * options.fold
    held = INDICES - FOLD if test != INDICES - FOLD else INDICES - 2 * FOLD
    _check_present(path.parent, entries)

    def part(start: int) -> list[tuple[str, int, int, str]]:
        return [entry for entry in entries if start <= entry[2] < start + FOLD]

    chosen = {entry[0] for entry in part(test) + part(held)}
    train = _split(path.parent, [entry for entry in entries if entry[0] not in chosen])
    validation = _split(path.parent, part(held))
    content = hashlib.sha256(f"{list_sum} {options!r}".encode())
    for split in (train, validation):  # the features, so a changed front end shows
        content.update(split.samples.tobytes())
    return Dataset(
        name="fsdd",
        train=train,
        validation=validation,
        read_test=lambda: _split(path.parent, part(test)),
        classes=CLASSES,
        hash=content.hexdigest(),
    )


def _entries(path: Path, data: bytes) -> list[tuple[str, int, int, str]]:
    """Name, digit, index and SHA-256 of each recording of the list."""
    entries = []
    for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), start=1):
        digest, _, name = line.partition("  ")
        match = _NAME.fullmatch(name)
        if match is None or int(match[3]) >= INDICES:
            raise BadInput(
                f"{path}, line {number}",
                repr(line),
                f"a checksum and recordings/DIGIT_SPEAKER_INDEX.wav, index below {INDICES}",
                _AGAIN,
            )
        entries.append((name, int(match[1]), int(match[3]), digest))
    return entries


def _check_present(folder: Path, entries: list[tuple[str, int, int, str]]) -> None:
    missing = [entry[0] for entry in entries if not (folder / entry[0]).is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise BadInput(
            "data set fsdd",
            f"no {', '.join(missing[:3])}{more} in {folder}",
            f"the {len(entries)} recordings of {LIST}",
            f"put them there ({SOURCE})",
        )


def _split(folder: Path, entries: list[tuple[str, int, int, str]]) -> Split:
    samples = np.zeros((len(entries), STEPS, BANDS), dtype=np.int16)
    lengths = np.zeros(len(entries), dtype=np.int64)
    for n, (name, _, _, digest) in enumerate(entries):
        path = folder / name
        codes = features(_recording(path, read_verified(path, digest)))
        if not 1 <= len(codes) <= STEPS:
            raise BadInput(
                str(path), f"{len(codes)} windows", f"1 to {STEPS} windows of {WINDOW}", _AGAIN
            )
        samples[n, : len(codes)] = codes
        lengths[n] = len(codes)
    labels = np.array([entry[1] for entry in entries], dtype=np.int64)
    return Split(samples, labels, 2.0**-FRAC_BITS, lengths)


def _recording(path: Path, data: bytes) -> np.ndarray:
    """The samples of a WAV file, int16."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            form = (file.getframerate(), file.getnchannels(), 8 * file.getsampwidth())
            count = file.getnframes()
            raw = file.readframes(count)
    except (wave.Error, EOFError) as error:
        raise BadInput(str(path), f"no WAV data ({error})", "a WAV file", _AGAIN) from error
    if form != (RATE, 1, 16) or len(raw) != 2 * count:
        raise BadInput(
            str(path),
            f"{form[0]} Hz, {form[1]} channels, {form[2]} bits, {len(raw)} bytes",
            f"{RATE} Hz, 1 channel, 16 bits, {2 * count} bytes",
            _AGAIN,
        )
    return np.frombuffer(raw, dtype="<i2")


def mel_filters() -> np.ndarray:
    """Weights of the filters, float64 [bins, bands]: triangles of height 1."""
    low, high = (2595 * np.log10(1 + edge / 700) for edge in (LOW, HIGH))
    corners = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    bins = np.arange(WINDOW // 2 + 1)[:, None] * (RATE / WINDOW)
    left, middle, right = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
    return np.maximum(np.minimum(rising, falling), 0)


_FILTERS = mel_filters()
_HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)


def features(recording: np.ndarray) -> np.ndarray:
    """Log-mel codes, int16 [windows, bands], of int16 samples."""
    if len(recording) < WINDOW:
        return np.zeros((0, BANDS), dtype=np.int16)
    windows = np.lib.stride_tricks.sliding_window_view(recording, WINDOW)[::HOP] / 32768
    power = np.abs(np.fft.rfft(windows * _HANN)) ** 2
    real = np.log2(power @ _FILTERS + 2.0**FLOOR) / DIVISOR
    return np.floor(real * (1 << FRAC_BITS) + 0.5).astype(np.int16)
