"""The training loop: epochs with progress, checkpoints and exact resumption.

All random numbers of an epoch come from the seed and the epoch's number, and the learning rate from
the step's number, so a checkpoint after an epoch is the whole state, and a resumed training is
bit-identical to an uninterrupted one on the same CPU and number of threads.

Sequences are batched by length: a random order is cut into stretches of ``BUCKET`` batches, each is
sorted by length, and the batches, cut to their longest member, are taken in random order.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import torch
from pydantic import Field
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from model.compress import checkpoint, execution
from model.compress.execution import device
from model.compress.mismatch import MismatchOptions
from model.compress.quantizers import WeightQuantizer
from model.compress.tracing import MATRIX
from model.data import Dataset, Split
from model.ir.errors import BadInput
from model.options import Options

EVALUATION_BATCH = 1024
BUCKET = 8
STATISTICS_SAMPLES = 4096
CHECKED_STEPS = 50
NORMALIZATION = (nn.BatchNorm1d, nn.BatchNorm2d)


class TrainOptions(Options):
    """Options of one training.

    Parameters
    ----------
    epochs, batch : int
        Passes over the training samples, and samples per step, 2 at least.
    optimizer : str
        ``"adam"`` or ``"sgd"`` (with ``momentum``).
    learning_rate : float
        At the start; ``schedule`` leads it to 0 along a cosine or keeps it. With ``restart`` the
        cosine begins anew every so many epochs.
    weight_decay : float
        Applied to matrices only.
    shift : int
        Augmentation: each image is moved by up to so many pixels along both axes (a random crop of
        the image padded with zeros); each sequence by up to so many features (spectra: a shift of
        pitch), the outermost values being repeated.
    flip : bool
        Augmentation: each image is mirrored, left to right, half of the times.
    noise, offset : float
        Augmentation: standard deviation of Gaussian noise, drawn for each number of a sample, and
        drawn once for all of them (log spectra: loudness), in real units.
    smoothing : float
        Label smoothing.
    distill : float
        Share of the loss that follows the teacher's scores, if there is a teacher; of a sequence,
        those of all its steps.
    temperature : float
        Softens the teacher's scores.
    clip : float
        Largest norm of the whole gradient; 0 does not limit it.
    average : float
        Share that a running average of the parameters keeps at each step (0.999, say); the result
        is that average, and batch normalization gets the statistics that belong to it. 0 averages
        nothing.
    """

    epochs: int = Field(ge=1)
    batch: int = Field(default=128, ge=2)
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    restart: int = Field(default=0, ge=0)
    shift: int = Field(default=0, ge=0)
    noise: float = Field(default=0.0, ge=0)
    offset: float = Field(default=0.0, ge=0)
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    distill: float = Field(default=0.0, ge=0, le=1)
    temperature: float = Field(default=2.0, gt=0)
    flip: bool = False
    clip: float = Field(default=0.0, ge=0)
    average: float = Field(default=0.0, ge=0, lt=1)


class Regularizer(Protocol):
    """What a solver adds to the loop."""

    def penalty(self) -> Tensor:
        """A term of the loss, scalar."""
        ...

    def after_epoch(self, done: int) -> None:
        """Called when ``done`` epochs are done, before the checkpoint; may end it by BadInput."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors that a checkpoint must hold; they are written in place when it is read."""
        ...


