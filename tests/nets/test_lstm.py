"""The LSTM against PyTorch's own and against its equations, in float64."""

import pytest
import torch
from torch import nn

from model import nets
from model.compress.layers import CirculantLinear
from model.ir.errors import BadInput
from model.nets.lstm import LSTM

TIGHT = {"rtol": 0.0, "atol": 1e-12}


def like(theirs: nn.LSTM, ours: LSTM, suffix: str = "l0") -> None:
    """Give our LSTM the weights of PyTorch's."""
    with torch.no_grad():
        ours.gates_x.weight.copy_(getattr(theirs, f"weight_ih_{suffix}"))
        ours.gates_y.weight.copy_(getattr(theirs, f"weight_hh_{suffix}"))
        bias = getattr(theirs, f"bias_ih_{suffix}") + getattr(theirs, f"bias_hh_{suffix}")
        ours.gates_x.bias.copy_(bias)
        if ours.project is not None:
            ours.project.weight.copy_(getattr(theirs, f"weight_hr_{suffix}"))


@pytest.mark.parametrize("projection", [None, 3])
def test_is_pytorch_s_lstm_without_peepholes(projection: int | None) -> None:
    theirs = nn.LSTM(5, 7, batch_first=True, proj_size=projection or 0).double()
    ours = LSTM(5, 7, projection).double()
    like(theirs, ours)
    x = torch.randn(4, 6, 5).double()
    torch.testing.assert_close(ours(x), theirs(x)[0], **TIGHT)


def test_two_directions_are_pytorch_s_over_packed_sequences() -> None:
    theirs = nn.LSTM(5, 7, batch_first=True, bidirectional=True).double()
    ours = LSTM(5, 7, bidirectional=True).double()
    like(theirs, ours)
    like(theirs, ours.reverse, "l0_reverse")
    x, lengths = torch.randn(3, 6, 5).double(), torch.tensor([6, 1, 4])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    found = ours(x, lengths)
    for n, length in enumerate(lengths):
        torch.testing.assert_close(found[n, :length], expected[n, :length], **TIGHT)
    torch.testing.assert_close(ours(x), theirs(x)[0], **TIGHT)


@pytest.mark.parametrize("g", ["tanh", "sigmoid"])
@pytest.mark.parametrize("circulant", [False, True])
def test_peepholes_see_the_state_before_and_after(g: str, circulant: bool) -> None:
    module = LSTM(6, 4, 3, True, g).double()
    if circulant:
        for name in ("gates_x", "gates_y", "project"):
            setattr(module, name, CirculantLinear.of(getattr(module, name), 2))
    x = torch.randn(2, 5, 6).double()
    c, y = torch.zeros(2, 4).double(), torch.zeros(2, 3).double()
    p = module.peephole
    for t in range(5):
        i, f, new, o = (module.gates_x(x[:, t]) + module.gates_y(y)).chunk(4, 1)
        i, f = torch.sigmoid(i + p[0] * c), torch.sigmoid(f + p[1] * c)
        c = f * c + i * (torch.tanh(new) if g == "tanh" else torch.sigmoid(new))
        y = module.project(torch.sigmoid(o + p[2] * c) * torch.tanh(c))
        torch.testing.assert_close(module(x)[:, t], y, **TIGHT)


def test_gradients_are_right() -> None:
    module = LSTM(2, 2, 2, True).double()
    x = torch.randn(2, 3, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(module, (x,))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 0, 4)])
def test_refuses_other_inputs(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match=r"\[sequences, steps, 4\]"):
        LSTM(4, 3)(torch.zeros(shape))


@pytest.mark.parametrize("lengths", [[0, 2], [4, 1], [1]])
def test_refuses_lengths_that_do_not_fit(lengths: list[int]) -> None:
    with pytest.raises(BadInput, match="2 lengths from 1 to 3"):
        LSTM(4, 3, bidirectional=True)(torch.zeros(2, 3, 4), torch.tensor(lengths))


def test_refuses_other_functions() -> None:
    with pytest.raises(BadInput, match="'tanh' or 'sigmoid'"):
        LSTM(4, 3, g="relu")


def test_the_network_scores_every_step() -> None:
    options = {"cells": 8, "projection": 4, "layers": 2, "dropout": 0.5, "bidirectional": True}
    network = nets.build("lstm", (9, 5), 3, options).eval()
    assert network(torch.zeros(2, 9, 5)).shape == (2, 9, 3)
    assert [name for name, _ in network.named_children()] == [
        *["lstm", "drop", "lstm2", "drop2", "fc"],
    ]


def test_padding_does_not_change_the_scores_before_it() -> None:
    network = nets.build("lstm", (9, 5), 3, {"cells": 8, "projection": 0}).double()
    x = torch.randn(2, 9, 5).double()
    torch.testing.assert_close(network(x[:, :4]), network(x)[:, :4], **TIGHT)


@pytest.mark.parametrize("layers", [1, 2])
def test_padding_does_not_change_the_scores_of_both_directions(layers: int) -> None:
    options = {"cells": 8, "projection": 0, "bidirectional": True, "layers": layers}
    network = nets.build("lstm", (9, 5), 3, options).double()
    x, lengths = torch.randn(3, 9, 5).double(), [9, 4, 1]
    x[0, 2] = 0  # a step of zeros within a sequence is none of padding
    for sequence, length in zip(x, lengths, strict=True):
        sequence[length:] = 0
    padded = network(x)
    for n, length in enumerate(lengths):
        alone = network(x[n : n + 1, :length])
        torch.testing.assert_close(padded[n : n + 1, :length], alone, **TIGHT)


def test_lengths_are_found_in_the_padding() -> None:
    module = LSTM(5, 4, 2, True, bidirectional=True).double()
    x, lengths = torch.randn(3, 6, 5).double(), torch.tensor([6, 1, 4])
    x[torch.arange(6) >= lengths[:, None]] = 0
    found = module(x)
    assert torch.equal(found, module(x, lengths))
    assert not found[torch.arange(6) >= lengths[:, None]].any()
    assert torch.isfinite(module(torch.zeros(2, 3, 5).double())).all()


def test_the_network_refuses_samples_without_steps() -> None:
    with pytest.raises(BadInput, match=r"expected \(steps, features\)"):
        nets.build("lstm", (64,), 10)


def test_padding_does_not_count_for_what_is_reached() -> None:
    module = LSTM(5, 4, 2, True)
    x = torch.randn(3, 6, 5)
    padded = torch.cat([x, torch.zeros(3, 50, 5)], 1)
    assert module.reach(padded) == pytest.approx(module.reach(x))
