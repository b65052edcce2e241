"""Where a training runs and what its products are computed in: no part of what is trained.

Two variables of the environment choose, and no recipe does, so a training may end on another device
than it began on:

- ``GYRE_DEVICE``: ``auto`` (the accelerator that torch sees, else the CPU), ``cpu``, or the name of
  an accelerator, such as ``cuda`` or ``cuda:1``.
- ``GYRE_PRECISION``: ``auto``, ``float32``, ``bfloat16`` or ``float16``. ``auto`` is bfloat16 where
  a CUDA device computes in it, float16 with a scaled loss on CUDA devices with tensor cores for
  nothing else, and float32 elsewhere. The CPU and sequences train in float32 always.

In mixed precision the matrix products of plain layers are computed in the shorter type;
parameters, quantizers, compressed layers, penalties and the optimizer stay in float32, and so does
every evaluation. Source: P. Micikevicius et al., Mixed precision training, ICLR 2018.
"""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from model.ir.errors import BadInput

DEVICE = "GYRE_DEVICE"
PRECISION = "GYRE_PRECISION"
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HALF = (torch.bfloat16, torch.float16)
TENSOR_CORES = (7, 0)  # CUDA compute capability that has them
SCALE = 2.0**16  # of a float16 loss, at the start
GROWTH_STEPS = 2000  # without an overflow, after which it doubles
FAILURES = re.compile(r"CUDA|cuDNN|CUBLAS|CUFFT|\bHIP\b|\bXPU\b|\bMPS\b|accelerator", re.IGNORECASE)


class AcceleratorFailed(BadInput):
    """The accelerator failed or vanished: nothing more can be computed on it by this process."""


