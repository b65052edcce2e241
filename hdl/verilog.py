"""Components to Verilog text."""

from dataclasses import dataclass

from amaranth.lib import wiring

from hdl.accelerator import Accelerator
from hdl.target import VerilogTarget


@dataclass(frozen=True)
class Design:
    """Generated hardware: one Verilog source, and the contents of its .hex files by file name."""

    top: str
    verilog: str
    files: dict[str, str]


def generate(component: wiring.Component, top: str, files: dict[str, str]) -> Design:
    """Convert a component, and all that it is made of, with ``top`` as the name of its module."""
    target = VerilogTarget()
    target.convert(component, top)
    return Design(top, target.text(), files)


def generate_accelerator(accelerator: Accelerator, top: str = "accelerator") -> Design:
    """The Verilog and the .hex files of an accelerator."""
    return generate(accelerator, top, accelerator.files())
