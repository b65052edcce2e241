"""Rows of cells through the programming port of an AXI shell, under cocotbext-axi.

The cells begin as the accelerator's network has them; all rows of another network of the same shape
are written through the port, and frames before, between and after are those of the golden model.
"""

from dataclasses import dataclass

import numpy as np
import torch

from hdl.accelerator import Accelerator
from model import golden
from model.ir.network import Network
from model.ir.pim_array import PimArraySpec
from sim.axi import codes_from, frames, run_shell


@dataclass(frozen=True)
class Programmed:
    """What came out of a run.

    Parameters
    ----------
    outputs, expected : dict of str to int64 array [frames, length]
        Codes of the frames with the cells of network ``before``, and of network ``after``, and what
        golden gives for them.
    rows, failures, pulses, cycles : int
        What the port counted while all rows were written once.
    """

    outputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    rows: int
    failures: int
    pulses: int
    cycles: int


def rows_of(accelerator: Accelerator, network: Network) -> list[dict]:
    """All rows of a network: where they go, their words, and what writing them must give.

    ``pulses`` and ``cycles`` are of all copies; a row ``fails`` where a cell is stuck at another
    level.
    """
    found = []
    for number, cells in enumerate(accelerator.cells):
        node = network[cells.node]
        spec = accelerator.mapping.engine(_engine(accelerator, cells.node))
        assert isinstance(spec, PimArraySpec)
        levels, stuck = spec.contents(node)
        wrong = ((stuck >= 0) & (stuck != levels)).any(axis=2)
        for macro, row in np.ndindex(*wrong.shape):
            fails = bool(wrong[macro, row])
            pulses = spec.attempts if fails else 1
            found.append(
                {
                    "layer": number,
                    "macro": macro,
                    "row": row,
                    "words": cells.row_words(levels[macro, row].tolist()),
                    "fails": fails,
                    "pulses": cells.copies * pulses,
                    "cycles": cells.copies * spec.macro(node.spec).row_write_cycles(pulses),
                }
            )
    return found


def _engine(accelerator: Accelerator, node: str) -> str:
    names = {stage.node: stage.engine for stage in accelerator.mapping.stages}
    found = names[node]
    assert found is not None
    return found


def run_programmed(
    accelerator: Accelerator,
    after: Network,
    codes: torch.Tensor,
    *,
    pauses: float = 0.3,
    seed: int = 1,
) -> Programmed:
    """Write the rows of network ``after`` into an accelerator, and send frames all the while.

    Parameters
    ----------
    accelerator : Accelerator
        With rows that can be written, of a network without a state.
    after : Network
        Of the same shape and formats.
    codes : int64 tensor [frames, *input shape]
        Frames, which are sent in turn.
    pauses : float
        Share of the cycles in which each channel pauses.

    Raises SimulationError if the shell hangs, gives a surplus frame, or a register answers wrongly.
    """
    job = {
        "frames": frames(accelerator, codes),
        "layers": [cells.to_json() for cells in accelerator.cells],
        "before": rows_of(accelerator, accelerator.network),
        "after": rows_of(accelerator, after),
        "pauses": pauses,
        "seed": seed,
    }
    result = run_shell(accelerator, "tb.tb_program", job)
    outputs, expected = {}, {}
    for name, network in (("before", accelerator.network), ("after", after)):
        of_it = [one for one in result["outputs"] if one["cells"] == name]
        outputs[name] = np.array([codes_from(accelerator, one["bytes"]) for one in of_it])
        sent = [one["frame"] for one in of_it]
        expected[name] = golden.run(network, codes[sent]).flatten(1).numpy()
    counts = result["counts"]
    return Programmed(
        outputs,
        expected,
        counts["program_written"],
        counts["program_failures"],
        counts["program_pulses"],
        counts["program_cycles"],
    )
