"""The training loop: epochs with progress, checkpoints and exact resumption.

All random numbers of an epoch come from the seed and the epoch's number, and the learning rate from
the step's number, so a checkpoint after an epoch is the whole state, and a resumed training is
bit-identical to an uninterrupted one on the same CPU and number of threads.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

import torch
from pydantic import Field
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional

from model.compress import checkpoint
from model.data import Dataset, Split
from model.ir.errors import BadInput
from model.options import Options

EVALUATION_BATCH = 4096


class TrainOptions(Options):
    """Options of one training.

    Parameters
    ----------
    epochs, batch : int
        Passes over the training samples, and samples per step.
    optimizer : str
        ``"adam"`` or ``"sgd"`` (with ``momentum``).
    learning_rate : float
        At the start; ``schedule`` leads it to 0 along a cosine or keeps it. With ``restart`` the
        cosine begins anew every so many epochs.
    weight_decay : float
        Applied to matrices only.
    shift : int
        Augmentation: each image is moved by up to so many pixels along both axes.
    smoothing : float
        Label smoothing.
    distill : float
        Share of the loss that follows the teacher's scores, if there is a teacher.
    temperature : float
        Softens the teacher's scores.
    """

    epochs: int = Field(ge=1)
    batch: int = Field(default=128, ge=1)
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    restart: int = Field(default=0, ge=0)
    shift: int = Field(default=0, ge=0)
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    distill: float = Field(default=0.0, ge=0, le=1)
    temperature: float = Field(default=2.0, gt=0)


class Regularizer(Protocol):
    """What a solver adds to the loop."""

    def penalty(self) -> Tensor:
        """A term of the loss, scalar."""
        ...

    def after_epoch(self, done: int) -> None:
        """Called when ``done`` epochs are done, before the checkpoint."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors that a checkpoint must hold; they are written in place when it is read."""
        ...


