"""Where trainings run, in what precision, and what a failing accelerator leaves behind.

There is no accelerator here: one is made up where a choice depends on it, mixed precision runs on
the CPU, and tensors without contents (torch's device "meta") stand for those of a device.
"""

import json
import os
from contextlib import nullcontext
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from model import nets
from model.compress import FormatOptions, checkpoint, execution
from model.compress.constraints import BlockCirculant, CoarseBlocks, FilterSparsity
from model.compress.realise import realise
from model.compress.tracing import insert_quantizers
from model.compress.training import TrainOptions, _optimizer, _Resident, _Steps, accuracy, fit
from model.data import Dataset, Split
from model.ir.errors import BadInput
from tests.compress import tiny
from tests.compress.test_training import Interrupted, assert_same, interrupt_after

CUDA, META = torch.device("cuda"), torch.device("meta")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: CUDA)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 0)


# --- the choice --------------------------------------------------------------------------------


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("asked", "found"),
    [(None, "cuda"), ("auto", "cuda"), ("cpu", "cpu"), ("cuda", "cuda"), ("cuda:1", "cuda:1")],
)
def test_device_is_the_one_asked_for(asked: str | None, found: str) -> None:
    with execution.chosen(asked):
        assert execution.device() == torch.device(found)


@pytest.mark.usefixtures("two_gpus")
def test_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    with execution.chosen("cuda:2"), pytest.raises(BadInput) as caught:
        execution.device()
    assert "auto, cpu, cuda, cuda:0, cuda:1" in caught.value.expected


@pytest.mark.usefixtures("no_gpu")
def test_without_an_accelerator_the_cpu_trains() -> None:
    assert execution.device() == torch.device("cpu")
    with execution.chosen("cuda"), pytest.raises(BadInput, match="one of auto, cpu, which"):
        execution.device()


def test_choice_holds_inside_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(execution.DEVICE, "cpu")
    monkeypatch.delenv(execution.PRECISION, raising=False)
    with execution.chosen("auto", "float32"):
        assert os.environ[execution.DEVICE] == "auto"
        assert os.environ[execution.PRECISION] == "float32"
    assert os.environ[execution.DEVICE] == "cpu"
    assert execution.PRECISION not in os.environ


@pytest.mark.parametrize(
    ("bfloat", "capability", "asked", "found"),
    [
        (True, (9, 0), None, torch.bfloat16),
        (False, (7, 5), None, torch.float16),
        (False, (6, 1), None, torch.float32),
        (True, (9, 0), "float32", torch.float32),
        (True, (9, 0), "float16", torch.float16),
    ],
)
def test_precision_is_what_the_device_has(
    monkeypatch: pytest.MonkeyPatch,
    bfloat: bool,
    capability: tuple[int, int],
    asked: str | None,
    found: torch.dtype,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bfloat)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    with execution.chosen(precision=asked):
        assert execution.precision(CUDA) is found


def test_cpu_trains_in_float32_alone() -> None:
    cpu = torch.device("cpu")
    assert execution.precision(cpu) is torch.float32
    with execution.chosen(precision="bfloat16"), pytest.raises(BadInput, match="on the CPU"):
        execution.precision(cpu)
    with execution.chosen(precision="float8"), pytest.raises(BadInput, match="one of auto, float3"):
        execution.precision(cpu)


# --- mixed precision ---------------------------------------------------------------------------


