"""Stages by layer kind: each registers in its own file how it is made and what it stores."""

from functools import singledispatch

from amaranth.lib import wiring

from model.ir.beats import Beats
from model.ir.layer import LayerSpec
from model.ir.mapping import EngineSpec
from model.ir.network import Node

INPUTS = {1: ("i",), 2: ("x", "y")}
"""Names of the input streams of a stage, by their number."""


@singledispatch
def make_stage(
    layer: LayerSpec, node: Node, engine: EngineSpec | None, ins: tuple[Beats, ...], lanes: int
) -> wiring.Component:
    """The component of a node: streams of codes ``o`` and its ``INPUTS``, ``step`` of an engine."""
    raise TypeError(f"A stage in hdl is needed for {layer.kind!r}")


@singledispatch
def stage_files(
    layer: LayerSpec, node: Node, engine: EngineSpec | None, ins: tuple[Beats, ...], lanes: int
) -> dict[str, str]:
    """Contents of the stage's .hex files, by file name."""
    raise TypeError(f"A stage in hdl is needed for {layer.kind!r}")
