"""Devices that hold weights as conductances: one TOML file each, beside this module.

A device's states are integers on a grid of conductance. Every constant of a file stands with its
unit and its source.
"""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import Field

from model.ir.errors import BadInput
from model.options import Options, checked

FOLDER = Path(__file__).parent


class Constant(Options):
    """A number with its unit and where it comes from."""

    value: float = Field(gt=0)
    unit: str
    source: str


class States(Options):
    """The conductances that a cell can be set to, as multiples of the grid."""

    values: Annotated[tuple[int, ...], Field(min_length=1)]
    unit: str
    source: str


class Device(Options):
    """A cell for weights.

    Parameters
    ----------
    title : str
        What it is, in a line.
    grid : Constant
        The conductance that one step of the states stands for.
    states : States
        The conductances of a cell.
    """

    title: str
    grid: Constant
    states: States


def known() -> list[str]:
    """Names of the devices, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Device:
    """A device by its name; raises BadInput if it is unknown."""
    if name not in known():
        raise BadInput("device", repr(name), f"one of {', '.join(known())}", "correct the name")
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    return checked(Device, tomllib.loads(text), f"device {name}")