def mix(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr(execution, "precision", lambda _: dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_training_learns_and_keeps_float32_parameters(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    seen = set()
    mix(monkeypatch, dtype)
    data, net = tiny.dataset(), tiny.network()
    net[1].register_forward_hook(lambda *call: seen.add(call[-1].dtype))
    fit(net, data, TrainOptions(epochs=8, batch=16, learning_rate=1e-2), seed=0, watch=False)
    assert seen == {dtype}
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert accuracy(net, data.validation) > 0.95
    assert seen == {dtype, torch.float32}  # an evaluation is not mixed


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_training_resumes_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    mix(monkeypatch, dtype)
    data = tiny.dataset()
    options = TrainOptions(epochs=4, batch=10, learning_rate=1e-2, clip=1.0, shift=1)
    monkeypatch.setattr(execution, "SCALE", 64.0)
    monkeypatch.setattr(execution, "GROWTH_STEPS", 7)
    whole = fit(tiny.network(dropout=0.3), data, options, seed=5)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(Interrupted):
            fit(tiny.network(dropout=0.3), data, options, seed=5, folder=tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    scaled = {k: v for k, v in safetensors.torch.load_file(path).items() if k.startswith("scaler.")}
    if dtype is torch.float16:  # it doubled every 7 steps, and 20 were done
        assert float(scaled["scaler.scale"]) == 64 * 4
        assert int(scaled["scaler.growth"]) == 6
    else:
        assert not scaled
    assert_same(whole, fit(tiny.network(dropout=0.3), data, options, seed=5, folder=tmp_path))


def test_checkpoint_of_one_precision_goes_on_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, options = tiny.dataset(), TrainOptions(epochs=3, batch=16)
    with monkeypatch.context() as patch:
        mix(patch, torch.bfloat16)
        interrupt_after(patch, 1)
        with pytest.raises(Interrupted):
            fit(tiny.network(), data, options, seed=0, folder=tmp_path)
    mix(monkeypatch, torch.float16)
    fit(tiny.network(), data, options, seed=0, folder=tmp_path)
    assert checkpoint.epochs(tmp_path) == 3


STRUCTURES = {
    "conv2": BlockCirculant(4),
    "conv3": FilterSparsity(0.5),
    "fc1": CoarseBlocks(8, 8, 0.5),
}


def images(count: int) -> Dataset:
    rng = torch.Generator().manual_seed(0)
    samples = torch.randint(0, 256, (count, 8, 8, 3), generator=rng, dtype=torch.uint8).numpy()
    split = Split(samples, torch.arange(count).remainder(4).numpy(), 1 / 255)
    return Dataset("images", split, split, lambda: split, 4, "images")


def quantized(data: Dataset) -> nn.Module:
    """A small ConvNet with circulant, block-sparse, masked and plain layers, and quantizers."""
    torch.manual_seed(0)
    net = nets.build("convnet", data.shape, data.classes, {"width": 8})
    frozen = realise(net, STRUCTURES)
    samples = torch.from_numpy(data.train.real()).float()
    return insert_quantizers(net, samples, FormatOptions(), frozen)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_compressed_layers_and_quantizers_compute_in_float32(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    mix(monkeypatch, dtype)
    monkeypatch.setattr(execution, "SCALE", 16.0)  # no step overflows
    data = images(24)
    net = quantized(data)
    seen = {}
    for name, part in net.named_modules():
        if name in (*STRUCTURES, "conv1") or name.endswith("_quantizer"):
            part.register_forward_hook(lambda *call, n=name: seen.__setitem__(n, call[-1].dtype))
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    fit(net, data, TrainOptions(epochs=1, batch=8), seed=0, watch=False)
    assert seen.pop("conv1") is dtype
    assert seen.pop("conv3") is dtype  # masked, else plain
    assert {"conv2", "fc1"} < set(seen)
    assert set(seen.values()) == {torch.float32}
    moved = [n for n, p in net.named_parameters() if not torch.equal(p, before[n])]
    assert len(moved) == len(before)


# --- another device ----------------------------------------------------------------------------


def test_step_of_every_kind_of_layer_stays_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch refuses to compute with tensors of two devices, also where they have no contents."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    data = images(16)
    net, teacher = quantized(data), nets.build("convnet", data.shape, data.classes, {"width": 8})
    options = TrainOptions(
        epochs=1, batch=8, shift=1, flip=True, noise=0.1, distill=0.5, average=0.9, clip=1.0
    )
    net, teacher = net.to(META), teacher.to(META)
    averages = {n: p.detach().clone() for n, p in net.named_parameters()}
    mixed, optimizer = execution.Mixed(META, torch.float32), _optimizer(net, options)
    train = _Resident(data.train, META)
    steps = _Steps(net, train, options, optimizer, mixed, teacher, None, averages)
    loss = steps._step(torch.arange(8), "step 1")
    assert loss.device == META
    assert {p.grad.device for p in net.parameters()} == {META}
    with pytest.raises(RuntimeError, match="device"):
        loss + torch.ones(2)


def test_layout_of_a_device_is_taken_back_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved to the CPU, kernels lie as they did before they were laid out for an accelerator."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    net.to(memory_format=torch.channels_last)
    assert not net[0].weight.is_contiguous()
    weight = net[0].weight.detach().clone()
    monkeypatch.setattr(execution, "_away", lambda _: True)
    execution.home(net)
    assert net[0].weight.is_contiguous()
    assert torch.equal(net[0].weight, weight)


# --- an accelerator that fails -----------------------------------------------------------------


class Failing:
    """Raises an error in the third epoch."""

    def __init__(self, error: Exception) -> None:
        self.error, self.done = error, 0

    def penalty(self) -> torch.Tensor:
        if self.done == 2:
            raise self.error
        return torch.zeros(())

    def after_epoch(self, done: int) -> None:
        self.done = done

    def state(self) -> dict:
        return {}


LOST = "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported"


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (RuntimeError(LOST), r"an accelerator that failed \(CUDA error: unspecified launch"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "that failed"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "without enough memory"),
    ],
)
def test_accelerator_that_vanishes_leaves_the_last_good_checkpoint(
    tmp_path: Path, error: Exception, found: str
) -> None:
    data, options = tiny.dataset(), TrainOptions(epochs=4, batch=32)
    arguments = {"seed": 0, "title": "float", "folder": tmp_path}
    whole = fit(tiny.network(), data, options, seed=0, title="float")
    with pytest.raises(execution.AcceleratorFailed, match=found) as caught:
        fit(tiny.network(), data, options, regularizer=Failing(error), **arguments)
    assert caught.value.thing == "float, epoch 3"
    assert "\n" not in str(caught.value)
    assert f"the state after epoch 2 is kept in {tmp_path}" in caught.value.remedy
    assert json.loads((tmp_path / checkpoint.NAME).read_text())["epoch"] == 2
    assert_same(whole, fit(tiny.network(), data, options, **arguments))


def test_checkpoint_that_is_written_when_the_evaluation_fails_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(LOST)

    monkeypatch.setattr("model.compress.training._accuracy", fail)
    with pytest.raises(execution.AcceleratorFailed, match="after epoch 1 is kept"):
        fit(tiny.network(), tiny.dataset(), TrainOptions(epochs=2), seed=0, folder=tmp_path)
    with pytest.raises(execution.AcceleratorFailed, match="evaluation: found"):
        accuracy(tiny.network(), tiny.dataset().validation)


def test_other_errors_are_not_taken_for_the_accelerator_s(tmp_path: Path) -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied (16x8 and 9x6)")
    with pytest.raises(RuntimeError, match="mat1") as caught:
        fit(
            tiny.network(),
            tiny.dataset(),
            TrainOptions(epochs=3),
            seed=0,
            regularizer=Failing(error),
        )
    assert not isinstance(caught.value, BadInput)
