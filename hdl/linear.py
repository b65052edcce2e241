"""The stage of a fully connected layer: [repack] -> engine -> slice -> requantize."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.engine import engine_files, make_engine
from hdl.lib.numerics import code_shape, range_shape
from hdl.lib.repack import Repack
from hdl.lib.requantize import Requantize, requantize_files
from hdl.lib.slice import RegisterSlice
from hdl.lib.stream import beat_stream, connect
from hdl.stage import make_stage, stage_files
from model.ir.beats import Beats
from model.ir.linear import LinearSpec
from model.ir.mapping import EngineSpec
from model.ir.network import Node


class LinearStage(wiring.Component):
    """A fully connected layer: a stream of codes in, a stream of codes out.

    Parameters
    ----------
    node : Node
    engine : EngineSpec
    source : Beats
        The input stream.
    lanes : int
        Codes per beat of the output stream.

    Members
    -------
    i : In(stream of codes)
    o : Out(stream of codes)
    step : Out(1)
        The engine performs a step in this cycle.

    Cycles, latency, memory and multipliers: ``engine.cost(node.spec, (source,), lanes)``.
    """

    def __init__(self, node: Node, engine: EngineSpec, *, source: Beats, lanes: int) -> None:
        self.node, self.engine, self.source, self.lanes = node, engine, source, lanes
        layer = node.spec
        super().__init__(
            {
                "i": In(beat_stream(code_shape(layer.in_format), source.lanes)),
                "o": Out(beat_stream(code_shape(layer.out_format), lanes)),
                "step": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        node, layer = self.node, self.node.spec
        m.submodules.engine = engine = make_engine(self.engine, node, self.lanes)
        m.submodules.requantize = requantize = Requantize(
            layer.requantize,
            layer.accumulator(),
            channels=layer.out_features,
            lanes=self.lanes,
            channel_file=f"{node.name}_channel.hex",
            layer_file=f"{node.name}_layer.hex",
        )
        source = wiring.flipped(self.i)
        if self.source.lanes != self.engine.cols:
            m.submodules.repack = repack = Repack(
                code_shape(layer.in_format),
                in_length=layer.in_features,
                length=layer.in_features,
                in_lanes=self.source.lanes,
                lanes=self.engine.cols,
            )
            connect(m, source, repack.i)
            source = repack.o
        connect(m, source, engine.i)
        m.submodules.slice = between = RegisterSlice(range_shape(layer.accumulator()), self.lanes)
        connect(m, engine.o, between.i)
        connect(m, between.o, requantize.i)
        connect(m, requantize.o, wiring.flipped(self.o))
        m.d.comb += self.step.eq(engine.step)
        return m


@make_stage.register
def _(
    layer: LinearSpec, node: Node, engine: EngineSpec, ins: tuple[Beats, ...], lanes: int
) -> LinearStage:
    (source,) = ins
    return LinearStage(node, engine, source=source, lanes=lanes)


@stage_files.register
def _(
    layer: LinearSpec, node: Node, engine: EngineSpec, ins: tuple[Beats, ...], lanes: int
) -> dict[str, str]:
    return engine_files(engine, node) | requantize_files(layer.requantize, node, lanes)
