"""Engines by kind: each registers in its own file how it is made and what it stores."""

from functools import singledispatch

from amaranth.lib import wiring

from model.ir.mapping import EngineSpec
from model.ir.network import Node


@singledispatch
def make_engine(spec: EngineSpec, node: Node, lanes: int) -> wiring.Component:
    """The engine of a node.

    Its members are ``i`` (stream of activation codes), ``o`` (stream of ``lanes`` accumulators) and
    ``step`` (the engine reads one weight and one activation word in this cycle).
    """
    raise TypeError(f"An engine in hdl is needed for {spec.kind!r}")


@singledispatch
def engine_files(spec: EngineSpec, node: Node) -> dict[str, str]:
    """Contents of the engine's .hex files, by file name."""
    raise TypeError(f"An engine in hdl is needed for {spec.kind!r}")
