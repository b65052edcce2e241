"""The table of seeded faults. Each is one textual edit, and the probe that must notice it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One seeded fault.

    Parameters
    ----------
    what : str
        The fault in a few words, unique in the table.
    file : str
        The file it is planted in, relative to the project.
    old, new : str
        The text that must occur there exactly once, and what takes its place.
    probe : str
        The module of this folder that must report a mismatch.
    """

    what: str
    file: str
    old: str
    new: str
    probe: str


_REQUANTIZE = "model/golden/requantize.py"
_NUMERICS = "model/ir/numerics.py"

GOLDEN = [
    Mutation(
        "a half rounds down",
        "model/ir/requantize.py",
        "return 1 << (self.shift - 1) if self.shift else 0",
        "return (1 << (self.shift - 1)) - 1 if self.shift else 0",
        "probe_golden",
    ),
    Mutation(
        "the shift is one too far",
        _REQUANTIZE,
        "(total >> spec.shift)",
        "(total >> spec.shift + 1)",
        "probe_golden",
    ),
    Mutation(
        "the shift goes left",
        _REQUANTIZE,
        "(total >> spec.shift)",
        "(total << spec.shift)",
        "probe_golden",
    ),
    Mutation(
        "the shift truncates towards zero",
        _REQUANTIZE,
        "(total >> spec.shift)",
        '(torch.div(total, 1 << spec.shift, rounding_mode="trunc"))',
        "probe_golden",
    ),
    Mutation(
        "the clamp spares one code above",
        _REQUANTIZE,
        "clamp(span.low, span.high)",
        "clamp(span.low, span.high + 1)",
        "probe_golden",
    ),
    Mutation(
        "the clamp loses the lowest code",
        _REQUANTIZE,
        "clamp(span.low, span.high)",
        "clamp(span.low + 1, span.high)",
        "probe_golden",
    ),
    Mutation(
        "the sign of m is lost",
        _REQUANTIZE,
        'acc * tensors["m"]',
        'acc * tensors["m"].abs()',
        "probe_golden",
    ),
    Mutation(
        "the bias belongs to the next channel",
        _REQUANTIZE,
        'total + tensors["b"]',
        'total + tensors["b"].roll(1)',
        "probe_golden",
    ),
    Mutation(
        "the selection is off by one",
        "model/golden/select.py",
        'node.tensors["indices"].copy()',
        'node.tensors["indices"] - 1',
        "probe_golden",
    ),
    Mutation(
        "two entries of the codebook are swapped",
        _NUMERICS,
        "np.asarray(self.levels, dtype=np.int64)[codes]",
        "np.asarray(self.levels, dtype=np.int64)[codes ^ (codes < 2)]",
        "probe_golden",
    ),
    Mutation(
        "bipolar codes are the other way round",
        _NUMERICS,
        "return 2 * codes - 1",
        "return 1 - 2 * codes",
        "probe_golden",
    ),
    Mutation(
        "an accumulator misses a term of its range",
        _NUMERICS,
        "max(0, self.high) * terms",
        "max(0, self.high) * (terms - 1)",
        "probe_golden",
    ),
    Mutation(
        "the product runs in single precision",
        "model/golden/numerics.py",
        "(x.double() @ weights.double().T)",
        "(x.float() @ weights.float().T)",
        "probe_golden",
    ),
    Mutation(
        "an argmax tie goes to the highest index",
        "model/golden/graph.py",
        "outputs.flatten(1).argmax(dim=1)",
        "outputs.shape[1] - 1 - outputs.flatten(1).flip(1).argmax(dim=1)",
        "probe_golden",
    ),
]

FAULTS = [*GOLDEN]
