"""Networks whose factors are those of the hardware."""

import copy

import pytest
import torch
from torch import Tensor, fx, nn

from model import golden
from model.compress import FormatOptions
from model.compress.quantizers import ActivationQuantizer
from model.compress.tracing import trace
from model.export import export, realised
from model.ir.network import Network
from model.ir.pool import MaxPoolSpec
from tests.export.images import Chain, Residual, images, quantized

BITS = {"input_bits": 8, "weight_bits": 6, "activation_bits": 8, "multiplier_bits": 8}
ALL = {**BITS, "weights_per": "tensor"}
NETS = {"chain": Chain, "residual": Residual}


class Coded(fx.Interpreter):
    """A module in float64 that keeps the codes of its quantizers, in their order."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(trace(copy.deepcopy(module).double().eval()))
        self.codes: list[Tensor] = []

    def call_module(self, target: str, args: tuple, kwargs: dict) -> Tensor:
        made = super().call_module(target, args, kwargs)
        quantizer = self.fetch_attr(target)
        if isinstance(quantizer, ActivationQuantizer):
            self.codes.append((made / quantizer.scale).round())
        return made


def differing(module: nn.Module, network: Network, x: Tensor) -> float:
    """Share of the activations whose codes in torch are not those of golden."""
    coded = Coded(module)
    with torch.no_grad():
        coded.run(x.double())
    edges = golden.trace(network, golden.quantize(network.input, x.double().numpy()))
    pooled = {n.inputs[0]: n.name for n in network.nodes if isinstance(n.spec, MaxPoolSpec)}
    nodes = [n.name for n in network.nodes if n.name not in pooled.values()][:-1]
    wrong = count = 0
    assert len(nodes) == len(coded.codes) - 1  # but for the input's
    for name, codes in zip(nodes, coded.codes[1:], strict=True):
        mine = edges[pooled.get(name, name)]
        mine = mine.permute(0, 3, 1, 2) if codes.ndim == 4 else mine.flatten(1)
        if codes.shape != mine.shape:  # the quantizer stands before the pooling
            codes = nn.functional.max_pool2d(codes, 2)
        wrong += int((codes != mine).sum())
        count += codes.numel()
    return wrong / count


def both(name: str) -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(3)
    module = quantized(NETS[name](), 3, FormatOptions(**BITS))
    return module, realised(module, images(3), **ALL), images(4, 60)


def exported(module: nn.Module) -> Network:
    return export(module, images(3, 1), images(3), remove=False, **BITS)


@pytest.mark.parametrize("name", sorted(NETS))
def test_golden_computes_the_codes_of_the_realised_network(name: str) -> None:
    """All but those that lie within float32's precision of a rounding's border: with multipliers of
    8 bits a few lie on it."""
    module, moved, x = both(name)
    assert differing(module, exported(module), x) > 0.02
    assert differing(moved, exported(moved), x) < 5e-4


@pytest.mark.parametrize("name", sorted(NETS))
def test_a_realised_network_is_near_and_stays(name: str) -> None:
    module, moved, _ = both(name)
    again = realised(moved, images(3), **ALL)
    before, after, twice = (m.state_dict() for m in (module, moved, again))
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    assert changed
    assert all("log_scale" in key or "bn" in key or key == "fc.bias" for key in changed)
    for key, value in after.items():
        torch.testing.assert_close(value, twice[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(NETS))
def test_scores_of_few_bits_are_those_of_golden(name: str) -> None:
    """Accumulators of 2-bit codes are the scores, so a bias is whole steps of them."""
    torch.manual_seed(5)
    few = {**BITS, "weight_bits": 2, "activation_bits": 2, "multiplier_bits": 16}
    module = quantized(NETS[name](), 3, FormatOptions(**few))
    moved = realised(module, images(3), **few, weights_per="tensor")
    network = export(moved, images(3, 1), images(3), remove=False, **few)
    x = images(4, 60).double()
    scores = golden.run(network, golden.quantize(network.input, x.numpy()))

    def steps(of: nn.Module) -> Tensor:
        with torch.no_grad():
            return copy.deepcopy(of).double()(x) / network.output.scale

    assert (steps(module) - steps(module).round()).abs().max() > 0.05
    found = steps(moved)
    assert (found - found.round()).abs().max() < 1e-4
    assert (found.round() == scores).double().mean() > 0.98


def test_the_scale_of_the_input_stays() -> None:
    module, moved, _ = both("residual")
    assert exported(moved).input == exported(module).input


def test_a_module_is_left_as_it_was() -> None:
    torch.manual_seed(3)
    module = quantized(Residual(), 3, FormatOptions(**BITS))
    before = copy.deepcopy(module.state_dict())
    realised(module, images(3), **ALL)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert next(module.parameters()).dtype == torch.float32
