"""CIFAR-10: 60,000 colour images of 32×32 pixels, 3 channels of 256 levels, 10 classes.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; the binary
version: records of one label byte, then the red, green and blue plane, row-major.

The batches are read as they are or compressed by xz, and verified by the SHA-256 of what is
decompressed. Nothing is kept on disk: decompressing the training batches takes some seconds of each
load, the test batch its share when ``.test`` is first asked for.
"""

import hashlib
import lzma
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from model.data.dataset import Dataset, NoOptions, Split, reader
from model.data.files import check_digest, locate, read_bytes
from model.ir.errors import BadInput

# of the files as decompressed; the last one is the test batch in the order of `interleaved`
SUMS = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "18cf04461dc65479d720ca1d4daf900d8c51f12f6d825013b71b6f578008cffb",
}
FOLDER = "cifar-10-batches-bin"
SOURCE = "cifar-10-binary.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html holds them"
VALIDATION = 5000
CLASSES = 10
SIDE, CHANNELS = 32, 3
RECORD = 1 + CHANNELS * SIDE * SIDE
_AGAIN = "put the original file in its place"


@reader("cifar10")
def cifar10(_: NoOptions) -> Dataset:
    """45,000 training, 5,000 validation (the last of the training images), 10,000 test samples.

    Samples are uint8 [32, 32, 3], real range 0 to 1. The test file is opened only for ``.test``.
    """
    return read(SUMS, VALIDATION)


def read(sums: dict[str, str], validation: int) -> Dataset:
    """The data set of some batches, by name and SHA-256; the last of them is the test batch."""
    paths = locate("cifar10", sums, (), folder=FOLDER, packed=".xz", source=SOURCE)
    *batches, (test, test_digest) = ((paths[file], digest) for file, digest in sums.items())
    with ThreadPoolExecutor() as pool:  # lzma and hashlib work without the interpreter's lock
        parts = list(pool.map(lambda batch: _batch(*batch), batches))
    samples = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    cut = len(labels) - validation
    return Dataset(
        name="cifar10",
        train=Split(samples[:cut], labels[:cut], 1 / 255),
        validation=Split(samples[cut:], labels[cut:], 1 / 255),
        read_test=lambda: Split(*_batch(test, test_digest, test=True), 1 / 255),
        classes=CLASSES,
        hash=hashlib.sha256(" ".join([*sums.values(), str(validation)]).encode()).hexdigest(),
    )


def _batch(path: Path, digest: str, *, test: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Samples uint8 [images, 32, 32, 3] and labels int64 [images] of a verified batch."""
    data = read_bytes(path)
    if path.suffix == ".xz":
        try:
            data = lzma.decompress(data)
        except lzma.LZMAError as error:
            raise BadInput(
                str(path), f"{len(data)} bytes, no xz data ({error})", "a whole xz file", _AGAIN
            ) from error
    if test:
        data = interleaved(data)
    check_digest(path, data, digest)
    if len(data) % RECORD:
        raise BadInput(str(path), f"{len(data)} bytes", f"whole records of {RECORD} bytes", _AGAIN)
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.size and labels.max() >= CLASSES:
        raise BadInput(str(path), f"label {labels.max()}", f"labels below {CLASSES}", _AGAIN)
    planes = records[:, 1:].reshape(-1, CHANNELS, SIDE, SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def interleaved(data: bytes) -> bytes:
    """Records with their classes taken in turn, the order within each class kept.

    The test batch is in use in two orders, the published one and this one. It is brought into this
    one before it is verified, so both give the same samples under the same index.
    """
    if len(data) % RECORD:
        return data  # no whole records: the checksum will refuse them
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, RECORD)
    labels = records[:, 0]
    place = np.empty(len(labels), dtype=np.int64)  # of a record within its class
    for label in np.unique(labels):
        place[labels == label] = np.arange(np.count_nonzero(labels == label))
    return records[np.lexsort((labels, place))].tobytes()
