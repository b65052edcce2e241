"""The whole way on a tiny recipe: what it leaves behind, and what a second run does."""

import json
import os
import time
from pathlib import Path

import pytest
import torch

from gyre import recipe as recipes
from gyre import training
from gyre.flow import Flow, ZooFlow
from hdl import package
from hdl.accelerator import Accelerator
from hdl.package import read_package
from model import data, golden
from model.ir.checksums import NAME as SUMS
from model.ir.checksums import write_sums
from model.ir.mapping import Mapping
from model.ir.network import Network
from model.ir.planner import Budget, plan
from tests.gyre.front import Call, call
from tests.tools import refused

ROOT = Path(__file__).resolve().parents[2]

RTL_KEYS = {
    *("frames", "mismatches", "cycles_per_frame", "latency_cycles", "bound_cycles_per_frame"),
    *("utilisation", "sim_seconds", "cpu_seconds", "cycles_per_second"),
    *("equal", "checks", "differences"),  # beyond the design: what else was compared
    "recurrent",  # beyond the design: what there is to say of sequences
}
LAYER_KEYS = {
    *("name", "engine", "arithmetic", "cycles", "bound_cycles", "multipliers", "multiplier_bits"),
    *("macros", "weight_bits", "density", "weight_reuse", "activation_reuse"),
    # beyond the design: codes per beat of the output, the share of products that are useful, that
    # of the cycles with a step (counted, and at the network's bound), and the same layer with
    # every block
    *("lanes", "utilisation", "busy", "busy_bound", "dense"),
}
KEYS = {
    "recipe": None,
    "dataset": {"name", "train", "validation", "test"},
    "seed": None,
    "source": None,  # beyond the design: where the network came from
    "network": None,  # beyond the design: its hash
    "accuracy": {"float", "compressed", "golden", "rtl"},
    "compression": {
        *("weights", "kept", "ratio_weights", "bits_float", "bits_stored", "ratio_bits"),
        "bits_on_chip",
    },
    "rtl": RTL_KEYS,
    "layers": None,
    "fifos": None,  # beyond the design: depths and highest fills
    "resources": {
        *("multipliers", "multiplier_bits", "memory_bits"),
        *("weight_bits", "parameter_bits", "buffer_bits"),
        "macros",  # beyond the design: of processing in memory
    },
    "seconds": {"train", "verilog", "build", "simulate"},
}


@pytest.fixture
def out(first_run: tuple[Path, Call]) -> Path:
    return first_run[0]


@pytest.fixture
def report(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())


@pytest.fixture
def network(out: Path) -> Network:
    return Network.load(out / "network")


def test_first_run_ends_well(first_run: tuple[Path, Call]) -> None:
    out, said = first_run
    assert said.status == 0, said.err
    assert "EQUAL, bit for bit: 70 test frames of digits in RTL, 0 mismatches" in said.out
    assert sorted(path.name for path in out.iterdir()) == ["network", "report.json", "verilog"]


# --- the report --------------------------------------------------------------------------------


def test_report_has_exactly_its_keys(report: dict) -> None:
    assert set(report) == set(KEYS)
    for section, keys in KEYS.items():
        if keys is not None:
            assert set(report[section]) == keys, section
    assert all(set(layer) == LAYER_KEYS for layer in report["layers"])


def test_report_names_its_recipe_and_data(report: dict, network: Network) -> None:
    assert (report["recipe"], report["seed"]) == ("tiny", 3)
    assert report["dataset"] == {"name": "digits", "train": 1200, "validation": 237, "test": 360}
    assert report["network"] == network.hash()
    assert report["source"] == "trained by this recipe"


def test_values_are_of_their_types(report: dict) -> None:
    rtl = report["rtl"]
    whole = [rtl[key] for key in ("frames", "mismatches", "latency_cycles")]
    whole += [rtl["bound_cycles_per_frame"], *report["resources"].values()]
    whole += [layer[k] for layer in report["layers"] for k in ("cycles", "multipliers", "macros")]
    assert all(type(value) is int and value >= 0 for value in whole)
    shares = [*report["accuracy"].values(), rtl["utilisation"]]
    assert all(type(value) is float and 0 <= value <= 1 for value in shares)
    assert type(rtl["equal"]) is bool
    assert all(value > 0 for value in [rtl["sim_seconds"], rtl["cycles_per_second"]])


