"""``assert_golden`` as a user's own pytest would call it, and that it can fail."""

import numpy as np
import pytest
import torch
from torch import nn

from gyre.testing import assert_golden
from model import golden
from model.ir.errors import BadInput
from tests.tools import require_tools

pytestmark = pytest.mark.rtl


@pytest.fixture
def user() -> tuple[nn.Module, torch.Tensor]:
    """A small network of a user's own, and samples of what it will see."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4))
    return module, torch.rand(80, 12)


def test_agreement_of_float_golden_and_rtl(user: tuple) -> None:
    require_tools("g++")
    module, samples = user
    verdict = assert_golden(module, samples, agreement=0.9, multipliers=8)
    assert (verdict.frames, verdict.mismatches) == (80, 0)
    assert verdict.checks == {
        "layers": 64,
        "seeds": 64,
        "frames": 80,
        "stalled": 80,
        "random": 1000,
        "reset": 80,
    }
    with pytest.raises(AssertionError, match=r"of 80 samples, less than 1\.0: use more bits"):
        assert_golden(
            module, samples, agreement=1.0, multipliers=8, weight_bits=2, activation_bits=2
        )


def test_difference_is_located(user: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    require_tools("g++")
    module, samples = user
    true_run = golden.run

    def wrong_run(network, codes):
        outputs = true_run(network, codes)
        outputs[7, 2] += 1
        return outputs

    monkeypatch.setattr(golden, "run", wrong_run)
    with pytest.raises(AssertionError, match=r"frames: first difference in frame 7, .*element 2"):
        assert_golden(module, samples, agreement=0.0, multipliers=8)


def test_unsupported_layer_is_named() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Softplus())
    with pytest.raises(BadInput, match="Softplus"):
        assert_golden(module, torch.from_numpy(np.ones((8, 4))))


def test_agreement_outside_its_range_is_refused(user: tuple) -> None:
    with pytest.raises(ValueError, match="agreement must be from 0 to 1, not 2"):
        assert_golden(*user, agreement=2)
