"""A tiny data set and network, which train in a moment."""

import numpy as np
import torch
from torch import nn

from model.data import Dataset, Split


def dataset(seed: int = 0) -> Dataset:
    """Two-class blobs: 96 training, 48 validation and 48 test samples of shape [2, 4, 1]."""
    rng = np.random.default_rng(seed)

    def split(count: int) -> Split:
        labels = rng.integers(0, 2, count)
        centre = np.linspace(40, 200, 8) * labels[:, None] + np.linspace(200, 40, 8) * (
            1 - labels[:, None]
        )
        raw = np.clip(centre + rng.normal(0, 20, (count, 8)), 0, 255).astype(np.uint8)
        return Split(raw.reshape(count, 2, 4, 1), labels.astype(np.int64), 1 / 255)

    train, validation, test = split(96), split(48), split(48)
    return Dataset("tiny", train, validation, lambda: test, 2, f"tiny-{seed}")


def network(seed: int = 0, dropout: float = 0.0) -> nn.Sequential:
    """8-6-5-2 with batch normalization on the first layer."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(8, 6),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(6, 5),
        nn.ReLU(),
        nn.Linear(5, 2),
    )