def test_compression_agrees_with_the_network(report: dict, network: Network) -> None:
    """The uncompressed network is 64-12-10: 888 weights of 32 bits."""
    found = report["compression"]
    assert found["weights"] == 64 * 12 + 12 * 10
    assert found["bits_float"] == 32 * 888
    assert found["kept"] == sum(node.tensors["weight"].size for node in network.nodes[1:])
    assert found["kept"] <= 20 * 12 + 12 * 10
    assert found["ratio_weights"] == 888 / found["kept"]
    # 3 bits a weight, a mask of 64 bits, a bias per channel, an m per layer, 32 bits a scale
    fc1, fc2 = (node.spec for node in network.nodes[1:])
    bits = 3 * found["kept"] + 64 + 4 * 32
    for spec in (fc1, fc2):
        requantize = spec.requantize
        bits += spec.out_features * requantize.b_bits
        bits += {"one": 0, "layer": 1, "channel": spec.out_features}[
            requantize.per
        ] * requantize.m_bits
    assert found["bits_stored"] == bits
    assert found["ratio_bits"] == found["bits_float"] / found["bits_stored"]


def test_bits_on_chip_are_those_of_the_weight_memories(report: dict, out: Path) -> None:
    """A line of a weight memory is a word of rows times columns codes of 3 bits."""
    design, manifest = read_package(out / "verilog")
    mapping = Mapping.from_json(manifest["mapping"], "mapping")
    bits = sum(
        len(design.files[f"{stage.node}_weight.hex"].split()) * engine.rows * engine.cols * 3
        for stage in mapping.stages
        if stage.engine is not None
        for engine in [mapping.engine(stage.engine)]
    )
    assert report["compression"]["bits_on_chip"] == bits
    assert report["resources"]["weight_bits"] == bits
    assert sum(layer["weight_bits"] for layer in report["layers"]) == bits


def test_resources_are_sums(report: dict) -> None:
    found = report["resources"]
    for key in ("multipliers", "multiplier_bits"):
        assert found[key] == sum(layer[key] for layer in report["layers"])
    parts = ("weight_bits", "parameter_bits", "buffer_bits")
    assert found["memory_bits"] == sum(found[part] for part in parts)
    assert found["multipliers"] <= 20


def test_rtl_figures_agree_with_each_other(report: dict, network: Network) -> None:
    rtl = report["rtl"]
    assert (rtl["frames"], rtl["mismatches"], rtl["equal"], rtl["differences"]) == (70, 0, True, [])
    assert rtl["checks"] == {
        **{"layers": 64, "seeds": 64, "frames": 70, "stalled": 70},
        **{"random": 1000, "reset": 70},
    }
    macs = sum(node.tensors["weight"].size for node in network.nodes[1:])
    busy = macs / (rtl["cycles_per_frame"] * report["resources"]["multipliers"])
    assert rtl["utilisation"] == pytest.approx(busy)
    assert rtl["cycles_per_frame"] >= rtl["bound_cycles_per_frame"]
    assert rtl["cycles_per_frame"] == max(layer["cycles"] for layer in report["layers"])
    assert rtl["bound_cycles_per_frame"] == max(layer["bound_cycles"] for layer in report["layers"])
    for layer in report["layers"]:
        assert (layer["busy"] is None) == (layer["engine"] is None)
        if layer["engine"]:  # counted from the first step to the last one
            assert 0.95 * layer["busy_bound"] <= layer["busy"] <= 1
    cycles = rtl["latency_cycles"] + 69 * rtl["cycles_per_frame"]
    assert rtl["sim_seconds"] * rtl["cycles_per_second"] >= cycles


def test_layers_are_those_of_the_planned_mapping(report: dict, network: Network) -> None:
    mapping = plan(network, Budget(20))
    assert [layer["name"] for layer in report["layers"]] == [node.name for node in network.nodes]
    for layer, stage, (node, cost) in zip(
        report["layers"], mapping.stages, mapping.costs(network), strict=True
    ):
        assert layer["cycles"] == cost.cycles
        assert layer["bound_cycles"] == cost.bound_cycles
        assert layer["multipliers"] == cost.multiplier_count
        assert layer["lanes"] == stage.lanes
        if node.name == "select":
            assert [layer[key] for key in ("engine", "arithmetic", "density")] == [None] * 3
            continue
        engine = mapping.engine(stage.engine)
        assert [layer[k] for k in ("engine", "arithmetic", "density")] == ["pe_array", "exact", 1.0]
        # Each step reads rows x cols weights and cols activations; useful are macs in all.
        useful = cost.macs / (cost.steps * engine.cols)
        assert layer["weight_reuse"] == pytest.approx(useful / engine.rows)
        assert layer["activation_reuse"] == pytest.approx(useful)


