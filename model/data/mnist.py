"""MNIST: 70,000 handwritten digits of 28×28 pixels in 256 grey levels.

Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits; idx files, gzip.
"""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from model.data.dataset import Dataset, NoOptions, Split, reader
from model.data.files import locate, read_verified
from model.ir.errors import BadInput

SUMS = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}
URLS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
VALIDATION = 5000
CLASSES = 10
_AGAIN = "put the original file in its place"


@reader("mnist")
def mnist(_: NoOptions) -> Dataset:
    """55,000 training, 5,000 validation (the last of the training file) and 10,000 test samples.

    Samples are uint8 [28, 28, 1], real range 0 to 1. The test files are opened only for ``.test``.
    """
    return read(SUMS, VALIDATION)


def read(sums: dict[str, str], validation: int) -> Dataset:
    """The data set of four idx files, given by name and SHA-256 in the order of ``SUMS``."""
    paths = locate("mnist", sums, URLS)
    train_images, train_labels, test_images, test_labels = (
        (paths[file], digest) for file, digest in sums.items()
    )
    samples, labels = _pair(train_images, train_labels)
    cut = len(labels) - validation
    return Dataset(
        name="mnist",
        train=Split(samples[:cut], labels[:cut], 1 / 255),
        validation=Split(samples[cut:], labels[cut:], 1 / 255),
        read_test=lambda: Split(*_pair(test_images, test_labels), 1 / 255),
        classes=CLASSES,
        hash=hashlib.sha256(" ".join([*sums.values(), str(validation)]).encode()).hexdigest(),
    )


def _pair(images: tuple[Path, str], labels: tuple[Path, str]) -> tuple[np.ndarray, np.ndarray]:
    samples = read_idx(images[0], read_verified(*images), axes=3)
    classes = read_idx(labels[0], read_verified(*labels), axes=1).astype(np.int64)
    if classes.size and classes.max() >= CLASSES:
        raise BadInput(str(labels[0]), f"label {classes.max()}", f"labels below {CLASSES}", _AGAIN)
    return samples[..., None], classes


def read_idx(path: Path, data: bytes, axes: int) -> np.ndarray:
    """The uint8 array of a gzip-compressed idx file with the given number of axes.

    The form: two zero bytes, the type (8 = unsigned byte), the number of axes, each axis as a
    big-endian 32-bit integer, then the elements, last axis fastest.
    """
    try:
        raw = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(str(path), f"no gzip data ({error})", "a gzip file", _AGAIN) from error
    start = 4 + 4 * axes
    if len(raw) < start or raw[:4] != bytes([0, 0, 8, axes]):
        raise BadInput(
            str(path), f"a header {raw[:4].hex()}", f"an idx header of {axes} axes", _AGAIN
        )
    shape = struct.unpack(f">{axes}I", raw[4:start])
    if len(raw) != start + math.prod(shape):
        raise BadInput(
            str(path),
            f"{len(raw) - start} bytes of elements",
            f"{math.prod(shape)} for shape {shape}",
            _AGAIN,
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)
