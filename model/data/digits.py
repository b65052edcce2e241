"""1,797 handwritten digits of 8×8 pixels and 17 grey levels, which come with scikit-learn.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, 1998 (the test part of it).
"""

import hashlib

import numpy as np
from sklearn.datasets import load_digits

from model.data.dataset import Dataset, NoOptions, Split, reader

TEST = 360
VALIDATION = 237
GREY_MAX = 16


@reader("digits")
def digits(_: NoOptions) -> Dataset:
    """1,200 training, 237 validation and 360 test samples of shape [8, 8, 1], real range 0 to 1.

    The split is one fixed shuffle, from NumPy's legacy generator, whose stream never changes.
    """
    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))
    samples = bunch.images[order][..., None].astype(np.uint8)
    labels = bunch.target[order].astype(np.int64)
    content = hashlib.sha256(samples.tobytes() + labels.tobytes()).hexdigest()

    def split(start: int, stop: int | None) -> Split:
        return Split(samples[start:stop], labels[start:stop], 1 / GREY_MAX)

    return Dataset(
        name="digits",
        train=split(TEST + VALIDATION, None),
        validation=split(TEST, TEST + VALIDATION),
        read_test=lambda: split(0, TEST),
        classes=10,
        hash=content,
    )
