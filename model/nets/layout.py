"""Modules that turn frames from channels last to channels first, and back.

Samples and flattened frames are channels last everywhere in Gyre; torch's convolutions work on
channels first. A network holds one of these where the order changes.
"""

from torch import Tensor, nn


class ChannelsFirst(nn.Module):
    """[frames, rows, columns, channels] to [frames, channels, rows, columns]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class ChannelsLast(nn.Module):
    """[frames, channels, rows, columns] to [frames, rows, columns, channels]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)
