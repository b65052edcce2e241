"""Hypothesis strategies for small weights."""

import hypothesis.extra.numpy as hnp
import numpy as np
import torch
from hypothesis import strategies as st

elements = st.floats(-4, 4, width=32)


def matrices(rows: st.SearchStrategy[int], columns: st.SearchStrategy[int]) -> st.SearchStrategy:
    """Float weights [rows, columns]."""
    return st.tuples(rows, columns).flatmap(
        lambda shape: hnp.arrays(np.float32, shape, elements=elements).map(torch.from_numpy)
    )


def kernels(out: st.SearchStrategy[int], channels: st.SearchStrategy[int]) -> st.SearchStrategy:
    """Float weights [out, channels, 2, 1] of a convolution."""
    return st.tuples(out, channels).flatmap(
        lambda shape: hnp.arrays(np.float32, (*shape, 2, 1), elements=elements).map(
            torch.from_numpy
        )
    )


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Euclidean distance in float64."""
    return float((a.double() - b.double()).norm())