def test_accuracies_are_those_of_golden_on_the_test_split(report: dict, network: Network) -> None:
    test = data.load("digits").test
    outputs = golden.run(network, golden.quantize(network.input, test.real()[:70]))
    labels = torch.from_numpy(test.labels[:70].copy())
    share = float((outputs.argmax(1) == labels).double().mean())
    assert report["accuracy"]["golden"] == report["accuracy"]["rtl"] == share


def test_float_accuracies_are_those_of_the_trained_networks(report: dict, build: Path) -> None:
    recipe, dataset = recipes.load(build / "tiny.toml"), data.load("digits")
    module = training.train_float(recipe, dataset, build / "trained")
    compressed = training.compress(recipe, dataset, module, build / "trained")
    samples = torch.from_numpy(dataset.test.real()).float()
    labels = torch.from_numpy(dataset.test.labels.copy())
    for key, net in (("float", module), ("compressed", compressed)):
        with torch.no_grad():
            share = float((net.cpu()(samples).argmax(1) == labels).double().mean())
        assert report["accuracy"][key] == pytest.approx(share)


# --- the second run ----------------------------------------------------------------------------


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("nothing is to be trained here")

    monkeypatch.setattr("model.compress.training._Steps.epoch", fail)
    monkeypatch.setattr("gyre.training.export", fail)


@pytest.mark.usefixtures("no_training")
def test_second_run_resumes(first_run: tuple, build: Path, tiny: Path, report: dict) -> None:
    begin = time.perf_counter()
    said = call("run", tiny)  # into the folder of the recipe's name
    assert said.status == 0
    assert time.perf_counter() - begin < 60
    again = json.loads((build / "tiny" / "report.json").read_text())
    for section in ("network", "accuracy", "compression", "layers", "resources", "dataset"):
        assert again[section] == report[section]
    for name in ("network", "verilog"):
        sums = [folder / name / SUMS for folder in (build / "tiny", first_run[0])]
        assert sums[0].read_bytes() == sums[1].read_bytes()
    shown = call("report", tiny)
    assert shown.status == 0
    page = f"page       {build / 'tiny' / 'report.html'}\n"
    assert shown.out == said.out[said.out.index("layers   ") :] + page