def device() -> torch.device:
    """The accelerator that torch sees, else the CPU."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return found if found is not None else torch.device("cpu")


class _Resident:
    """A split on the device, raw, turned into real numbers one batch at a time."""

    def __init__(self, split: Split, where: torch.device) -> None:
        self.samples = torch.from_numpy(split.samples.copy()).to(where)
        self.labels = torch.from_numpy(split.labels.copy()).to(where)
        self.scale = split.scale

    def real(self, index: Tensor | slice) -> Tensor:
        return self.samples[index].float() * self.scale


def real_samples(split: Split, count: int | None = None) -> Tensor:
    """The first ``count`` samples (all if None) as a network takes them, float32, on the CPU."""
    part = Split(split.samples[:count], split.labels[:count], split.scale)
    return _Resident(part, torch.device("cpu")).real(slice(None))


@torch.no_grad()
def accuracy(module: nn.Module, split: Split) -> float:
    """Share of the split's samples whose largest score is the right one."""
    where = device()
    module = module.to(where)
    training = module.training
    module.eval()
    data = _Resident(split, where)
    hits = 0
    for start in range(0, len(split), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        hits += int((module(data.real(part)).argmax(1) == data.labels[part]).sum())
    module.train(training)
    return hits / len(split)


def fit(
    module: nn.Module,
    data: Dataset,
    options: TrainOptions,
    *,
    seed: int,
    title: str = "train",
    folder: Path | None = None,
    teacher: nn.Module | None = None,
    regularizer: Regularizer | None = None,
    facts: object = None,
) -> nn.Module:
    """Train ``module`` in place on the training split and return it, in evaluation mode.

    Parameters
    ----------
    module : nn.Module
        Takes real samples [frames, *data.shape], gives scores [frames, classes].
    data : Dataset
        Only its training split is used; the progress line shows the validation accuracy.
    options : TrainOptions
        Everything that can be chosen.
    seed : int
        Of the order of the samples, augmentation and dropout.
    title : str
        What the progress line says.
    folder : Path, optional
        Where a checkpoint is kept after each epoch, and read at the start if there is one.
    teacher : nn.Module, optional
        Gives the scores to follow, if ``options.distill`` is above 0.
    regularizer : Regularizer, optional
        Adds to the loss and acts after each epoch.
    facts : object
        Whatever else decides the result, with a stable ``repr``: part of the checkpoint's identity.

    Raises BadInput if the checkpoint is damaged or of another training, and if the loss is no
    longer finite.
    """
    where = device()
    module.to(where)
    identity = checkpoint.identify(
        module, options=options, seed=seed, title=title, data=data.hash, facts=facts
    )
    optimizer = _optimizer(module, options)
    state = regularizer.state() if regularizer is not None else {}
    start = 0
    found = checkpoint.load(folder, identity) if folder is not None else None
    if found is not None:
        start, tensors = found
        _restore(module, optimizer, state, tensors)
    if start < options.epochs:
        train = _Resident(data.train, where)
        if teacher is not None:
            teacher = teacher.to(where).eval()
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(title, total=options.epochs, completed=start)
            for epoch in range(start, options.epochs):
                module.train()
                loss = _epoch(module, train, options, optimizer, seed, epoch, teacher, regularizer)
                if not math.isfinite(loss):
                    raise BadInput(
                        f"{title}, epoch {epoch + 1}",
                        f"a loss of {loss}",
                        "a finite loss",
                        "lower the learning rate",
                    )
                if regularizer is not None:
                    regularizer.after_epoch(epoch + 1)
                if folder is not None:
                    checkpoint.save(folder, identity, epoch + 1, _state(module, optimizer, state))
                share = accuracy(module, data.validation)
                text = f"{title}: loss {loss:.4f}, validation {100 * share:.2f} %"
                progress.update(task, advance=1, description=text)
    return module.eval()


def _epoch(
    module: nn.Module,
    train: _Resident,
    options: TrainOptions,
    optimizer: torch.optim.Optimizer,
    seed: int,
    epoch: int,
    teacher: nn.Module | None,
    regularizer: Regularizer | None,
) -> float:
    """One pass over the training samples; returns the mean loss."""
    total = torch.zeros((), device=train.labels.device)
    with torch.random.fork_rng():
        torch.manual_seed((seed << 20) + epoch)
        order = torch.randperm(len(train.labels)).to(train.labels.device)
        batches = [part for part in order.split(options.batch) if len(part) > 1 or len(order) == 1]
        for step, index in enumerate(batches):
            rate = _rate(options, epoch + step / len(batches))
            for group in optimizer.param_groups:
                group["lr"] = rate
            x = train.real(index)
            if options.shift:
                x = _shifted(x, options.shift)
            loss = _loss(module, x, train.labels[index], options, teacher)
            if regularizer is not None:
                loss = loss + regularizer.penalty()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
    return float(total) / len(batches)


def _loss(
    module: nn.Module, x: Tensor, labels: Tensor, options: TrainOptions, teacher: nn.Module | None
) -> Tensor:
    scores = module(x)
    loss = functional.cross_entropy(scores, labels, label_smoothing=options.smoothing)
    if teacher is None or not options.distill:
        return loss
    with torch.no_grad():
        target = (teacher(x) / options.temperature).softmax(1)
    soft = functional.cross_entropy(scores / options.temperature, target)
    return (1 - options.distill) * loss + options.distill * options.temperature**2 * soft


def _rate(options: TrainOptions, epoch: float) -> float:
    """Learning rate after a fraction of epochs."""
    if options.schedule == "constant":
        return options.learning_rate
    period = options.restart or options.epochs
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * (epoch % period) / period))


def _shifted(x: Tensor, most: int) -> Tensor:
    """Images [frames, rows, columns, channels] moved by up to ``most`` pixels each; zeros enter."""
    if x.ndim != 4:
        raise BadInput(
            "shift",
            f"samples of {x.ndim - 1} axes",
            "images [rows, columns, channels]",
            "set shift to 0",
        )
    frames, rows, columns, _ = x.shape
    padded = functional.pad(x, (0, 0, most, most, most, most))
    offset = torch.randint(0, 2 * most + 1, (2, frames, 1)).to(x.device)
    row = offset[0] + torch.arange(rows, device=x.device)
    column = offset[1] + torch.arange(columns, device=x.device)
    frame = torch.arange(frames, device=x.device)
    return padded[frame[:, None, None], row[:, :, None], column[:, None, :]]


def _optimizer(module: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if options.optimizer == "adam":
        return torch.optim.AdamW(groups, lr=options.learning_rate)
    return torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum)


def _parts(
    module: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Tensor]
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    yield "module", module.state_dict()
    yield "optimizer", checkpoint.optimizer_tensors(optimizer)
    yield "solver", state


def _state(
    module: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Tensor]
) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": tensor
        for part, tensors in _parts(module, optimizer, state)
        for name, tensor in tensors.items()
    }


def _restore(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Tensor],
    tensors: dict[str, Tensor],
) -> None:
    def part(name: str) -> dict[str, Tensor]:
        prefix = f"{name}."
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    module.load_state_dict(part("module"))
    checkpoint.restore_optimizer(optimizer, part("optimizer"))
    for name, tensor in part("solver").items():
        state[name].copy_(tensor)
