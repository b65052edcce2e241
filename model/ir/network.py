"""The network: a graph of specifications with integer tensors, and its file form.

The file form is a folder of three files: ``network.json`` (the graph), ``network.safetensors`` (the
integer tensors) and ``SHA256SUMS``. It is data only: reading it runs nothing, and a flipped bit in
any of the three raises BadInput before a tensor is used.
"""

import json
import math
import sys
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors
import safetensors.numpy

from model.ir.checksums import read_verified, sha256
from model.ir.errors import BadInput
from model.ir.folders import write_folder
from model.ir.layer import LayerSpec
from model.ir.numerics import Format, check_plain, check_scale
from model.ir.spec import Spec, check_int, check_name

VERSION = 2
FILES = ["network.json", "network.safetensors"]
_AGAIN = "export the network again with this version of Gyre"


@dataclass(frozen=True)
class InputSpec(Spec, kind="input"):
    """The frame that enters: its name, shape (channels last), format and scale.

    A raw sample ``x`` (a real number) becomes the code ``clamp(floor(x / scale + 1/2))``.
    """

    name: str
    shape: tuple[int, ...]
    format: Format
    scale: float

    def __post_init__(self) -> None:
        check_name("input name", self.name)
        if not self.shape:
            raise ValueError("shape must have at least one axis, not ()")
        for size in self.shape:
            check_int("input size", size, 1)
        check_plain("format", self.format)
        object.__setattr__(self, "scale", _checked_scale(f"{self.name}.scale", self.scale))
        check_scale(self.name, self.format, self.scale)


