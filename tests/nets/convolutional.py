"""What the tests of the convolutional networks share."""

import torch
from torch import nn
from torch.fx import symbolic_trace


def weights(net: nn.Module) -> int:
    """Weights without biases and batch normalization."""
    return sum(p.numel() for p in net.parameters() if p.ndim > 1)


def sizes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shape of the weight of each convolution and fully connected layer, by name, in order."""
    return {
        name: tuple(layer.weight.shape)
        for name, layer in net.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    }


def assert_traceable(net: nn.Module, x: torch.Tensor) -> None:
    """The traced network computes the same, and each of its layers is used once."""
    net.eval()
    graph = symbolic_trace(net)
    used = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    layers = [
        name
        for name, layer in net.named_modules()
        if not list(layer.children()) and type(layer).__module__.startswith("torch.nn")
    ]
    assert sorted(used) == sorted(layers)
    with torch.no_grad():
        torch.testing.assert_close(graph(x), net(x), rtol=0, atol=0)


def assert_well_scaled(net: nn.Module, x: torch.Tensor) -> None:
    """Fresh weights keep the scores of normal samples near 1, whatever the depth."""
    with torch.no_grad():
        deviation = float(net.train()(x).std())
    assert 0.2 < deviation < 5
