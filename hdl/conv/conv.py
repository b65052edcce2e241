"""The stage of a convolution: [repack] -> window -> engine -> slice -> requantize."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.conv.window import Window
from hdl.engine import engine_files, make_engine
from hdl.lib.numerics import code_shape, range_shape
from hdl.lib.repack import Repack
from hdl.lib.requantize import Requantize, requantize_files
from hdl.lib.slice import RegisterSlice
from hdl.lib.stream import beat_stream, connect
from hdl.stage import make_stage, stage_files
from model.ir.beats import Beats
from model.ir.conv import ConvSpec
from model.ir.mapping import EngineSpec
from model.ir.network import Node
from model.ir.repack import repacks


class ConvStage(wiring.Component):
    """A convolution: a stream of codes in, a stream of codes out.

    The window is as ``engine.window`` states; a stream of other lanes is laid out anew.

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
        super().__init__(
            {
                "i": In(beat_stream(code_shape(node.spec.in_format), source.lanes)),
                "o": Out(beat_stream(code_shape(node.spec.out_format), lanes)),
                "step": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        node, layer, plan = self.node, self.node.spec, self.engine.window(self.node.spec)
        shape, pixels = code_shape(layer.in_format), Beats(self.source.shape, plan.lanes)
        parts = {
            "window": Window(
                layer,
                shape,
                lanes=plan.lanes,
                banks=plan.banks,
                order=plan.order,
                ahead=plan.ahead,
            ),
            "engine": make_engine(self.engine, node, self.lanes),
            "slice": RegisterSlice(range_shape(layer.accumulator()), self.lanes),
            "requantize": Requantize(
                layer.requantize,
                layer.accumulator(),
                channels=layer.matrix_rows,
                lanes=self.lanes,
                channel_file=f"{node.name}_channel.hex",
                layer_file=f"{node.name}_layer.hex",
            ),
        }
        if repacks(self.source, pixels):
            parts = {"repack": Repack(shape, self.source, pixels), **parts}
        stream = wiring.flipped(self.i)
        for name, part in parts.items():
            m.submodules[name] = part
            connect(m, stream, part.i)
            stream = part.o
        connect(m, stream, wiring.flipped(self.o))
        m.d.comb += self.step.eq(parts["engine"].step)
        return m


@make_stage.register
def _(
    layer: ConvSpec, node: Node, engine: EngineSpec, ins: tuple[Beats, ...], lanes: int
) -> ConvStage:
    (source,) = ins
    return ConvStage(node, engine, source=source, lanes=lanes)


@stage_files.register
def _(
    layer: ConvSpec, node: Node, engine: EngineSpec, ins: tuple[Beats, ...], lanes: int
) -> dict[str, str]:
    return engine_files(engine, node) | requantize_files(layer.requantize, node, lanes)
