import pytest
import torch
from torch.nn import functional as F

from model import nets
from model.ir.errors import BadInput
from tests.nets.convolutional import assert_traceable, assert_well_scaled, sizes, weights


def test_has_the_stated_weights() -> None:
    with torch.device("meta"):
        net = nets.build("resnet18", (32, 32, 3), 10)
    found = sizes(net)
    channels = [64] * 5 + [128] * 4 + [256] * 4 + [512] * 4
    assert [found[f"conv{n}"][0] for n in range(1, 18)] == channels
    assert [name for name in found if "shortcut" in name] == [f"shortcut{b}" for b in (3, 5, 7)]
    assert found["fc1"] == (10, 512)
    assert weights(net) == 11_164_352


def test_computes_the_residual_blocks() -> None:
    torch.manual_seed(0)
    net = nets.build("resnet18", (8, 8, 3), 5, {"width": 2}).eval()
    x = torch.randn(3, 8, 8, 3)
    y = F.relu(net.bn1(net.conv1(x.permute(0, 3, 1, 2))))
    for block in range(1, 9):
        a, b = 2 * block, 2 * block + 1
        inner = F.relu(getattr(net, f"bn{a}")(getattr(net, f"conv{a}")(y)))
        inner = getattr(net, f"bn{b}")(getattr(net, f"conv{b}")(inner))
        if block in (3, 5, 7):
            y = getattr(net, f"shortcut_bn{block}")(getattr(net, f"shortcut{block}")(y))
        y = F.relu(inner + y)
    assert y.shape == (3, 16, 1, 1)
    torch.testing.assert_close(net(x), net.fc1(y.mean((2, 3))))


def test_is_traceable_and_well_scaled() -> None:
    torch.manual_seed(0)
    net, x = nets.build("resnet18", (32, 32, 3), 10, {"width": 4}), torch.randn(8, 32, 32, 3)
    assert_well_scaled(net, x)
    assert_traceable(net, x)


def test_too_small_samples_are_refused() -> None:
    with pytest.raises(BadInput, match=r"network resnet18.*at least 8"):
        nets.build("resnet18", (7, 7, 3), 10)