class _Resident:
    """A split on the device, raw, turned into real numbers one batch at a time."""

    def __init__(self, split: Split, where: torch.device) -> None:
        self.samples = torch.from_numpy(split.samples.copy()).to(where)
        self.labels = torch.from_numpy(split.labels.copy()).to(where)
        self.scale = split.scale
        self.lengths = None if split.lengths is None else torch.from_numpy(split.lengths.copy())

    def __len__(self) -> int:
        return len(self.labels)

    def real(self, index: Tensor | slice) -> Tensor:
        """Real samples; sequences are cut to the longest of them. ``index`` is on the CPU."""
        samples = self.samples
        if self.lengths is not None:
            samples = samples[:, : int(self.lengths[index].max())]
        if isinstance(index, Tensor):
            index = index.to(samples.device)
        return samples[index].float() * self.scale

    def last(self, scores: Tensor, index: Tensor | slice) -> Tensor:
        """Scores [frames, classes] that count: of a sequence, those at its last step."""
        if self.lengths is None:
            return scores
        last = (self.lengths[index] - 1).to(scores.device)
        return scores[torch.arange(len(scores), device=scores.device), last]

    def every(self, scores: Tensor, index: Tensor | slice) -> Tensor:
        """Scores [n, classes] of all frames, or of all steps of all sequences, without padding."""
        if self.lengths is None:
            return scores
        steps = torch.arange(scores.shape[1])
        return scores[(steps < self.lengths[index][:, None]).to(scores.device)]

    def batches(self, size: int) -> list[Tensor]:
        """Index tensors of the batches of one epoch, from torch's generator."""
        order = torch.randperm(len(self))
        if self.lengths is None:
            return _whole(order.split(size))
        batches = []
        for stretch in order.split(size * BUCKET):
            batches += stretch[self.lengths[stretch].argsort(stable=True)].split(size)
        return _whole([batches[n] for n in torch.randperm(len(batches)).tolist()])


def _whole(batches: Sequence[Tensor]) -> list[Tensor]:
    """The batches, with a batch of one sample joined to another: it would break normalization."""
    large = [part for part in batches if len(part) > 1]
    single = [part for part in batches if len(part) == 1]
    if large and single:
        large[-1] = torch.cat([large[-1], *single])
    return large or single


def real_samples(split: Split, count: int | None = None) -> Tensor:
    """The first ``count`` samples (all if None) as a network takes them, float32, on the CPU.

    Sequences are cut to the longest of them; see :func:`lengths_of` for what is padding.
    """
    return _Resident(split.part(slice(count)), torch.device("cpu")).real(slice(None))


def lengths_of(split: Split, count: int | None = None) -> Tensor | None:
    """Steps of the first ``count`` sequences, int64 [frames]; None if they are no sequences."""
    return None if split.lengths is None else torch.from_numpy(split.lengths[:count].copy())


def accuracy(module: nn.Module, split: Split) -> float:
    """Share of the split's samples whose largest score is the right one.

    A sequence counts by the scores at its last step.
    """
    where = device()
    with execution.guarded("evaluation"):
        found = _accuracy(execution.laid_out(module, where), _Resident(split, where))
        execution.home(module)
    return found


@torch.no_grad()
def _accuracy(module: nn.Module, data: _Resident) -> float:
    """Of a module that is where the data are; in float32, whatever it is trained in."""
    training = module.training
    module.eval()
    order = torch.arange(len(data))
    if data.lengths is not None:
        order = data.lengths.argsort(stable=True)  # equal lengths together: less padding
    hits = 0
    with (
        parametrize.cached(),  # a weight's quantizer works once, not once a batch
        execution.settings(data.labels.device, exact=True),
    ):
        for part in order.split(EVALUATION_BATCH):
            best = data.last(module(data.real(part)), part).argmax(1)
            hits += int((best == data.labels[part.to(best.device)]).sum())
    module.train(training)
    return hits / len(data)


