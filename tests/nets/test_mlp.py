import pytest
import torch
from torch import nn

from model import nets
from model.ir.errors import BadInput


def test_computes_the_chain_of_layers() -> None:
    torch.manual_seed(0)
    net = nets.build("mlp", (2, 3, 1), 4, {"hidden": [5, 6]})
    x = torch.randn(7, 2, 3, 1)
    y = x.flatten(1)
    for name in ("fc1", "fc2"):
        y = getattr(net, name)(y).relu()
    torch.testing.assert_close(net(x), net.fc3(y), rtol=0, atol=0)
    assert net(x).shape == (7, 4)


def test_batch_norm_stands_before_the_relu() -> None:
    net = nets.build("mlp", (4,), 2, {"hidden": [3], "batch_norm": True, "dropout": 0.5})
    kinds = [type(layer) for layer in net.children()]
    assert kinds == [
        nn.Flatten,
        nn.Linear,
        nn.BatchNorm1d,
        nn.ReLU,
        nn.Dropout,
        nn.Linear,
    ]


@pytest.mark.parametrize(
    ("options", "thing", "found", "remedy"),
    [
        ({"hiden": [3]}, "hiden", "hiden", "'hidden'"),
        ({"hidden": [0]}, "hidden", "0", "correct"),
        ({"hidden": 3}, "hidden", "3", "correct"),
        ({"dropout": 1.0}, "dropout", "1.0", "correct"),
        ({"batch_norm": "yes"}, "batch_norm", "'yes'", "correct"),
    ],
)
def test_wrong_option_is_named(options: dict, thing: str, found: str, remedy: str) -> None:
    with pytest.raises(BadInput) as caught:
        nets.build("mlp", (4,), 2, options)
    assert thing in caught.value.thing
    assert found in caught.value.found
    assert remedy in caught.value.remedy


def test_unknown_network_lists_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"'mpl'.*mlp"):
        nets.build("mpl", (4,), 2)
