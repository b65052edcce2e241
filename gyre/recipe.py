"""Recipes: one TOML file names the data, network, constraint, solver, formats and engine.

Sections: ``name`` and ``seed`` at the top, then ``[data]``, ``[network]``, ``[float]``,
``[compress]``, ``[format]``, ``[evaluate]``, ``[mapping]``, ``[simulate]``. The seed and the first
five sections decide the trained network and make up :attr:`Recipe.hash`; ``[evaluate]`` says what
else is measured of it, and the rest is its hardware.
``[goal]`` holds the published figure and those to reach. ``[variants.NAME]`` holds keys that
replace the recipe's own, table by table; the variant's recipe is named ``<name>_<NAME>``.
"""

import copy
import hashlib
import json
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from model import data, nets
from model.compress import FormatOptions, MismatchOptions, TrainOptions, constraints, solver
from model.compress.constraints import Constraint
from model.ir.errors import BadInput
from model.ir.lstm_array import SEQUENCES_MAX
from model.ir.pim_options import PIMOptions
from model.ir.pim_planner import PimBudget
from model.ir.planner import Budget
from model.ir.spec import check_name
from model.options import Options, checked

TRAINED = ("seed", "data", "network", "float", "compress", "format")
EXPORT = ("arithmetic", "fft", "pim", "state_steps")
"""Keys of ``[format]`` that training does not see: they only say how the network is exported."""


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


class EvaluateSection(Options):
    """``[evaluate]``: the accuracy of ``samples`` devices (0: none) under ``mismatch``."""

    mismatch: MismatchOptions = MismatchOptions()
    samples: int = Field(default=0, ge=0)


class WriteSection(Options):
    """``[mapping.write]``: cells are written by pulses of so many ``cycles``, read back, and again.

    ``attempts``, ``failures`` (of 65,536 pulses) and ``endurance`` are those of MacroSpec.
    """

    cycles: int = Field(default=1, ge=1, le=65535)
    attempts: int = Field(default=1, ge=1, le=255)
    failures: int = Field(default=0, ge=0, le=65536)
    endurance: int = Field(default=0, ge=0, lt=1 << 32)


class MappingSection(Options):
    """``[mapping]``: the ``engine`` and its budget of ``multipliers`` (and of ``memory_bits``).

    ``goal`` is what the planner minimises: ``"cycles"`` a frame, or ``"energy"``.

    Under ``"pe_array"`` layers of exact arithmetic get PE arrays (depthwise convolutions lane
    arrays), circulant ones of fft arithmetic circulant arrays. Recurrent layers take the steps of
    so many ``sequences`` in turn. Under ``"pim_array"`` layers of pim arithmetic get at most so
    many ``macros``, copies included (by default one copy of each layer), with
    ``columns_per_converter``; ``technology`` names the cells, whose energy the report states.
    Their cells hold the weights from the start, unless ``write`` says how they are written;
    ``macro_body`` names a hard macro for a silicon flow.
    The engine ``"none"`` is that of a recipe whose network ends in golden: it has no hardware yet.
    """

    engine: Literal["pe_array", "pim_array", "none"] = "pe_array"
    multipliers: int = Field(default=256, ge=1)
    memory_bits: int | None = Field(default=None, ge=1)
    sequences: int = Field(default=1, ge=1, le=SEQUENCES_MAX)
    goal: Literal["cycles", "energy"] = "cycles"
    macros: int | None = Field(default=None, ge=1)
    columns_per_converter: int = Field(default=1, ge=1, le=64)
    technology: Literal["sot_mram", "memristor"] = "sot_mram"
    write: WriteSection | None = None
    macro_body: str = Field(default="", pattern="^([A-Za-z_][A-Za-z0-9_]*)?$")

    def budget(self, pim: PIMOptions) -> Budget:
        """What the planner may use; the macros are those of ``[format]``."""
        macros = None
        if self.engine == "pim_array":
            macros = PimBudget(
                pim.columns,
                pim.spare,
                self.columns_per_converter,
                self.macros,
                body=self.macro_body,
                faults=pim.faults() if pim.stuck else None,
            )
            if self.write is not None:
                macros = replace(
                    macros,
                    programs=True,
                    write_cycles=self.write.cycles,
                    attempts=self.write.attempts,
                    failures=self.write.failures,
                    endurance=self.write.endurance,
                )
        return Budget(self.multipliers, self.memory_bits, self.goal, pim=macros)


