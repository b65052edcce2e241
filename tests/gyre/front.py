"""A tiny recipe, and calls of the command line."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from gyre import cli

TINY = """
name = "tiny"
seed = 3
[data]
name = "digits"
[network]
name = "mlp"
[network.options]
hidden = [12]
[float]
epochs = 2
batch = 32
learning_rate = 1e-2
[compress]
solver = "admm"
[compress.layers.fc1]
column_sparsity = 20
[compress.options]
interval = 1
[compress.options.train]
epochs = 1
batch = 32
[compress.options.retrain]
epochs = 2
batch = 32
[format]
input_bits = 4
weight_bits = 3
activation_bits = 3
[mapping]
multipliers = 20
[simulate]
frames = 70
"""


@dataclass(frozen=True)
class Call:
    """What a call of the command line gave."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of an error, without its mark."""
        lines = [line for line in self.err.splitlines() if line.startswith("gyre: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.out + self.err
        return lines[0].removeprefix("gyre: ")


def call(*args: object) -> Call:
    """Call the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GYRE_TRACEBACK", raising=False)
        patch.setenv("COLUMNS", "80")
        patch.setattr("sys.argv", ["gyre", *map(str, args)])
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stop:
            cli.main()
    return Call(stop.value.code or 0, out.getvalue(), err.getvalue())
