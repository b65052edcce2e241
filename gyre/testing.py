"""For a user's own pytest: float network, golden model and RTL agree."""

import torch
from torch import nn

from hdl.accelerator import Accelerator
from model import golden
from model.export import export
from model.ir.planner import Budget, plan
from sim.verify import Verdict, verify


def assert_golden(
    module: nn.Module,
    samples: torch.Tensor,
    *,
    calibration: torch.Tensor | None = None,
    agreement: float = 0.95,
    multipliers: int = 64,
    input_bits: int = 8,
    weight_bits: int = 8,
    activation_bits: int = 8,
    channels_first: bool = False,
) -> Verdict:
    """Export a network, generate its accelerator, and hold all three forms against each other.

    RTL must equal golden in every code of every layer, exactly; golden must give the class that the
    float network gives for at least a share ``agreement`` of the samples, since quantization may
    turn a close call.

    Parameters
    ----------
    module : nn.Module
        A trained network of supported layers.
    samples : float tensor [frames, ...]
        Real samples, channels last unless ``channels_first``.
    calibration : float tensor, optional
        Samples of the training split that calibrate the formats; by default ``samples``.
    agreement : float
        Least share of equal classes, 0 to 1.
    multipliers : int
        Budget of the planner.
    input_bits, weight_bits, activation_bits : int
        Formats of what has no quantizer.
    channels_first : bool
        Samples are [frames, channels, ...].

    Returns the verdict. Raises AssertionError that locates the first difference, and BadInput for
    layers that are not supported.
    """
    samples = torch.as_tensor(samples, dtype=torch.float32)
    if not 0 <= agreement <= 1:
        raise ValueError(f"agreement must be from 0 to 1, not {agreement}")
    network = export(
        module,
        samples[:1],
        samples if calibration is None else calibration,
        input_bits=input_bits,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        channels_first=channels_first,
    )
    real = samples.movedim(1, -1) if channels_first and samples.ndim > 2 else samples
    codes = golden.quantize(network.input, real.double().numpy())
    with torch.no_grad():
        classes = module.eval()(samples).flatten(1).argmax(dim=1)
    same = float((classes == golden.predict(golden.run(network, codes))).double().mean())
    assert same >= agreement, (
        f"golden gives the float network's class for {same:.4f} of {len(samples)} samples, "
        f"less than {agreement}: use more bits, or train with quantizers"
    )
    verdict = verify(Accelerator(network, plan(network, Budget(multipliers))), codes)
    assert verdict.equal, "RTL differs from golden: " + "; ".join(
        f"{check}: {difference}" for check, difference in verdict.differences
    )
    return verdict
