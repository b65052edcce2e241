"""The network: a round trip loses nothing, and whatever is wrong is named before it is used."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings

from model.ir.checksums import NAME as SUMS
from model.ir.checksums import write_sums
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.network import FILES, InputSpec, Network, Node
from model.ir.numerics import BipolarFormat, CodebookFormat, FixedPointFormat, UniformFormat
from model.ir.requantize import RequantizeSpec
from model.ir.select import SelectSpec
from tests.examples import example_network, scale_of
from tests.strategies import image_networks, networks

JSON, TENSORS = FILES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    example_network().save(tmp_path / "net")
    return tmp_path / "net"


def refusal(folder: Path) -> BadInput:
    """The error of reading a network folder; its message must say what to do."""
    with pytest.raises(BadInput) as caught:
        Network.load(folder)
    assert caught.value.remedy
    return caught.value


# --- the round trip ---------------------------------------------------------------------------


@settings(max_examples=60)
@given(networks() | image_networks())
def test_a_round_trip_keeps_everything(tmp_path_factory: Any, network: Network) -> None:
    folder = tmp_path_factory.mktemp("round_trip") / "net"
    network.save(folder)
    again = Network.load(folder)
    assert again.hash() == network.hash()
    assert (again.name, again.input) == (network.name, network.input)
    for node, copy in zip(network.nodes, again.nodes, strict=True):
        assert (copy.name, copy.spec, copy.inputs, copy.scale) == (
            *(node.name, node.spec),
            *(node.inputs, node.scale),
        )
        assert {name: tensor.tolist() for name, tensor in copy.tensors.items()} == {
            name: tensor.tolist() for name, tensor in node.tensors.items()
        }
        assert all(tensor.dtype == np.int64 for tensor in copy.tensors.values())


def test_saving_twice_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    Network.load(folder).save(tmp_path / "again")
    for name in [*FILES, SUMS]:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_hash_of_an_integer_scale_survives(tmp_path: Path) -> None:
    network = example_network()
    *nodes, last = network.nodes
    nodes = (*nodes, replace(last, scale=1))
    network = Network("net", replace(network.input, scale=2), nodes)
    network.save(tmp_path / "net")
    assert Network.load(tmp_path / "net").hash() == network.hash()


def test_hash_tells_networks_apart_that_differ_in_one_code() -> None:
    network = example_network()
    last = network.output
    weight = last.tensors["weight"].copy()
    weight[0, 0] ^= 1
    changed = replace(last, tensors=dict(last.tensors) | {"weight": weight})
    other = Network(network.name, network.input, (*network.nodes[:-1], changed))
    assert other.hash() != network.hash()
    assert other != network
    assert other.structure() == network.structure()


def test_networks_are_equal_if_their_files_are() -> None:
    network = example_network()
    assert network == example_network()
    assert len({network, example_network()}) == 1
    assert network != Network("another", network.input, network.nodes)
    assert network != "example"


def test_tensors_are_copied_and_read_only() -> None:
    indices = np.array([0, 2])
    node = Node(
        "keep", SelectSpec(3, 2, UniformFormat(4, False)), ("x",), 1.0, {"indices": indices}
    )
    indices[1] = 1
    assert node.tensors["indices"].tolist() == [0, 2]
    with pytest.raises(ValueError, match="read-only"):
        node.tensors["indices"][0] = 1


def test_edges_have_shapes_and_formats() -> None:
    network = example_network()
    assert [network.shape(edge) for edge in ("image", "keep", "fc0", "fc2")] == [
        *[(4, 3), (9,), (7,), (5,)],
    ]
    assert network.length("image") == 12
    assert network.format("fc1") == FixedPointFormat(5, True, 3)
    assert network.output is network["fc2"]
    with pytest.raises(KeyError):
        network["fc3"]


def test_stored_bits_are_those_of_a_hand_count() -> None:
    # select: a bit map of 12; fc0: 63 weights x 3 bits, 7 levels of 4 bits, 7 channels x (16 + 20);
    # fc1: 42 x 1, 6 x 20; fc2: 30 x 3, 5 x 20, one m of 12; five scales of 32
    fc0, fc1, fc2 = 63 * 3 + 7 * 4 + 7 * 36, 42 + 6 * 20, 30 * 3 + 5 * 20 + 12
    assert example_network().stored_bits() == 12 + fc0 + fc1 + fc2 + 5 * 32
    assert example_network().weights() == 63 + 42 + 30


# --- damage to the files ----------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FILES, SUMS])
def test_every_flipped_bit_is_found_and_named(folder: Path, name: str) -> None:
    path = folder / name
    intact = path.read_bytes()
    rng = np.random.default_rng(11)
    for place in rng.choice(8 * len(intact), 100, replace=False):
        data = bytearray(intact)
        data[place // 8] ^= 1 << (place % 8)
        path.write_bytes(data)
        message = str(refusal(folder))
        # damage to the checksum file shows as a file that it no longer vouches for
        assert name in message, f"bit {place}: {message}"
    path.write_bytes(intact)
    Network.load(folder)


@pytest.mark.parametrize("name", [*FILES, SUMS])
@pytest.mark.parametrize("keep", [0, 1, 0.5, -1])
def test_a_truncated_file_is_named(folder: Path, name: str, keep: float) -> None:
    data = (folder / name).read_bytes()
    size = int(len(data) * keep) if isinstance(keep, float) else keep
    (folder / name).write_bytes(data[:size])
    assert name in str(refusal(folder))


@pytest.mark.parametrize("name", [*FILES, SUMS])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    error = refusal(folder)
    assert error.thing == str(folder / name)
    assert error.found == "No such file or directory"


def test_a_surplus_file_under_the_checksums_is_refused(folder: Path) -> None:
    (folder / "extra.bin").write_bytes(b"extra")
    write_sums(folder, [*FILES, "extra.bin"])
    assert refusal(folder).thing == str(folder / SUMS)


def test_the_checksums_are_read_before_the_data(folder: Path) -> None:
    (folder / JSON).write_bytes(b"\xff not JSON at all")
    assert "sha256" in str(refusal(folder))


# --- files that are wrong although their checksums agree ---------------------------------------


def resealed(folder: Path, edit: Callable[[dict], object]) -> BadInput:
    """The refusal of a folder whose graph was edited and whose checksums were made anew."""
    data = json.loads((folder / JSON).read_bytes())
    edit(data)
    (folder / JSON).write_text(json.dumps(data))
    write_sums(folder, FILES)
    return refusal(folder)


def fc0(data: dict) -> dict:
    return data["nodes"][1]


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        (lambda d: d.update(version=1), ["network.json: version", "found 1", "expected 2"]),
        (lambda d: d.update(version=True), ["network.json: version", "found True"]),
        (lambda d: d.pop("version"), ["network.json: version", "found None"]),
        (lambda d: d.update(format="onnx"), ["another kind of file", "'gyre-network'"]),
        (lambda d: d.update(author="me"), ["unknown keys ['author']"]),
        (lambda d: d.pop("name"), ["missing keys ['name']"]),
        (lambda d: d.update(name="../net"), ["network name", "'../net'", "rename it"]),
        (lambda d: d.update(nodes={}), ["nodes: found {}; expected a list"]),
        (lambda d: d.update(nodes=[]), ["found surplus tensors ['fc0.b'"]),
        (lambda d: d.update(nodes=[3]), ["nodes[0]: found a int; expected a JSON object"]),
        (lambda d: d.update(input=None), ["network.json: input: found None"]),
        (lambda d: d["input"].update(shape=[]), ["at least one axis"]),
        (lambda d: d["input"].update(shape=[0, 3]), ["input size must be at least 1, not 0"]),
        (lambda d: d["input"].update(scale=float("nan")), ["image.scale: found nan"]),
        (lambda d: d["input"].update(scale=0), ["image.scale: found 0.0", "above 0"]),
        (lambda d: d["input"].update(scale="1"), ["input.scale: found '1'"]),
        (lambda d: d["input"].update(format={"kind": "bipolar"}), ["not 1-bit bipolar"]),
        (lambda d: fc0(d).update(scale=float("nan")), ["fc0.scale: found nan", "finite"]),
        (lambda d: fc0(d).update(scale=float("inf")), ["fc0.scale: found inf", "calibrate again"]),
        (lambda d: fc0(d).update(scale=-1.0), ["fc0.scale: found -1.0"]),
        (lambda d: fc0(d).update(scale=10**400), ["fc0.scale: found 1000"]),
        (lambda d: fc0(d).update(scale=None), ["fc0.scale: found None"]),
        (lambda d: fc0(d).update(scale=True), ["fc0.scale: found True"]),
        (lambda d: fc0(d).update(colour=1), ["nodes[1]", "unknown keys ['colour']"]),
        (lambda d: fc0(d).pop("inputs"), ["nodes[1]", "missing keys ['inputs']"]),
        (lambda d: fc0(d).update(inputs="keep"), ["fc0.inputs: found 'keep'", "list of names"]),
        (lambda d: fc0(d).update(inputs=[["keep"]]), ["fc0.inputs", "list of names"]),
        (lambda d: fc0(d).update(inputs=[]), ["fc0: found 0 inputs; expected 1 inputs"]),
        (lambda d: fc0(d).update(inputs=["keep"] * 2), ["fc0: found 2 inputs; expected 1"]),
        (lambda d: fc0(d).update(inputs=["ghost"]), ["fc0.inputs: found 'ghost'", "'keep'"]),
        (lambda d: fc0(d).update(inputs=["fc0"]), ["fc0.inputs: found 'fc0'; expected one of"]),
        (lambda d: fc0(d).update(inputs=["fc1"]), ["fc0.inputs: found 'fc1'; expected one of"]),
        (lambda d: fc0(d).update(name="../x"), ["nodes[1].name: found '../x'", "rename it"]),
        (lambda d: fc0(d).update(name="/etc/x"), ["nodes[1].name: found '/etc/x'"]),
        (lambda d: fc0(d).update(name=["fc0"]), ["nodes[1].name: found ['fc0']"]),
        (lambda d: fc0(d).update(name="fc9"), ["fc9: found tensors []"]),
        (lambda d: fc0(d)["spec"].update(kind="conv9"), ["fc0.kind: found 'conv9'", "linear"]),
        (lambda d: fc0(d)["spec"].update(kind="input"), ["fc0.kind: found 'input'"]),
        (lambda d: fc0(d)["spec"].update(extra=0), ["fc0", "unknown keys ['extra']"]),
        (
            lambda d: fc0(d)["spec"].update(out_features=8),
            ["fc0.weight: found int8 of shape (7, 9)", "of shape (8, 9)"],
        ),
        (
            lambda d: fc0(d)["spec"]["in_format"].update(bits=5),
            ["fc0: format of input 'keep'", "found unsigned 4-bit", "expected unsigned 5-bit"],
        ),
        (
            lambda d: fc0(d)["spec"]["weight_format"].update(levels=[0, 1]),
            ["fc0.weight: found codes from 0 to 6", "codes from 0 to 1 (codebook of 2 levels)"],
        ),
        (
            lambda d: fc0(d)["spec"]["requantize"].update(b_bits=3),
            ["fc0.b: found values from", "expected values from -4 to 3 (3-bit signed)"],
        ),
        (
            lambda d: d["nodes"].append(d["nodes"][1] | {"name": "fc7"}),
            ["fc7: found tensors []", "expected tensors ['b', 'm', 'weight']"],
        ),
        (lambda d: d["nodes"].pop(), ["surplus tensors ['fc2.b', 'fc2.m', 'fc2.weight']"]),
    ],
)
def test_a_wrong_graph_is_refused_by_name(
    folder: Path, edit: Callable[[dict], object], parts: list[str]
) -> None:
    message = str(resealed(folder, edit))
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "text", [b"", b"null", b"[]", b"3", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5000]
)
def test_json_of_another_form_is_refused(folder: Path, text: bytes) -> None:
    (folder / JSON).write_bytes(text)
    write_sums(folder, FILES)
    assert str(folder / JSON) in str(refusal(folder))


def retensored(folder: Path, edit: Callable[[dict[str, np.ndarray]], object]) -> BadInput:
    """The refusal of a folder whose tensors were edited and whose checksums were made anew."""
    tensors = safetensors.numpy.load((folder / TENSORS).read_bytes())
    edit(tensors)
    (folder / TENSORS).write_bytes(safetensors.numpy.save(tensors))
    write_sums(folder, FILES)
    return refusal(folder)


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        (
            lambda t: t.update({"fc1.weight": t["fc1.weight"].astype(np.float32)}),
            ["fc1.weight: found float32 of shape (6, 7)", "expected integers"],
        ),
        (
            lambda t: t.update({"fc1.weight": t["fc1.weight"].astype(bool)}),
            ["fc1.weight: found bool of shape (6, 7)"],
        ),
        (
            lambda t: t.update({"fc1.b": np.full(6, 2**64 - 1, np.uint64)}),
            ["fc1.b: found uint64 of shape (6,)"],
        ),
        (
            lambda t: t.update({"fc1.weight": np.ascontiguousarray(t["fc1.weight"].T)}),
            ["fc1.weight: found int8 of shape (7, 6)", "of shape (6, 7)"],
        ),
        (lambda t: t.update({"fc1.weight": np.array(3, np.int8)}), ["of shape ()"]),
        (lambda t: t.update({"fc1.weight": t["fc1.weight"] + 1}), ["fc1.weight: found codes from"]),
        (lambda t: t.update({"fc1.m": np.ones(6, np.int8)}), ["fc1: found tensors ['b', 'm'"]),
        (lambda t: t.pop("fc1.b"), ["fc1: found tensors ['weight']", "['b', 'weight']"]),
        (lambda t: t.update({"ghost.b": np.ones(6, np.int8)}), ["surplus tensors ['ghost.b']"]),
        (
            lambda t: t["keep.indices"].__setitem__(8, 12),
            ["keep.indices: found values from 0 to 12; expected values from 0 to 11"],
        ),
        (lambda t: t["keep.indices"].__setitem__(0, -1), ["keep.indices: found values from -1"]),
        (
            lambda t: t["keep.indices"].__setitem__(1, 0),
            ["keep.indices: found indices out of order; expected strictly ascending"],
        ),
    ],
)
def test_wrong_tensors_are_refused_by_name(
    folder: Path, edit: Callable[[dict[str, np.ndarray]], object], parts: list[str]
) -> None:
    message = str(retensored(folder, edit))
    for part in parts:
        assert part in message


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "I9"])
def test_tensor_types_that_numpy_lacks_are_refused(folder: Path, dtype: str) -> None:
    header = json.dumps({"x": {"dtype": dtype, "shape": [2], "data_offsets": [0, 4]}}).encode()
    (folder / TENSORS).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    write_sums(folder, FILES)
    assert refusal(folder).thing == str(folder / TENSORS)


@pytest.mark.parametrize("data", [b"", b"12345678", b"\x80\x04K\x01.", bytes(100)])
def test_tensor_files_of_another_form_are_refused(folder: Path, data: bytes) -> None:
    (folder / TENSORS).write_bytes(data)
    write_sums(folder, FILES)
    error = refusal(folder)
    assert error.thing == str(folder / TENSORS)
    assert "unreadable tensors" in error.found


# --- graphs that cannot stand ------------------------------------------------------------------

U4 = UniformFormat(4, False)
ENTRY = InputSpec("x", (3,), U4, 1.0)


def select(name: str, source: str, in_features: int = 3, format: Any = U4) -> Node:
    """A node that keeps everything."""
    indices = {"indices": np.arange(in_features)}
    return Node(
        name, SelectSpec(in_features, in_features, format), (source,), scale_of(format), indices
    )


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([], "net: found no layers; expected at least one layer"),
        ([select("a", "x"), select("a", "a")], "a: found the name twice"),
        ([select("x", "x")], "x: found the name twice"),
        ([select("a", "b"), select("b", "a")], r"a.inputs: found 'b'; expected one of \['x'\]"),
        ([select("a", "a")], r"a.inputs: found 'a'; expected one of \['x'\]"),
        ([select("a", "x"), select("b", "x")], r"net: found edges \['a'\] that nothing reads"),
        ([select("a", "x", 4)], r"a: .*4 input features, not a frame of shape \(3,\)"),
        (
            [select("a", "x", 3, UniformFormat(4, True))],
            "a: format of input 'x': found unsigned 4-bit; expected signed 4-bit",
        ),
        (
            [select("a", "x", 3, FixedPointFormat(4, False, 2))],
            "expected unsigned 4-bit fixed-point with 2 fraction bits",
        ),
    ],
)
def test_refuses_a_graph_that_cannot_stand(nodes: list[Node], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Network("net", ENTRY, tuple(nodes))


@pytest.mark.parametrize("name", ["../x", "A", "", "a.b"])
def test_refuses_names_that_could_escape(name: str) -> None:
    for make in (
        lambda: Network(name, ENTRY, (select("a", "x"),)),
        lambda: InputSpec(name, (3,), U4, 1.0),
        lambda: select(name, "x"),
    ):
        with pytest.raises(BadInput, match=r"name: found '.*; rename it"):
            make()


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), np.float32(1), "1", True])
def test_refuses_a_scale_that_is_no_finite_positive_float(scale: Any) -> None:
    with pytest.raises(BadInput, match=r"^a.scale: found .*; expected a finite number above 0"):
        Node("a", SelectSpec(3, 3, U4), ("x",), scale, {"indices": np.arange(3)})
    with pytest.raises(BadInput, match=r"^x.scale: found"):
        InputSpec("x", (3,), U4, scale)


@pytest.mark.parametrize("format", [BipolarFormat(), CodebookFormat((0, 3, 2, 1))])
def test_refuses_an_input_format_that_samples_cannot_be_quantized_to(format: Any) -> None:
    with pytest.raises(ValueError, match=r"format must be uniform or fixed-point, not"):
        InputSpec("x", (3,), format, 1.0)


@pytest.mark.parametrize("scale", [0.25, 1.0])
def test_refuses_another_scale_than_fixed_point_says(scale: float) -> None:
    format = FixedPointFormat(8, True, 3)
    rule = RequantizeSpec(format, 0, "one", 0, 8)
    tensors = {"weight": np.zeros((1, 3), int), "b": np.array([0])}
    for make in (
        lambda: InputSpec("a", (3,), format, scale),
        lambda: Node("a", LinearSpec(3, 1, U4, U4, rule), ("x",), scale, tensors),
    ):
        with pytest.raises(BadInput, match=rf"^a\.scale: found {scale}; expected 2\^-3 .signed 8"):
            make()


def test_refuses_a_file_s_scale_that_no_float_holds(tmp_path: Path) -> None:
    example_network().save(tmp_path)
    data = json.loads((tmp_path / FILES[0]).read_text())
    data["input"]["scale"] = 10**400
    (tmp_path / FILES[0]).write_text(json.dumps(data))
    write_sums(tmp_path, FILES)
    with pytest.raises(BadInput, match=r"input\.scale: found 1000.*a number that a float holds"):
        Network.load(tmp_path)


def test_sizes_beyond_64_bits_do_not_wrap() -> None:
    shape = (2**32, 2**32)
    select = SelectSpec(1, 1, U4)
    rule = RequantizeSpec(UniformFormat(8, True), 0, "one", 0, 8)
    for spec in (SelectSpec(2, 1, U4), LinearSpec(1, 1, U4, U4, rule), select):
        with pytest.raises(ValueError, match=r"input features, not a frame of shape \(4294967296,"):
            spec.out_shape((*shape, 1))


def test_refuses_intermediates_beyond_63_bits() -> None:
    wide = UniformFormat(16, False)
    for features, fits in ((2**15, True), (2**16, False)):
        spec = LinearSpec(
            features, 1, wide, wide, RequantizeSpec(UniformFormat(16, True), 40, "layer", 16, 8)
        )
        tensors = {
            "weight": np.zeros((1, features), int),
            "m": np.array([1]),
            "b": np.array([0]),
        }
        if fits:
            Node("fc", spec, ("x",), 1.0, tensors)
        else:
            with pytest.raises(BadInput, match=r"fc: acc \* m.*found 64 bits"):
                Node("fc", spec, ("x",), 1.0, tensors)


# --- saving is all or nothing ------------------------------------------------------------------


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("broken", ["_tensors", "write_sums", "os.replace"])
def test_a_failed_save_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool, broken: str
) -> None:
    network, folder = example_network(), tmp_path / "net"
    old = Network("old", ENTRY, (select("a", "x"),))
    if existing:
        old.save(folder)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    def fail_to_place(source: Path, target: Path, replace_: Any = os.replace) -> None:
        if Path(source).name == "new":
            raise OSError("disk full")
        replace_(source, target)

    if broken == "_tensors":
        monkeypatch.setattr(Network, "_tensors", fail)
    elif broken == "write_sums":
        monkeypatch.setattr("model.ir.folders.write_sums", fail)
    else:
        monkeypatch.setattr("model.ir.folders.os.replace", fail_to_place)
    with pytest.raises(OSError, match="disk full"):
        network.save(folder)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == (["net"] if existing else [])
    if existing:
        assert Network.load(folder).hash() == old.hash()


def test_saving_replaces_an_older_network(folder: Path) -> None:
    new = Network("new", ENTRY, (select("a", "x"),))
    new.save(folder)
    assert Network.load(folder).hash() == new.hash()
    assert [path.name for path in folder.parent.iterdir()] == ["net"]


def test_saving_makes_the_folders_above_and_fills_an_empty_one(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "net"
    folder.mkdir(parents=True)
    example_network().save(folder)
    assert sorted(path.name for path in folder.iterdir()) == [SUMS, JSON, TENSORS]


@pytest.mark.parametrize("with_network", [False, True])
def test_saving_never_deletes_files_of_others(tmp_path: Path, with_network: bool) -> None:
    folder = tmp_path / "net"
    if with_network:
        example_network().save(folder)
    folder.mkdir(exist_ok=True)
    (folder / "thesis.txt").write_text("three years of work")
    with pytest.raises(BadInput, match=r"holds something else \(thesis.txt\)"):
        example_network().save(folder)
    assert (folder / "thesis.txt").read_text() == "three years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_saving_over_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net").write_text("a file")
    with pytest.raises(BadInput, match="net: found a file; expected a folder"):
        example_network().save(tmp_path / "net")
    assert (tmp_path / "net").read_text() == "a file"


def test_checksums_are_over_the_saved_bytes(folder: Path) -> None:
    lines = (folder / SUMS).read_text().splitlines()
    assert lines == [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name in FILES
    ]