@dataclass(frozen=True)
class Node:
    """One layer of the graph.

    Parameters
    ----------
    name : str
        Unique name, which is also the name of its output edge.
    spec : LayerSpec
        What it computes.
    inputs : tuple of str
        Names of the edges it reads: nodes before it, or the network's input.
    scale : float
        Real number that one step of its output codes stands for.
    tensors : mapping of str to int64 array
        Its integer tensors, in the shapes that the specification states. Read-only.
    """

    name: str
    spec: LayerSpec
    inputs: tuple[str, ...]
    scale: float
    tensors: MappingType[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name("node name", self.name)
        object.__setattr__(self, "scale", _checked_scale(f"{self.name}.scale", self.scale))
        check_scale(self.name, self.spec.out_format, self.scale)
        shapes = self.spec.tensor_shapes()
        if set(shapes) != set(self.tensors):
            raise BadInput(
                self.name, f"tensors {sorted(self.tensors)}", f"tensors {sorted(shapes)}", _AGAIN
            )
        frozen = {}
        for name, shape in shapes.items():
            tensor = np.array(self.tensors[name])
            integers = np.can_cast(tensor.dtype, np.int64) and tensor.dtype.kind in "iu"
            if not integers or tensor.shape != shape:
                raise BadInput(
                    f"{self.name}.{name}",
                    f"{tensor.dtype} of shape {tensor.shape}",
                    f"integers (int64 or narrower) of shape {shape}",
                    _AGAIN,
                )
            tensor = tensor.astype(np.int64)
            tensor.setflags(write=False)
            frozen[name] = tensor
        object.__setattr__(self, "tensors", frozen)
        self.spec.check(frozen, self.name)


@dataclass(frozen=True, eq=False)
class Network:
    """A graph of nodes in topological order, its one input and its one output.

    Parameters
    ----------
    name : str
        Name of the network.
    input : InputSpec
        What enters.
    nodes : tuple of Node
        The layers; each reads only what stands before it.
    """

    name: str
    input: InputSpec
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        check_name("network name", self.name)
        if not self.nodes:
            raise BadInput(self.name, "no layers", "at least one layer", _AGAIN)
        shapes = {self.input.name: self.input.shape}
        formats = {self.input.name: self.input.format}
        read: set[str] = set()
        for node in self.nodes:
            if node.name in shapes:
                raise BadInput(node.name, "the name twice", "unique node names", "rename one")
            if len(node.inputs) != node.spec.arity:
                raise BadInput(
                    node.name, f"{len(node.inputs)} inputs", f"{node.spec.arity} inputs", _AGAIN
                )
            for edge, format in zip(node.inputs, node.spec.in_formats(), strict=True):
                if edge not in shapes:
                    raise BadInput(
                        f"{node.name}.inputs", repr(edge), f"one of {sorted(shapes)}", _AGAIN
                    )
                if format is not None and format != formats[edge]:
                    raise BadInput(
                        f"{node.name}: format of input {edge!r}",
                        formats[edge].describe(),
                        format.describe(),
                        _AGAIN,
                    )
            try:
                shapes[node.name] = node.spec.out_shape(*(shapes[edge] for edge in node.inputs))
            except ValueError as error:
                raise BadInput(
                    node.name, "an input that does not fit", str(error), _AGAIN
                ) from error
            formats[node.name] = node.spec.out_format
            read.update(node.inputs)
        unread = (set(shapes) - read) - {self.nodes[-1].name}
        if unread:
            raise BadInput(
                self.name, f"edges {sorted(unread)} that nothing reads", "one output", _AGAIN
            )
        object.__setattr__(self, "_shapes", shapes)
        object.__setattr__(self, "_formats", formats)

    def __eq__(self, other: object) -> bool:
        return self.hash() == other.hash() if isinstance(other, Network) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.hash())

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    @property
    def output(self) -> Node:
        """The node whose codes leave the network."""
        return self.nodes[-1]

    def shape(self, edge: str) -> tuple[int, ...]:
        """Shape of a frame on an edge, channels last."""
        return self._shapes[edge]

    def length(self, edge: str) -> int:
        """Codes per frame on an edge."""
        return math.prod(self._shapes[edge])

    def format(self, edge: str) -> Format:
        """Format of the codes on an edge."""
        return self._formats[edge]

    def stored_bits(self) -> int:
        """Bits of the compressed form: codes, indices, multipliers, biases, and 32 a scale."""
        scales = 32 * (len(self.nodes) + 1)
        return sum(node.spec.stored_bits() for node in self.nodes) + scales

    def weights(self) -> int:
        """Weights that are kept."""
        return sum(node.spec.weights() for node in self.nodes)

    def chip_bits(self) -> int:
        """Bits of weight memory on the chip."""
        return sum(node.spec.chip_bits() for node in self.nodes)

    @property
    def recurrent(self) -> bool:
        """Whether some node carries a state from step to step: then a frame is one step."""
        return any(node.spec.recurrent for node in self.nodes)

    def structure(self) -> dict[str, Any]:
        """The graph without its tensors and scales: what the generated hardware depends on."""
        return {
            "input": {"shape": list(self.input.shape), "format": self.input.format.to_json()},
            "nodes": [
                {"name": node.name, "inputs": list(node.inputs), "spec": node.spec.to_json()}
                for node in self.nodes
            ],
        }

    def _json(self) -> bytes:
        data = {
            "format": "gyre-network",
            "version": VERSION,
            "name": self.name,
            "input": self.input.to_json(),
            "nodes": [
                {
                    "name": node.name,
                    "inputs": list(node.inputs),
                    "scale": node.scale,
                    "spec": node.spec.to_json(),
                }
                for node in self.nodes
            ],
        }
        return (json.dumps(data, indent=1) + "\n").encode()

    def _tensors(self) -> bytes:
        tensors = {}
        for node in self.nodes:
            for name, tensor in node.tensors.items():
                tensors[f"{node.name}.{name}"] = _narrow(tensor)
        return safetensors.numpy.save(tensors)

    def hash(self) -> str:
        """SHA-256 over the file form: equal if and only if the networks are the same."""
        return sha256(self._json() + self._tensors())

    def save(self, folder: str | Path) -> None:
        """Write the network as a folder, all or nothing."""
        files = {FILES[0]: self._json(), FILES[1]: self._tensors()}
        write_folder(Path(folder), "network", belongs, files)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a network folder; raises BadInput if anything in it is damaged or unknown."""
        folder = Path(folder)
        files = read_verified(
            folder, FILES, "restore the folder from where it came, or export the network again"
        )
        where = str(folder / FILES[0])
        try:
            data = json.loads(files[FILES[0]])
        except (ValueError, RecursionError) as error:
            raise BadInput(where, f"unreadable JSON ({error})", "a network", _AGAIN) from error
        try:
            tensors = safetensors.numpy.load(files[FILES[1]])
        except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
            raise BadInput(
                str(folder / FILES[1]), f"unreadable tensors ({error})", "safetensors", _AGAIN
            ) from error
        if not isinstance(data, dict) or data.get("format") != "gyre-network":
            raise BadInput(where, "another kind of file", "format 'gyre-network'", _AGAIN)
        if type(data.get("version")) is not int or data["version"] != VERSION:
            raise BadInput(f"{where}: version", data.get("version"), str(VERSION), _AGAIN)
        _check_keys(where, data, ("format", "version", "name", "input", "nodes"))
        if not isinstance(data["nodes"], list):
            raise BadInput(f"{where}: nodes", repr(data["nodes"])[:80], "a list", _AGAIN)
        nodes = []
        for n, item in enumerate(data["nodes"]):
            _check_keys(f"{where}: nodes[{n}]", item, ("name", "inputs", "scale", "spec"))
            check_name(f"{where}: nodes[{n}].name", item["name"])
            thing = f"{where}: {item['name']}"
            inputs = item["inputs"]
            if not isinstance(inputs, list) or not all(isinstance(edge, str) for edge in inputs):
                raise BadInput(f"{thing}.inputs", repr(inputs)[:80], "a list of names", _AGAIN)
            prefix = f"{item['name']}."
            own = [key for key in tensors if key.startswith(prefix)]
            nodes.append(
                Node(
                    item["name"],
                    LayerSpec.from_json(item["spec"], thing),
                    tuple(inputs),
                    item["scale"],
                    {key.removeprefix(prefix): tensors.pop(key) for key in own},
                )
            )
        spec = InputSpec.from_json(data["input"], f"{where}: input")
        if tensors:
            raise BadInput(
                str(folder / FILES[1]), f"surplus tensors {sorted(tensors)}", "none", _AGAIN
            )
        return cls(data["name"], spec, tuple(nodes))


def _narrow(tensor: np.ndarray) -> np.ndarray:
    """The same integers in the smallest signed type, so that files stay small."""
    for dtype in (np.int8, np.int16, np.int32):
        info = np.iinfo(dtype)
        if not tensor.size or (tensor.min() >= info.min and tensor.max() <= info.max):
            return np.ascontiguousarray(tensor.astype(dtype))
    return np.ascontiguousarray(tensor)


def belongs(name: str) -> bool:
    """Whether a network's folder holds a file of that name, besides the checksums."""
    return name in FILES


def _checked_scale(thing: str, scale: Any) -> float:
    if type(scale) not in (int, float) or not 0 < scale <= sys.float_info.max:
        raise BadInput(thing, repr(scale), "a finite number above 0", "calibrate again")
    return float(scale)


def _check_keys(thing: str, data: Any, keys: tuple[str, ...]) -> None:
    if not isinstance(data, dict):
        raise BadInput(thing, f"a {type(data).__name__}", "a JSON object", _AGAIN)
    if set(data) != set(keys):
        surplus, missing = sorted(set(data) - set(keys)), sorted(set(keys) - set(data))
        raise BadInput(
            thing,
            f"unknown keys {surplus} and missing keys {missing}",
            f"exactly the keys {list(keys)}",
            _AGAIN,
        )