class SimulateSection(Options):
    """``[simulate]``: how many ``frames`` of the test split: a count, or ``"all"``."""

    frames: Literal["all"] | int = "all"

    @field_validator("frames", mode="before")
    @classmethod
    def _check_frames(cls, value: Any) -> Any:
        if value != "all" and (type(value) is not int or value < 1):
            raise ValueError('a count of at least 1, or "all"')
        return value


class GoalSection(Options):
    """``[goal]``: what is ``published``, in words, and the figures to reach.

    Parameters
    ----------
    published : str
        The published figure, with its source.
    float_min, accuracy_min, loss_max : float
        Shares of the test split: least of the float network and of golden, and most between them.
    ratio_weights_min, ratio_bits_min : float
        Least compression.
    more_than, more_max : str, float
        Another result of the same recipe file, and most that golden may lose more than that one's.
    pool : str
        Name under which the results of several folds are pooled.
    loss_pooled_max : float
        Most loss of the pooled results.

    A goal of 0 counts as none: so a variant drops one of its recipe.
    """

    published: str = ""
    float_min: float | None = None
    accuracy_min: float | None = None
    loss_max: float | None = None
    ratio_weights_min: float | None = None
    ratio_bits_min: float | None = None
    more_than: str | None = None
    more_max: float | None = None
    pool: str | None = None
    loss_pooled_max: float | None = None


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
    evaluate: EvaluateSection = EvaluateSection()
    mapping: MappingSection = MappingSection()
    simulate: SimulateSection = SimulateSection()
    goal: GoalSection = GoalSection()

    @property
    def hash(self) -> str:
        """SHA-256 over what decides the integer network."""
        return self.digest(*TRAINED)

    @property
    def training_hash(self) -> str:
        """SHA-256 over what decides the trained network: the arithmetic of its export does not."""
        return self.model_copy(update={"format": self.trained_format}).hash

    @property
    def trained_format(self) -> FormatOptions:
        """``[format]`` as training sees it: with the default arithmetic."""
        return self.format.model_copy(
            update={key: type(self.format).model_fields[key].default for key in EXPORT}
        )

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


def variants(path: str | Path) -> list[str]:
    """Names of the variants of a recipe, in the order of the file; raises BadInput as ``load``."""
    return list(_variants(_read(Path(path))))


def load(path: str | Path, sets: Sequence[str] = (), variant: str | None = None) -> Recipe:
    """Read a recipe, with keys replaced by ``section.key=value``.

    Parameters
    ----------
    path : str or Path
        The TOML file.
    sets : sequence of str
        Replacements; a value is TOML, or a plain string where it is none.
    variant : str, optional
        One of the recipe's variants, whose keys are replaced first.

    Raises BadInput for a file that cannot be read, an unknown key, a wrong value, or a name that is
    not known.
    """
    path = Path(path)
    form = _read(path)
    found = _variants(form)
    form.pop("variants", None)
    if variant is not None:
        if variant not in found:
            raise BadInput(
                f"variant of {path}",
                repr(variant),
                f"one of {', '.join(found)}" if found else "none: the recipe has no variants",
                "correct the name",
            )
        _merge(form, found[variant])
        form["name"] = f"{form.get('name')}_{variant}"
    recipe = replaced(form, sets, "")
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


def replaced(form: dict[str, Any], sets: Sequence[str], thing: str) -> Recipe:
    """The recipe of a form, with keys replaced by ``section.key=value``."""
    form = copy.deepcopy(form)
    for text in sets:
        _set(form, text)
    return checked(Recipe, form, thing)


def _read(path: Path) -> dict[str, Any]:
    """The TOML file as it is."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(
            f"recipe {path}", error.strerror, "a readable TOML file", "correct the path"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(
            f"recipe {path}", f"no valid TOML ({error})", "a TOML file", "correct the file"
        ) from error


def _variants(form: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = form.get("variants", {})
    if not isinstance(found, dict) or not all(isinstance(keys, dict) for keys in found.values()):
        raise BadInput(
            "variants", repr(found)[:80], "tables [variants.NAME]", "correct the section"
        )
    return found


def _merge(form: dict[str, Any], keys: dict[str, Any]) -> None:
    """Put ``keys`` in the place of those of ``form``, table by table."""
    for key, value in keys.items():
        if isinstance(value, dict) and isinstance(form.get(key), dict):
            _merge(form[key], value)
        else:
            form[key] = value


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
