import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from model import golden
from model.compress import FormatOptions, accuracy, fit
from model.compress.constraints import ColumnSparsity, FilterSparsity
from model.compress.quantizers import ActivationQuantizer
from model.compress.tracing import insert_quantizers
from model.compress.training import TrainOptions, real_samples
from model.export import check_supported, export
from model.export.walk import sanitise
from model.ir.errors import BadInput
from model.ir.network import Network
from model.ir.numerics import UniformFormat
from tests.compress import tiny


def trained_like(seed: int, batch_norm: bool, relu: bool = True) -> nn.Sequential:
    """A network with the statistics of a trained one, gains of both signs."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = [12, 9, 7, 4]
    for n in range(3):
        layers.append(nn.Linear(sizes[n], sizes[n + 1]))
        if n < 2:
            if batch_norm:
                norm = nn.BatchNorm1d(sizes[n + 1])
                nn.init.normal_(norm.weight)
                nn.init.normal_(norm.bias)
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.2, 3)
                layers.append(norm)
            if relu:
                layers.append(nn.ReLU())
    return nn.Sequential(*layers).eval()


def samples(seed: int, count: int = 60) -> Tensor:
    torch.manual_seed(seed)
    return torch.rand(count, 3, 4, 1)


def quantized(module: nn.Module, x: Tensor, formats: FormatOptions) -> nn.Module:
    structures = {
        "1": (ColumnSparsity(9) & FilterSparsity(6)).freeze(module[1].weight.detach()),
    }
    return insert_quantizers(module, x, formats, structures).eval()


@settings(max_examples=40)
@given(
    st.integers(0, 999),
    st.booleans(),
    st.booleans(),
    st.integers(2, 8),
    st.integers(2, 8),
    st.sampled_from(["tensor", "channel"]),
    st.sampled_from([6, 8, 12, 16]),
)
def test_golden_layers_equal_a_float64_evaluation(
    seed: int, batch_norm: bool, relu: bool, bits: int, weight_bits: int, per: str, m_bits: int
) -> None:
    """Each layer against float64 arithmetic on the torch module's own weights.

    On the golden's own input codes x, let y be the layer in float64 and t = y / scale. The golden
    computes (acc * m + b + r) >> s. With m and b rounded to the nearest, acc * m + b differs from
    t * 2^s by at most |acc| / 2 + 1/2, and the shift rounds to the nearest, so an unclamped code
    differs from t by at most 1/2 + (|acc| + 1) / 2^(s+1). Clamping does not widen that. The float32
    products code * scale of the weights have relative errors of 2^-24, and so have the scales and
    the batch norm's parameters, which adds at most 2^-20 (sum |w x| + |offset|) / scale.
    """
    x = samples(seed)
    formats = FormatOptions(
        input_bits=bits,
        activation_bits=bits,
        weight_bits=weight_bits,
        weights_per=per,
        multiplier_bits=m_bits,
    )
    module = quantized(trained_like(seed, batch_norm, relu), x, formats)
    network = export(module, x[:1], x, multiplier_bits=m_bits, remove=False)
    edges = golden.trace(network, golden.quantize(network.input, x.double().numpy()))
    scales = {network.input.name: network.input.scale}
    plain = [m for m in module.modules() if isinstance(m, nn.Linear | nn.BatchNorm1d | nn.ReLU)]
    for node in network.nodes:
        scales[node.name] = node.scale
        (source,) = node.inputs
        real = edges[source].flatten(1).double() * scales[source]
        linear = plain.pop(0)
        weight = linear.weight.detach().double()
        y = real @ weight.T + linear.bias.detach().double()
        size = real.abs() @ weight.abs().T + linear.bias.detach().double().abs()
        if plain and isinstance(plain[0], nn.BatchNorm1d):
            norm = plain.pop(0)
            ratio = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
            y = (y - norm.running_mean.double()) * ratio + norm.bias.detach().double()
            size = (size + norm.running_mean.double().abs()) * ratio.abs() + norm.bias.abs()
        if plain and isinstance(plain[0], nn.ReLU):
            plain.pop(0)
            y = y.clamp_min(0)
        rule = node.spec.requantize
        target = (y / node.scale).clamp(rule.out_format.codes.low, rule.out_format.codes.high)
        acc = edges[f"{node.name}.acc"].abs().double()
        bound = 0.5 + (acc + 1) / 2 ** (rule.shift + 1) + 2.0**-20 * size.detach() / node.scale
        error = (edges[node.name] - target).abs()
        assert bool((error <= bound).all()), (node.name, float((error - bound).max()))


@settings(max_examples=30)
@given(st.integers(0, 999), st.booleans(), st.sampled_from(["tensor", "channel"]))
def test_removal_changes_no_output_code(seed: int, batch_norm: bool, per: str) -> None:
    x = samples(seed)
    formats = FormatOptions(
        input_bits=3, weight_bits=3, activation_bits=3, weights_per=per, multiplier_bits=10
    )
    module = quantized(trained_like(seed, batch_norm), x, formats)
    whole = export(module, x[:1], x, remove=False)
    removed = export(module, x[:1], x)
    codes = golden.quantize(whole.input, x.double().numpy())
    assert torch.equal(golden.run(whole, codes), golden.run(removed, codes))
    assert removed["select"].spec.out_features <= 9
    assert removed["layer_1"].spec.out_features <= 6
    assert removed.stored_bits() < whole.stored_bits()


def test_negative_gain_becomes_a_negative_multiplier() -> None:
    x = samples(0)
    module = trained_like(0, batch_norm=True)
    network = export(module, x[:1], x, remove=False, multiplier_bits=12)
    node = network["layer_1"]
    assert node.spec.requantize.per == "channel"
    assert np.array_equal(np.sign(node.tensors["m"]), module[2].weight.sign().int().numpy())
    assert (node.tensors["m"] < 0).any()


def test_codes_and_scales_are_those_of_the_quantizers() -> None:
    x = samples(1)
    formats = FormatOptions(input_bits=4, weight_bits=3, activation_bits=5)
    module = quantized(trained_like(1, batch_norm=False), x, formats)
    network = export(module, x[:1], x, remove=False)
    layer = module.get_submodule("1")
    quantizer = layer.parametrizations.weight[0]
    found = network["layer_1"]
    assert torch.equal(
        torch.from_numpy(found.tensors["weight"].copy()),
        quantizer.codes(layer.parametrizations.weight.original),
    )
    scales = [m.scale.item() for m in module.modules() if isinstance(m, ActivationQuantizer)]
    assert {network.input.scale, found.scale, network["layer_3"].scale} == set(scales)
    assert network.input.format == UniformFormat(4, False)
    assert found.spec.out_format == UniformFormat(5, False)


def test_accuracy_is_that_of_the_quantized_module() -> None:
    data = tiny.dataset()
    net = fit(tiny.network(), data, TrainOptions(epochs=8, batch=16, learning_rate=1e-2), seed=0)
    x = real_samples(data.train)
    module = insert_quantizers(net, x, FormatOptions(weight_bits=5, activation_bits=5))
    network = export(module, x[:1], x, multiplier_bits=12)
    for split in (data.train, data.validation):
        codes = golden.quantize(network.input, split.real())
        outputs = golden.run(network, codes)
        share = float((golden.predict(outputs).numpy() == split.labels).mean())
        # on 96 and 48 samples 0.1 % is no sample at all
        assert share == accuracy(module, split)


@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_plain_module_is_calibrated(per: str, batch_norm: bool) -> None:
    """At 12 bits each the golden follows the float network closely; at 3 bits it cannot."""
    x = samples(2, 200)
    module = trained_like(2, batch_norm)
    with torch.no_grad():
        expected = module(x).double()

    def error(bits: int) -> float:
        network = export(
            module,
            x[:1],
            x,
            input_bits=bits,
            weight_bits=bits,
            activation_bits=bits,
            weights_per=per,
            multiplier_bits=16,
        )
        outputs = golden.run(network, golden.quantize(network.input, x.double().numpy()))
        real = outputs.double() * network.output.scale
        return float((real - expected).abs().max() / expected.abs().max())

    assert error(12) < 0.01 < error(3)


def test_last_layer_is_16_bit_without_multiplier_where_it_fits() -> None:
    x = samples(3)
    network = export(trained_like(3, False), x[:1], x, weight_bits=4, activation_bits=4)
    rule = network.output.spec.requantize
    assert (rule.per, rule.shift, rule.out_format) == ("one", 0, UniformFormat(16, True))


@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_wide_last_layer_keeps_headroom(per: str) -> None:
    x = samples(4)
    network = export(
        trained_like(4, False),
        x[:1],
        x,
        weight_bits=12,
        activation_bits=12,
        weights_per=per,
        multiplier_bits=16,
    )
    outputs = golden.run(network, golden.quantize(network.input, x.double().numpy()))
    # a headroom of 2, and at most another factor of 2 from keeping the shift a whole number
    assert 2**13 - 2 <= int(outputs.abs().max()) <= 2**14


def test_power_of_two_factor_needs_no_multiplier() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    module = nn.Sequential(
        ActivationQuantizer(4, False, 0.25),
        net[0],
        net[1],
        ActivationQuantizer(4, False, 0.5),
        net[2],
    )
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.875, -0.5], [0.125, 0.25]]))  # 7, -4, 1, 2 eighths
        net[0].bias.copy_(torch.tensor([0.5, -0.25]))
    x = torch.rand(50, 2) * 3
    network = export(module.eval(), x[:1], x, weight_bits=4, remove=False)
    rule = network["layer_1"].spec.requantize
    # 1/4 * 1/8 / (1/2) = 2^-4
    assert (rule.per, rule.m_bits, rule.shift) == ("one", 0, 4)
    assert network["layer_1"].tensors["b"].tolist() == [16, -8]


def test_dropout_identity_and_functions_are_understood() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(12, 5)
            self.skip = nn.Identity()
            self.drop = nn.Dropout(0.5)
            self.Out = nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.skip(torch.flatten(x, 1))
            x = functional.relu(self.a(x))
            return self.Out(self.drop(x.relu().flatten(1)))

    torch.manual_seed(0)
    module, x = Net(), samples(0)
    network = export(module, x[:1], x)
    assert [node.name for node in network.nodes] == ["a", "out"]
    assert network.input.shape == (3, 4, 1)
    assert module.training  # as it was


def test_export_is_deterministic_and_saves(tmp_path: object) -> None:
    x = samples(0)
    module = trained_like(0, True)
    first, second = (export(module, x[:1], x) for _ in range(2))
    assert first.hash() == second.hash()
    first.save(tmp_path / "network")
    assert Network.load(tmp_path / "network").hash() == first.hash()


def test_one_channel_images_may_be_channels_first() -> None:
    x = samples(0)
    module = trained_like(0, False)
    last = export(module, x[:1], x)
    first_x = x.movedim(-1, 1)
    first = export(module, first_x[:1], first_x, channels_first=True)
    assert first.hash() == last.hash()


def test_flattening_channels_first_permutes_the_columns() -> None:
    x = samples(0).reshape(-1, 3, 2, 2)
    module = trained_like(0, False)
    network = export(module, x[:1], x, channels_first=True)
    plain = export(module, x[:1].flatten(1), x.flatten(1))
    found = golden.run(network, golden.quantize(network.input, x.movedim(1, -1).double().numpy()))
    expected = golden.run(plain, golden.quantize(plain.input, x.flatten(1).double().numpy()))
    assert torch.equal(found, expected)
    assert network.input.shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fc1", "fc1"),
        ("0", "layer_0"),
        ("net.Out", "net_out"),
        ("_x", "layer_x"),
        ("é1", "layer_1"),
    ],
)
def test_names_are_fit_for_verilog(name: str, expected: str) -> None:
    assert sanitise(name) == expected


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.fc(x.flatten(1)))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.fc(x) + x


def norm_without_statistics() -> nn.Module:
    return nn.BatchNorm1d(3, track_running_stats=False)


@pytest.mark.parametrize(
    ("module", "thing", "found"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Sigmoid()), "2", "Sigmoid"),
        (nn.Sequential(nn.Flatten(), nn.Linear(11, 3)), "1", "12 features"),
        (nn.Sequential(nn.Linear(1, 3)), "0", "(3, 4, 1)"),
        (nn.Sequential(nn.Flatten(2), nn.Linear(4, 3)), "0", "axes 2 to -1"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.ReLU()), "output", "ReLU"),
        (nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(12, 3)), "1", "ReLU"),
        (
            nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 3)),
            "1",
            "does not directly follow",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(12, 3), norm_without_statistics()),
            "2",
            "running statistics",
        ),
        (
            nn.Sequential(
                nn.Flatten(),
                nn.Linear(12, 3),
                nn.ReLU(),
                ActivationQuantizer(4, True, 1.0),
                nn.Linear(3, 2),
            ),
            "1",
            "a signed quantizer after ReLU",
        ),
        (Doubled(), "fc", "applied twice"),
        (Residual(), "add", "an addition of frames"),
        (Branching(), "Branching", "cannot be traced"),
    ],
)
def test_what_is_not_supported_is_named(module: nn.Module, thing: str, found: str) -> None:
    for call in (
        lambda: check_supported(module, samples(0)),
        lambda: export(module, samples(0), samples(0)),
    ):
        with pytest.raises(BadInput) as caught:
            call()
        assert thing in caught.value.thing
        assert found in caught.value.found
        assert caught.value.remedy


def test_everything_unsupported_is_listed_at_once() -> None:
    module = nn.Sequential(
        nn.ConvTranspose2d(1, 2, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(8, 4),
        nn.GELU(),
        nn.Linear(4, 2),
    )
    with pytest.raises(BadInput) as caught:
        check_supported(module, samples(0))
    for part in ("0: ConvTranspose2d", "1: Tanh", "4: GELU", "use nn.ReLU"):
        assert part in caught.value.found
    assert "Linear" in caught.value.expected


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_weights_that_are_not_finite_are_refused(bad: float, name: str) -> None:
    module = trained_like(0, False)
    with torch.no_grad():
        getattr(module[3], name).view(-1)[2] = bad
    with pytest.raises(BadInput) as caught:
        export(module, samples(0), samples(0))
    assert caught.value.thing == f"3.{name}"
    assert "NaN" in caught.value.found


def test_calibration_must_fit_the_example() -> None:
    with pytest.raises(BadInput, match="as the example"):
        export(trained_like(0, False), samples(0), samples(0)[:, :2])
    with pytest.raises(BadInput, match="calibration samples"):
        export(trained_like(0, False), samples(0), samples(0) * math.nan)


def test_equal_names_are_refused() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.FC = nn.Linear(12, 4)
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.FC(x.flatten(1)))

    with pytest.raises(BadInput, match="the name twice"):
        export(Net(), samples(0), samples(0))


def test_check_supported_accepts_and_changes_nothing() -> None:
    module = trained_like(0, True).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    check_supported(module, samples(0))
    assert module.training
    assert all(torch.equal(before[name], t) for name, t in module.state_dict().items())
