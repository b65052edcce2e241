"""Small convolution nets and images for the tests of export."""

import torch
from torch import Tensor, nn

from model.compress import FormatOptions
from model.compress.tracing import insert_quantizers


def images(seed: int, count: int = 24) -> Tensor:
    """Smooth random frames [count, 8, 8, 3], channels last, of real numbers from 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    fine = nn.functional.interpolate(coarse, (8, 8), mode="bilinear")
    return fine.permute(0, 2, 3, 1).contiguous()


def norm(features: int) -> nn.BatchNorm2d:
    """A batch normalization with gains of both signs, as if trained."""
    made = nn.BatchNorm2d(features)
    nn.init.normal_(made.weight)
    nn.init.normal_(made.bias, std=0.5)
    made.running_mean.normal_(std=0.2)
    made.running_var.uniform_(0.2, 2)
    return made


class Chain(nn.Module):
    """Convolution, max pool, depthwise convolution, average pool, flatten, linear."""

    def __init__(self, flatten_last: bool = True) -> None:
        super().__init__()
        self.flatten_last = flatten_last
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = norm(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding="same", groups=6, bias=False)
        self.bn2 = norm(6)
        self.conv3 = nn.Conv2d(6, 8, (1, 1))
        self.pool1, self.pool2 = nn.MaxPool2d(2), nn.AvgPool2d(2)
        self.fc = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2)
        x = self.pool1(torch.relu(self.bn1(self.conv1(x))))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = self.pool2(torch.relu(self.conv3(x)))
        if self.flatten_last:
            x = x.permute(0, 2, 3, 1)
        return self.fc(torch.flatten(x, 1))


class Residual(nn.Module):
    """Two residual blocks, one of them strided with a convolution as its shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), norm(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), norm(4)
        self.conv3, self.bn3 = nn.Conv2d(4, 4, 3, padding=1, bias=False), norm(4)
        self.conv4, self.bn4 = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), norm(6)
        self.conv5, self.bn5 = nn.Conv2d(6, 6, 3, padding=1, bias=False), norm(6)
        self.short, self.bn6 = nn.Conv2d(4, 6, 1, stride=2, bias=False), norm(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x.permute(0, 3, 1, 2))))
        y = torch.relu(self.bn2(self.conv2(x)))
        x = torch.relu(self.bn3(self.conv3(y)) + x)
        y = torch.relu(self.bn4(self.conv4(x)))
        y = self.bn5(self.conv5(y))
        y += self.bn6(self.short(x))
        return self.fc(torch.relu(y).mean((2, 3)))


def quantized(module: nn.Module, seed: int, formats: FormatOptions, **named: object) -> nn.Module:
    """The module with quantizers, calibrated on images."""
    return insert_quantizers(module.eval(), images(seed, 32), formats, **named).eval()
