"""Stages that work on each channel by itself: pooling and the depthwise convolution."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.conv.pool import GlobalPool, Pool
from hdl.conv.window import Window
from hdl.engine import make_engine
from hdl.lib.numerics import code_shape, range_shape
from hdl.lib.repack import Repack
from hdl.lib.requantize import Requantize, requantize_files
from hdl.lib.slice import RegisterSlice
from hdl.lib.stream import beat_stream, connect
from hdl.stage import make_stage, stage_files
from model.ir.beats import Beats
from model.ir.lanewise import lane_window
from model.ir.mapping import EngineSpec
from model.ir.network import Node
from model.ir.pool import PoolSpec
from model.ir.repack import repacks


class LanewiseStage(wiring.Component):
    """A pooling or a depthwise convolution: a stream of codes in, a stream of codes out.

    ::

        i -> [repack] -> [window] -> pool or lane array -> slice -> [requantize] -> o

    The input is regrouped if it has other lanes. A pool whose kernel covers the frame needs no
    window; a maximum needs no requantization.

    Parameters
    ----------
    node : Node
    engine : EngineSpec or None
        The lane array of a depthwise convolution.
    source : Beats
        The input stream.
    lanes : int
        Codes per beat of the output stream, and channels worked on at once.

    Members
    -------
    i : In(stream of codes)
    o : Out(stream of codes)
    step : Out(1)
        The engine performs a step in this cycle (only with an engine).

    Cycles, latency, memory and multipliers: ``stage_cost`` of the layer, or ``cost`` of the engine.
    """

    def __init__(self, node: Node, engine: EngineSpec | None, *, source: Beats, lanes: int) -> None:
        self.node, self.engine, self.source, self.lanes = node, engine, source, lanes
        layer = node.spec
        (format,) = layer.in_formats()
        ports = {
            "i": In(beat_stream(code_shape(format), source.lanes)),
            "o": Out(beat_stream(code_shape(layer.out_format), lanes)),
        }
        super().__init__(ports | ({} if engine is None else {"step": Out(1)}))

    def elaborate(self, platform):
        m = Module()
        node, layer, lanes = self.node, self.node.spec, self.lanes
        (format,) = layer.in_formats()
        shape, stream = code_shape(format), wiring.flipped(self.i)

        def add(name, part):
            nonlocal stream
            m.submodules[name] = part
            connect(m, stream, part.i)
            stream = part.o

        pixels = Beats((layer.rows, layer.columns, layer.channels), lanes)
        if repacks(self.source, pixels):
            add("repack", Repack(shape, self.source, pixels))
        if isinstance(layer, PoolSpec) and layer.covers:
            add("pool", GlobalPool(layer, lanes=lanes))
        else:
            window = lane_window(layer, lanes)
            add("window", Window(layer, shape, lanes=lanes, banks=window.banks, order=window.order))
            if self.engine is None:
                add("pool", Pool(layer, lanes=lanes))
            else:
                engine = make_engine(self.engine, node, lanes)
                add("engine", engine)
                m.d.comb += self.step.eq(engine.step)
        add("slice", RegisterSlice(range_shape(layer.accumulator()), lanes))
        if rule := getattr(layer, "requantize", None):
            part = Requantize(
                rule,
                layer.accumulator(),
                channels=layer.channels,
                lanes=lanes,
                channel_file=f"{node.name}_channel.hex",
                layer_file=f"{node.name}_layer.hex",
            )
            add("requantize", part)
        connect(m, stream, wiring.flipped(self.o))
        return m


@make_stage.register
def _(
    layer: PoolSpec, node: Node, engine: None, ins: tuple[Beats, ...], lanes: int
) -> LanewiseStage:
    (source,) = ins
    return LanewiseStage(node, None, source=source, lanes=lanes)


@stage_files.register
def _(
    layer: PoolSpec, node: Node, engine: None, ins: tuple[Beats, ...], lanes: int
) -> dict[str, str]:
    rule = getattr(layer, "requantize", None)
    return {} if rule is None else requantize_files(rule, node, lanes)