@pytest.mark.usefixtures("first_run", "build", "no_training")
def test_steps_write_their_parts_alone(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = call("compress", tiny, "--out", out)
    assert said.status == 0
    assert [path.name for path in out.iterdir()] == ["compress.json"]
    assert call("export", tiny, "--out", out).status == 0
    assert sorted(path.name for path in out.iterdir()) == ["compress.json", "network"]
    assert call("verilog", tiny, "--out", out, "--set", "mapping.multipliers=9").status == 0
    assert sorted(path.name for path in out.iterdir()) == ["compress.json", "network", "verilog"]
    _, manifest = read_package(out / "verilog")
    assert manifest["network"]["sha256"] == Network.load(out / "network").hash()


@pytest.mark.usefixtures("first_run")
def test_retraining_forgets_this_recipe_alone(build: Path, tiny: Path, tmp_path: Path) -> None:
    other = build / "trained" / "float-0123456789abcdef"
    other.mkdir()
    (other / "checkpoint.json").write_text("{}")
    told: list[str] = []
    flow = Flow(recipes.load(tiny), tmp_path / "out", retrain=True, say=told.append)
    epochs = count_epochs()
    with epochs as counted:
        first = flow.trained.network.hash()
    assert len(counted) == 2 + 1 + 2
    assert (other / "checkpoint.json").exists()
    assert first == Network.load(build / "first" / "network").hash()
    assert told == ["network    trained by this recipe"]


class count_epochs:  # noqa: N801 - used like a function
    """Counts the epochs that are trained while it is entered."""

    def __enter__(self) -> list[int]:
        from model.compress import training as loop

        counted: list[int] = []
        self.patch = pytest.MonkeyPatch()
        original = loop._Steps.epoch

        def epoch(*args: object) -> float:
            counted.append(1)
            return original(*args)

        self.patch.setattr("model.compress.training._Steps.epoch", epoch)
        return counted

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


@pytest.mark.usefixtures("first_run", "build")
def test_keeping_a_retrained_network_trains_it_once(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gyre.flow.ZOO", tmp_path / "zoo")
    with count_epochs() as counted:
        said = call("compress", tiny, "--retrain", "--keep")
    assert said.status == 0
    assert len(counted) == 2 + 1 + 2
    assert f"kept       {tmp_path / 'zoo' / 'tiny'}" in said.out
    assert "from the zoo" in call("export", tiny, "--out", tmp_path / "out").out
    kept = Network.load(tmp_path / "zoo" / "tiny" / "network")
    assert Network.load(tmp_path / "out" / "network") == kept


@pytest.mark.usefixtures("first_run", "build", "no_training")
def test_kept_network_needs_its_data_only_to_be_simulated(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gyre.flow.ZOO", tmp_path / "zoo")
    assert call("compress", tiny, "--keep").status == 0
    kept, out = tmp_path / "zoo" / "tiny", tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("gyre.flow.data.load", None)
        assert call("verilog", kept, "--out", out).status == 0
    said = call("simulate", kept, "--out", out)
    assert said.status == 0
    assert "70 test frames of digits" in said.out
    flow = ZooFlow(kept, out)
    flow.origin.__dict__["data"] = "0" * 64
    error = refused(lambda: flow.dataset)
    assert "data set digits" in error.thing
    assert "trained with" in error.expected


# --- hardware that differs ---------------------------------------------------------------------


@pytest.mark.usefixtures("first_run", "build", "no_training")
def test_hardware_that_differs_is_located(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One weight bit of the package is flipped and its checksum made to agree."""
    write = package.write_package
    split = data.load("digits").test

    def tamper(accelerator: Accelerator, design: object, folder: Path, *rest: object) -> None:
        """Flip the sign of the last row's weight for the busiest activation in its last word."""
        write(accelerator, design, folder, *rest)
        network = accelerator.network
        engine = accelerator.mapping.engine("pe_fc2")
        assert (engine.rows, network["fc2"].spec.in_features % engine.cols) == (1, 0)
        hidden = golden.trace(network, golden.quantize(network.input, split.real()[:70]))["fc1"]
        column = int(hidden[:, -engine.cols :].double().mean(0).argmax())
        path = folder / "fc2_weight.hex"
        *words, last = path.read_text().split()
        changed = int(last, 16) ^ 4 << 3 * column
        path.write_text("".join(f"{word}\n" for word in [*words, f"{changed:0{len(last)}x}"]))
        write_sums(folder, [p.name for p in folder.iterdir() if p.name != SUMS])

    monkeypatch.setattr("hdl.package.write_package", tamper)
    said = call("run", tiny, "--out", tmp_path / "out")
    assert said.status == 1
    assert "EQUAL, bit for bit" not in said.out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    rtl = report["rtl"]
    assert rtl["equal"] is False
    assert f"NOT EQUAL: {rtl['mismatches']} codes differ in 70 test frames of digits" in said.out
    # The last word of fc2 belongs to the last output alone.
    assert 0 < rtl["mismatches"] <= 70
    checks = [text.split(":")[0] for text in rtl["differences"]]
    assert checks == ["layers", "seeds", "frames", "stalled", "random", "reset"]
    network = Network.load(tmp_path / "out" / "network")
    expected = golden.run(network, golden.quantize(network.input, split.real()[:70]))
    found = rtl["differences"][2]
    frame, value = (int(found.split(mark)[1].split(",")[0]) for mark in ("frame ", "expected "))
    assert "layer fc2, element 9" in found
    assert expected[frame, 9] == value
    assert call("report", tiny, "--out", tmp_path / "out").status == 1


# --- the kept network of the project -----------------------------------------------------------


@pytest.mark.rtl
@pytest.mark.slow
def test_kept_mnist_network_reaches_the_verdict(tmp_path: Path) -> None:
    if not (Path(os.environ.get("GYRE_DATA", "")) / "mnist").is_dir():
        pytest.skip("needs $GYRE_DATA/mnist")
    said = call("simulate", ROOT / "zoo" / "mnist_mlp", "--out", tmp_path / "out")
    assert said.status == 0, said.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["rtl"]["frames"], report["rtl"]["mismatches"]) == (10_000, 0)
    assert report["accuracy"]["rtl"] == report["accuracy"]["golden"] >= 0.973
    assert report["compression"]["ratio_bits"] >= 24
    assert report["rtl"]["utilisation"] >= 0.85
