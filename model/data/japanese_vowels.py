"""Japanese vowels: 640 utterances of /ae/ by 9 speakers; the speaker is the class.

Source: M. Kudo, J. Toyama, M. Shimbo, Multidimensional curve classification using passing-through
regions, Pattern Recognition Letters 20, 1999; 12 LPC cepstrum coefficients a step, 7 to 29 steps.
The files are text (``.ts``): a sequence a line, its 12 series split by ``:``, then the class 1..9.
"""

import hashlib
from pathlib import Path

import numpy as np

from model.data.dataset import Dataset, NoOptions, Split, reader
from model.data.files import locate, read_verified
from model.ir.errors import BadInput

SUMS = {
    "JapaneseVowels_TRAIN.ts": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
    "JapaneseVowels_TEST.ts": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
}
FOLDER = "japanese-vowels"
SOURCE = "github.com/sktime/sktime holds them in sktime/datasets/data/JapaneseVowels"
COMMIT = "d083d009d6907fd0c3d5634926edffe7c085faa1"
URLS = (
    f"https://raw.githubusercontent.com/sktime/sktime/{COMMIT}/"
    "sktime/datasets/data/JapaneseVowels/",
)
CLASSES = 9
FEATURES = 12
STEPS = 29
FRAC_BITS = 12  # codes are multiples of 2^-12, so int16 holds -8 to 8; the coefficients are below 3
VALIDATION = 5  # of each speaker, the last of the training file
_AGAIN = "put the original file in its place"


@reader("japanese_vowels")
def japanese_vowels(_: NoOptions) -> Dataset:
    """225 training, 45 validation (5 a speaker, the last of the training file), 370 test sequences.

    Samples are int16 [29, 12] with lengths 7 to 29; one unit is 2^-12. The test file is opened only
    for ``.test``.
    """
    return read(SUMS, VALIDATION)


def read(sums: dict[str, str], validation: int) -> Dataset:
    """The data set of two files, by name and SHA-256: training, then test."""
    paths = locate("japanese_vowels", sums, URLS, folder=FOLDER, source=SOURCE)
    (train, train_digest), (test, test_digest) = (
        (paths[file], digest) for file, digest in sums.items()
    )
    whole = parse(train, read_verified(train, train_digest))
    held = np.zeros(len(whole), dtype=bool)
    for label in range(CLASSES):
        held[np.flatnonzero(whole.labels == label)[-validation:]] = True

    def part(chosen: np.ndarray) -> Split:
        assert whole.lengths is not None
        return Split(
            whole.samples[chosen], whole.labels[chosen], whole.scale, whole.lengths[chosen]
        )

    facts = [*sums.values(), str(validation), str(FRAC_BITS)]
    return Dataset(
        name="japanese_vowels",
        train=part(~held),
        validation=part(held),
        read_test=lambda: parse(test, read_verified(test, test_digest)),
        classes=CLASSES,
        hash=hashlib.sha256(" ".join(facts).encode()).hexdigest(),
    )


def parse(path: Path, data: bytes) -> Split:
    """The sequences of a ``.ts`` file; lines that start with ``#`` or ``@`` are its header."""
    lines = data.decode("utf-8", errors="replace").splitlines()
    rows = [
        (number, line)
        for number, line in enumerate(lines, start=1)
        if line.strip() and line[0] not in "#@"
    ]
    samples = np.zeros((len(rows), STEPS, FEATURES), dtype=np.int16)
    labels = np.zeros(len(rows), dtype=np.int64)
    lengths = np.zeros(len(rows), dtype=np.int64)
    for n, (number, line) in enumerate(rows):
        series, labels[n] = _fields(f"{path}, line {number}", line)
        lengths[n] = len(series)
        samples[n, : len(series)] = np.floor(series * (1 << FRAC_BITS) + 0.5)
    return Split(samples, labels, 2.0**-FRAC_BITS, lengths)


def _fields(where: str, line: str) -> tuple[np.ndarray, int]:
    """A line's real values [steps, features] and its label from 0."""
    *texts, last = line.strip().split(":")
    if len(texts) != FEATURES:
        raise BadInput(where, f"{len(texts)} series", f"{FEATURES} series and a class", _AGAIN)
    try:
        series = [[float(value) for value in text.split(",")] for text in texts]
        label = int(last)
    except ValueError as error:
        raise BadInput(where, f"no number ({error})", "numbers and a class", _AGAIN) from error
    if not 1 <= label <= CLASSES:
        raise BadInput(where, f"class {label}", f"a class from 1 to {CLASSES}", _AGAIN)
    lengths = sorted({len(values) for values in series})
    if len(lengths) != 1 or lengths[0] > STEPS:
        raise BadInput(
            where,
            f"series of {', '.join(map(str, lengths))} steps",
            f"series of equal length, at most {STEPS}",
            _AGAIN,
        )
    array = np.array(series).T
    bound = 1 << (15 - FRAC_BITS)
    if not (np.abs(array) < bound - 2.0**-FRAC_BITS).all():
        raise BadInput(
            where, "a value out of range", f"values between -{bound} and {bound}", _AGAIN
        )
    return array, label - 1