def accuracy_under(
    module: nn.Module, split: Split, mismatch: MismatchOptions, samples: int
) -> list[float]:
    """Accuracies of ``samples`` devices, each drawn from ``mismatch`` and its seed.

    ``module`` has weight quantizers. Raises BadInput if it has none.
    """
    quantizers = [m for m in module.modules() if isinstance(m, WeightQuantizer)]
    if not quantizers:
        raise BadInput(
            "evaluation under mismatch",
            "a network without weight quantizers",
            "a compressed network",
            "compress it first",
        )
    where = device()
    found = []
    try:
        for quantizer in quantizers:
            quantizer.disturbed = mismatch
        with execution.guarded("evaluation under mismatch"):
            data = _Resident(split, where)
            execution.laid_out(module, where)
            for sample in range(samples):
                with execution.seeded(where, (mismatch.seed << 20) + sample):
                    found.append(_accuracy(module, data))
            execution.home(module)
    finally:
        for quantizer in quantizers:
            quantizer.disturbed = None
    return found


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
    watch: bool = True,
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
    watch : bool
        Whether the validation accuracy is measured after each epoch.

    Raises BadInput if the checkpoint is damaged or of another training, if the loss is no longer
    finite (naming the epoch, the step and the first layer where that shows), if the regularizer
    ends the training, and if the accelerator fails; the checkpoint of the last good epoch is then
    kept. The module is on the CPU afterwards, wherever it was trained.
    """
    where = device()
    form = torch.float32 if data.train.lengths is not None else execution.precision(where)
    with execution.guarded(title):
        execution.laid_out(module, where)
    identity = checkpoint.identify(
        module, options=options, seed=seed, title=title, data=data.hash, facts=facts
    )
    optimizer = _optimizer(module, options)
    mixed = execution.Mixed(where, form)
    state = dict(regularizer.state()) if regularizer is not None else {}
    averages = _averages(module, options)
    state |= {f"average.{name}": tensor for name, tensor in averages.items()}
    start = 0
    found = checkpoint.load(folder, identity) if folder is not None else None
    if found is not None:
        start, tensors = found
        _restore(module, optimizer, mixed, state, tensors)
    if start < options.epochs:
        if teacher is not None:
            teacher = (teacher if where.type == "cpu" else copy.deepcopy(teacher)).eval()
            with execution.guarded(title):
                execution.laid_out(teacher, where)
        with execution.guarded(title):
            train, validation = _Resident(data.train, where), _Resident(data.validation, where)
        steps = _Steps(module, train, options, optimizer, mixed, teacher, regularizer, averages)
        done = start
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(title, total=options.epochs, completed=start)
            for epoch in range(start, options.epochs):
                module.train()
                try:
                    with execution.guarded(f"{title}, epoch {epoch + 1}"):
                        with execution.settings(where, exact=form is torch.float32):
                            loss = steps.epoch(seed, epoch, title)
                        if regularizer is not None:
                            regularizer.after_epoch(epoch + 1)
                        if folder is not None:
                            kept = _state(module, optimizer, mixed, state)
                            checkpoint.save(folder, identity, epoch + 1, kept)
                        done = epoch + 1
                        text = f"{title}: loss {loss:.4f}"
                        if watch:
                            text += f", validation {100 * _accuracy(module, validation):.2f} %"
                except BadInput as error:
                    raise _with_checkpoint(error, folder, done) from error
                progress.update(task, advance=1, description=text)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in averages:
                parameter.copy_(averages[name])
    with execution.guarded(title):
        if averages:
            _estimate_statistics(module, data.train, options, seed)
        return execution.home(module).eval()


def _normalizations(module: nn.Module) -> dict[str, nn.Module]:
    """The batch normalizations that keep running statistics, by name."""
    found = ((n, m) for n, m in module.named_modules() if isinstance(m, NORMALIZATION))
    return {name: part for name, part in found if part.running_mean is not None}


@torch.no_grad()
def _estimate_statistics(module: nn.Module, split: Split, options: TrainOptions, seed: int) -> None:
    """Running statistics anew, for the parameters as they are: means over batches of ``split``.

    Of a large split some samples count, evenly spaced.
    """
    parts = list(_normalizations(module).values())
    if not parts:
        return
    count = min(len(split), STATISTICS_SAMPLES)
    some = split.part(torch.linspace(0, len(split) - 1, count).long().numpy())
    samples = _Resident(some, device())
    momenta = [part.momentum for part in parts]
    for part in parts:
        part.reset_running_stats()
        part.momentum = None  # the plain mean over all batches
    module.train()
    where = samples.labels.device
    with (
        execution.seeded(where, (seed << 20) + options.epochs),
        execution.settings(where, exact=True),
    ):
        for index in samples.batches(options.batch):
            module(samples.real(index))
    for part, momentum in zip(parts, momenta, strict=True):
        part.momentum = momentum


def _with_checkpoint(error: BadInput, folder: Path | None, epochs: int) -> BadInput:
    """The same error, saying where the last good state is."""
    if folder is None or epochs == 0:
        return error
    kept = f"the state after epoch {epochs} is kept in {folder}"
    return type(error)(error.thing, error.found, error.expected, f"{error.remedy}; {kept}")


def _averages(module: nn.Module, options: TrainOptions) -> dict[str, Tensor]:
    """Running averages of the parameters, by name, at their start."""
    if not options.average:
        return {}
    trained = ((n, p) for n, p in module.named_parameters() if p.requires_grad)
    return {name: parameter.detach().clone() for name, parameter in trained}


class _Steps:
    """The steps of a training."""

    def __init__(
        self,
        module: nn.Module,
        train: _Resident,
        options: TrainOptions,
        optimizer: torch.optim.Optimizer,
        mixed: execution.Mixed,
        teacher: nn.Module | None,
        regularizer: Regularizer | None,
        averages: dict[str, Tensor],
    ) -> None:
        self.module = module
        self.train = train
        self.options = options
        self.optimizer = optimizer
        self.mixed = mixed
        # reading a loss waits for the accelerator, so it is read now and then
        self.checked = 1 if mixed.where.type == "cpu" else CHECKED_STEPS
        self.teacher = teacher
        self.regularizer = regularizer
        named = dict(module.named_parameters())
        self.parameters = [p for p in named.values() if p.requires_grad]
        self.averaged = [named[name] for name in averages]
        self.averages = list(averages.values())

    def epoch(self, seed: int, epoch: int, title: str) -> float:
        """One pass over the training samples; returns the mean loss."""
        where = self.mixed.where
        total = torch.zeros((), device=where)
        with execution.seeded(where, (seed << 20) + epoch):
            batches = self.train.batches(self.options.batch)
            for step, index in enumerate(batches):
                rate = _rate(self.options, epoch + step / len(batches))
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                place = f"{title}, epoch {epoch + 1}, step {step + 1}"
                total += self._step(index, place)
                if (step + 1) % self.checked == 0:
                    self._check_loss(total, place)
        self._check_loss(total, place)
        self._check(place)
        return float(total) / len(batches)

    def _step(self, index: Tensor, place: str) -> Tensor:
        """One step on a batch; returns the loss."""
        with torch.no_grad():
            x = self.train.real(index)
            if self.options.shift:
                x = _shifted(x, self.options.shift)
            if self.options.flip:
                x = _flipped(x)
            if self.options.noise or self.options.offset:
                x = _disturbed(x, self.options.noise, self.options.offset)
        with self.mixed.region():
            loss = _loss(self.module, self.train, x, index, self.options, self.teacher)
        if self.regularizer is not None:
            loss = loss + self.regularizer.penalty()
        self.optimizer.zero_grad()
        self.mixed.backward(loss)
        if self.checked == 1:
            self._check_loss(loss, place)
        self.mixed.step(self.optimizer, self.parameters, self.options.clip)
        if self.averages:
            torch._foreach_lerp_(
                self.averages, [p.detach() for p in self.averaged], 1 - self.options.average
            )
        return loss.detach()

    def _check_loss(self, loss: Tensor, place: str) -> None:
        """Raise BadInput if a loss, or a sum of losses up to a place, is not finite."""
        if not math.isfinite(float(loss.detach())):
            raise self._not_finite(place, f"a loss of {float(loss.detach())}")

    def _check(self, place: str) -> None:
        """Raise BadInput if a parameter or a running statistic is not finite.

        No such state becomes a checkpoint.
        """
        if not all(bool(torch.isfinite(p).all()) for p in self.parameters):
            raise self._not_finite(place, "parameters that are not finite")
        for name, part in _normalizations(self.module).items():
            for key in ("running_mean", "running_var"):
                if not torch.isfinite(getattr(part, key)).all():
                    raise BadInput(
                        place,
                        f"{name}.{key} that is not finite",
                        "finite numbers",
                        "lower the learning rate, or look at the samples",
                    )

    def _not_finite(self, place: str, found: str) -> BadInput:
        parts = (("", lambda p: p), ("the gradient of ", lambda p: p.grad))
        for prefix, part in parts:
            for name, parameter in self.module.named_parameters():
                tensor = part(parameter)
                if tensor is not None and not torch.isfinite(tensor).all():
                    plain = name.replace("parametrizations.", "").replace(".original", "")
                    return BadInput(
                        place,
                        f"{found}; the first that is not finite: {prefix}{plain}",
                        "finite numbers",
                        "lower the learning rate, or limit the gradient (clip)",
                    )
        return BadInput(
            place, found, "finite numbers", "lower the learning rate, or look at the samples"
        )


def _loss(
    module: nn.Module,
    train: _Resident,
    x: Tensor,
    index: Tensor,
    options: TrainOptions,
    teacher: nn.Module | None,
) -> Tensor:
    scores = module(x)
    labels = train.labels[index.to(scores.device)]
    loss = functional.cross_entropy(
        train.last(scores, index), labels, label_smoothing=options.smoothing
    )
    if teacher is None or not options.distill:
        return loss
    with torch.no_grad():
        target = (train.every(teacher(x), index) / options.temperature).softmax(1)
    soft = functional.cross_entropy(train.every(scores, index) / options.temperature, target)
    return (1 - options.distill) * loss + options.distill * options.temperature**2 * soft


def _rate(options: TrainOptions, epoch: float) -> float:
    """Learning rate after a fraction of epochs."""
    if options.schedule == "constant":
        return options.learning_rate
    period = options.restart or options.epochs
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * (epoch % period) / period))


def _shifted(x: Tensor, most: int) -> Tensor:
    """Images [frames, rows, columns, channels] moved by up to ``most`` pixels each; zeros enter.

    Sequences [frames, steps, features] are moved along the features; the outermost are repeated.
    """
    if x.ndim == 3:
        offset = torch.randint(-most, most + 1, (len(x), 1, 1)).to(x.device)
        feature = (offset + torch.arange(x.shape[2], device=x.device)).clamp(0, x.shape[2] - 1)
        return x.gather(2, feature.expand(x.shape))
    _check_images(x, "shift", "set shift to 0")
    frames, rows, columns, _ = x.shape
    padded = functional.pad(x, (0, 0, most, most, most, most))
    offset = torch.randint(0, 2 * most + 1, (2, frames, 1)).to(x.device)
    row = offset[0] + torch.arange(rows, device=x.device)
    column = offset[1] + torch.arange(columns, device=x.device)
    frame = torch.arange(frames, device=x.device)
    return padded[frame[:, None, None], row[:, :, None], column[:, None, :]]


def _flipped(x: Tensor) -> Tensor:
    """Images [frames, rows, columns, channels], each mirrored left to right or left alone."""
    _check_images(x, "flip", "set flip to false")
    mirrored = torch.rand(len(x)).to(x.device) < 0.5
    return torch.where(mirrored[:, None, None, None], x.flip(2), x)


def _disturbed(x: Tensor, noise: float, offset: float) -> Tensor:
    """Samples with Gaussian noise on each number, and one Gaussian number on each whole sample."""
    each = torch.randn(x.shape).to(x.device)
    whole = torch.randn(len(x), *[1] * (x.ndim - 1)).to(x.device)
    return x + noise * each + offset * whole


def _check_images(x: Tensor, option: str, remedy: str) -> None:
    if x.ndim != 4:
        raise BadInput(
            option, f"samples of {x.ndim - 1} axes", "images [rows, columns, channels]", remedy
        )


def _optimizer(module: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    parameters = [p for p in module.parameters() if p.requires_grad]
    layers = [part for part in module.modules() if isinstance(part, MATRIX)]
    decayed = {id(p) for layer in layers for p in layer.parameters() if p.ndim > 1}
    groups = [
        {
            "params": [p for p in parameters if id(p) in decayed],
            "weight_decay": options.weight_decay,
        },
        {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
    ]
    if options.optimizer == "adam":
        return torch.optim.AdamW(groups, lr=options.learning_rate)
    return torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum)


def _parts(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    mixed: execution.Mixed,
    state: dict[str, Tensor],
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    yield "module", module.state_dict()
    yield "optimizer", checkpoint.optimizer_tensors(optimizer)
    yield "scaler", mixed.state()
    yield "solver", state


def _state(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    mixed: execution.Mixed,
    state: dict[str, Tensor],
) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": tensor.detach().cpu()
        for part, tensors in _parts(module, optimizer, mixed, state)
        for name, tensor in tensors.items()
    }


def _restore(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    mixed: execution.Mixed,
    state: dict[str, Tensor],
    tensors: dict[str, Tensor],
) -> None:
    def part(name: str) -> dict[str, Tensor]:
        prefix = f"{name}."
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    module.load_state_dict(part("module"))
    checkpoint.restore_optimizer(optimizer, part("optimizer"))
    mixed.restore(part("scaler"))
    for name, tensor in part("solver").items():
        state[name].copy_(tensor)
