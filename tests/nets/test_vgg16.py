import pytest
import torch

from model import nets
from model.ir.errors import BadInput
from tests.nets.convolutional import assert_traceable, assert_well_scaled, sizes, weights


def test_has_the_stated_weights() -> None:
    with torch.device("meta"):
        net = nets.build("vgg16", (32, 32, 3), 10)
    found = sizes(net)
    channels = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    assert [found[f"conv{n}"][0] for n in range(1, 14)] == channels
    assert found["fc1"] == (10, 512)
    assert weights(net) == 14_715_584


def test_is_traceable_and_well_scaled() -> None:
    torch.manual_seed(0)
    net, x = nets.build("vgg16", (32, 32, 3), 10, {"width": 4}), torch.randn(8, 32, 32, 3)
    assert_well_scaled(net, x)
    assert_traceable(net, x)


def test_too_small_samples_are_refused() -> None:
    with pytest.raises(BadInput, match=r"network vgg16.*at least 32"):
        nets.build("vgg16", (28, 28, 1), 10)
