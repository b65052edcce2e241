"""The stage of a layer with a weight matrix: [front] -> engine -> slice -> requantize."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.engine import engine_files, make_engine
from hdl.lib.numerics import code_shape, range_shape
from hdl.lib.requantize import Requantize, requantize_files
from hdl.lib.slice import RegisterSlice
from hdl.lib.stream import beat_stream, connect
from hdl.pim.program import row_stream
from model.ir.beats import Beats
from model.ir.mapping import EngineSpec
from model.ir.network import Node


class MatrixStage(wiring.Component):
    """A layer with a weight matrix: a stream of codes in, a stream of codes out.

    A subclass says in :meth:`front` how its input becomes the vectors that the engine reads.

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
    step : Out
        Steps that the engine begins in this cycle.
    loaded : Out(1)
        The engine's weights are written; only of an engine that loads them.
    <count> : Out(32)
        What the engine counts, of each of ``engine.counts``.
    program, program_failed, program_pulse :
        Rows for its cells: see PimArray; only of an engine whose cells can be written.

    Cycles, latency, memory and multipliers: ``engine.cost(node.spec, (source,), lanes)``.
    """

    def __init__(self, node: Node, engine: EngineSpec, *, source: Beats, lanes: int) -> None:
        self.node, self.engine, self.source, self.lanes = node, engine, source, lanes
        layer = node.spec
        ports = {
            "i": In(beat_stream(code_shape(layer.in_format), source.lanes)),
            "o": Out(beat_stream(code_shape(layer.out_format), lanes)),
            "step": Out(engine.step_bits),
        }
        if engine.loads:
            ports["loaded"] = Out(1)
        ports |= {name: Out(32) for name in engine.counts}
        self.cells = engine.cell_rows(node.name, layer)
        if self.cells is not None:
            ports |= {"program": In(row_stream(self.cells))}
            ports |= {"program_failed": Out(1), "program_pulse": Out(1)}
        super().__init__(ports)

    def front(self, m: Module, i: stream.Interface) -> stream.Interface:
        """The stream that the engine reads, from the stage's input."""
        raise NotImplementedError

    def elaborate(self, platform):
        m = Module()
        node, layer = self.node, self.node.spec
        m.submodules.engine = engine = make_engine(self.engine, node, self.lanes)
        m.submodules.slice = between = RegisterSlice(range_shape(layer.accumulator()), self.lanes)
        m.submodules.requantize = requantize = Requantize(
            layer.requantize,
            layer.accumulator(),
            channels=layer.matrix_rows,
            lanes=self.lanes,
            channel_file=f"{node.name}_channel.hex",
            layer_file=f"{node.name}_layer.hex",
        )
        connect(m, self.front(m, wiring.flipped(self.i)), engine.i)
        connect(m, engine.o, between.i)
        connect(m, between.o, requantize.i)
        connect(m, requantize.o, wiring.flipped(self.o))
        m.d.comb += self.step.eq(engine.step)
        if self.engine.loads:
            m.d.comb += self.loaded.eq(engine.loaded)
        for name in self.engine.counts:
            m.d.comb += getattr(self, name).eq(getattr(engine, name))
        if self.cells is not None:
            wiring.connect(m, wiring.flipped(self.program), engine.program)
            m.d.comb += [
                self.program_failed.eq(engine.program_failed),
                self.program_pulse.eq(engine.program_pulse),
            ]
        return m


def matrix_files(node: Node, engine: EngineSpec, lanes: int) -> dict[str, str]:
    """Contents of the .hex files of such a stage."""
    return engine_files(engine, node) | requantize_files(node.spec.requantize, node, lanes)
