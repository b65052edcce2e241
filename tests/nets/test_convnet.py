import pytest
import torch

from model import nets
from model.ir.errors import BadInput
from tests.nets.convolutional import assert_traceable, assert_well_scaled, sizes, weights


def test_has_the_stated_weights() -> None:
    net = nets.build("convnet", (32, 32, 3), 10)
    assert sizes(net) == {
        "conv1": (64, 3, 3, 3),
        "conv2": (64, 64, 3, 3),
        "conv3": (128, 64, 3, 3),
        "conv4": (128, 128, 3, 3),
        "conv5": (256, 128, 3, 3),
        "conv6": (256, 256, 3, 3),
        "fc1": (512, 4096),
        "fc2": (10, 512),
    }
    assert weights(net) == 3_246_784


def test_is_traceable_and_well_scaled() -> None:
    torch.manual_seed(0)
    net = nets.build("convnet", (8, 10, 3), 7, {"width": 6, "dropout": 0.1})
    x = torch.randn(8, 8, 10, 3)
    assert net(x).shape == (8, 7)
    assert_well_scaled(net, x)
    assert_traceable(net, x)


def test_too_small_samples_are_refused() -> None:
    with pytest.raises(BadInput, match=r"network convnet.*\[7, 32, 3\].*at least 8"):
        nets.build("convnet", (7, 32, 3), 10)


def test_wrong_option_is_named() -> None:
    with pytest.raises(BadInput, match="width"):
        nets.build("convnet", (32, 32, 3), 10, {"width": 0})
