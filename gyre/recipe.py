"""Recipes: one TOML file names the data, network, constraint, solver, formats and engine.

Sections: ``name`` and ``seed`` at the top, then ``[data]``, ``[network]``, ``[float]``,
``[compress]``, ``[format]``, ``[mapping]``, ``[simulate]``. The first six of these (without the
name) decide the trained network and make up :attr:`Recipe.hash`; the rest only its hardware.
"""

import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from model import data, nets
from model.compress import FormatOptions, TrainOptions, constraints, solver
from model.compress.constraints import Constraint
from model.ir.errors import BadInput
from model.ir.spec import check_name
from model.options import Options, checked

TRAINED = ("seed", "data", "network", "float", "compress", "format")


class DataSection(Options):
    """``[data]``: ``name`` of the data set and its ``options``."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class NetworkSection(Options):
    """``[network]``: ``name`` of the network and its ``options``."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class CompressSection(Options):
    """``[compress]``: ``solver``, its ``options``, and ``layers``.

    ``layers`` maps a layer's name to its constraints, name to argument, which hold together.
    """

    solver: str
    options: dict[str, Any] = Field(default_factory=dict)
    layers: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def constraints(self) -> dict[str, Constraint]:
        """The constraint of each layer; raises BadInput for what is unknown or wrong."""
        return {
            layer: constraints.build(parts, f"compress.layers.{layer}")
            for layer, parts in self.layers.items()
        }

    def solver_options(self) -> Options:
        """The solver's options, checked; raises BadInput for what is unknown or wrong."""
        return checked(solver.find(self.solver)[1], self.options, "compress.options")


class MappingSection(Options):
    """``[mapping]``: the ``engine`` and its budget of ``multipliers`` (and of ``memory_bits``)."""

    engine: Literal["pe_array"] = "pe_array"
    multipliers: int = Field(default=256, ge=1)
    memory_bits: int | None = Field(default=None, ge=1)


class SimulateSection(Options):
    """``[simulate]``: how many ``frames`` of the test split: a count, or ``"all"``."""

    frames: Literal["all"] | int = "all"

    @field_validator("frames", mode="before")
    @classmethod
    def _check_frames(cls, value: Any) -> Any:
        if value != "all" and (type(value) is not int or value < 1):
            raise ValueError('a count of at least 1, or "all"')
        return value


class Recipe(Options):
    """A whole recipe; field by field the sections of the file.

    Parameters
    ----------
    name : str
        Names the folder of the results.
    seed : int
        Of everything random.
    """

    name: str
    seed: int = Field(default=0, ge=0, lt=1 << 32)
    data: DataSection
    network: NetworkSection
    float_: TrainOptions = Field(alias="float")
    compress: CompressSection
    format: FormatOptions = FormatOptions()
    mapping: MappingSection = MappingSection()
    simulate: SimulateSection = SimulateSection()

    @property
    def hash(self) -> str:
        """SHA-256 over what decides the trained network."""
        return self.digest(*TRAINED)

    def digest(self, *sections: str) -> str:
        """SHA-256 over some sections; values that equal their defaults do not count."""
        form = self.plain()
        form["compress"] = {
            "solver": self.compress.solver,
            "options": self.compress.solver_options().plain(),
            "layers": self.compress.layers,  # in the order of the file: it is that of projection
        }
        form["data"] = {"name": self.data.name}
        if chosen := data.options(self.data.name, self.data.options, "data.options").plain():
            form["data"]["options"] = chosen
        network = nets.options(self.network.name, self.network.options, "network.options")
        form["network"]["options"] = network.plain()
        text = json.dumps({key: form.get(key) for key in sections})
        return hashlib.sha256(text.encode()).hexdigest()


def load(path: str | Path, sets: Sequence[str] = ()) -> Recipe:
    """Read a recipe, with keys replaced by ``section.key=value``.

    Parameters
    ----------
    path : str or Path
        The TOML file.
    sets : sequence of str
        Replacements; a value is TOML, or a plain string where it is none.

    Raises BadInput for a file that cannot be read, an unknown key, a wrong value, or a name that is
    not known.
    """
    path = Path(path)
    try:
        form = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(
            f"recipe {path}", error.strerror, "a readable TOML file", "correct the path"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(
            f"recipe {path}", f"no valid TOML ({error})", "a TOML file", "correct the file"
        ) from error
    for text in sets:
        _set(form, text)
    recipe = checked(Recipe, form, "")
    check_name("name", recipe.name)
    if recipe.data.name not in data.known():
        raise BadInput(
            "data.name",
            repr(recipe.data.name),
            f"one of {', '.join(data.known())}",
            "choose a known data set",
        )
    recipe.compress.constraints()
    recipe.digest(*TRAINED)  # reads the options of data set, network and solver
    return recipe


def _set(form: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise BadInput("--set", repr(text), "section.key=value", "write it so")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in path[:-1]:
        form = form.setdefault(part, {})
        if not isinstance(form, dict):
            raise BadInput("--set", repr(text), f"a section {part!r}", "correct the key")
    form[path[-1]] = parsed