@contextmanager
def chosen(device: str | None = None, precision: str | None = None) -> Iterator[None]:
    """The variables of the environment, set for what is done inside; None leaves one as it is."""
    asked = {DEVICE: device, PRECISION: precision}
    before = {name: os.environ.get(name) for name in asked}
    os.environ.update({name: value for name, value in asked.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def device() -> torch.device:
    """The device that ``GYRE_DEVICE`` names.

    Raises BadInput if there is no such device.
    """
    asked = os.environ.get(DEVICE) or "auto"
    cpu = torch.device("cpu")
    if asked == "cpu":
        return cpu
    found = torch.accelerator.current_accelerator(check_available=True)
    if asked == "auto":
        return found if found is not None else cpu
    there = [] if found is None else [found.type]
    there += [f"{found.type}:{n}" for n in range(torch.accelerator.device_count()) if found]
    if asked not in there:
        raise BadInput(
            f"device ({DEVICE})",
            repr(asked),
            f"one of {', '.join(['auto', 'cpu', *there])}, which this machine and torch have",
            "choose one of these, or install a build of PyTorch for the accelerator",
        )
    return torch.device(asked)


def precision(where: torch.device) -> torch.dtype:
    """What the matrix products of a training on a device are computed in.

    Raises BadInput for an unknown type, and for a short one on the CPU.
    """
    asked = os.environ.get(PRECISION) or "auto"
    if asked != "auto" and asked not in TYPES:
        raise BadInput(
            f"precision ({PRECISION})",
            repr(asked),
            f"one of auto, {', '.join(TYPES)}",
            "correct the name",
        )
    if where.type == "cpu" and asked in ("bfloat16", "float16"):
        raise BadInput(
            f"precision ({PRECISION})",
            f"{asked} on the CPU",
            "auto or float32 there",
            "leave it out, or choose an accelerator",
        )
    if asked != "auto":
        return TYPES[asked]
    if where.type != "cuda":
        return torch.float32
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    cores = torch.cuda.get_device_capability(where) >= TENSOR_CORES
    return torch.float16 if cores else torch.float32


class Mixed:
    """The precision of one training.

    Parameters
    ----------
    where : torch.device
        Where it runs.
    dtype : torch.dtype
        What products are computed in; float32 changes nothing at all. A float16 loss is scaled.
    """

    def __init__(self, where: torch.device, dtype: torch.dtype) -> None:
        self.where, self.dtype = where, dtype
        self.scaler = None
        if dtype is torch.float16:
            self.scaler = torch.amp.GradScaler(where.type, SCALE, growth_interval=GROWTH_STEPS)

    def region(self) -> AbstractContextManager:
        """Around the forward pass and the loss."""
        short = self.dtype in HALF
        return torch.autocast(self.where.type, self.dtype) if short else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, times the scale if it is scaled."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def step(
        self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip: float
    ) -> None:
        """One step of the optimizer; a scaled one whose gradients overflowed is left out."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
        if clip:
            nn.utils.clip_grad_norm_(parameters, clip)
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it: nothing, unless the loss is scaled."""
        if self.scaler is None:
            return {}
        form = self.scaler.state_dict()
        return {
            "scale": torch.tensor(form["scale"], dtype=torch.float64),
            "growth": torch.tensor(form["_growth_tracker"]),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`state` gave; that of another precision does not count."""
        if self.scaler is None or not state:
            return
        form = self.scaler.state_dict()
        form |= {"scale": float(state["scale"]), "_growth_tracker": int(state["growth"])}
        self.scaler.load_state_dict(form)


@contextmanager
def full_precision(x: Tensor) -> Iterator[Tensor]:
    """``x`` in float32 if it is shorter; products inside are computed as they are."""
    with torch.autocast(x.device.type, enabled=False):
        yield lengthened(x)


def lengthened(x: Tensor) -> Tensor:
    """``x``, in float32 if its type is shorter."""
    return x.float() if x.dtype in HALF else x


@contextmanager
def settings(where: torch.device, *, exact: bool) -> Iterator[None]:
    """cuDNN on a CUDA device: its fastest algorithms, and no TF32 where ``exact``."""
    if where.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=not exact):
        yield


@contextmanager
def seeded(where: torch.device, seed: int) -> Iterator[None]:
    """torch's generators at a seed, those of the CPU and of ``where``; afterwards as before."""
    cuda = [where] if where.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield


def laid_out(module: nn.Module, where: torch.device) -> nn.Module:
    """A module moved to a device in place; on an accelerator its kernels lie channels last."""
    if where.type == "cpu":
        return module.to(where)
    return module.to(where, memory_format=torch.channels_last)


def home(module: nn.Module) -> nn.Module:
    """A module moved back to the CPU in place, as it is laid out there."""
    if not _away(module):
        return module
    return module.to("cpu", memory_format=torch.contiguous_format)


def _away(module: nn.Module) -> bool:
    """Whether some of a module is not on the CPU."""
    return any(p.device.type != "cpu" for p in module.parameters())


@contextmanager
def guarded(place: str) -> Iterator[None]:
    """Raises AcceleratorFailed, naming ``place``, if what is done inside loses the accelerator.

    Other errors pass.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_failure(error):
            raise
        text = str(error).strip().partition("\n")[0]
        if isinstance(error, torch.OutOfMemoryError):
            raise AcceleratorFailed(
                place,
                f"an accelerator without enough memory ({text})",
                "memory for the samples, the network and a batch",
                "end what else runs on it, or choose a smaller batch or another device (--device)",
            ) from error
        raise AcceleratorFailed(
            place,
            f"an accelerator that failed ({text})",
            "one that computes to the end",
            "give the same command again, on this device or another one (--device)",
        ) from error


def is_failure(error: RuntimeError) -> bool:
    """Whether an error says that the accelerator failed, and not the program."""
    kinds = (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError))
    return isinstance(error, kinds) or bool(FAILURES.search(str(error).partition("\n")[0]))


def name_of(where: torch.device) -> str:
    """Name of an accelerator, as its driver tells it; that of its type where none does."""
    return torch.cuda.get_device_name(where) if where.type == "cuda" else where.type
