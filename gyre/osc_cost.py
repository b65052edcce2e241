"""What one-step compression costs: ``python -m gyre.osc_cost``.

Two measurements, printed as tables:

1. The time of one projection onto a circulant block against its size k, with the slope of a line
   through the logarithms. The published orders are O(k^2 log k) for one step and O(T k^3) for T
   iterations of ADMM.
2. The time from the same float network to the same validation accuracy on the same layers: one
   projection and fine-tuning of the defining vectors, against ADMM on the dense weights, which is
   projected after each of its updates to see whether it is there.

Times are of the processor: with one thread (``OMP_NUM_THREADS=1``) other work hardly changes them.

Accuracies are of validation; weights stay float, so that the structure alone is compared. Both
sides train one epoch at a time at one constant learning rate, and evaluation is not counted.
"""

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from gyre import recipe as recipes
from gyre import training
from model import data
from model.compress.admm import ADMMOptions, Pull
from model.compress.constraints import BlockCirculant
from model.compress.layers import compact
from model.compress.training import TrainOptions, accuracy, fit
from model.data import Dataset
from sim.build import build_root

ROOT = Path(__file__).resolve().parent.parent
SIZES = (64, 128, 256, 512, 1024, 2048)
REPEATS = 7
MOST_EPOCHS = 15


def projection_seconds(k: int) -> float:
    """Fastest of some projections of one k × k block onto a circulant."""
    block = torch.randn(k, k, generator=torch.Generator().manual_seed(k))
    constraint = BlockCirculant(k)
    found = []
    for _ in range(REPEATS):
        begin = time.process_time()
        constraint.project(block)
        found.append(time.process_time() - begin)
    return min(found)


def slope(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """Exponent of the power law through the points, by least squares in the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def step_seconds(k: int) -> float:
    """Fastest of some training steps of a dense k × k layer on k samples: O(k^3)."""
    layer, x = nn.Linear(k, k), torch.randn(k, k)
    found = []
    for _ in range(REPEATS):
        begin = time.process_time()
        layer(x).square().mean().backward()
        found.append(time.process_time() - begin)
    return min(found)


def one_step(
    module: nn.Module,
    dataset: Dataset,
    layers: list[str],
    k: int,
    options: TrainOptions,
    goal: float,
    epochs: int = MOST_EPOCHS,
) -> tuple[float, int, bool]:
    """Seconds, epochs, and whether a projection and fine-tuning reached ``goal`` on validation."""
    begin = time.process_time()
    net = copy.deepcopy(module)
    for name in layers:
        layer = net.get_submodule(name)
        net.set_submodule(name, compact(layer, BlockCirculant(k).freeze(layer.weight.detach())))
    seconds = time.process_time() - begin
    return _until(net, net, dataset, options, goal, epochs, seconds, None)


def admm(
    module: nn.Module,
    dataset: Dataset,
    layers: list[str],
    k: int,
    options: TrainOptions,
    goal: float,
    epochs: int = MOST_EPOCHS,
) -> tuple[float, int, bool]:
    """Seconds, epochs, and whether ADMM, projected, reached ``goal`` on validation."""
    begin = time.process_time()
    net = copy.deepcopy(module)
    constraint = BlockCirculant(k)
    pairs = [(f"{name}.structure", net.get_submodule(name).weight, constraint) for name in layers]
    pull = Pull(pairs, ADMMOptions(rho=1e-2, interval=1))

    def projected() -> nn.Module:
        held = copy.deepcopy(net)
        with torch.no_grad():
            for name in layers:
                weight = held.get_submodule(name).weight
                weight.copy_(constraint.project(weight))
        return held

    seconds = time.process_time() - begin
    return _until(net, projected, dataset, options, goal, epochs, seconds, pull)


def _until(
    net: nn.Module,
    measured: nn.Module | Callable[[], nn.Module],
    dataset: Dataset,
    options: TrainOptions,
    goal: float,
    epochs: int,
    seconds: float,
    pull: Pull | None,
) -> tuple[float, int, bool]:
    for epoch in range(epochs + 1):
        held = measured if isinstance(measured, nn.Module) else measured()
        if accuracy(held, dataset.validation) >= goal:
            return seconds, epoch, True
        if epoch < epochs:
            begin = time.process_time()
            fit(net, dataset, options, seed=epoch, title="cost", regularizer=pull, watch=False)
            seconds += time.process_time() - begin
    return seconds, epochs, False


def _spent(seconds: float, epochs: int, reached: bool) -> str:
    return f"{seconds:.1f} ({epochs}{'' if reached else ', not reached'})"


def _ratio(ours: tuple[float, int, bool], theirs: tuple[float, int, bool]) -> str:
    """Time of ADMM over that of one step; at least so much if ADMM did not get there."""
    if not ours[2]:
        return "-"
    return f"{'' if theirs[2] else '> '}{theirs[0] / ours[0]:.1f}"


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="osc_mnist_mlp", help="recipe of the network")
    parser.add_argument("--loss", type=float, default=0.002, help="loss allowed, a share")
    parser.add_argument("--epochs", type=int, default=MOST_EPOCHS, help="most that either may take")
    parser.add_argument("--k", type=int, nargs="+", default=[4, 8, 16], help="sizes of a block")
    arguments = parser.parse_args()
    console = Console(highlight=False)

    table = Table(title="one k × k block", title_justify="left")
    for name in ("k", "projection, us", "training step on k samples, us"):
        table.add_column(name, justify="right")
    projections = [projection_seconds(k) for k in SIZES]
    steps = [step_seconds(k) for k in SIZES]
    for k, projection, step in zip(SIZES, projections, steps, strict=True):
        table.add_row(str(k), f"{1e6 * projection:,.0f}", f"{1e6 * step:,.0f}")
    table.add_row("slope", f"{slope(SIZES, projections):.2f}", f"{slope(SIZES, steps):.2f}")
    console.print(table)

    recipe = recipes.load(ROOT / "recipes" / f"{arguments.recipe}.toml")
    dataset = data.load(recipe.data.name, recipe.data.options)
    module = training.train_float(recipe, dataset, build_root() / "trained")
    layers = list(recipe.compress.layers)
    goal = accuracy(module, dataset.validation) - arguments.loss
    options = TrainOptions(
        epochs=1, learning_rate=5e-4, schedule="constant", shift=recipe.float_.shift
    )
    title = f"{recipe.name}: {', '.join(layers)} to {100 * goal:.2f} % on validation"
    table = Table(title=title, title_justify="left")
    for name in ("k", "one step, s (epochs)", "ADMM, s (epochs)", "ratio"):
        table.add_column(name, justify="right")
    for k in arguments.k:
        ours = one_step(module, dataset, layers, k, options, goal, arguments.epochs)
        theirs = admm(module, dataset, layers, k, options, goal, arguments.epochs)
        table.add_row(str(k), _spent(*ours), _spent(*theirs), _ratio(ours, theirs))
    console.print(table)


if __name__ == "__main__":
    main()
