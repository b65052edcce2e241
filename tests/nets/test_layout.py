import torch

from model.nets.layout import ChannelsFirst, ChannelsLast


def test_channels_move_and_come_back() -> None:
    x = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    first = ChannelsFirst()(x)
    assert first.shape == (2, 5, 3, 4)
    assert first[1, 4, 2, 3] == x[1, 2, 3, 4]
    assert ChannelsLast()(first).equal(x)
