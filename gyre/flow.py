"""From a recipe to the verdict; each step keeps what it makes under the output folder.

::

    <out>/compress.json  accuracy and compression, of `gyre compress`
    <out>/network/       the integer network
    <out>/verilog/       the package: Verilog, .hex files, manifest, checksums
    <out>/report.json    the report of the last run
    <out>/fpga/<device>/ what the tools of `gyre fpga` leave, and their words
    <out>/wave.vcd       waveforms, of `gyre simulate --wave`
    <out>/report.html    the same as a page, of `gyre report`
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from gyre import compression, training, zoo
from gyre.pim_energy import sections
from gyre.recipe import Recipe
from gyre.report import FILE, make_report, read_report, write_report
from hdl import package
from hdl.accelerator import Accelerator, count_ports
from hdl.axi.shell import MODULE
from hdl.verilog import generate_accelerator
from model import data, golden
from model.compress.training import lengths_of
from model.data import Dataset, Split
from model.ir import network as networks
from model.ir.errors import BadInput
from model.ir.folders import check_folder
from model.ir.network import Network
from model.ir.pe_array import PeArraySpec
from model.ir.planner import plan
from sim import fpga as ecp5
from sim.build import build_root
from sim.compare import Difference
from sim.fpga_estimate import estimate, least_dsp
from sim.golden_frames import golden_frames
from sim.toolchain import toolchain
from sim.verify import Verdict, verify
from sim.wave import FILE as WAVE_FILE
from sim.wave import check_stages, record_wave

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "zoo"
RESULTS = ROOT / "docs" / "results"

Say = Callable[[str], None]


@dataclass
class Trained:
    """A network and where it comes from.

    ``accuracy`` gives, for a split, the shares that ``float`` and ``compressed`` classify rightly:
    measured now, or, for the test split alone, as recorded when the network of the zoo was trained.
    ``seconds`` holds the wall times of the trainings, and ``machine`` where they ran, as far as
    that is known. ``mismatch`` gives, for
    a split, what the recipe asks of devices that differ: nothing for a network of the zoo, which
    has integers alone.
    """

    network: Network
    weights: int
    accuracy: Callable[[Split], dict[str, float]]
    source: str
    seconds: dict[str, float]
    mismatch: Callable[[Split], dict[str, float]] = lambda split: {}
    machine: dict[str, Any] | None = None


class Flow:
    """The steps of one recipe.

    Parameters
    ----------
    recipe : Recipe
    out : Path, optional
        Folder of the results; ``build/<recipe name>`` by default.
    retrain : bool
        Train anew although the zoo has the network.
    source : str, optional
        The arguments that name the recipe, for the command that a result states.
    processes : int, optional
        Most simulators that run at once; by default as many as there are cores.
    say, begin : callable
        Told, in a line, what each step did, and what a long one is about to do.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path | None = None,
        *,
        retrain: bool = False,
        source: str | None = None,
        processes: int | None = None,
        say: Say = lambda text: None,
        begin: Say = lambda text: None,
    ) -> None:
        self.recipe, self.retrain, self.say, self.begin = recipe, retrain, say, begin
        self.source = source if source is not None else f"recipes/{recipe.name}.toml"
        self.processes = processes
        self.out = out if out is not None else build_root() / recipe.name
        self.seconds: dict[str, float] = {}

    @cached_property
    def dataset(self) -> Dataset:
        """The recipe's data set."""
        return data.load(self.recipe.data.name, self.recipe.data.options)

    @cached_property
    def trained(self) -> Trained:
        """The network: from the zoo if recipe and data match, else trained (or resumed)."""
        begin = time.perf_counter()
        found = None if self.retrain else zoo.find_in_zoo(ZOO, self.recipe, self.dataset)
        trained = self._made if found is None else from_zoo(*found)
        self.say(f"network    {trained.source}")
        self.seconds["train"] = time.perf_counter() - begin
        return trained

    @cached_property
    def _made(self) -> Trained:
        """The network, trained here or resumed."""
        recipe, dataset, folder = self.recipe, self.dataset, build_root() / "trained"
        if self.retrain:
            training.forget(recipe, dataset, folder)
        module = training.train_float(recipe, dataset, folder)
        for line in training.paddings(recipe, module):
            self.say(f"padding    {line}")
        weights = training.float_weights(module)
        compressed = training.compress(recipe, dataset, module, folder)
        network = training.export_network(recipe, dataset, compressed, folder)

        def accuracy(split: Split) -> dict[str, float]:
            return training.accuracies(module, compressed, split)

        def mismatch(split: Split) -> dict[str, float]:
            return training.under_mismatch(recipe, compressed, split)

        return Trained(
            network,
            weights,
            accuracy,
            "trained by this recipe",
            training.seconds(recipe, dataset, folder),
            mismatch,
            training.machine(recipe, dataset, folder),
        )

    def compress(self, on: str = "test") -> compression.Result:
        """Accuracy and compression, written to the output folder.

        ``on`` is ``"test"``, or ``"validation"`` for what is still being chosen.
        """
        # of a network of the zoo the test split's accuracies are known, of nominal devices
        kept = on == "test" and not self.recipe.evaluate.samples
        trained = self.trained if kept else self._made
        dataset = self.dataset
        split = dataset.test if on == "test" else dataset.validation
        shares = trained.accuracy(split)
        shares["golden"] = training.golden_accuracy(trained.network, split)
        result = compression.make_result(
            self.recipe,
            dataset,
            trained.network,
            split=on,
            weights=trained.weights,
            right={key: round(share * len(split)) for key, share in shares.items()},
            samples=len(split),
            seconds=trained.seconds,
            machine=trained.machine or compression.machine(),
            command=self.command,
            mismatch=trained.mismatch(split),
        )
        path = compression.write(self.out / compression.FILE, result)
        self.say(f"result     {path}")
        return result

    def record(self, result: compression.Result) -> Path:
        """Put a result among those kept with the project; returns its file."""
        return compression.write(RESULTS / f"{self.recipe.name}.json", result)

    @property
    def command(self) -> str:
        """What makes the network anew."""
        return f"gyre compress {self.source} --retrain --record"

    @property
    def again(self) -> str:
        """What comes to the same verdict anew."""
        return f"gyre run {self.source}"

    def keep(self) -> Path:
        """Put the network, trained or resumed, into the zoo; returns its folder."""
        trained = self._made
        accuracy = trained.accuracy(self.dataset.test)
        network = trained.network
        accuracy["golden"] = training.golden_accuracy(network, self.dataset.test)
        return zoo.write_entry(
            ZOO,
            self.recipe,
            self.dataset,
            network,
            weights=trained.weights,
            accuracy=accuracy,
            command=f"gyre compress {self.source} --retrain --keep",
        )

    def export(self) -> Path:
        """Write the integer network and return its folder."""
        self._check_out()
        folder = self.out / "network"
        self.trained.network.save(folder)
        self.say(f"export     {folder}")
        return folder

    def _check_out(self, top: str = MODULE) -> None:
        """Raise BadInput if the results cannot go where they shall, before anything is made."""
        check_folder(self.out / "network", "network", networks.belongs)
        folder = self.out / "verilog"
        check_folder(folder, "package", package.belongs(folder, top))

    @cached_property
    def accelerator(self) -> Accelerator:
        """The accelerator of the network under the planned mapping."""
        mapping = self.recipe.mapping
        if mapping.engine == "none":
            raise BadInput(
                "mapping.engine",
                "'none': a recipe whose network has no hardware yet",
                "an engine",
                "use `gyre compress` or `gyre export`, or name an engine",
            )
        network = self.trained.network
        budget = mapping.budget(self.recipe.format.pim)
        return Accelerator(network, plan(network, budget, mapping.sequences))

    def verilog(self, top: str = MODULE) -> Path:
        """Write the package under the name ``top`` and return its folder."""
        package.check_top(top)
        self._check_out(top)
        accelerator = self.accelerator
        begin = time.perf_counter()
        folder = self.out / "verilog"
        self.begin("generate Verilog")
        design, frames = generate_accelerator(accelerator), golden_frames(accelerator)
        package.write_package(accelerator, design, folder, frames, top)
        self.seconds["verilog"] = time.perf_counter() - begin
        self.say(f"verilog    {folder}")
        return folder

    def simulate(self) -> tuple[Verdict, dict[str, Any]]:
        """Run the test frames through the package in RTL; returns the verdict and the report.

        What can be refused is refused before the training, or else before anything is written.
        """
        self._check_out()
        toolchain()
        split = self.dataset.test
        frames = len(split) if self.recipe.simulate.frames == "all" else self.recipe.simulate.frames
        if frames > len(split):
            raise BadInput(
                "simulate.frames",
                frames,
                f"at most the {len(split)} test samples of {self.dataset.name}",
                'give fewer, or "all"',
            )
        accelerator = self.accelerator
        (self.out / FILE).unlink(missing_ok=True)  # that of an older run would not fit the rest
        self.export()
        design, _ = package.read_package(self.verilog())
        begin = time.perf_counter()
        codes = golden.quantize(self.trained.network.input, split.real()[:frames])
        lengths = lengths_of(split, frames)
        verdict = verify(
            accelerator,
            codes,
            lengths=lengths,
            design=design,
            seed=self.recipe.seed,
            processes=self.processes,
            progress=self.begin,
        )
        self.seconds["build"] = verdict.build_seconds
        self.seconds["simulate"] = time.perf_counter() - begin - verdict.build_seconds
        labels = torch.from_numpy(split.labels[:frames].copy())

        def right(outputs: torch.Tensor) -> float:
            return float((golden.predict(outputs, lengths) == labels).double().mean())

        accuracy = self.trained.accuracy(split) | {
            "golden": right(verdict.expected),
            "rtl": right(verdict.result.outputs),
        }
        energy, area = self._energy(codes, verdict)
        report = make_report(
            name=self.recipe.name,
            seed=self.recipe.seed,
            dataset={
                "name": self.dataset.name,
                "train": len(self.dataset.train),
                "validation": len(self.dataset.validation),
                "test": len(split),
            },
            accelerator=accelerator,
            weights=self.trained.weights,
            accuracy=accuracy,
            source=self.trained.source,
            verdict=verdict,
            seconds=self.seconds,
            energy=energy,
            area=area,
        )
        self.say(f"report     {write_report(self.out, report)}")
        return verdict, report

    def wave(self, stages: str, frames: str) -> Difference | None:
        """Write a VCD of stages and test frames; returns the first difference from golden.

        ``stages`` are names with commas between them, or ``all``; ``frames`` is ``FIRST:END``, of
        sequences for a recurrent network.
        """
        split, network = self.dataset.test, self.trained.network
        first, end = _span(frames, len(split))
        accelerator = self.accelerator
        names = [node.name for node in network.nodes] if stages == "all" else stages.split(",")
        check_stages(accelerator, names)
        codes = golden.quantize(network.input, split.real()[:end])[first:]
        lengths = lengths_of(split, end)
        path = self.out / WAVE_FILE
        self.begin("build a simulator that can write a VCD, and run it")
        difference = record_wave(
            accelerator,
            codes,
            path,
            names,
            verilog=generate_accelerator(accelerator).verilog,
            lengths=None if lengths is None else lengths[first:],
        )
        self.say(f"wave       {path}")
        return difference

    def fpga(self, name: str, goal_mhz: int = 100, place: bool = True) -> dict[str, Any]:
        """Place and route for a device; returns the figures, which join the last run's report.

        Without ``place`` it ends after synthesis: the same figures but for Fmax, which is None, and
        they join nothing.
        """
        chosen = ecp5.device(name)
        ecp5.check_tools(place)  # both before the network is trained
        accelerator, network = self.accelerator, self.trained.network
        design = generate_accelerator(accelerator)
        guess = estimate(design)
        if ecp5.excess(guess, chosen):
            raise ecp5.does_not_fit(name, guess, chosen, self._fitting(chosen), "an estimate of")
        folder = self.out / "fpga" / name
        begin = time.perf_counter()
        self.begin("synthesize with Yosys")
        cells = ecp5.synthesize(design, folder)
        if ecp5.excess(cells, chosen):
            raise ecp5.does_not_fit(name, cells, chosen, self._fitting(chosen), "synthesized")
        if place:
            self.begin("place and route with nextpnr")
            found = ecp5.place_and_route(folder, chosen, self.recipe.seed, goal_mhz)
            found["ff_in_dsp"] = cells["ff_in_dsp"]
        else:
            found = cells | {"fmax_mhz": None}
        truth = found | {"ff": found["ff"] + found["ff_in_dsp"]}
        figures = {
            "device": name,
            "used": found,
            "available": chosen.capacity,
            "estimate": guess,
            "error": {key: guess[key] / truth[key] - 1 if truth[key] else None for key in guess},
            "multipliers_in_dsp": found["dsp"] / guess["dsp"] if guess["dsp"] else None,
            "seconds": time.perf_counter() - begin,
        }
        path = self.out / FILE
        if place and path.exists():
            report = read_report(self.out)
            if report["network"] == network.hash():
                write_report(self.out, report | {"fpga": figures})
                self.say(f"report     {path}")
        return figures

    def _fitting(self, chosen: ecp5.Device) -> str:
        """What to do about a design that is too large: a budget whose multipliers fit."""
        network, now = self.trained.network, self.recipe.mapping
        whole, budget = now.budget(self.recipe.format.pim), now.multipliers
        while budget > 1:
            budget = min(budget - 1, max(1, budget * 3 // 4))
            try:
                mapping = plan(network, replace(whole, multipliers=budget), now.sequences)
            except BadInput:
                break
            costs = [cost for _, cost in mapping.costs(network)]
            if ecp5.excess({"dsp": least_dsp(costs)}, chosen):
                continue
            accelerator = Accelerator(network, mapping)
            guess = estimate(generate_accelerator(accelerator))
            if not ecp5.excess(guess, chosen):
                folds = ", ".join(
                    f"{stage.node} {spec.rows} × {spec.cols}"
                    for stage in mapping.stages
                    if stage.engine is not None
                    and isinstance(spec := mapping.engine(stage.engine), PeArraySpec)
                )
                cycles = max(cost.cycles for cost in costs)
                return (
                    f"set mapping.multipliers={budget}, which by the estimate takes "
                    f"{guess['dsp']} DSP and {cycles:,} cycles a frame"
                    + (f" (arrays of {folds})" if folds else "")
                )
        return "choose a larger device or compress further: no smaller budget fits it"

    def page(self, report: dict[str, Any]) -> Path:
        """Write a report as an HTML page; needs the network that the run has left."""
        from gyre.page import make_page, write_page  # matplotlib takes a second to import

        network = Network.load(self.out / "network")
        page = make_page(report, network, [self.again])
        path = write_page(self.out, page)
        self.say(f"page       {path}")
        return path

    def _energy(
        self, codes: torch.Tensor, verdict: Verdict
    ) -> tuple[dict[str, Any], dict[str, Any]] | tuple[None, None]:
        """The ledgers of energy and area, of a network on macros."""
        network, mapping, result = self.trained.network, self.accelerator.mapping, verdict.result
        if self.recipe.mapping.engine != "pim_array":
            return None, None
        steps = {
            name.removeprefix("steps_"): count // result.frames
            for name, count in result.counters.items()
            if name.startswith("steps_")
        }
        written = {
            node: result.counters[port]
            for port, node, name in count_ports(mapping)
            if name == "pulses"
        }
        return sections(network, mapping, codes, steps, self.recipe.mapping.technology, written)


def _span(text: str, count: int) -> tuple[int, int]:
    """First and end of ``FIRST:END`` among so many frames."""
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
    first, end = (int(match[1]), int(match[2])) if match else (0, 0)
    if not first < end <= count:
        raise BadInput(
            "--frames", repr(text), f"FIRST:END with FIRST < END <= {count}", "give such frames"
        )
    return first, end


def from_zoo(network: Network, origin: zoo.Origin) -> Trained:
    """A network of the zoo, with the accuracies that were recorded when it was trained."""
    return Trained(
        network,
        origin.weights,
        lambda split: {key: origin.accuracy[key] for key in ("float", "compressed")},
        "from the zoo: recipe and data match (--retrain trains it anew)",
        {},
    )


class ZooFlow(Flow):
    """The flow of a network that is kept in the zoo, with no recipe at hand."""

    def __init__(
        self, folder: Path, out: Path | None = None, *, sets: Sequence[str] = (), **options: Any
    ) -> None:
        self.folder = folder
        self.network, self.origin = zoo.read_entry(folder)
        self.sets = sets
        super().__init__(zoo.recipe_of(self.origin, sets), out, **options)

    @cached_property
    def dataset(self) -> Dataset:
        """The data set that the network was trained with; needed by the simulation alone."""
        dataset = data.load(self.recipe.data.name, self.recipe.data.options)
        if dataset.hash != self.origin.data:
            raise BadInput(
                f"{self.folder}: data set {self.origin.data_name}",
                f"other contents ({dataset.hash[:12]})",
                f"those it was trained with ({self.origin.data[:12]})",
                "restore the data set",
            )
        return dataset

    @cached_property
    def trained(self) -> Trained:
        """The kept network."""
        self.say(f"network    {self.folder}")
        return from_zoo(self.network, self.origin)

    @property
    def again(self) -> str:
        """What comes to the same verdict anew."""
        return " ".join([f"gyre simulate {self.folder}", *(f"--set {text}" for text in self.sets)])
