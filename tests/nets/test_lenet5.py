import pytest
import torch
from torch.nn import functional as F

from model import nets
from model.ir.errors import BadInput
from tests.nets.convolutional import assert_traceable, assert_well_scaled, sizes, weights


@pytest.mark.parametrize("batch_norm", [False, True])
def test_has_the_weights_of_the_literature(batch_norm: bool) -> None:
    net = nets.build("lenet5", (28, 28, 1), 10, {"batch_norm": batch_norm})
    assert sizes(net) == {
        "conv1": (20, 1, 5, 5),
        "conv2": (50, 20, 5, 5),
        "fc1": (500, 800),
        "fc2": (10, 500),
    }
    assert weights(net) == 430_500


def test_computes_the_chain_of_layers() -> None:
    torch.manual_seed(0)
    net = nets.build("lenet5", (20, 18, 3), 4, {"batch_norm": False})
    x = torch.randn(2, 20, 18, 3)
    y = x.permute(0, 3, 1, 2)
    y = F.max_pool2d(F.relu(F.conv2d(y, net.conv1.weight, net.conv1.bias)), 2)
    y = F.max_pool2d(F.relu(F.conv2d(y, net.conv2.weight, net.conv2.bias)), 2)
    y = y.permute(0, 2, 3, 1).reshape(2, -1)  # channels last
    y = net.fc2(F.relu(net.fc1(y)))
    torch.testing.assert_close(net(x), y)


def test_batch_norm_stands_before_each_relu_and_dropout_before_the_scores() -> None:
    net = nets.build("lenet5", (28, 28, 1), 10, {"batch_norm": True, "dropout": 0.5})
    assert [name for name, _ in net.named_children()] == [
        *("channels_first", "conv1", "bn1", "relu1", "pool1", "conv2", "bn2", "relu2", "pool2"),
        *("channels_last", "flatten", "fc1", "bn3", "relu3", "drop2", "fc2"),
    ]


def test_is_traceable_and_well_scaled() -> None:
    torch.manual_seed(0)
    net, x = nets.build("lenet5", (28, 28, 1), 10), torch.randn(8, 28, 28, 1)
    assert_well_scaled(net, x)
    assert_traceable(net, x)


@pytest.mark.parametrize("shape", [(15, 28, 1), (28, 15, 1), (784,), (28, 28)])
def test_samples_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match=r"network lenet5.*at least 16 rows and columns"):
        nets.build("lenet5", shape, 10)
